//! Which coins come under an abort, and when none does.

use quittance_events::facts::AbortCoinState::{Deposited, Known, Undeposited};
use quittance_events::facts::{AbortCoin, AbortCoinState, Verdict};
use quittance_events::{AttachmentName, Facts, NewEvent, Order};
use quittance_taler::{CoinPub, HashCode};

use super::*;
use crate::decide::abort::decide;
use crate::limits::{ABORT_REFUSALS_MAX, ABORTED_COINS_MAX, COINS_MAX};

fn coins_of(events: &[NewEvent]) -> Vec<AbortCoin> {
    match events {
        [
            NewEvent {
                facts: Facts::AbortRequested(facts),
                ..
            },
        ] => facts.coins.clone(),
        other => panic!("no abort: {other:?}"),
    }
}

fn states(events: &[NewEvent]) -> Vec<AbortCoinState> {
    coins_of(events).iter().map(|coin| coin.state).collect()
}

fn numbered(from: u32, count: usize) -> AbortRequest {
    let coins = (from..).take(count).map(|number| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        CoinPub::from_bytes(bytes)
    });
    AbortRequest {
        coins: coins.collect(),
        ..abort_of(&[])
    }
}

#[test]
fn checks_stand_in_their_order() {
    let paid = sold("10", &[(1, "10", "0.1")], true);
    let other_contract = |coins: &[u8]| AbortRequest {
        h_contract: HashCode::from_bytes([1; 64]),
        ..abort_of(coins)
    };
    // Each request is wrong in all later ways too.
    for (order, request, expected) in [
        (None, other_contract(&[]), (400, 2256)),
        (None, other_contract(&[1, 1]), (400, 26)),
        (None, numbered(0, COINS_MAX + 1), (400, 26)),
        (None, other_contract(&[1]), (404, 2253)),
        // Recorded nowhere: it proved nothing.
        (Some(&paid), other_contract(&[1]), (403, 2255)),
    ] {
        assert_eq!(
            refused(decide(order, &request, &merchant())),
            expected,
            "{request:?}"
        );
    }
    assert_eq!(status_and_code(&abort(&paid, &[1]).unwrap_err()), (412, 2254));
}

#[test]
fn a_deposited_coin_gets_permission_zero_over_its_recorded_amount() {
    let order = sold("20", &[(1, "10", "0.1"), (2, "3.5", "0")], false);
    let events = abort(&order, &[2, 1]).unwrap();
    let coins = coins_of(&events);
    assert_eq!(
        coins.iter().map(|c| c.coin_pub).collect::<Vec<_>>(),
        [coin(2), coin(1)]
    );
    for (abort_coin, number, value) in [(&coins[0], 2, kudos("3.5")), (&coins[1], 1, kudos("10"))] {
        assert_eq!(abort_coin.state, AbortCoinState::Deposited);
        assert_eq!(abort_coin.amount, Some(value));
        assert!(is_permitted(number, 0, value, &abort_coin.merchant_sig.unwrap()));
    }
    assert_eq!(
        events[0].attachments,
        [(AttachmentName::Body, b"as received".to_vec())]
    );
}

#[test]
fn an_undeposited_coin_is_said_to_be_so_and_gets_no_permission() {
    let events = abort(&sold("20", &[(1, "10", "0.1")], false), &[2]).unwrap();
    let undeposited = AbortCoin {
        coin_pub: coin(2),
        state: AbortCoinState::Undeposited,
        amount: None,
        merchant_sig: None,
    };
    assert_eq!(coins_of(&events), [undeposited]);
}

#[test]
fn a_coin_that_is_not_named_is_never_touched() {
    let order = aborted(&sold("20", &[(1, "10", "0.1"), (2, "3.5", "0")], false), &[1]);
    assert!(order.aborted(&coin(1)).is_some());
    assert!(order.aborted(&coin(2)).is_none() && order.counts(&coin(2)));
}

#[test]
fn an_abort_that_names_nothing_new_records_nothing() {
    let order = aborted(&sold("20", &[(1, "10", "0.1")], false), &[1, 2]);
    for coins in [&[1][..], &[2], &[2, 1]] {
        assert_eq!(abort(&order, coins).unwrap(), []);
    }
}

#[test]
fn coins_of_an_earlier_abort_are_known_in_a_later_one() {
    let order = aborted(&sold("20", &[(1, "10", "0.1"), (3, "5", "0")], false), &[1, 2]);
    let events = abort(&order, &[3, 2, 1, 4]).unwrap();
    assert_eq!(states(&events), [Deposited, Known, Known, Undeposited]);
    let known = &coins_of(&events)[2];
    assert_eq!((known.amount, known.merchant_sig), (None, None));
    // Its permission stays the one of the first abort.
    let order = after(&order, &events);
    let (value, signature) = order.aborted(&coin(1)).unwrap().permission.unwrap();
    assert!(is_permitted(1, 0, value, &signature));
    assert_eq!(order.aborts.len(), 4);
}

#[test]
fn of_a_paid_order_only_coins_under_an_abort_already_are_answered() {
    // Coin 1 is given up, coins 2 and 3 pay.
    let order = aborted(&sold("10", &[(1, "10", "0.1")], false), &[1]);
    let events = tell(&order, &word(&[told(2, "6", "0"), told(3, "4", "0")], true, &[])).unwrap();
    let order = after(&order, &events);
    assert!(order.payment.is_some());
    assert_eq!(abort(&order, &[1]).unwrap(), []);
    for coins in [&[1, 2][..], &[2], &[4]] {
        assert_eq!(
            status_and_code(&abort(&order, coins).unwrap_err()),
            (412, 2254),
            "{coins:?}"
        );
    }
}

#[test]
fn a_412_is_recorded_once_per_coin_set_and_a_hundred_times_at_most() {
    let mut order = sold("10", &[(1, "10", "0.1")], true);
    let refusal = abort(&order, &[9, 1]).unwrap_err();
    let [
        NewEvent {
            facts: Facts::AbortRefused(facts),
            attachments,
        },
    ] = refusal.events.as_slice()
    else {
        panic!("{refusal:?}");
    };
    assert_eq!((facts.http_status, facts.error_code), (412, 2254));
    assert_eq!(
        (facts.coins.as_slice(), attachments.len()),
        (&[coin(1), coin(9)][..], 0)
    );
    order = after(&order, &refusal.events);
    for again in [[1, 9], [9, 1]] {
        assert_eq!(refused(abort(&order, &again)), (412, 2254));
    }
    for number in 1..ABORT_REFUSALS_MAX {
        let request = numbered(u32::try_from(number).unwrap() << 8, 1);
        let refusal = decide(Some(&order), &request, &merchant()).unwrap_err();
        assert_eq!(kinds(&refusal.events), ["abort_refused"], "{number}");
        order = after(&order, &refusal.events);
    }
    assert_eq!(refused(abort(&order, &[8])), (412, 2254));
}

#[test]
fn aborts_of_one_order_name_coins_within_bounds() {
    let mut order = sold("10", &[], false);
    for round in 0..u32::try_from(ABORTED_COINS_MAX / COINS_MAX).unwrap() {
        let request = numbered(round * 1000, COINS_MAX);
        order = after(&order, &decide(Some(&order), &request, &merchant()).unwrap());
    }
    assert_eq!(order.aborts.len(), ABORTED_COINS_MAX);
    assert_eq!(
        refused(decide(Some(&order), &numbered(900_000, 1), &merchant())),
        (400, 26)
    );
    // What is named already is still answered.
    assert_eq!(decide(Some(&order), &numbered(0, 1), &merchant()).unwrap(), []);
}

#[test]
fn a_finally_refused_abort_is_never_permitted_anew() {
    for (status, code) in [(409, 1501), (410, 1503), (404, 1502)] {
        let order: Order = aborted(&sold("10", &[(1, "10", "0.1")], false), &[1]);
        let order = after(&order, &[replied(1, 0, Verdict::Refused, status, Some(code))]);
        assert_eq!(abort(&order, &[1]).unwrap(), [], "{status}");
        assert_eq!(states(&abort(&order, &[1, 2]).unwrap())[0], AbortCoinState::Known);
        assert_eq!(order.open_permissions().count(), 0);
    }
}
