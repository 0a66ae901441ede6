//! What a successor carries in: which orders, and which of their events.

use super::*;
use crate::decide::takeover::{in_flight, is_repeated, refunds};

/// An order with a refund of 4 that was sent, and one that was not.
fn granted() -> Order {
    let order = sold("10", &[(1, "10", "0.1")], true);
    let order = after(&order, &approve(&order, "KUDOS:4").unwrap());
    after(&order, &[requested(&[(1, 1)])])
}

#[test]
fn before_the_wire_deadline_every_order_is_in_flight() {
    let order = recorded(terms("10"));
    assert!(in_flight(&order, at(WIRE_S - 1), false));
    assert!(!in_flight(&order, at(WIRE_S), false));
    assert!(!in_flight(&order, at(WIRE_S), true));
    let never = recorded(OrderRecorded {
        wire_deadline_s: Timestamp::NEVER,
        ..terms("10")
    });
    assert!(in_flight(&never, at(WIRE_S), false));
}

#[test]
fn past_it_an_order_is_in_flight_while_an_exchange_may_still_refund() {
    let late = at(WIRE_S);
    let order = granted();
    assert!(in_flight(&order, late, false));
    let refused = after(&order, &[replied(1, 1, Verdict::Refused, 410, Some(1503))]);
    assert!(!in_flight(&refused, late, false));
    // Confirmed, and no wallet was told.
    let confirmed = after(&order, &[replied(1, 1, Verdict::Confirmed, 200, None)]);
    assert!(in_flight(&confirmed, late, false));
    // Never sent in time: nobody sends it any more, unless the events that would say so are lost.
    let unsent = after(&refused, &approve(&refused, "KUDOS:5").unwrap());
    assert!(!in_flight(&unsent, late, false));
    assert!(in_flight(&unsent, late, true));
    let aborted = aborted(&sold("10", &[(1, "5", "0.1")], false), &[1]);
    assert!(in_flight(&aborted, late, false));
    for (verdict, status, code) in [
        (Verdict::Confirmed, 200, None),
        (Verdict::Refused, 403, Some(1506)),
    ] {
        let decided = after(&aborted, &[replied(1, 0, verdict, status, code)]);
        assert!(!in_flight(&decided, late, false), "{verdict:?}");
    }
}

#[test]
fn refunds_are_carried_in_with_ids_seconds_and_signatures_in_their_order() {
    let order = sold("12", &[(1, "10", "0.1"), (2, "2", "0.1")], true);
    let carried = word(&[], true, &[told_refund(2, 5, "0.5", NOW_S - 900)]);
    let order = after(&order, &tell(&order, &carried).unwrap());
    let order = after(&order, &approve(&order, "KUDOS:4").unwrap());
    let order = after(&order, &approve(&order, "KUDOS:12").unwrap());
    let Some(NewEvent {
        facts: Facts::RefundCarriedIn(facts),
        attachments,
    }) = refunds(&order)
    else {
        panic!("nothing is carried in")
    };
    assert_eq!((facts.by.as_str(), attachments.len()), ("takeover", 0));
    let carried: Vec<_> = facts
        .rows
        .iter()
        .map(|row| {
            (
                row.coin_pub,
                row.rtransaction_id,
                row.amount,
                row.execution_s,
                row.merchant_sig,
            )
        })
        .collect();
    let rows: Vec<_> = order
        .rows
        .iter()
        .map(|row| {
            (
                row.coin_pub,
                row.rtransaction_id,
                row.amount,
                row.execution_s,
                row.merchant_sig,
            )
        })
        .collect();
    assert_eq!((carried.len(), &carried), (4, &rows));
    assert_eq!(refunds(&recorded(terms("10"))), None);
}

#[test]
fn contract_deposits_aborts_and_payment_are_repeated_and_nothing_else() {
    let order = granted();
    let told = tell(&recorded(terms("10")), &word(&[told(1, "10", "0.1")], true, &[])).unwrap();
    assert_eq!(kinds(&told), ["deposit_recorded", "payment_completed"]);
    assert!(
        told.iter()
            .all(|event| is_repeated(&order, Seq::NONE, &event.facts))
    );
    assert!(is_repeated(&order, Seq::NONE, &terms("10").into()));
    let approved = approve(&order, "KUDOS:5").unwrap();
    assert!(!is_repeated(&order, Seq::NONE, &approved[0].facts));
    for dropped in [
        requested(&[(1, 1)]),
        replied(1, 1, Verdict::Refused, 410, Some(1503)),
        replied(1, 1, Verdict::Confirmed, 200, None),
    ] {
        assert!(!is_repeated(&order, Seq::NONE, &dropped.facts), "{dropped:?}");
    }
}

#[test]
fn an_aborts_refusal_is_repeated_and_its_confirmation_is_asked_anew() {
    let order = sold("10", &[(1, "5", "0.1")], false);
    let abort = abort(&order, &[1]).unwrap();
    let order = after(&order, &abort);
    assert!(is_repeated(&order, Seq::NONE, &abort[0].facts));
    let refusal = replied(1, 0, Verdict::Refused, 403, Some(1506));
    let refused = after(&order, std::slice::from_ref(&refusal));
    assert!(is_repeated(&refused, Seq::NONE, &refusal.facts));
    let confirmation = replied(1, 0, Verdict::Confirmed, 200, None);
    let confirmed = after(&order, std::slice::from_ref(&confirmation));
    assert!(!is_repeated(&confirmed, Seq::NONE, &confirmation.facts));
    // Had it come after the confirmation, it would decide nothing.
    assert!(!is_repeated(&confirmed, Seq::NONE, &refusal.facts));
    let later = replied(1, 0, Verdict::Later, 503, None);
    assert!(!is_repeated(&order, Seq::NONE, &later.facts));
}
