//! Ledgers that rotated their keys and erased attachments: what is sound of them, what is told, and what is not.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use quittance_events::create::{Beginnings, init_with};
use quittance_events::facts::*;
use quittance_events::ledger::vkey;
use quittance_events::rotate::{NewKeys, Rotator};
use quittance_events::seal::rotation_message;
use quittance_events::{AttachmentName, Event, Ledger, NewEvent, Seq};
use quittance_replay::{Report, VerifyOptions, show, verify};
use quittance_taler::{Digest32, Micros};
use support::*;

/// Rotates both keys to 71, 72.
fn rotate(forged: &Forged, at: Micros) {
    rotate_both(&paths(forged.dir.path()), at);
}

fn erased(forged: &Forged, place: usize, name: AttachmentName, at: Micros) {
    erase_of(&paths(forged.dir.path()), keys().into(), place, name, at);
}

#[track_caller]
fn assert_sound(report: &Report) {
    assert!(report.is_sound(), "{:#?}", report.findings);
}

fn notes(report: &Report) -> String {
    let texts: Vec<&str> = report.notes.iter().map(|note| note.text.as_str()).collect();
    texts.join("\n")
}

#[test]
fn a_rotation_is_followed_and_told() {
    let forged = continued();
    let events = sound_events();
    rotate(&forged, after(&events));
    // And the ledger goes on under the new keys.
    let ledger = Ledger::open(&paths(forged.dir.path()), ring(&[71], &[72]), "test").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let order = (*ledger.order(&key(UNTOUCHED)).unwrap().unwrap()).clone();
    let append = quittance_events::Append {
        stream: quittance_events::Stream::Order(key(UNTOUCHED), order.moved),
        at: after(&events).plus_s(1),
        events: vec![requested(&[(41, 1)])],
    };
    runtime.block_on(ledger.append(append)).unwrap();
    ledger.close();

    let report = forged.report();
    assert_sound(&report);
    assert_eq!(report.checked.events, u64::try_from(events.len()).unwrap() + 4);
    assert_eq!(report.checked.signatures, report.checked.events);
    let new = vkey(ORIGIN, &event_key(71).public().key()).unwrap();
    for expected in [
        format!("the event key is {new} from here on, authorised by the event key"),
        format!("the checkpoint key is {} from here on", signer(72).verifier()),
    ] {
        assert!(notes(&report).contains(&expected), "{}", notes(&report));
    }
    // The auditor may have been given the first key, or the new one.
    assert_eq!(report.event_key, Some(ledger_key().to_string()));
    let with = |key| VerifyOptions {
        ledger_key: Some(key),
        ..forged.options()
    };
    let report = verify(&with(new.clone())).unwrap();
    assert_sound(&report);
    assert_eq!(report.event_key, Some(new.to_string()));
    let foreign = vkey(ORIGIN, &event_key(73).public().key()).unwrap();
    assert_root(&verify(&with(foreign)).unwrap(), "log.key", 0, "", &[]);
    // An anchor of before the rotation is under the old key, and holds.
    let report = verify(&VerifyOptions {
        anchor: Some(sound().join("ledger.anchor")),
        ..forged.options()
    });
    let report = report.unwrap();
    assert_sound(&report);
    assert_eq!(report.anchored, Some(u64::try_from(events.len()).unwrap()));
}

#[test]
fn a_checkpoint_of_after_the_rotation_is_by_the_new_key() {
    let forged = continued();
    rotate(&forged, after(&sound_events()));
    let last = "(SELECT max(size) FROM checkpoint)";
    tampered(&forged.ledger(), |conn| {
        let note: String = conn
            .query_row(
                &format!("SELECT note FROM checkpoint WHERE size = {last}"),
                [],
                |row| row.get(0),
            )
            .unwrap();
        // Two signatures: the old key's is the second line. Without the first one the checkpoint vouches for nothing.
        let (text, signatures) = note.split_once("\n\n").unwrap();
        let old = signatures.lines().nth(1).unwrap();
        conn.execute(
            &format!("UPDATE checkpoint SET note = ?1 WHERE size = {last}"),
            [format!("{text}\n\n{old}\n")],
        )
        .unwrap();
    });
    let report = forged.report();
    let place = sound_events().len() + 2;
    assert_root(&report, "log.tree", place, "", &[]);
}

#[test]
fn a_recovery_is_sound_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let forged = Forged { dir };
    let (at, recovery) = (Micros::from_s(START_S).unwrap(), event_key(99));
    let recovery_key = Some(recovery.public().key());
    let paths = paths(forged.dir.path());
    init_with(&paths, &keys(), at, &Beginnings { recovery_key }).unwrap();
    let role = [KeyRole::Event];
    let rotator = Rotator::open(&paths, ring(&[], &[2]), &role, Some(&recovery), "test").unwrap();
    let new = NewKeys {
        event: Some(event_key(71)),
        checkpoint: None,
    };
    rotator.rotate(new, Some(&recovery), at.plus_s(1)).unwrap();
    let report = forged.report();
    assert_sound(&report);
    assert!(notes(&report).contains("authorised by the recovery key"));
}

/// The sound events with a rotation of the event key to 71, which the closure may spoil, and one event after it.
fn rotated(spoil: impl FnOnce(&mut LedgerKeyRotated)) -> Report {
    let mut events = sound_events();
    append_own(&mut events, 1, NewEvent::bare(FormatRaised { version: 2 }));
    let seq = Seq::new(u64::try_from(events.len()).unwrap() + 1).unwrap();
    let new_key = event_key(71).public().key();
    let message = rotation_message(ORIGIN, seq, KeyRole::Event, &new_key);
    let mut facts = LedgerKeyRotated {
        role: KeyRole::Event,
        new_key,
        authorised_by: Authority::EventKey,
        authorisation: secret(1).sign(message.as_bytes()),
        possession: secret(71).sign(message.as_bytes()),
    };
    spoil(&mut facts);
    append_own(&mut events, 2, NewEvent::bare(facts));
    append_own(
        &mut events,
        2,
        keys_seen(vec![signing_key(5, START_S - DAY_S, START_S)]),
    );
    forge_rotated(events, &[&event_key(71)]).report()
}

#[test]
fn each_part_of_a_rotation_is_checked() {
    assert_sound(&rotated(|_| {}));
    let place = sound_events().len() + 1;
    let spoils: [fn(&mut LedgerKeyRotated); 4] = [
        |f| f.authorisation = secret(1).sign(b"something else"),
        |f| f.possession = f.authorisation,
        |f| f.authorised_by = Authority::RecoveryKey,
        |f| {
            let before = rotation_message(ORIGIN, Seq::FIRST, KeyRole::Event, &f.new_key);
            (f.authorisation, f.possession) = (
                secret(1).sign(before.as_bytes()),
                secret(71).sign(before.as_bytes()),
            );
        },
    ];
    for spoil in spoils {
        assert_root(&rotated(spoil), "log.rotation", place, "", &[]);
    }
    // A key that was in force before.
    let report = rotated(|f| {
        let seq = Seq::new(u64::try_from(place).unwrap() + 1).unwrap();
        f.new_key = Digest32::from_bytes(secret(1).public_bytes());
        let message = rotation_message(ORIGIN, seq, KeyRole::Event, &f.new_key);
        f.authorisation = secret(1).sign(message.as_bytes());
        f.possession = f.authorisation;
    });
    assert_root(&report, "log.rotation", place, "", &[]);
}

#[test]
fn versions_that_do_not_follow_are_found() {
    let mut events = sound_events();
    let place = events.len();
    append_own(&mut events, 1, NewEvent::bare(FormatRaised { version: 2 }));
    append_own(
        &mut events,
        1,
        keys_seen(vec![signing_key(5, START_S - DAY_S, START_S)]),
    );
    assert_root(&forge(events).report(), "log.version", place + 1, "", &[]);
    let mut events = sound_events();
    append_own(&mut events, 1, NewEvent::bare(FormatRaised { version: 2 }));
    append_own(&mut events, 2, NewEvent::bare(FormatRaised { version: 2 }));
    assert_root(&forge(events).report(), "log.version", place + 1, "", &[]);
}

#[test]
fn an_erased_reason_is_sound_and_told() {
    let forged = continued();
    let events = sound_events();
    let place = nth(&events, PAID, "refund_approved", 0);
    erased(&forged, place, AttachmentName::Reason, after(&events));
    let report = forged.report();
    assert_sound(&report);
    assert_eq!(
        (report.checked.erased, report.checked.answers_not_checkable),
        (1, 0)
    );
    let story = show(&forged.ledger(), "default", PAID, None).unwrap();
    assert!(story.contains("[reason: erased]"), "{story}");
    let told = format!("attachment reason of event {} was erased", place + 1);
    assert!(
        story.contains(&told) && story.contains("[reason: 8 bytes, as sealed]"),
        "{story}"
    );
    // Under every other rule the order is judged as before: terms, body and reply can go too.
    for (order, kind, name) in [
        (PAID, "order_recorded", AttachmentName::Terms),
        (ABORTED, "abort_requested", AttachmentName::Body),
    ] {
        erased(&forged, nth(&events, order, kind, 0), name, after(&events));
    }
    let report = forged.report();
    assert_sound(&report);
    assert_eq!(report.checked.erased, 3);
}

#[test]
fn answers_after_an_erased_reply_are_rebuilt_and_those_before_are_not_checkable() {
    let forged = continued();
    let events = sound_events();
    // The refusal that stands in the order's last answer.
    let refused = |(event, _): &(Event, NewEvent)| {
        event.order_key() == Some(key(PAID))
            && matches!(&event.facts, quittance_events::Facts::ExchangeReplied(f) if f.verdict == Verdict::Refused)
    };
    let place = events.iter().position(refused).unwrap();
    erased(&forged, place, AttachmentName::Reply, after(&events));
    let report = forged.report();
    assert_sound(&report);
    let (before, checked) = (report.checked.answers, report.checked.answers_not_checkable);
    assert!(checked > 0, "{:#?}", report.checked);
    assert!(notes(&report).contains("not checkable: erased"));

    let ledger = Ledger::open(&paths(forged.dir.path()), keys(), "test").unwrap();
    let now = after(&events).plus_s(1);
    let order = ledger.order(&key(PAID)).unwrap().unwrap();
    let Ok(quittance_events::answer::RefundAnswer::Recorded(answer)) =
        quittance_events::answer::refund(&order, now)
    else {
        panic!("no answer")
    };
    let append = quittance_events::Append {
        stream: quittance_events::Stream::Order(key(PAID), order.moved),
        at: now,
        events: vec![NewEvent::bare(answer.facts)],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let appended = runtime.block_on(ledger.append(append)).unwrap();
    assert_eq!(
        appended.seqs.len(),
        1,
        "another body than before, on the same state"
    );
    ledger.close();
    let report = forged.report();
    assert_sound(&report);
    assert_eq!(
        (report.checked.answers, report.checked.answers_not_checkable),
        (before + 1, checked)
    );
}

#[test]
fn an_erasure_that_is_made_up_is_found() {
    let of = |order: &str, target: u64, times: usize| {
        let mut events = sound_events();
        append_own(&mut events, 1, NewEvent::bare(FormatRaised { version: 2 }));
        for _ in 0..times {
            let facts = AttachmentErased {
                seq: Seq::new(target).unwrap(),
                name: AttachmentName::Reason,
            };
            let reason = b"lawful".to_vec();
            append(
                &mut events,
                order,
                NewEvent::with(facts, AttachmentName::Reason, reason),
            );
            events.last_mut().unwrap().0.version = 2;
        }
        (events.len(), forge(events).report())
    };
    let approved = u64::try_from(nth(&sound_events(), PAID, "refund_approved", 0)).unwrap() + 1;
    assert_sound(&of(PAID, approved, 1).1);
    // Of another order; told twice; of an event without one; of one that is still to come.
    for (order, target, times, stake) in [
        (ABORTED, approved, 1, "3"),
        (PAID, approved, 2, "3"),
        (PAID, 1, 1, ""),
        (PAID, 100_000, 1, ""),
    ] {
        let (count, report) = of(order, target, times);
        assert_root(&report, "log.erased", count - 1, stake, &[]);
    }
}
