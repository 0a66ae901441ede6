//! What a shop tells: deposits, the payment, refunds made before a takeover.

use quittance_events::Facts;
use quittance_events::facts::{AbortExtended, DepositRecorded, PaymentCompleted, RefundCarriedIn, Verdict};

use super::*;
use crate::limits::COINS_MAX;

fn deposited(event: &NewEvent) -> &DepositRecorded {
    match &event.facts {
        Facts::DepositRecorded(facts) => facts,
        other => panic!("{other:?}"),
    }
}

fn payment(events: &[NewEvent]) -> &PaymentCompleted {
    events
        .iter()
        .find_map(|event| match &event.facts {
            Facts::PaymentCompleted(facts) => Some(facts),
            _ => None,
        })
        .unwrap()
}

fn extended(events: &[NewEvent]) -> &AbortExtended {
    events
        .iter()
        .find_map(|event| match &event.facts {
            Facts::AbortExtended(facts) => Some(facts),
            _ => None,
        })
        .unwrap()
}

fn carried(events: &[NewEvent]) -> &RefundCarriedIn {
    match events {
        [
            NewEvent {
                facts: Facts::RefundCarriedIn(facts),
                ..
            },
        ] => facts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_deposit_is_recorded_as_told_under_its_exchange_and_token() {
    let order = recorded(terms("10"));
    let events = tell(&order, &word(&[told(1, "4", "0.1")], false, &[])).unwrap();
    assert_eq!(kinds(&events), ["deposit_recorded"]);
    let facts = deposited(&events[0]);
    assert_eq!((facts.coin_pub, facts.exchange_master_pub), (coin(1), exchange()));
    assert_eq!(
        (facts.amount_with_fee, facts.refund_fee),
        (kudos("4"), kudos("0.1"))
    );
    assert_eq!((facts.deposit_fee, &facts.by), (kudos("0.01"), &Some(by())));
}

#[test]
fn what_is_wrong_is_refused_and_nothing_recorded() {
    let order = sold("10", &[(1, "4", "0.1")], false);
    let with = |change: fn(&mut ToldDeposit)| {
        let mut deposit = told(2, "4", "0.1");
        change(&mut deposit);
        // The first of the list is good: one bad one refuses all.
        word(&[told(3, "4", "0.1"), deposit], true, &[])
    };
    for (request, expected) in [
        (with(|d| d.amount_with_fee = amount("EUR:4")), (409, 2024)),
        (with(|d| d.deposit_fee = amount("EUR:0")), (409, 2024)),
        (with(|d| d.refund_fee = amount("EUR:0")), (409, 2024)),
        (with(|d| d.amount_with_fee = kudos("0")), (400, 26)),
        (
            with(|d| d.exchange_url = "https://elsewhere.example/".into()),
            (400, 2025),
        ),
        (with(|d| d.exchange_url = "no URL".into()), (400, 2025)),
        // Named by the terms, but not configured.
        (with(|d| d.exchange_url = STRANGER.into()), (400, 2025)),
        // Coin 1 has another deposit.
        (with(|d| d.coin_pub = coin(1)), (200, 0)),
        (
            with(|d| (d.coin_pub, d.amount_with_fee) = (coin(1), kudos("4.1"))),
            (409, 56),
        ),
        (
            with(|d| (d.coin_pub, d.refund_fee) = (coin(1), kudos("0.2"))),
            (409, 56),
        ),
        (
            with(|d| (d.coin_pub, d.h_denom) = (coin(1), Some(hash()))),
            (409, 56),
        ),
        // Twice in one list, with two stories.
        (
            with(|d| (d.coin_pub, d.amount_with_fee) = (coin(3), kudos("9"))),
            (409, 56),
        ),
        (with(|d| d.amount_with_fee = kudos("4503599627370496")), (400, 26)),
    ] {
        let decided = tell(
            &order,
            &DepositsRequest {
                paid: false,
                ..request.clone()
            },
        );
        match expected {
            (200, _) => assert_eq!(kinds(&decided.unwrap()), ["deposit_recorded"]),
            expected => assert_eq!(refused(decided), expected, "{request:?}"),
        }
    }
    let missing = decide_deposits(None, &word(&[], false, &[]), |_| true, &merchant(), &by());
    assert_eq!(refused(missing), (404, 2005));
}

#[test]
fn coins_are_within_bounds_per_request_and_per_order() {
    let many = |from: u16, count: usize| {
        let deposits = (from..).take(count).map(|number| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            ToldDeposit {
                coin_pub: CoinPub::from_bytes(bytes),
                ..told(0, "1", "0")
            }
        });
        word(&deposits.collect::<Vec<_>>(), false, &[])
    };
    let order = recorded(terms("10"));
    assert_eq!(refused(tell(&order, &many(0, COINS_MAX + 1))), (400, 26));
    let order = after(&order, &tell(&order, &many(0, COINS_MAX)).unwrap());
    assert_eq!(order.deposits.len(), COINS_MAX);
    assert_eq!(refused(tell(&order, &many(5000, 1))), (400, 26));
    assert_eq!(tell(&order, &many(0, COINS_MAX)).unwrap(), []);
    let refunds = vec![told_refund(1, 1, "1", NOW_S); COINS_MAX + 1];
    assert_eq!(refused(tell(&order, &word(&[], false, &refunds))), (400, 26));
}

#[test]
fn told_again_nothing_is_recorded_and_a_mixed_list_records_what_is_new() {
    let order = sold("10", &[(1, "4", "0.1")], false);
    assert_eq!(
        tell(&order, &word(&[told(1, "4", "0.1")], false, &[])).unwrap(),
        []
    );
    let mixed = [told(1, "4", "0.1"), told(2, "3", "0.1"), told(2, "3", "0.1")];
    let events = tell(&order, &word(&mixed, false, &[])).unwrap();
    assert_eq!(kinds(&events), ["deposit_recorded"]);
    assert_eq!(deposited(&events[0]).coin_pub, coin(2));
}

#[test]
fn another_token_or_spelling_of_the_address_is_no_other_deposit() {
    let order = sold("10", &[(1, "4", "0.1")], false);
    let other: TokenId = "other".parse().unwrap();
    for url in [
        "https://exchange.example",
        "https://EXCHANGE.example/",
        "https://exchange.example:443/",
    ] {
        let deposit = ToldDeposit {
            exchange_url: url.into(),
            ..told(1, "4.0", "0.10")
        };
        let request = word(&[deposit], false, &[]);
        assert_eq!(
            decide_deposits(Some(&order), &request, |_| true, &merchant(), &other).unwrap(),
            [],
            "{url}"
        );
    }
}

#[test]
fn paid_false_after_true_is_no_conflict() {
    let order = sold("4", &[(1, "4", "0.1")], true);
    assert_eq!(
        tell(&order, &word(&[told(1, "4", "0.1")], false, &[])).unwrap(),
        []
    );
    assert_eq!(tell(&order, &word(&[], true, &[])).unwrap(), []);
}

#[test]
fn a_payment_counts_every_deposit_that_no_abort_names() {
    let order = sold("10", &[(1, "4", "0.1"), (2, "5", "0.1")], false);
    let order = aborted(&order, &[2, 9]);
    let events = tell(&order, &word(&[told(3, "6.5", "0")], true, &[])).unwrap();
    assert_eq!(kinds(&events), ["deposit_recorded", "payment_completed"]);
    let facts = payment(&events);
    assert_eq!(
        (facts.paid, facts.coins.as_slice()),
        (kudos("10.5"), &[coin(1), coin(3)][..])
    );
    assert_eq!(facts.by, Some(by()));
}

#[test]
fn a_payment_below_the_price_is_refused_and_its_deposits_recorded() {
    let order = recorded(terms("10"));
    let list = [told(1, "4", "0.1"), told(2, "5.99999999", "0.1")];
    let refusal = tell(&order, &word(&list, true, &[])).unwrap_err();
    assert_eq!(status_and_code(&refusal), (400, 2156));
    assert_eq!(refusal.events, tell(&order, &word(&list, false, &[])).unwrap());
    let order = after(&order, &refusal.events);
    assert_eq!((order.deposits.len(), &order.payment), (2, &None));
    // The rest may come later.
    let events = tell(&order, &word(&[told(3, "0.00000001", "0")], true, &[])).unwrap();
    assert_eq!(payment(&events).paid, kudos("10"));
}

#[test]
fn an_aborted_coin_counts_for_no_payment() {
    let order = aborted(&sold("10", &[(1, "10", "0.1")], false), &[1]);
    let refusal = tell(&order, &word(&[], true, &[])).unwrap_err();
    assert_eq!(
        (status_and_code(&refusal), refusal.events),
        ((400, 2156), Vec::new())
    );
    let order = after(&order, &[replied(1, 0, Verdict::Confirmed, 200, None)]);
    assert_eq!(refused(tell(&order, &word(&[], true, &[]))), (400, 2156));
}

#[test]
fn an_order_that_costs_nothing_is_paid_by_nothing() {
    let events = tell(&recorded(terms("0")), &word(&[], true, &[])).unwrap();
    assert_eq!(
        (payment(&events).paid, payment(&events).coins.len()),
        (kudos("0"), 0)
    );
}

#[test]
fn a_deposit_after_its_abort_is_recorded_and_given_back() {
    let order = aborted(&sold("10", &[(1, "4", "0.1")], false), &[1, 2]);
    let events = tell(
        &order,
        &word(&[told(2, "6", "0.1"), told(3, "1", "0")], false, &[]),
    )
    .unwrap();
    assert_eq!(
        kinds(&events),
        ["deposit_recorded", "deposit_recorded", "abort_extended"]
    );
    let facts = extended(&events);
    let [back] = facts.coins.as_slice() else {
        panic!("{facts:?}")
    };
    assert_eq!((back.coin_pub, back.amount), (coin(2), kudos("6")));
    assert!(is_permitted(2, 0, kudos("6"), &back.merchant_sig));
    assert_eq!(facts.by, Some(by()));
    let order = after(&order, &events);
    assert!(!order.counts(&coin(2)) && order.counts(&coin(3)));
    assert!(
        order
            .open_permissions()
            .any(|open| open == (coin(2), RefundId::ABORT))
    );
    // Told again it is not given back again.
    assert_eq!(
        tell(&order, &word(&[told(2, "6", "0.1")], false, &[])).unwrap(),
        []
    );
}

#[test]
fn a_late_deposit_of_an_aborted_coin_does_not_pay() {
    let order = aborted(&sold("10", &[(1, "4", "0.1")], false), &[2]);
    let refusal = tell(&order, &word(&[told(2, "6", "0.1")], true, &[])).unwrap_err();
    assert_eq!(status_and_code(&refusal), (400, 2156));
    assert_eq!(kinds(&refusal.events), ["deposit_recorded", "abort_extended"]);
}

#[test]
fn a_deposit_after_the_payment_is_given_back_and_changes_no_payment() {
    let order = sold("10", &[(1, "10", "0.1")], true);
    for paid in [true, false] {
        let events = tell(
            &order,
            &word(&[told(1, "10", "0.1"), told(2, "3", "0")], paid, &[]),
        )
        .unwrap();
        assert_eq!(kinds(&events), ["deposit_recorded", "abort_extended"]);
        assert_eq!(extended(&events).coins[0].coin_pub, coin(2));
        let order = after(&order, &events);
        assert_eq!(order.payment.as_ref().unwrap().paid, kudos("10"));
        assert!(!order.payment.unwrap().coins.contains(&coin(2)));
    }
}

#[test]
fn a_finally_refused_abort_counts_again_unless_there_is_no_deposit() {
    for (verdict, status, code, counts) in [
        (Verdict::Refused, 409, Some(1501), true),
        (Verdict::Refused, 410, Some(1503), true),
        (Verdict::Refused, 403, Some(1506), true),
        (Verdict::Refused, 404, Some(1005), false),
        (Verdict::Refused, 404, Some(1500), false),
        (Verdict::Refused, 404, Some(1502), false),
        (Verdict::Refused, 404, Some(21), true),
        (Verdict::Refused, 410, Some(1502), true),
        (Verdict::Confirmed, 200, None, false),
        (Verdict::Later, 500, Some(1501), false),
        (Verdict::Unproven, 200, None, false),
        (Verdict::Malformed, 404, None, false),
    ] {
        let order = aborted(&sold("10", &[(1, "10", "0.1")], false), &[1]);
        let order = after(&order, &[replied(1, 0, verdict, status, code)]);
        let decided = tell(&order, &word(&[], true, &[]));
        match decided {
            Ok(events) => {
                assert!(counts, "{verdict:?} {status} {code:?}");
                assert_eq!(payment(&events).coins, [coin(1)]);
            }
            Err(refusal) => {
                assert!(!counts, "{verdict:?} {status} {code:?}");
                assert_eq!(status_and_code(&refusal), (400, 2156));
            }
        }
    }
}

#[test]
fn refunds_made_elsewhere_are_carried_in_and_signed() {
    let order = sold("10", &[(1, "6", "0.1"), (2, "4", "0.1")], true);
    let list = [
        told_refund(1, 1, "2", NOW_S - 100),
        told_refund(2, (1 << 53) - 1, "4", NOW_S - 100),
    ];
    let events = tell(&order, &word(&[], true, &list)).unwrap();
    let facts = carried(&events);
    assert_eq!((facts.rows.len(), &facts.by), (2, &by()));
    let row = &facts.rows[0];
    assert_eq!(
        (row.coin_pub, row.rtransaction_id, row.amount),
        (coin(1), id(1), kudos("2"))
    );
    assert_eq!(row.execution_s, second(NOW_S - 100));
    assert!(is_permitted(1, 1, kudos("2"), &row.merchant_sig));
    // They count as requested, so a wallet's request asks for them.
    let order = after(&order, &events);
    assert!(order.rows.iter().all(|row| row.carried_in && row.requested));
    assert_eq!(tell(&order, &word(&[], true, &list)).unwrap(), []);
    // More of them may follow, as long as nothing was approved here.
    let more = tell(&order, &word(&[], true, &[told_refund(1, 2, "4", NOW_S)])).unwrap();
    assert_eq!(carried(&more).rows.len(), 1);
}

#[test]
fn refunds_are_carried_in_with_the_payment_that_they_are_of() {
    let order = recorded(terms("6"));
    let request = word(&[told(1, "6", "0.1")], true, &[told_refund(1, 1, "6", NOW_S)]);
    let events = tell(&order, &request).unwrap();
    assert_eq!(
        kinds(&events),
        ["deposit_recorded", "payment_completed", "refund_carried_in"]
    );
}

#[test]
fn what_cannot_have_been_refunded_elsewhere_is_a_conflict() {
    let paid = sold("10", &[(1, "6", "0.1"), (2, "4", "0.1")], true);
    let paid = after(
        &paid,
        &tell(&paid, &word(&[told(3, "1", "0")], true, &[])).unwrap(),
    );
    let taken = after(
        &paid,
        &tell(&paid, &word(&[], true, &[told_refund(1, 1, "2", NOW_S)])).unwrap(),
    );
    let approved = after(&taken, &approve(&taken, "KUDOS:3").unwrap());
    let half = sold("10", &[(1, "6", "0.1")], false);
    let one = |refund: ToldRefund| vec![refund];
    for (order, refunds, expected) in [
        // Not paid; an abort's id; a coin that the payment does not count, or that nobody knows.
        (&half, one(told_refund(1, 1, "1", NOW_S)), (409, 56)),
        (&paid, one(told_refund(1, 0, "1", NOW_S)), (409, 56)),
        (&paid, one(told_refund(3, 1, "1", NOW_S)), (409, 56)),
        (&paid, one(told_refund(8, 1, "1", NOW_S)), (409, 56)),
        // Nothing, or more than the deposit, also by two.
        (&paid, one(told_refund(1, 1, "0", NOW_S)), (409, 56)),
        (&paid, one(told_refund(1, 1, "6.01", NOW_S)), (409, 56)),
        (
            &paid,
            vec![told_refund(1, 1, "6", NOW_S), told_refund(1, 2, "0.01", NOW_S)],
            (409, 56),
        ),
        (&taken, one(told_refund(1, 2, "4.01", NOW_S)), (409, 56)),
        // One id, two stories.
        (&taken, one(told_refund(1, 1, "3", NOW_S)), (409, 56)),
        (&taken, one(told_refund(1, 1, "2", NOW_S + 1)), (409, 56)),
        (
            &paid,
            vec![told_refund(1, 1, "1", NOW_S), told_refund(1, 1, "2", NOW_S)],
            (409, 56),
        ),
        // After the first approval, also under the id of an approved row.
        (&approved, one(told_refund(2, 1, "1", NOW_S)), (409, 56)),
        (&approved, one(told_refund(1, 2, "1", NOW_S)), (409, 56)),
        (
            &paid,
            one(ToldRefund {
                amount: amount("EUR:1"),
                ..told_refund(1, 1, "1", NOW_S)
            }),
            (409, 2024),
        ),
    ] {
        let request = word(&[], order.payment.is_some(), &refunds);
        assert_eq!(refused(tell(order, &request)), expected, "{refunds:?}");
    }
    let never = TalerTimestamp(serde_json::from_str("\"never\"").unwrap());
    let never = ToldRefund {
        execution_time: never,
        ..told_refund(1, 1, "1", NOW_S)
    };
    assert_eq!(refused(tell(&paid, &word(&[], true, &[never]))), (400, 26));
    // The same as recorded is no conflict, approved or not.
    assert_eq!(
        tell(&approved, &word(&[], true, &[told_refund(1, 1, "2", NOW_S)])).unwrap(),
        []
    );
}
