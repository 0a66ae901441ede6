//! The program itself: exit codes, what it prints, and that it leaves the evidence alone.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use quittance_events::NewEvent;
use quittance_events::facts::FormatRaised;
use quittance_replay::{VerifyOptions, show, verify};
use support::{
    ABORTED, PAID, World, continued, forge, ledger_key, master_pub, sound, sound_events, tampered,
};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quittance-replay"))
        .args(arguments)
        .output()
        .unwrap()
}

fn told(output: &Output) -> (i32, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout.clone()).unwrap(),
    )
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every file of a folder with its bytes.
fn folder(path: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

#[test]
fn a_sound_ledger_exits_0_and_stays_as_it_is() {
    let before = folder(sound());
    let (ledger, anchor) = (sound().join("ledger.sqlite3"), sound().join("ledger.anchor"));
    let (key, exchange) = (ledger_key().to_string(), master_pub().to_string());
    let pinned = [
        "--anchor",
        text(&anchor),
        "--ledger-key",
        &key,
        "--exchange-key",
        &exchange,
    ];
    let (code, out) = told(&run(&[&["verify", text(&ledger)][..], &pinned].concat()));
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("SOUND") && out.contains("as given to the auditor") && out.contains("337  event"),
        "{out}"
    );

    let (code, out) = told(&run(&["verify", text(&ledger)]));
    assert_eq!(code, 0);
    assert!(
        out.contains("NOT PINNED") && out.contains("cut off the end would not be seen"),
        "{out}"
    );

    let (code, out) = told(&run(&["verify", text(&ledger), "--json"]));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (
            code,
            report["key_pinned"].as_bool(),
            report["findings"].as_array().map(Vec::len)
        ),
        (0, Some(false), Some(0))
    );
    assert_eq!(report["money"]["KUDOS"]["confirmed"], "12");
    assert_eq!(report["checked"]["answers"], 19);
    assert_eq!(folder(sound()), before, "the evidence was touched");
}

#[test]
fn findings_exit_1_and_speak_plainly() {
    let mut events = sound_events();
    let last = events.len() - 1;
    events[last].0.at_us = events[last].0.at_us.minus_s(100);
    let forged = forge(events);
    let (code, out) = told(&run(&["verify", text(&forged.ledger())]));
    assert_eq!(code, 1);
    for expected in [
        "FINDINGS: 1",
        "[major] log.time",
        "rule:",
        "expected:",
        "at stake: KUDOS:0.5",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
}

#[test]
fn what_is_no_ledger_exits_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("text"), "no database at all, but long enough to be one").unwrap();
    std::fs::write(file("empty"), "").unwrap();
    for (name, id, version) in [("other", 7, 1), ("newer", 0x5154_4E43, 2)] {
        let conn = rusqlite::Connection::open(file(name)).unwrap();
        conn.execute_batch("CREATE TABLE event (seq INTEGER)").unwrap();
        conn.pragma_update(None, "application_id", id).unwrap();
        conn.pragma_update(None, "user_version", version).unwrap();
    }
    for name in ["missing", "text", "empty", "other", "newer"] {
        let output = run(&["verify", text(&file(name))]);
        assert_eq!(told(&output), (2, String::new()), "{name}");
        assert!(!output.stderr.is_empty());
    }
    let sound = sound().join("ledger.sqlite3");
    assert_eq!(
        told(&run(&[
            "verify",
            text(&sound),
            "--anchor",
            text(&file("missing"))
        ]))
        .0,
        2
    );
    assert_eq!(
        told(&run(&["verify", text(&sound), "--ledger-key", "nonsense"])).0,
        2
    );
    assert_eq!(told(&run(&["verify"])).0, 2);
}

#[test]
fn a_newer_event_format_exits_2() {
    let mut events = sound_events();
    let mut raised = events.last().unwrap().clone();
    let new = NewEvent::bare(FormatRaised { version: 5 });
    (raised.0.facts, raised.0.order, raised.0.instance) = (new.facts.clone(), None, None);
    raised.1 = new;
    events.push(raised);
    let forged = forge(events);
    let output = run(&["verify", text(&forged.ledger())]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("version 4"));
}

#[test]
fn show_tells_an_orders_story() {
    let ledger = sound().join("ledger.sqlite3");
    let (code, out) = told(&run(&["show", text(&ledger), "--order", PAID]));
    assert_eq!(code, 0);
    for expected in [
        "2026-11-21T12:00:04.000000Z  #4  order recorded: KUDOS:12.5",
        "refund approved, total now KUDOS:11: KUDOS:7",
        "[reason: 8 bytes, as sealed]",
        "did not reply in time",
        "the answer of event 28 was delivered",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    let lines = out.lines().count();
    assert_eq!(lines, 28, "a headline and one line an event");
    let (_, out) = told(&run(&["show", text(&ledger), "--order", ABORTED]));
    for expected in ["coin 005W1G60 success 200", "coin 006C1G60 undeposited"] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    assert_eq!(told(&run(&["show", text(&ledger), "--order", "none"])).0, 2);
    assert_eq!(
        told(&run(&[
            "show",
            text(&ledger),
            "--order",
            PAID,
            "--instance",
            "other"
        ]))
        .0,
        2
    );
    assert_eq!(told(&run(&["show", text(&ledger), "--order", "not/an/id"])).0, 2);
}

#[test]
fn a_story_is_that_of_the_events_whatever_the_index_says() {
    let ledger = sound().join("ledger.sqlite3");
    let story = |ledger: &Path| show(ledger, "default", PAID, None).unwrap();
    let before = story(&ledger);
    for change in [
        // An event of the order is hidden; all events are said to be its.
        "DELETE FROM order_event WHERE seq = 5",
        "UPDATE order_event SET order_row = (SELECT order_row FROM order_event WHERE seq = 4)",
    ] {
        let forged = continued();
        tampered(&forged.ledger(), |conn| {
            assert!(conn.execute(change, []).unwrap() > 0);
        });
        assert_eq!(story(&forged.ledger()), before, "{change}");
    }
    // An event that cannot be read is told all the same.
    let forged = continued();
    tampered(&forged.ledger(), |conn| {
        let change =
            "UPDATE event SET sealed = CAST(replace(CAST(sealed AS TEXT), '\"kind\"', '\"kin\"') AS BLOB)
                      WHERE seq = 5";
        assert_eq!(conn.execute(change, []).unwrap(), 1);
        conn.execute("DELETE FROM order_event", []).unwrap();
    });
    let told = story(&forged.ledger());
    assert!(told.contains("#5  UNREADABLE"), "{told}");
    assert_eq!(told.lines().count(), before.lines().count());
}

#[test]
fn a_copy_of_a_running_service_is_read_with_its_wal() {
    let mut world = World::open();
    world.record("running", "1", 20);
    world.pay("running", &[(1, "1")]);
    let dir = tempfile::tempdir().unwrap();
    for name in ["ledger.anchor", "ledger.sqlite3", "ledger.sqlite3-wal"] {
        std::fs::copy(world.dir.path().join(name), dir.path().join(name)).unwrap();
    }
    let before = folder(dir.path());
    let options = VerifyOptions {
        ledger: dir.path().join("ledger.sqlite3"),
        anchor: Some(dir.path().join("ledger.anchor")),
        ..VerifyOptions::default()
    };
    let report = verify(&options).unwrap();
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert_eq!(report.checked.events, 5);
    assert!(report.anchored.is_some());
    assert_eq!(folder(dir.path()), before, "the evidence was touched");
}

#[test]
fn the_guide_lists_exactly_the_rules() {
    let guide = include_str!("../../docs/auditing.md");
    let mut wanted = guide;
    for rule in quittance_replay::rules::RULES {
        let row = format!(
            "| `{}` | {} | {} | {} |",
            rule.id,
            rule.grade.as_str(),
            rule.sentence,
            rule.money
        );
        let (_, rest) = wanted
            .split_once(&row)
            .unwrap_or_else(|| panic!("missing, or out of order:\n{row}"));
        wanted = rest;
    }
    let rows = guide
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains('.'))
        .count();
    assert_eq!(rows, quittance_replay::rules::RULES.len());
    assert!(!guide.contains("tamper-proof"));
}
