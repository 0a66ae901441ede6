//! The merchant's approval: checks in their order, the spread, ids, signatures and times.

use proptest::prelude::*;
use quittance_events::facts::Verdict;
use quittance_events::{AttachmentName, Facts};
use quittance_taler::sum;

use super::*;

fn execution(events: &[NewEvent]) -> Timestamp {
    match &events[0].facts {
        Facts::RefundApproved(facts) => facts.execution_s,
        other => panic!("{other:?}"),
    }
}

#[test]
fn checks_stand_in_their_order() {
    let coins = &[(1, "10", "0.1")][..];
    let no_refunds = |paid| {
        let order = recorded(OrderRecorded {
            refund_deadline_s: second(NOW_S - 60),
            ..terms("10")
        });
        let events = tell(&order, &word(&[told(1, "10", "0.1")], paid, &[])).unwrap();
        after(&order, &events)
    };
    let paid = sold("10", coins, true);
    let granted = after(&paid, &approve(&paid, "KUDOS:5").unwrap());
    let late = at(WIRE_S);
    // Each request is wrong in later ways too, as far as a request can be.
    for (order, total, time, expected) in [
        (&no_refunds(false), "EUR:99", late, (409, 2024)),
        (&no_refunds(false), "KUDOS:99", late, (409, 2531)),
        (&no_refunds(true), "KUDOS:99", late, (403, 2532)),
        // The same total comes before the deadline.
        (&granted, "KUDOS:4", late, (410, 2169)),
        (&granted, "KUDOS:99", late, (410, 2169)),
        (&granted, "KUDOS:4.99999999", now(), (409, 2530)),
        (&granted, "KUDOS:10.00000001", now(), (409, 2530)),
    ] {
        assert_eq!(refused(approve_at(order, total, time)), expected, "{total}");
    }
    let request = ApprovalRequest {
        refund: kudos("1"),
        reason: String::new(),
    };
    let missing = decide_approval(None, &request, (&merchant(), id(1)), &by(), now());
    assert_eq!(refused(missing), (404, 2005));
}

#[test]
fn a_contract_whose_refund_deadline_is_not_after_its_timestamp_has_no_refunds() {
    for (deadline_s, allowed) in [(NOW_S - 61, false), (NOW_S - 60, false), (NOW_S - 59, true)] {
        let order = recorded(OrderRecorded {
            refund_deadline_s: second(deadline_s),
            ..terms("10")
        });
        let order = after(
            &order,
            &tell(&order, &word(&[told(1, "10", "0")], true, &[])).unwrap(),
        );
        assert_eq!(approve(&order, "KUDOS:1").is_ok(), allowed, "{deadline_s}");
    }
}

#[test]
fn the_same_total_is_granted_again_and_recorded_never() {
    let order = sold("10", &[(1, "10", "0.1")], true);
    assert_eq!(approve(&order, "KUDOS:0").unwrap(), []);
    let order = after(&order, &approve(&order, "KUDOS:5").unwrap());
    for time in [now(), at(WIRE_S), at(WIRE_S + 1_000_000)] {
        assert_eq!(approve_at(&order, "KUDOS:5", time).unwrap(), []);
    }
}

#[test]
fn the_wire_deadline_is_past_when_its_second_begins_and_never_where_there_is_none() {
    let order = sold("10", &[(1, "10", "0.1")], true);
    let last = Micros::new(WIRE_S * 1_000_000 - 1).unwrap();
    assert!(approve_at(&order, "KUDOS:5", last).is_ok());
    assert_eq!(refused(approve_at(&order, "KUDOS:5", at(WIRE_S))), (410, 2169));
    let endless = recorded(OrderRecorded {
        wire_deadline_s: serde_json::from_str("\"never\"").unwrap(),
        ..terms("10")
    });
    let endless = after(
        &endless,
        &tell(&endless, &word(&[told(1, "10", "0")], true, &[])).unwrap(),
    );
    assert!(approve_at(&endless, "KUDOS:5", at(NOW_S + 3_000_000_000)).is_ok());
}

#[test]
fn the_amount_is_the_new_total_and_its_growth_is_spread() {
    let order = sold("10", &[(1, "10", "0.1")], true);
    let first = approve(&order, "KUDOS:3").unwrap();
    let order = after(&order, &first);
    let second = approve(&order, "KUDOS:7.5").unwrap();
    assert_eq!(shares(&first), [(coin(1), kudos("3"))]);
    assert_eq!(shares(&second), [(coin(1), kudos("4.5"))]);
    let Facts::RefundApproved(facts) = &second[0].facts else {
        panic!()
    };
    assert_eq!((facts.total, &facts.by), (kudos("7.5"), &by()));
    assert_eq!(
        second[0].attachments,
        [(AttachmentName::Reason, b"returned".to_vec())]
    );
}

#[test]
fn a_coin_that_the_exchange_will_not_give_back_is_the_last_to_be_refunded() {
    let order = aborted(&sold("10", &[(1, "4", "0.1")], false), &[1]);
    let order = after(&order, &[replied(1, 0, Verdict::Refused, 410, Some(1503))]);
    let rest = word(&[told(2, "6", "0.1")], true, &[]);
    let order = after(&order, &tell(&order, &rest).unwrap());
    assert_eq!(order.payment.as_ref().unwrap().paid, kudos("10"));
    let some = approve(&order, "KUDOS:5").unwrap();
    assert_eq!(shares(&some), [(coin(2), kudos("5"))]);
    let most = approve(&order, "KUDOS:9").unwrap();
    assert_eq!(shares(&most), [(coin(2), kudos("6")), (coin(1), kudos("3"))]);
}

#[test]
fn shares_are_greedy_in_recorded_order_and_leave_no_crumbs_where_that_is_possible() {
    let order = sold("12.5", &[(1, "10", "0.2"), (2, "2.5", "0.02")], true);
    // The documented example: never 9.99 of the first coin, for 0.01 could not be refunded of it any more.
    let events = approve(&order, "KUDOS:10.01").unwrap();
    assert_eq!(
        shares(&events),
        [(coin(1), kudos("9.8")), (coin(2), kudos("0.21"))]
    );
    assert_eq!(
        shares(&approve(&order, "KUDOS:4").unwrap()),
        [(coin(1), kudos("4"))]
    );
    // What is left afterwards can be granted too.
    let order = after(&order, &events);
    let rest = approve(&order, "KUDOS:12.5").unwrap();
    assert_eq!(shares(&rest), [(coin(1), kudos("0.2")), (coin(2), kudos("2.29"))]);
}

#[test]
fn where_nothing_fits_the_nearest_totals_are_named() {
    let order = sold("10", &[(1, "10", "0.5")], true);
    let order = after(&order, &approve(&order, "KUDOS:3").unwrap());
    let refusal = approve(&order, "KUDOS:3.2").unwrap_err();
    assert_eq!(status_and_code(&refusal), (409, 2530));
    let detail = refusal.detail.unwrap();
    assert!(detail.ends_with("KUDOS:3, KUDOS:3.5"), "{detail}");
}

#[test]
fn only_coins_that_the_payment_counts_are_touched() {
    // 1 is aborted, 2 and 3 pay, 4 comes afterwards.
    let order = aborted(&sold("10", &[(1, "10", "0.1")], false), &[1]);
    let order = after(
        &order,
        &tell(
            &order,
            &word(&[told(2, "6", "0.1"), told(3, "4", "0.1")], true, &[]),
        )
        .unwrap(),
    );
    let order = after(
        &order,
        &tell(&order, &word(&[told(4, "8", "0.1")], true, &[])).unwrap(),
    );
    assert_eq!(
        shares(&approve(&order, "KUDOS:10").unwrap()),
        [(coin(2), kudos("6")), (coin(3), kudos("4"))]
    );
    // The cap is the paid total, not what lies at the exchange.
    assert_eq!(refused(approve(&order, "KUDOS:10.01")), (409, 2530));
}

#[test]
fn more_than_the_price_may_be_refunded_where_more_was_paid() {
    let order = sold("10", &[(1, "6", "0.1"), (2, "6", "0.1")], true);
    assert!(approve(&order, "KUDOS:12").is_ok());
    assert_eq!(refused(approve(&order, "KUDOS:12.01")), (409, 2530));
}

#[test]
fn permission_ids_run_per_coin_after_those_carried_in() {
    let order = sold("20", &[(1, "10", "0.1"), (2, "10", "0.1")], true);
    let carried = [
        told_refund(1, 7, "2", NOW_S - 5),
        told_refund(1, 3, "1", NOW_S - 9),
    ];
    let mut order = after(&order, &tell(&order, &word(&[], true, &carried)).unwrap());
    let mut ids = Vec::new();
    for total in ["KUDOS:5", "KUDOS:12", "KUDOS:13"] {
        let events = approve(&order, total).unwrap();
        ids.extend(
            approved_rows(&events)
                .iter()
                .map(|row| (row.coin_pub, row.rtransaction_id.get())),
        );
        order = after(&order, &events);
    }
    assert_eq!(ids, [(coin(1), 8), (coin(1), 9), (coin(2), 1), (coin(2), 2)]);
}

#[test]
fn every_permission_is_signed_over_its_id_and_amount() {
    let order = sold("12.5", &[(1, "10", "0.2"), (2, "2.5", "0.02")], true);
    for row in approved_rows(&approve(&order, "KUDOS:12").unwrap()) {
        let number = row.coin_pub.as_bytes()[0];
        assert!(is_permitted(
            number,
            row.rtransaction_id.get(),
            row.amount,
            &row.merchant_sig
        ));
    }
}

#[test]
fn each_approval_has_its_own_second() {
    let mut order = sold("10", &[(1, "10", "0.1")], true);
    let mut seconds = Vec::new();
    // Twice in one second, once with a clock that went back, once well after.
    for (total, time) in [
        ("KUDOS:1", Micros::new(NOW_S * 1_000_000 + 999_999).unwrap()),
        ("KUDOS:2", now()),
        ("KUDOS:3", at(NOW_S - 30)),
        ("KUDOS:4", at(NOW_S + 100)),
    ] {
        let events = approve_at(&order, total, time).unwrap();
        seconds.push(execution(&events).seconds().unwrap() - NOW_S);
        order = after(&order, &events);
    }
    assert_eq!(seconds, [0, 1, 2, 100]);
}

#[test]
fn carried_in_refunds_count_in_total_cap_coin_and_second() {
    let order = sold("20", &[(1, "10", "0.1"), (2, "10", "0.1")], true);
    let order = after(
        &order,
        &tell(&order, &word(&[], true, &[told_refund(1, 1, "9", NOW_S + 50)])).unwrap(),
    );
    assert_eq!(approve(&order, "KUDOS:9").unwrap(), []);
    assert_eq!(refused(approve(&order, "KUDOS:8")), (409, 2530));
    assert_eq!(refused(approve(&order, "KUDOS:20.01")), (409, 2530));
    let events = approve(&order, "KUDOS:12").unwrap();
    assert_eq!(shares(&events), [(coin(1), kudos("1")), (coin(2), kudos("2"))]);
    assert_eq!(execution(&events), second(NOW_S + 51));
}

#[test]
fn after_a_loss_ids_begin_at_the_generation_and_then_go_on() {
    let order = sold("20", &[(1, "10", "0.1"), (2, "10", "0.1")], true);
    let carried = word(&[], true, &[told_refund(1, 7, "9", NOW_S)]);
    let order = after(&order, &tell(&order, &carried).unwrap());
    let ids = |order: &Order, total, generation| {
        let request = ApprovalRequest {
            refund: kudos(total),
            reason: String::new(),
        };
        let keys = (&merchant(), RefundId::first_of(generation));
        let events = decide_approval(Some(order), &request, keys, &by(), now()).unwrap();
        let rows = approved_rows(&events);
        for row in &rows {
            let (number, id) = (row.coin_pub.as_bytes()[0], row.rtransaction_id.get());
            assert!(is_permitted(number, id, row.amount, &row.merchant_sig));
        }
        let ids: Vec<u64> = rows.iter().map(|row| row.rtransaction_id.get()).collect();
        (after(order, &events), ids)
    };
    // Nothing lost: on after what was carried in, and from 1 where nothing was.
    assert_eq!(ids(&order, "11", 0).1, [8, 1]);
    let (order, first) = ids(&order, "11", 3);
    assert_eq!(first, [3 << 20, 3 << 20]);
    assert_eq!(ids(&order, "12", 3).1, [(3 << 20) + 1]);
    // A generation that was carried on meets ids of its own.
    assert_eq!(ids(&order, "12", 2).1, [(3 << 20) + 1]);
}

#[test]
fn a_refused_permission_stays_spent() {
    let order = sold("10", &[(1, "10", "0.1")], true);
    let order = after(&order, &approve(&order, "KUDOS:10").unwrap());
    let order = after(
        &order,
        &[
            requested(&[(1, 1)]),
            replied(1, 1, Verdict::Refused, 410, Some(1503)),
        ],
    );
    assert_eq!(approve(&order, "KUDOS:10").unwrap(), []);
    assert_eq!(refused(approve(&order, "KUDOS:10.01")), (409, 2530));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn random_approvals_stay_within_every_bound(
        coins in prop::collection::vec((1u128..2000, 0u128..60), 1..7),
        asked in prop::collection::vec((0u128..1100, 0u64..3), 1..12),
    ) {
        let units = |cents: u128| Amount::from_units("KUDOS".parse().unwrap(), cents * 1_000_000).unwrap();
        let deposits: Vec<ToldDeposit> = (1..).zip(&coins).map(|(number, (value, fee))| ToldDeposit {
            amount_with_fee: units(*value),
            refund_fee: units(*fee),
            ..told(number, "1", "0")
        }).collect();
        let paid: u128 = coins.iter().map(|(value, _)| value).sum();
        let mut order = recorded(OrderRecorded { amount: units(paid), ..terms("1") });
        order = after(&order, &tell(&order, &word(&deposits, true, &[])).unwrap());
        let mut clock = NOW_S;
        let (mut total, mut last_second) = (units(0), None);
        for (share, seconds) in asked {
            clock += seconds;
            // Up to a tenth more than was paid.
            let wanted = units(paid * share / 1000);
            let Ok(events) = approve_at(&order, &wanted.to_string(), at(clock)) else {
                continue;
            };
            if events.is_empty() {
                prop_assert_eq!(wanted, total);
                continue;
            }
            let rows = approved_rows(&events);
            prop_assert!(wanted.units() > total.units() && wanted.units() <= units(paid).units());
            let growth = sum(wanted.currency(), rows.iter().map(|row| row.amount)).unwrap();
            prop_assert_eq!(growth.units(), wanted.units() - total.units());
            prop_assert!(Some(execution(&events)) > last_second);
            prop_assert!(execution(&events) >= second(clock));
            (total, last_second) = (wanted, Some(execution(&events)));
            for row in &rows {
                let deposit = order.deposit(&row.coin_pub).unwrap();
                prop_assert!(row.amount.units() >= deposit.refund_fee.units() && !row.amount.is_zero());
            }
            order = after(&order, &events);
            for deposit in &order.deposits {
                let on_coin = order.approved_on(&deposit.coin_pub).unwrap();
                prop_assert!(on_coin.units() <= deposit.amount_with_fee.units());
                let ids = order.rows.iter().filter(|row| row.coin_pub == deposit.coin_pub);
                let ids: Vec<u64> = ids.map(|row| row.rtransaction_id.get()).collect();
                prop_assert_eq!(&ids, &(1..).take(ids.len()).collect::<Vec<u64>>());
            }
            prop_assert_eq!(order.approved().unwrap(), total);
        }
    }
}
