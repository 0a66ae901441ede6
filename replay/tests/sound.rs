//! A sound ledger has no finding, and the report says what was checked. The answers in it were built by the service's
//! own projection and are rebuilt here by code that shares nothing with it: where the two disagree, one is wrong.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use quittance_events::NewEvent;
use quittance_events::facts::{ExchangeUnreached, Failure, Undeposited, Verdict};
use quittance_replay::{Report, VerifyOptions, verify};
use quittance_taler::Amount;
use support::{ABORTED, World, coin, deposit, ledger_key, master_pub, refund_id, reply, sound};

fn report() -> Report {
    let (ledger, anchor) = (
        sound().join("ledger.sqlite3"),
        Some(sound().join("ledger.anchor")),
    );
    verify(&VerifyOptions {
        ledger,
        anchor,
        ledger_key: Some(ledger_key()),
        predecessor: None,
        exchange_keys: vec![master_pub()],
        ..VerifyOptions::default()
    })
    .unwrap()
}

#[test]
fn every_story_is_sound_and_counted() {
    let report = report();
    assert!(report.is_sound(), "{:#?}", report.findings);
    let checked = &report.checked;
    assert_eq!(
        (checked.events, checked.signatures, report.anchored),
        (337, 337, Some(337))
    );
    assert_eq!((checked.attachments, checked.erased), (30, 0));
    assert_eq!((checked.orders, checked.approvals, checked.aborts), (7, 6, 5));
    assert_eq!(
        (
            checked.exchange_replies,
            checked.answers,
            checked.answers_not_checkable
        ),
        (12, 19, 0)
    );
    assert!(checked.checkpoints >= 1);
    assert!(report.key_pinned);
    let money = &report.money["KUDOS"];
    let units = |text: &str| format!("KUDOS:{text}").parse::<Amount>().unwrap().units();
    assert_eq!(
        (money.approved.0, money.confirmed.0),
        (units("269.5"), units("12"))
    );
    assert_eq!(
        (money.aborted.0, money.aborted_confirmed.0),
        (units("15"), units("9"))
    );
}

#[test]
fn a_deposit_that_the_exchange_denies_is_noted() {
    let notes = report().notes;
    let denied: Vec<_> = notes
        .iter()
        .filter(|note| note.order.as_deref() == Some(ABORTED))
        .collect();
    assert_eq!(denied.len(), 1, "{notes:?}");
    assert!(
        denied[0].text.contains("no deposit") && denied[0].text.contains("KUDOS:2"),
        "{denied:?}"
    );
    assert!(notes.iter().any(|note| note.text.contains("header says WAL")));
}

/// All that an exchange can do to a permission, told in answers to refunds and to aborts alike.
#[test]
fn every_sort_of_reply_is_told_as_the_service_tells_it() {
    let long = format!(r#"{{"code":1501,"history":"{}"}}"#, "x".repeat(17_000));
    let replies = [
        (408, "", Verdict::Later),
        (425, "[]", Verdict::Later),
        (429, r#"{"code":60}"#, Verdict::Later),
        (451, r#"{"code":"text"}"#, Verdict::Later),
        (500, r#"{"code":1,"code":2}"#, Verdict::Later),
        (599, r#"{"rate":1.5}"#, Verdict::Later),
        (503, &long, Verdict::Later),
        (200, "not json", Verdict::Unproven),
        (200, r#"{"exchange_pub":"short"}"#, Verdict::Unproven),
        (204, "", Verdict::Malformed),
        (302, r#"{"code":3}"#, Verdict::Malformed),
        (404, "no json", Verdict::Malformed),
        (410, r#"[{"code":1503}]"#, Verdict::Malformed),
        (600, r#"{"code":5}"#, Verdict::Malformed),
        (410, &long, Verdict::Refused),
    ];
    let mut w = World::open();
    w.record("replies", "5", 20);
    w.pay("replies", &[(1, "5")]);
    w.approve("replies", &[(1, 1, "2")]);
    w.request("replies", &[(1, 1)]);
    w.record("aborts", "9", 20);
    w.tell("aborts", vec![deposit(2, "5")]);
    w.abort("aborts", &[2, 3]);
    for (attempt, (status, body, verdict)) in (1_u64..).zip(replies) {
        let [of_refund, of_abort] = [
            reply(1, 1, attempt, status, body, verdict),
            reply(2, 0, attempt, status, body, verdict),
        ];
        w.tell("replies", vec![of_refund]);
        w.tell("aborts", vec![of_abort]);
        w.answer_refund("replies");
        w.answer_abort("aborts", &[2, 3], Undeposited::Typed);
        w.answer_abort("aborts", &[3, 2], Undeposited::Failure);
    }
    w.record("unreached", "5", 20);
    w.pay("unreached", &[(4, "5")]);
    w.approve("unreached", &[(4, 1, "2")]);
    w.request("unreached", &[(4, 1)]);
    for (attempt, failure) in (1..).zip([Failure::Connect, Failure::Closed, Failure::Timeout]) {
        let facts = ExchangeUnreached {
            coin_pub: coin(4),
            rtransaction_id: refund_id(1),
            attempt,
            failure,
        };
        w.tell("unreached", vec![NewEvent::bare(facts)]);
        w.answer_refund("unreached");
    }
    let dir = w.finish();
    let options = VerifyOptions {
        ledger: dir.path().join("ledger.sqlite3"),
        ..VerifyOptions::default()
    };
    let report = verify(&options).unwrap();
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert_eq!(report.checked.answers, 15 * 3 + 3);
}
