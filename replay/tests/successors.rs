//! Ledgers that continue another one, with it and without it at hand.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use quittance_events::Facts;
use quittance_events::create::create;
use quittance_events::facts::*;
use quittance_replay::{Unusable, VerifyOptions, verify};
use quittance_tlog::Checkpoint;
use support::selling::*;
use support::takeover::*;
use support::*;

#[test]
fn what_is_carried_in_holds_by_every_rule() {
    for generation in [None, Some(1)] {
        let mut events = successor(generation);
        approve_first(&mut events, generation.map_or(2, |generation| generation << 20));
        let report = sealed(events.clone(), true);
        assert!(report.is_sound(), "{:#?}", report.findings);
        assert!(
            report.notes.iter().any(|note| note.text.contains("was compared")),
            "{:?}",
            report.notes
        );
        let report = sealed(events, false);
        assert!(report.is_sound(), "{:#?}", report.findings);
        let note = report
            .notes
            .iter()
            .find(|note| note.text.contains("not looked at"));
        assert!(
            note.unwrap()
                .text
                .contains("continues shop.example/quittance after 337 events")
        );
    }
}

#[test]
fn ids_follow_the_generation() {
    // After a loss the next id in turn may be one of the lost; without one, a leap hides what was in between.
    for (generation, id) in [(Some(1), 2), (Some(1), 2 << 20), (None, 1 << 20)] {
        let mut events = successor(generation);
        let place = approve_first(&mut events, id);
        for is_compared in [true, false] {
            assert_root(
                &sealed(events.clone(), is_compared),
                "approval.ids",
                place,
                "0.1",
                &[],
            );
        }
    }
}

#[test]
fn a_predecessor_that_went_on_must_have_raised_the_generation() {
    let size = sound_size() - 1;
    let predecessor = |generation| Predecessor {
        origin: ORIGIN.into(),
        size,
        root: sound_root(size),
        generation,
    };
    // What came last there, an answer, is not carried in.
    let events = successor_of(&sound_events(), predecessor(None));
    let report = sealed(events.clone(), true);
    let finding = assert_root(&report, "takeover.generation", 0, "", &[]);
    assert_eq!((finding.expected.as_str(), finding.found.as_str()), ("1", "0"));
    assert!(sealed(events, false).is_sound());
    let report = sealed(successor_of(&sound_events(), predecessor(Some(1))), true);
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.text.contains("1 events of the predecessor"))
    );
}

#[test]
fn another_ledger_is_not_the_predecessor() {
    let mut events = successor(None);
    let Facts::LedgerOpened(genesis) = &mut events[0].0.facts else {
        panic!("no genesis")
    };
    genesis.predecessor.as_mut().unwrap().size += 1;
    let report = sealed(events, true);
    assert!(
        assert_root(&report, "takeover.predecessor", 0, "", &[])
            .text
            .contains("fewer events")
    );
    // A ledger that continues none, compared with one.
    let options = VerifyOptions {
        ledger: sound().join("ledger.sqlite3"),
        predecessor: Some(sound().join("ledger.sqlite3")),
        ..VerifyOptions::default()
    };
    let report = verify(&options).unwrap();
    assert!(
        assert_root(&report, "takeover.predecessor", 0, "", &[])
            .text
            .contains("names no predecessor")
    );
    let nowhere = compared_with(successor(None), Some(sound().join("nowhere")));
    assert!(matches!(nowhere, Err(Unusable::Unreadable { .. })));
}

#[test]
fn an_order_that_the_predecessor_does_not_have_is_foreign_only_within_the_takeover() {
    let mut events = successor(None);
    let old = nth(&events, UNTOUCHED, "order_recorded", 0);
    let mut made_up = World::new();
    made_up.record("made-up", "3", 20);
    made_up.pay("made-up", &[(71, "3")]);
    let dir = made_up.finish();
    let now = events[old].0.at_us;
    let new: Events = events_of(&dir.path().join("ledger.sqlite3"))
        .into_iter()
        .skip(1)
        .map(|(mut event, new)| {
            event.at_us = now;
            event.ledger = SECOND.into();
            (event, new)
        })
        .collect();
    // Told by the shop once the successor is served, it is an order like any other.
    let mut told = events.clone();
    told.extend(new.clone());
    assert!(sealed(told, true).is_sound());
    events.splice(1..1, new);
    let report = sealed(events, true);
    assert_root(&report, "takeover.orders", 1, "", &[]);
}

#[test]
fn what_is_missing_or_put_in_among_refunds_and_events_is_found() {
    // A refund left out.
    let mut events = successor(None);
    let place = nth(&events, TAKEN_OVER, "refund_carried_in", 0);
    let Facts::RefundCarriedIn(f) = &mut events[place].0.facts else {
        panic!("no takeover")
    };
    f.rows.pop();
    assert_root(&sealed(events, true), "takeover.refunds", place, "1", &[]);
    // A refund put in: signed by the merchant, and within all bounds.
    let mut events = successor(None);
    let h_contract = order_at(&events, UNTOUCHED, events.len()).terms.h_contract;
    let place = nth(&events, UNTOUCHED, "refund_carried_in", 0);
    let Facts::RefundCarriedIn(f) = &mut events[place].0.facts else {
        panic!("no takeover")
    };
    f.rows.push(CarriedInRow {
        rtransaction_id: refund_id(2),
        amount: amount("0.2"),
        merchant_sig: permit(&h_contract, coin(41), 2, amount("0.2")),
        ..f.rows[0].clone()
    });
    assert_root(&sealed(events, true), "takeover.refunds", place, "0.2", &[]);
    // An abort's refusal left out: its coin would be sent again.
    let mut events = successor(None);
    let place = nth(&events, ABORTED, "exchange_replied", 0);
    events.remove(place);
    assert_root(&sealed(events, true), "takeover.contract", place, "4", &[]);
    // A reason put in behind an event: bytes that the predecessor does not have.
    let mut events = successor(None);
    let place = nth(&events, ABORTED, "abort_requested", 0);
    let body = &mut events[place].1.attachments[0].1;
    *body = String::from_utf8(body.clone())
        .unwrap()
        .replace("KUDOS:1", "KUDOS:2")
        .into_bytes();
    assert_root(&sealed(events, true), "takeover.contract", place, "7", &[]);
}

#[test]
fn the_roots_are_those_of_the_checkpoints() {
    let note = std::fs::read_to_string(sound().join("ledger.anchor")).unwrap();
    let checkpoint = Checkpoint::open(&note, &keys().checkpoint.verifier()).unwrap();
    assert_eq!(sound_root(checkpoint.size).as_bytes(), &checkpoint.root.0);
}

#[test]
fn of_a_past_state_the_predecessor_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let paths = paths(folder.path());
    create(&paths, &second_keys(), successor(None)).unwrap();
    let options = VerifyOptions {
        ledger: paths.ledger.clone(),
        predecessor: Some(folder.path().join("nowhere")),
        as_of: Some("1".parse().unwrap()),
        ..VerifyOptions::default()
    };
    let report = verify(&options).unwrap();
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.text.contains("predecessor and later checkpoints"))
    );
}

/// A coin of a payment in question stands in a later one, too, which its exchange refused at once: that refusal stays behind.
#[test]
fn an_abort_beside_a_refused_batch_is_taken_over() {
    let mut w = World::selling();
    w.sold(ASKED, "10");
    let form = DepositForm::PerBatch;
    let lost = w.ask(ASKED, form, None, &[(51, "5"), (52, "5")]);
    w.lost(ASKED, lost, 1);
    let spent = w.ask(ASKED, form, None, &[(51, "5"), (53, "5")]);
    let said = r#"{"code":1012}"#;
    w.tell(ASKED, vec![refused(spent, 1, 409, said, Verdict::Refused)]);
    let abort = abort_in_question(&w.order(ASKED), &[(51, Some("5")), (53, None)]);
    w.tell(ASKED, vec![abort]);
    let before = w.finish();
    let ledger = before.path().join("ledger.sqlite3");
    let options = VerifyOptions {
        ledger: ledger.clone(),
        ..VerifyOptions::default()
    };
    let report = verify(&options).unwrap();
    assert!(report.is_sound(), "{:#?}", report.findings);

    let old = events_of(&ledger);
    let size = u64::try_from(old.len()).unwrap();
    let predecessor = Predecessor {
        origin: ORIGIN.into(),
        size,
        root: root_of(&ledger, size),
        generation: None,
    };
    let events = successor_of_sales(&old, predecessor);
    let report = compared_with(events.clone(), Some(ledger.clone())).unwrap();
    assert!(report.is_sound(), "{:#?}", report.findings);
    // Taken over otherwise than it was, it is found all the same.
    let mut events = events;
    let place = nth(&events, ASKED, "abort_requested", 0);
    let Facts::AbortRequested(f) = &mut events[place].0.facts else {
        panic!("no abort")
    };
    let (amount, signature) = (f.coins[0].amount.take(), f.coins[0].merchant_sig.take());
    assert!(amount.is_some() && signature.is_some());
    f.coins[0].state = AbortCoinState::Undeposited;
    let report = compared_with(events, Some(ledger)).unwrap();
    assert_root(&report, "takeover.contract", place, "", &[]);
}
