//! What only somebody can prove who kept something from before: an earlier checkpoint, another copy, a receipt.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quittance_events::create::create;
use quittance_events::ledger::Keys;
use quittance_events::seal::EventKey;
use quittance_events::{Event, Facts};
use quittance_replay::{
    AsOf, Difference, Report, Unusable, VerifyOptions, check_receipt, diff, print_difference, read_receipt,
    verify,
};
use quittance_taler::Digest32;
use quittance_tlog::{Checkpoint, Cosigner, KeyName, Note, NoteSigner};
use support::*;
use tempfile::TempDir;

fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quittance-replay"))
        .args(arguments)
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn sound_ledger() -> PathBuf {
    sound().join("ledger.sqlite3")
}

fn options(ledger: PathBuf) -> VerifyOptions {
    VerifyOptions {
        ledger,
        ..VerifyOptions::default()
    }
}

/// A ledger with checkpoints at several sizes, copied at one of them and grown further.
fn grown() -> (TempDir, TempDir) {
    let mut world = World::open();
    world.record("first", "1", 20);
    world.pay("first", &[(1, "1")]);
    let earlier = tempfile::tempdir().unwrap();
    for name in ["ledger.anchor", "ledger.sqlite3", "ledger.sqlite3-wal"] {
        std::fs::copy(world.dir.path().join(name), earlier.path().join(name)).unwrap();
    }
    world.record("second", "1", 20);
    (earlier, world.finish())
}

#[test]
fn a_ledger_that_grew_extends_the_checkpoint_of_before() {
    let (earlier, later) = grown();
    let since = earlier.path().join("ledger.anchor");
    let report = report_all_ways(&VerifyOptions {
        since: Some(since.clone()),
        ..options(later.path().join("ledger.sqlite3"))
    });
    assert!(report.is_sound(), "{:#?}", report.findings);
    let then = Checkpoint::open(
        &std::fs::read_to_string(&since).unwrap(),
        &keys().checkpoint.verifier(),
    )
    .unwrap();
    assert_eq!(report.since, Some(then.size));
    let ledger = later.path().join("ledger.sqlite3");
    let (code, out) = run(&["verify", text(&ledger), "--since", text(&since)]);
    let told = format!("extends its checkpoint of {} events", then.size);
    assert!(code == 0 && out.contains(&told), "{out}");
}

#[test]
fn a_checkpoint_by_a_key_that_the_genesis_does_not_name_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let since = dir.path().join("checkpoint");
    for (name, says) in [
        (ORIGIN, "a key that neither the first event nor a rotation names"),
        ("other.example/q", "other.example/q+"),
    ] {
        let signer = NoteSigner::new(KeyName::new(name).unwrap(), &[99; 32]);
        let checkpoint = Checkpoint {
            origin: name.into(),
            size: 3,
            root: quittance_tlog::Hash([1; 32]),
        };
        std::fs::write(&since, checkpoint.sign(&signer).unwrap().to_string()).unwrap();
        let report = verify(&VerifyOptions {
            since: Some(since.clone()),
            ..options(sound_ledger())
        })
        .unwrap();
        let finding = &report.findings[0];
        assert_eq!(
            (report.findings.len(), finding.rule, report.since),
            (1, "log.since", None)
        );
        assert!(finding.text.contains(says), "{}", finding.text);
        assert_eq!(finding.at_stake, [amount("308.5")]);
    }
    std::fs::write(&since, "no checkpoint").unwrap();
    let unusable = verify(&VerifyOptions {
        since: Some(since.clone()),
        ..options(sound_ledger())
    });
    assert!(matches!(unusable, Err(Unusable::NoCheckpoint(_))));
    assert_eq!(
        run(&["verify", text(&sound_ledger()), "--since", text(&since)]).0,
        2
    );
}

#[test]
fn a_history_sealed_anew_with_other_keys_is_found_too() {
    let mut events = sound_events();
    let theirs = Keys {
        event: EventKey::new(secret(71)),
        checkpoint: NoteSigner::new(KeyName::new(ORIGIN).unwrap(), &[72; 32]),
    };
    let Facts::LedgerOpened(genesis) = &mut events[0].0.facts else {
        panic!("the first event opens the ledger")
    };
    genesis.event_key = theirs.event.public().key();
    genesis.checkpoint_key = Digest32::from_bytes(*theirs.checkpoint.verifier().public_key());
    let dir = tempfile::tempdir().unwrap();
    create(&paths(dir.path()), &theirs, events).unwrap();
    let anew = options(dir.path().join("ledger.sqlite3"));
    assert!(verify(&anew).unwrap().is_sound());
    let since = sound().join("ledger.anchor");
    let report = verify(&VerifyOptions {
        since: Some(since),
        ..anew.clone()
    })
    .unwrap();
    assert_eq!((report.findings.len(), report.findings[0].rule), (1, "log.since"));
    // A receipt under the old key proves nothing about a ledger of another key: a note, and exit code 2 alone.
    let receipt = last_receipt(sound(), UNTOUCHED);
    let report = verify(&VerifyOptions {
        receipts: vec![receipt.clone()],
        ..anew.clone()
    })
    .unwrap();
    assert!(report.is_sound() && report.checked.receipts == 0);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.text.contains("proves nothing"))
    );
    let refused = check_receipt(&anew.ledger, &receipt, None, None);
    assert!(matches!(refused, Err(Unusable::NoReceipt(_))));
    // Who has the key from elsewhere has proof.
    let report = check_receipt(&anew.ledger, &receipt, None, Some(&ledger_key())).unwrap();
    assert_eq!(report.finding.unwrap().rule, "log.receipt");
}

/// Whoever rewrites history with all the keys has no cosignature of the new one, and the old ones do not fit.
#[test]
fn a_rewritten_history_has_no_cosignatures() {
    let witness = Cosigner::new(KeyName::new("witness.example/w1").unwrap(), &[70; 32]);
    let vkey = witness.verifier().to_string();
    let honest = forge(sound_events());
    let anchor = fs::read_to_string(honest.options().anchor.unwrap()).unwrap();
    let note = Note::parse(&anchor).unwrap();
    let line = witness.sign(&note, START_S + 5).unwrap().to_string();

    let mut events = sound_events();
    let last = events.len() - 1;
    events[last].0.at_us = events[last].0.at_us.plus_s(1);
    let rewritten = forge(events);
    let options = VerifyOptions {
        witnesses: vec![witness.verifier()],
        ..rewritten.options()
    };
    let report = verify(&options).unwrap();
    assert!(report.is_sound(), "nothing in it contradicts it");
    assert_eq!(report.witnesses[0].size, 0);
    // The old cosignature kept beside it is over another root.
    tampered(&rewritten.ledger(), |conn| {
        let insert = "INSERT INTO cosignature (size, vkey, line) VALUES (?1, ?2, ?3)";
        conn.execute(insert, (row(last), &vkey, &line)).unwrap();
    });
    let report = verify(&options).unwrap();
    assert_root(&report, "log.cosignature", last, "", &[]);
    assert_eq!(report.witnesses[0].size, 0);
    // The old checkpoint with it is not of these events.
    tampered(&rewritten.ledger(), |conn| {
        let update = "UPDATE checkpoint SET note = ?1 WHERE size = ?2";
        conn.execute(update, (&anchor, row(last))).unwrap();
    });
    let report = verify(&VerifyOptions {
        anchor: None,
        ..options
    })
    .unwrap();
    assert_root(&report, "log.tree", last, "", &[]);
    assert_eq!(report.witnesses[0].size, 0);
}

fn as_of(seq: u64) -> Report {
    verify(&VerifyOptions {
        anchor: Some(sound().join("ledger.anchor")),
        as_of: Some(AsOf::Seq(seq)),
        ..options(sound_ledger())
    })
    .unwrap()
}

#[test]
fn every_past_state_of_a_sound_ledger_is_sound() {
    // Each length in turn: also those that end amid the parts of a decision, or between a late deposit and what
    // gives it back.
    for seq in (1..60).chain([130, 200, 300, 337]) {
        let report = as_of(seq);
        assert!(report.is_sound(), "{seq}: {:#?}", report.findings);
        assert_eq!(
            (report.checked.events, report.as_of, report.anchored),
            (seq, Some(seq), None)
        );
        assert!(report.notes.iter().any(|note| note.text.contains("not compared")));
    }
}

#[test]
fn a_fault_counts_from_its_event_on() {
    let mut events = sound_events();
    let place = nth(&events, PAID, "refund_approved", 1);
    let Facts::RefundApproved(approved) = &mut events[place].0.facts else {
        panic!("an approval")
    };
    approved.execution_s = second(START_S);
    let forged = forge(events);
    let at = |seq: usize| {
        verify(&VerifyOptions {
            as_of: Some(AsOf::Seq(u64::try_from(seq).unwrap())),
            ..forged.options()
        })
        .unwrap()
    };
    assert!(at(place).is_sound());
    assert_eq!(at(place + 1).findings[0].rule, "approval.execution");
}

#[test]
fn a_past_state_by_its_time() {
    let events = sound_events();
    let ledger = sound_ledger();
    let (code, out) = run(&["verify", text(&ledger), "--as-of", "2026-11-21T12:00:04Z"]);
    let fourth = events
        .iter()
        .filter(|(event, _)| event.at_us.get() <= (START_S + 4) * 1_000_000);
    let told = format!("State as of event {}:", fourth.count());
    assert!(code == 0 && out.contains(&told), "{told} {out}");
    let (code, out) = run(&["verify", text(&ledger), "--as-of", &(START_S + 4).to_string()]);
    assert!(code == 0 && out.contains(&told), "{out}");
    // The clock was a year ahead and put right: the last event that is not later stands after those of next year.
    let last = events.last().unwrap().0.at_us;
    let (_, out) = run(&[
        "verify",
        text(&ledger),
        "--as-of",
        &format!("@{}", last.get() / 1_000_000),
    ]);
    assert!(
        out.contains(&format!("State as of event {}:", events.len())),
        "{out}"
    );
    for none in ["0", "338", "2020-01-01T00:00:00Z", "soon"] {
        assert_eq!(run(&["verify", text(&ledger), "--as-of", none]).0, 2, "{none}");
    }
}

#[test]
fn show_tells_a_past_state() {
    let ledger = sound_ledger();
    let (code, all) = run(&["show", text(&ledger), "--order", PAID]);
    assert_eq!(code, 0);
    let (code, then) = run(&["show", text(&ledger), "--order", PAID, "--as-of", "9"]);
    assert_eq!(code, 0);
    let (headline, story) = then.split_once('\n').unwrap();
    assert!(headline.contains("as of event 9"));
    assert!(all.contains(story) && story.lines().count() == 6, "{then}");
    // Not there yet.
    assert_eq!(
        run(&["show", text(&ledger), "--order", PAID, "--as-of", "3"]).0,
        2
    );
}

#[test]
fn a_later_copy_extends_an_earlier_one() {
    let (earlier, later) = grown();
    let (a, b) = (
        earlier.path().join("ledger.sqlite3"),
        later.path().join("ledger.sqlite3"),
    );
    for (a, b) in [(&a, &b), (&b, &a)] {
        let (code, out) = run(&["diff", text(a), text(b)]);
        assert!(
            code == 0 && out.contains("extends") && out.contains("the 5 events"),
            "{out}"
        );
    }
    assert_eq!(
        diff(&a, &b).unwrap(),
        Difference::Extends {
            longer: text(&b).to_owned(),
            shorter: text(&a).to_owned(),
            common: 5,
            more: 1,
        }
    );
    assert_eq!(diff(&b, &b).unwrap(), Difference::Same { events: 6 });
    assert_eq!(run(&["diff", text(&a), "/nowhere"]).0, 2);
}

#[test]
fn where_two_copies_part_the_signed_contradiction_is_shown() {
    // Two histories of one ledger: salts are drawn anew, so they part at the first attachment.
    let (a, b) = (forge(sound_events()), forge(sound_events()));
    let place = sound_events()
        .iter()
        .position(|(_, new)| !new.attachments.is_empty())
        .unwrap();
    let difference = diff(&a.ledger(), &b.ledger()).unwrap();
    let Difference::Parts {
        common,
        seq,
        a: left,
        b: right,
        proven,
    } = &difference
    else {
        panic!("{difference:?}")
    };
    assert_eq!(
        (*common, *seq, *proven),
        (u64::try_from(place).unwrap(), row(place), true)
    );
    assert_ne!(
        left.event.as_ref().unwrap().digest,
        right.event.as_ref().unwrap().digest
    );
    let notes = [left, right].map(|side| {
        let event = side.event.as_ref().unwrap();
        assert!(event.signature_holds && Event::parse(event.sealed.as_bytes()).is_ok());
        let checkpoint = side.checkpoint.as_ref().unwrap();
        assert!(checkpoint.holds);
        Checkpoint::open(&checkpoint.note, &keys().checkpoint.verifier()).unwrap()
    });
    assert_eq!(notes[0].size, notes[1].size);
    assert_ne!(notes[0].root, notes[1].root, "two roots of one size");
    let told = print_difference(&difference);
    assert!(
        told.contains("told two histories")
            && told.contains(&notes[0].to_text().lines().last().unwrap()[..40])
    );
    let (code, out) = run(&["diff", text(&a.ledger()), text(&b.ledger()), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, json["outcome"].as_str(), json["seq"].as_i64()),
        (1, Some("parts"), Some(row(place)))
    );
}

#[test]
fn a_gap_and_a_changed_byte_are_no_contradiction_of_the_operators() {
    let (a, b) = (forge(sound_events()), tempfile::tempdir().unwrap());
    let copy = b.path().join("ledger.sqlite3");
    std::fs::copy(a.ledger(), &copy).unwrap();
    tampered(&copy, |conn| {
        conn.execute("DELETE FROM event WHERE seq = 20", []).unwrap();
    });
    let Difference::Parts {
        seq,
        a: left,
        b: right,
        proven,
        ..
    } = diff(&a.ledger(), &copy).unwrap()
    else {
        panic!("they part")
    };
    assert_eq!((seq, proven, right.event), (20, false, None));
    assert!(left.event.unwrap().signature_holds && left.checkpoint.unwrap().holds);
    assert!(!right.checkpoint.unwrap().holds);
    std::fs::copy(a.ledger(), &copy).unwrap();
    tampered(&copy, |conn| {
        conn.execute("UPDATE event SET signature = zeroblob(64) WHERE seq = 20", [])
            .unwrap();
    });
    let Difference::Parts {
        seq,
        b: right,
        proven,
        ..
    } = diff(&a.ledger(), &copy).unwrap()
    else {
        panic!("they part")
    };
    assert_eq!(
        (seq, proven, right.event.unwrap().signature_holds),
        (20, false, false)
    );
}

#[test]
fn a_receipt_is_found_or_proves_what_is_missing() {
    let receipt = last_receipt(sound(), TAKEN_OVER);
    let dir = tempfile::tempdir().unwrap();
    let (file, ledger) = (dir.path().join("receipt"), sound_ledger());
    std::fs::write(&file, format!("Quittance-Receipt: {receipt}\n")).unwrap();
    assert_eq!(read_receipt(text(&file)).unwrap(), receipt);
    for given in [text(&file), &receipt.to_string()] {
        let (code, out) = run(&["check-receipt", text(&ledger), given]);
        assert!(code == 0 && out.contains("FOUND"), "{out}");
    }
    let report = report_all_ways(&VerifyOptions {
        receipts: vec![receipt.clone()],
        ..options(ledger.clone())
    });
    assert!(report.is_sound() && report.checked.receipts == 1);
    let report = report_all_ways(&VerifyOptions {
        receipts: vec![receipt.clone()],
        as_of: Some(AsOf::Seq(5)),
        ..options(ledger.clone())
    });
    assert!(report.is_sound() && report.checked.receipts == 0);

    // The same story sealed anew: every digest behind an attachment is another one.
    let anew = forge(sound_events());
    let (code, out) = run(&["check-receipt", text(&anew.ledger()), text(&file), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, json["finding"]["rule"].as_str()), (1, Some("log.receipt")));
    assert_eq!(json["finding"]["seq"], receipt.seq.get());
    assert_eq!(json["finding"]["at_stake"][0], "KUDOS:3");
    let (code, out) = run(&["verify", text(&anew.ledger()), "--receipt", text(&file)]);
    assert!(code == 1 && out.contains("log.receipt"), "{out}");
}

#[test]
fn a_body_is_compared_with_its_receipt() {
    let receipt = last_receipt(sound(), TAKEN_OVER);
    let dir = tempfile::tempdir().unwrap();
    let body = dir.path().join("body");
    let served = last_body(sound(), TAKEN_OVER);
    std::fs::write(&body, &served).unwrap();
    let words = receipt.to_string();
    let (code, out) = run(&[
        "check-receipt",
        text(&sound_ledger()),
        &words,
        "--body",
        text(&body),
    ]);
    assert!(code == 0 && out.contains("The body given is the one"), "{out}");
    // A ledger cut before the answer names no amount; the body does.
    let mut events = sound_events();
    events.truncate(usize::try_from(receipt.seq.get()).unwrap() - 1);
    let cut = forge(events);
    let (code, out) = run(&[
        "check-receipt",
        text(&cut.ledger()),
        &words,
        "--body",
        text(&body),
    ]);
    assert!(code == 1 && out.contains("at stake: KUDOS:3"), "{out}");
    assert!(
        !run(&["check-receipt", text(&cut.ledger()), &words])
            .1
            .contains("at stake")
    );
    std::fs::write(&body, [&served[..], b" "].concat()).unwrap();
    assert_eq!(
        run(&[
            "check-receipt",
            text(&sound_ledger()),
            &words,
            "--body",
            text(&body)
        ])
        .0,
        2
    );
    // Another signature, another ledger, no receipt.
    let mut forged = receipt.clone();
    forged.signature = secret(8).sign(b"x");
    for given in [
        forged.to_string(),
        "nonsense".to_owned(),
        words.replace(ORIGIN, "other.example/q"),
    ] {
        assert_eq!(
            run(&["check-receipt", text(&sound_ledger()), &given]).0,
            2,
            "{given}"
        );
    }
}

/// The sequence of the event at a place, as SQLite has it.
fn row(place: usize) -> i64 {
    i64::try_from(place).unwrap() + 1
}
