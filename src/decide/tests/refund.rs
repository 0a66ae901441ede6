//! A wallet's refund request: who is let through, what is sent for the first time, and what the state then answers.

use quittance_events::Facts;
use quittance_events::answer::{self, Answer, RefundAnswer};
use quittance_events::facts::{ExchangeUnreached, Failure, Verdict};
use serde_json::{Value, json};

use super::*;
use crate::decide::refund::{admit, first_requests};

fn names(events: &[NewEvent]) -> Vec<(CoinPub, u64)> {
    let names = events.iter().flat_map(|event| match &event.facts {
        Facts::RefundRequested(facts) => facts.rows.clone(),
        other => panic!("{other:?}"),
    });
    names
        .map(|name| (name.coin_pub, name.rtransaction_id.get()))
        .collect()
}

fn answer_at(order: &Order, time: Micros) -> Option<Box<Answer>> {
    match answer::refund(order, time).unwrap() {
        RefundAnswer::Recorded(answer) => Some(answer),
        RefundAnswer::NoContent => None,
    }
}

fn body_at(order: &Order, time: Micros) -> Value {
    let answer = answer_at(order, time).unwrap();
    assert_eq!(answer.http_status, 200);
    serde_json::from_slice(&answer.body).unwrap()
}

/// Approved in two steps, nothing sent: coin 1 twice, coin 2 once.
fn approved() -> Order {
    let order = sold("10", &[(1, "6", "0.1"), (2, "4", "0.1")], true);
    let order = after(&order, &approve(&order, "KUDOS:2").unwrap());
    after(&order, &approve(&order, "KUDOS:7").unwrap())
}

#[test]
fn only_who_knows_the_contract_is_let_through() {
    let order = sold("10", &[], false);
    let code = |admitted: Result<&Order, Refusal>| status_and_code(&admitted.unwrap_err());
    assert_eq!(code(admit(None, &hash())), (404, 2005));
    assert_eq!(
        code(admit(Some(&order), &HashCode::from_bytes([1; 64]))),
        (403, 2009)
    );
    assert_eq!(admit(Some(&order), &hash()).unwrap(), &order);
}

#[test]
fn every_approved_permission_is_sent_once() {
    let order = approved();
    let events = first_requests(&order, |_| true, now());
    assert_eq!(names(&events), [(coin(1), 1), (coin(1), 2), (coin(2), 1)]);
    assert_eq!(first_requests(&after(&order, &events), |_| true, now()), []);
    let part = after(&order, &[requested(&[(1, 2)])]);
    assert_eq!(
        names(&first_requests(&part, |_| true, now())),
        [(coin(1), 1), (coin(2), 1)]
    );
}

#[test]
fn nothing_is_sent_to_an_exchange_whose_keys_are_not_had() {
    assert_eq!(first_requests(&approved(), |_| false, now()), []);
    let reachable = |master: &MasterPub| *master == exchange();
    assert_eq!(names(&first_requests(&approved(), reachable, now())).len(), 3);
}

#[test]
fn past_the_wire_deadline_nothing_is_sent_for_the_first_time() {
    let last = Micros::new(WIRE_S * 1_000_000 - 1).unwrap();
    assert_eq!(names(&first_requests(&approved(), |_| true, last)).len(), 3);
    assert_eq!(first_requests(&approved(), |_| true, at(WIRE_S)), []);
}

#[test]
fn carried_in_refunds_are_not_sent_for_the_first_time_again() {
    let order = sold("10", &[(1, "10", "0.1")], true);
    let order = after(
        &order,
        &tell(&order, &word(&[], true, &[told_refund(1, 1, "2", NOW_S)])).unwrap(),
    );
    assert_eq!(first_requests(&order, |_| true, now()), []);
    assert_eq!(order.open_permissions().collect::<Vec<_>>(), [(coin(1), id(1))]);
    let order = after(&order, &approve(&order, "KUDOS:5").unwrap());
    assert_eq!(names(&first_requests(&order, |_| true, now())), [(coin(1), 2)]);
}

#[test]
fn the_status_follows_payment_requests_and_deadline() {
    let unpaid = sold("10", &[(1, "5", "0")], false);
    let free = recorded(terms("0"));
    let free = after(&free, &tell(&free, &word(&[], true, &[])).unwrap());
    let paid = sold("10", &[(1, "10", "0")], true);
    let carried = after(
        &paid,
        &tell(&paid, &word(&[], true, &[told_refund(1, 1, "2", NOW_S)])).unwrap(),
    );
    let sent = after(&approved(), &[requested(&[(2, 1)])]);
    let late = at(WIRE_S);
    for (what, order, before, past) in [
        ("unpaid", &unpaid, None, None),
        ("paid with nothing", &free, None, None),
        ("paid, nothing approved", &paid, Some(200), Some(410)),
        ("approved, nothing sent", &approved(), Some(200), Some(410)),
        ("one permission sent", &sent, Some(200), Some(200)),
        ("carried in", &carried, Some(200), Some(200)),
    ] {
        let status = |time| answer_at(order, time).map(|answer| answer.http_status);
        assert_eq!((status(now()), status(late)), (before, past), "{what}");
    }
}

#[test]
fn with_nothing_approved_the_amount_is_zero_and_the_list_empty() {
    let body = body_at(&sold("10", &[(1, "10", "0")], true), now());
    let merchant_pub = merchant().merchant_pub();
    assert_eq!(
        body,
        json!({"refund_amount": "KUDOS:0", "refunds": [], "merchant_pub": merchant_pub})
    );
}

#[test]
fn past_the_deadline_the_410_has_code_and_hint_alone() {
    let answer = answer_at(&approved(), at(WIRE_S)).unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["code"], 2169);
    assert_eq!(
        body.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["code", "hint"]
    );
}

#[test]
fn the_amount_sums_all_rows_and_those_carried_in_come_first() {
    let order = sold("10", &[(1, "6", "0.1"), (2, "4", "0.1")], true);
    let carried = [told_refund(2, 1, "1", NOW_S - 7)];
    let order = after(&order, &tell(&order, &word(&[], true, &carried)).unwrap());
    let order = after(&order, &approve(&order, "KUDOS:3").unwrap());
    let order = after(&order, &approve_at(&order, "KUDOS:10", at(NOW_S + 5)).unwrap());
    let failed = replied(1, 1, Verdict::Refused, 409, Some(1501));
    let order = after(&order, &[requested(&[(1, 1)]), failed]);
    let body = body_at(&order, now());
    assert_eq!(body["refund_amount"], "KUDOS:10");
    let rows: Vec<_> = body["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let second = row["execution_time"]["t_s"].as_u64().unwrap();
            (
                row["coin_pub"].clone(),
                row["rtransaction_id"].as_u64().unwrap(),
                row["refund_amount"].clone(),
                second,
            )
        })
        .collect();
    let row = |n, id: u64, amount: &str, second: u64| (json!(coin(n)), id, json!(amount), second);
    assert_eq!(
        rows,
        [
            row(2, 1, "KUDOS:1", NOW_S - 7),
            row(1, 1, "KUDOS:2", NOW_S),
            row(1, 2, "KUDOS:4", NOW_S + 5),
            row(2, 2, "KUDOS:3", NOW_S + 5),
        ]
    );
}

#[test]
fn every_outcome_has_its_entry_and_nothing_that_may_pass_is_a_4xx() {
    let unreached = |failure| {
        NewEvent::bare(ExchangeUnreached {
            coin_pub: coin(1),
            rtransaction_id: id(1),
            attempt: 1,
            failure,
        })
    };
    let reply = |verdict, status, code| Some(replied(1, 1, verdict, status, code));
    for (recorded, status, code) in [
        (reply(Verdict::Confirmed, 200, None), 200, None),
        (reply(Verdict::Refused, 409, Some(1501)), 409, Some(1501)),
        (reply(Verdict::Refused, 404, Some(1502)), 404, Some(1502)),
        (reply(Verdict::Later, 500, Some(53)), 500, Some(53)),
        (reply(Verdict::Later, 503, None), 503, Some(2014)),
        (reply(Verdict::Later, 599, None), 599, Some(2014)),
        (reply(Verdict::Later, 408, Some(7)), 503, Some(7)),
        (reply(Verdict::Later, 425, None), 503, Some(2014)),
        (reply(Verdict::Later, 429, None), 503, Some(2014)),
        (reply(Verdict::Later, 451, None), 503, Some(2014)),
        (reply(Verdict::Unproven, 200, None), 502, Some(2013)),
        (reply(Verdict::Malformed, 302, None), 502, Some(2013)),
        (reply(Verdict::Malformed, 404, None), 502, Some(2013)),
        (Some(unreached(Failure::Connect)), 502, Some(2012)),
        (Some(unreached(Failure::Closed)), 502, Some(2012)),
        (Some(unreached(Failure::Timeout)), 504, Some(2011)),
        (None, 504, Some(2011)),
    ] {
        let mut events = vec![requested(&[(1, 1)])];
        events.extend(recorded.clone());
        let order = after(&approved(), &events);
        // The deadline changes nothing for what was sent.
        for time in [now(), at(WIRE_S)] {
            let entry = &body_at(&order, time)["refunds"][0];
            let kind = if status == 200 { "success" } else { "failure" };
            assert_eq!(entry["type"], kind, "{recorded:?}");
            assert_eq!(entry["exchange_status"], status, "{recorded:?}");
            assert_eq!(entry["exchange_code"].as_u64(), code, "{recorded:?}");
            assert_eq!(entry.get("exchange_pub").is_some(), status == 200);
        }
    }
}

#[test]
fn a_row_that_was_never_sent_waits_for_keys_or_came_too_late() {
    let order = after(&approved(), &[requested(&[(2, 1)])]);
    for (time, status, code) in [(now(), 502, 2010), (at(WIRE_S), 410, 1503)] {
        let entry = &body_at(&order, time)["refunds"][0];
        assert_eq!(
            (entry["exchange_status"].as_u64(), entry["exchange_code"].as_u64()),
            (Some(status), Some(code))
        );
    }
}

#[test]
fn the_first_confirmation_counts() {
    let order = after(
        &approved(),
        &[requested(&[(1, 1)]), replied(1, 1, Verdict::Confirmed, 200, None)],
    );
    let again = after(&order, &[replied(1, 1, Verdict::Refused, 409, Some(1501))]);
    assert_eq!(body_at(&order, now()), body_at(&again, now()));
}

#[test]
fn a_refund_is_pending_until_delivered_refused_or_too_late() {
    let pending = |order: &Order, time| answer::status(order, time).unwrap().refund_pending;
    let order = approved();
    assert!(pending(&order, now()) && !pending(&order, at(WIRE_S)));
    let sent = after(&order, &[requested(&[(1, 1), (1, 2), (2, 1)])]);
    assert!(pending(&sent, at(WIRE_S)));
    let refused = [(1, 1), (1, 2), (2, 1)].map(|(n, id)| replied(n, id, Verdict::Refused, 410, Some(1503)));
    let refused = after(&sent, &refused);
    assert!(!pending(&refused, now()));
    let status = answer::status(&refused, now()).unwrap();
    assert_eq!(
        (status.refunded, status.refund_amount, status.refund_taken),
        (true, kudos("7"), kudos("0"))
    );
    // Confirmed, but nobody fetched it yet.
    let confirmed = after(
        &sent,
        &[(1, 1), (1, 2), (2, 1)].map(|(n, id)| replied(n, id, Verdict::Confirmed, 200, None)),
    );
    assert!(pending(&confirmed, now()));
}
