//! Payments that come again: what was begun is finished, whatever has changed since.

use quittance_events::facts::{AbortCoinState, DepositForm, DepositRequested};
use quittance_taler::exchange_keys::ExchangeKeys;
use quittance_taler::payment::PaidCoin;
use quittance_taler::{ErrorCode, MasterPub};

use super::pay::{
    SECOND, batch, code, ended, fixture, folded, is_configured, paid_coin, pay, payment, price, recording,
    reply, sold, stand, unreached,
};
use super::*;
use crate::decide::coins::Checked;
use crate::decide::pay::{Outcome, Payment, decide, recorded as record};
use crate::limits::{BATCHES_MAX, COINS_MAX, PAY_COINS_MAX};

/// Past the pay deadline.
fn late() -> Micros {
    at(NOW_S + 600)
}

fn pay_late(order: &Order, payment: &Payment) -> Decided {
    let checked = super::pay::checked(order, payment);
    decide(
        Some(&folded(order)),
        payment,
        &checked,
        &price("10"),
        is_configured,
        &merchant(),
        late(),
    )
}

fn of_both() -> Payment {
    payment(vec![paid_coin(1, "4", EXCHANGE), paid_coin(2, "6", SECOND)])
}

#[test]
fn what_was_asked_in_time_is_asked_again_past_the_deadline_and_nothing_else_is() {
    let expired = ErrorCode::MerchantPostOrdersIdPayOfferExpired;
    let stands = |order: &Order, payment: &Payment| stand(Some(&folded(order)), payment, late());
    let order = sold("10");
    let both = of_both();
    assert_eq!(stands(&order, &both), Err(expired));
    assert_eq!(stands(&sold("0"), &payment(Vec::new())), Err(expired));

    let order = after(&order, &pay(&order, &both, "10").unwrap());
    assert_eq!(stands(&order, &both).unwrap().len(), 2);
    assert_eq!(
        pay_late(&order, &both).unwrap(),
        [],
        "another attempt, no new batch"
    );
    let order = after(&order, &record(&order, &unreached(&order, 0, 1), &merchant()));
    assert_eq!(pay_late(&order, &both).unwrap(), []);
    // Other coins, other signatures and half of a batch were not asked for in time.
    let other_sig = PaidCoin {
        coin_sig: EddsaSignature::from_bytes([9; 64]),
        ..both.coins[0].clone()
    };
    for coins in [
        vec![both.coins[0].clone(), paid_coin(3, "6", SECOND)],
        vec![other_sig, both.coins[1].clone()],
        vec![paid_coin(3, "10", EXCHANGE)],
    ] {
        assert_eq!(stands(&order, &payment(coins)), Err(expired));
    }
    // One exchange decides in time, the other after it.
    let order = ended(&order, &reply(&order, 1, 1, Verdict::Confirmed), &both, "10");
    assert_eq!(stands(&order, &both).unwrap().len(), 2);
    assert_eq!(pay_late(&order, &both).unwrap(), []);
    let paid = ended(&order, &reply(&order, 0, 2, Verdict::Confirmed), &both, "10");
    assert!(paid.payment.is_some());
    // What was refused would be a new batch.
    let refused = ended(&order, &reply(&order, 0, 2, Verdict::Refused), &both, "10");
    assert_eq!(stands(&refused, &both), Err(expired));
}

#[test]
fn a_batch_that_became_another_one_is_too_late() {
    // Checked on a state in which the batch was still open.
    let order = sold("10");
    let both = of_both();
    let order = after(&order, &pay(&order, &both, "10").unwrap());
    let mut checked: Checked = super::pay::checked(&order, &both);
    checked.wanted[0].layout = DepositForm::PerBatch;
    let decided = decide(
        Some(&folded(&order)),
        &both,
        &checked,
        &price("10"),
        is_configured,
        &merchant(),
        late(),
    );
    assert_eq!(code(decided), ErrorCode::MerchantPostOrdersIdPayOfferExpired);
}

#[test]
fn coins_that_are_asked_for_again_pass_whatever_the_keys_say_by_now() {
    let mut recording = recording();
    let good = recording.payment.clone();
    let checked = recording.check(&good, "1", recording.at).unwrap();
    let wanted = checked.wanted[0].clone();
    let facts = DepositRequested {
        exchange_master_pub: recording.master,
        exchange_url: EXCHANGE.into(),
        layout: wanted.layout,
        wallet_data_hash: None,
        coins: wanted.coins.clone(),
        part: None,
    };
    let asked = after(&sold("10"), &[NewEvent::bare(facts)]);
    assert_eq!(batch(&asked, 0).coins, wanted.coins);
    recording.order.sale = asked.sale;
    let long_after = Micros::from_s(recording.at.get() / 1_000_000 + 100 * 365 * 86_400).unwrap();
    let again = recording.check(&good, "1", long_after).unwrap();
    assert_eq!(again, checked, "denominations that expired meanwhile");
    // In another order of the coins it is the same batch.
    let mut turned = good.clone();
    turned.coins.reverse();
    assert_eq!(recording.check(&turned, "1", long_after).unwrap(), checked);
    // A denomination that is still listed tells whose coin it is.
    let mut forged = good.clone();
    forged.coins[0].ub_sig = good.coins[1].ub_sig.clone();
    let unfit = recording.check(&forged, "1", long_after).unwrap_err();
    assert_eq!(unfit.refusal.code, ErrorCode::GenericParameterMalformed);
    // Keys that list none of them.
    let mut keys = fixture("keys.body.json");
    let master: MasterPub = recording.master;
    for list in ["denoms", "denominations"] {
        keys[list].as_array_mut().unwrap().clear();
    }
    recording.keys = std::sync::Arc::new(ExchangeKeys::read(keys.to_string().as_bytes(), &master).unwrap());
    assert_eq!(recording.check(&good, "1", recording.at).unwrap(), checked);
    // Half of the batch is another payment.
    let mut half = good.clone();
    half.coins.truncate(1);
    let unfit = recording.check(&half, "0.01", long_after).unwrap_err();
    assert_eq!(
        unfit.refusal.code,
        ErrorCode::MerchantPostOrdersIdPayDenominationKeyNotFound
    );
}

/// Refused, but not because a coin was spent before.
fn refused_with(order: &Order, number: usize, attempt: u64, code: u64) -> NewEvent {
    let Outcome::Replied(mut facts, _) = reply(order, number, attempt, Verdict::Refused) else {
        panic!("a refusal is a reply")
    };
    (facts.http_status, facts.error_code) = (410, Some(code));
    NewEvent::bare(facts)
}

#[test]
fn a_refusal_does_not_say_that_nothing_was_taken_before() {
    let order = sold("10");
    let both = of_both();
    let asked = after(&order, &pay(&order, &both, "10").unwrap());
    let missed = after(&asked, &record(&asked, &unreached(&asked, 0, 1), &merchant()));
    let later = after(
        &asked,
        &record(&asked, &reply(&asked, 0, 1, Verdict::Later), &merchant()),
    );
    for (order, attempt, code, stays) in [
        (&missed, 2, 1009, true),
        (&later, 2, 1009, true),
        // The attempt before is not recorded.
        (&asked, 3, 1009, true),
        (&asked, 1, 1009, false),
        // The exchange has looked for this very deposit before it said that.
        (&missed, 2, 1012, false),
    ] {
        let order = after(order, &[refused_with(order, 0, attempt, code)]);
        assert!(batch(&order, 0).is_decided(), "the coins are asked for anew");
        let events = abort(&order, &[1]).unwrap();
        let Facts::AbortRequested(facts) = &events[0].facts else {
            panic!("{events:?}")
        };
        let expected = if stays {
            AbortCoinState::Asked
        } else {
            AbortCoinState::Undeposited
        };
        assert_eq!(facts.coins[0].state, expected, "{attempt} {code}");
        // Another wallet pays: what may have been taken goes back, asked for or not.
        let other = payment(vec![paid_coin(3, "10", EXCHANGE)]);
        let order = after(&order, &pay(&order, &other, "10").unwrap());
        let order = ended(&order, &reply(&order, 2, 1, Verdict::Confirmed), &other, "10");
        assert_eq!(order.aborted(&coin(1)).is_some(), stays);
        assert!(
            order.aborted(&coin(2)).is_some(),
            "in question at the other exchange"
        );
    }
}

/// A coin of which there may be many.
fn numbered(number: usize, value: &str) -> PaidCoin {
    let mut bytes = [200; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    PaidCoin {
        coin_pub: CoinPub::from_bytes(bytes),
        ..paid_coin(1, value, EXCHANGE)
    }
}

#[test]
fn coins_in_question_count_against_the_bound_and_full_is_no_last_word_to_who_has_money_inside() {
    let mut order = sold("100");
    let tries = COINS_MAX / PAY_COINS_MAX;
    for number in 0..tries {
        let coins = (0..PAY_COINS_MAX).map(|coin| numbered(number * PAY_COINS_MAX + coin, "1"));
        let many = payment(coins.collect());
        order = after(&order, &pay(&order, &many, "100").unwrap());
        // The same coins again are not counted twice.
        let more = payment(many.coins.iter().take(PAY_COINS_MAX - 1).cloned().collect());
        order = after(&order, &pay(&order, &more, "99").unwrap());
    }
    let rest = COINS_MAX - tries * PAY_COINS_MAX;
    let of = |count| payment((0..count).map(|coin| numbered(10_000 + coin, "10")).collect());
    assert_eq!(
        kinds(&pay(&order, &of(rest), "100").unwrap()),
        ["deposit_requested"]
    );
    assert_eq!(refused(pay(&order, &of(rest + 1), "100")), (503, 77));
}

#[test]
fn an_order_with_batches_enough_is_not_told_for_good_where_a_coin_is_in_question() {
    let mut order = sold("10");
    let one = payment(vec![paid_coin(1, "10", EXCHANGE)]);
    let other = payment(vec![paid_coin(2, "10", EXCHANGE)]);
    order = after(&order, &pay(&order, &other, "10").unwrap());
    for number in 1..BATCHES_MAX {
        order = after(&order, &pay(&order, &one, "10").unwrap());
        order = after(
            &order,
            &record(&order, &reply(&order, number, 1, Verdict::Refused), &merchant()),
        );
    }
    assert_eq!(refused(pay(&order, &one, "10")), (503, 77));
    assert_eq!(pay(&order, &other, "10").unwrap(), [], "no new batch");
}
