//! Every kind of stored byte is hashed or compared: one flipped bit anywhere is found, and the finding names the
//! place. And whatever a file has suffered, the tool reports or refuses; it never panics.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::path::PathBuf;

use quittance_replay::{Finding, Report, Unusable, VerifyOptions, verify};
use rusqlite::Connection;
use rusqlite::types::Value;
use support::{ledger_key, sound, tampered};
use tempfile::TempDir;

/// A private copy of the sound ledger.
fn copy() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger.sqlite3");
    std::fs::copy(sound().join("ledger.sqlite3"), &ledger).unwrap();
    (dir, ledger)
}

fn options(ledger: PathBuf) -> VerifyOptions {
    VerifyOptions {
        ledger,
        anchor: Some(sound().join("ledger.anchor")),
        ledger_key: Some(ledger_key()),
        predecessor: None,
        exchange_keys: Vec::new(),
        ..VerifyOptions::default()
    }
}

/// Flips the lowest bit of a stored value: of a byte at a share of its length, or of the number.
fn flip(conn: &Connection, table: &str, column: &str, row: &str, share: usize) {
    let read = format!("SELECT {column} FROM {table} WHERE {row}");
    let flipped = |mut bytes: Vec<u8>| {
        let at = (bytes.len() - 1) * share / 100;
        bytes[at] ^= 1;
        bytes
    };
    let value = match conn.query_row(&read, [], |row| row.get::<_, Value>(0)).unwrap() {
        Value::Blob(bytes) => Value::Blob(flipped(bytes)),
        Value::Text(text) => Value::Text(String::from_utf8(flipped(text.into_bytes())).unwrap()),
        Value::Integer(number) => Value::Integer(number ^ 1),
        other => panic!("{other:?}"),
    };
    let changed = conn
        .execute(&format!("UPDATE {table} SET {column} = ?1 WHERE {row}"), [value])
        .unwrap();
    assert_eq!(changed, 1);
}

fn damaged(table: &str, column: &str, row: &str, share: usize) -> Report {
    let (_dir, ledger) = copy();
    tampered(&ledger, |conn| flip(conn, table, column, row, share));
    verify(&options(ledger)).unwrap()
}

#[track_caller]
fn one_root(report: &Report) -> &Finding {
    let all: Vec<_> = report
        .findings
        .iter()
        .map(|finding| (finding.rule, finding.seq, &finding.text))
        .collect();
    assert_eq!(report.findings.len(), 1, "{all:#?}");
    &report.findings[0]
}

#[test]
fn an_events_bytes() {
    // Positions over the whole object, so that every member is hit in some event.
    for (seq, share) in (1_u64..=330).step_by(23).zip((0..=100).step_by(7).cycle()) {
        for column in ["sealed", "signature"] {
            let report = damaged("event", column, &format!("seq = {seq}"), share);
            let root = one_root(&report);
            assert_eq!(
                (root.rule, root.seq),
                ("log.signature", Some(seq)),
                "{column} at {share} %"
            );
        }
    }
}

#[test]
fn an_events_number() {
    let (_dir, ledger) = copy();
    tampered(&ledger, |conn| {
        conn.execute("UPDATE event SET seq = 338 WHERE seq = 337", [])
            .unwrap();
    });
    let report = verify(&options(ledger)).unwrap();
    assert_eq!(
        (one_root(&report).rule, one_root(&report).seq),
        ("log.gapless", Some(338))
    );
}

#[test]
fn what_stands_behind_an_event() {
    let (_dir, ledger) = copy();
    let rows: Vec<(u64, String)> = Connection::open(ledger)
        .unwrap()
        .prepare("SELECT seq, name FROM attachment")
        .unwrap()
        .query_map([], |row| {
            Ok((u64::try_from(row.get::<_, i64>(0)?).unwrap(), row.get(1)?))
        })
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut names = std::collections::BTreeSet::new();
    for ((seq, name), share) in rows.iter().step_by(3).zip((0..=100).step_by(13).cycle()) {
        for column in ["salt", "bytes", "name"] {
            let report = damaged(
                "attachment",
                column,
                &format!("seq = {seq} AND name = '{name}'"),
                share,
            );
            let root = one_root(&report);
            assert_eq!(
                (root.rule, root.seq),
                ("log.attachments", Some(*seq)),
                "{column} of {name}"
            );
        }
        names.insert(name.as_str());
    }
    let report = damaged("attachment", "seq", "seq = 4", 0);
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.rule == "log.attachments")
    );
    assert!(names.len() >= 4, "{names:?}");
}

#[test]
fn a_checkpoint() {
    for share in (0..=100).step_by(9) {
        let report = damaged(
            "checkpoint",
            "note",
            "size = (SELECT max(size) FROM checkpoint)",
            share,
        );
        let root = one_root(&report);
        assert_eq!(
            (root.rule, root.seq),
            ("log.tree", Some(report.checked.events)),
            "at {share} %"
        );
    }
    let report = damaged(
        "checkpoint",
        "size",
        "size = (SELECT max(size) FROM checkpoint)",
        0,
    );
    assert_eq!(one_root(&report).rule, "log.tree");
}

#[test]
fn indexes_and_projections() {
    for (table, column, row) in [
        ("head", "size", "id = 1"),
        ("head", "frontier", "id = 1"),
        ("head", "greatest_at_us", "id = 1"),
        ("order_index", "instance", "id = 3"),
        ("order_index", "order_id", "id = 2"),
        ("ledger_event", "seq", "seq = (SELECT max(seq) FROM ledger_event)"),
        ("open_permission", "coin_pub", "rowid_of"),
        ("open_permission", "rtransaction_id", "rowid_of"),
        ("open_permission", "order_row", "rowid_of"),
        ("order_event", "order_row", "seq = 20"),
        ("order_event", "seq", "order_row = 1 AND seq = 30"),
    ] {
        let first = "(order_row, coin_pub) = (SELECT order_row, coin_pub FROM open_permission LIMIT 1)";
        let report = damaged(table, column, if row == "rowid_of" { first } else { row }, 50);
        let root = one_root(&report);
        assert_eq!(root.rule, "log.index", "{table}.{column}");
        assert!(!root.text.is_empty());
        let told = format!("{} {} {} {:?}", root.text, root.expected, root.found, root.seq);
        let place = match table {
            "head" => "head row",
            "order_index" => "default/20",
            "ledger_event" => "Some(33",
            "open_permission" => "coin",
            _ if column == "seq" => "Some(30)",
            _ => "Some(20)",
        };
        assert!(told.contains(place), "{table}.{column}: {told}");
    }
}

#[test]
fn hash_tiles() {
    for share in (0..=100).step_by(20) {
        let report = damaged("tile", "hashes", "n = 0", share);
        let root = one_root(&report);
        assert_eq!(root.rule, "log.tiles", "at {share} %");
        assert!(root.text.contains("0/0 does not hold"), "{}", root.text);
    }
    for (change, told) in [
        ("UPDATE tile SET n = 1", vec!["0/0 is missing", "0/1 is stored"]),
        (
            "UPDATE tile SET level = 1",
            vec!["0/0 is missing", "1/0 is stored"],
        ),
        (
            "UPDATE tile SET level = -1",
            vec!["-1/0 is stored", "0/0 is missing"],
        ),
        (
            "UPDATE tile SET hashes = substr(hashes, 33)",
            vec!["0/0 does not hold"],
        ),
        ("DELETE FROM tile", vec!["0/0 is missing"]),
        (
            "INSERT INTO tile SELECT 300, 7, x'00' FROM tile",
            vec!["is stored, and the events do not fill it"],
        ),
    ] {
        let (_dir, ledger) = copy();
        tampered(&ledger, |conn| conn.execute_batch(change).unwrap());
        let report = verify(&options(ledger)).unwrap();
        let root = one_root(&report);
        let findings = std::iter::once(root).chain(&root.consequences);
        let texts: Vec<&str> = findings.map(|finding| finding.text.as_str()).collect();
        assert_eq!(texts.len(), told.len(), "{change}: {texts:?}");
        for (text, told) in texts.iter().zip(told) {
            assert!(text.contains(told), "{change}: {text}");
        }
    }
}

#[test]
fn a_table_or_trigger_that_is_gone() {
    for change in [
        "DROP TRIGGER event_update",
        "DROP TABLE open_permission",
        "DROP TABLE checkpoint",
        "DROP TABLE event",
    ] {
        let (_dir, ledger) = copy();
        let conn = Connection::open(&ledger).unwrap();
        conn.execute_batch(change).unwrap();
        conn.close().unwrap();
        let report = verify(&options(ledger)).unwrap();
        assert_eq!(report.findings[0].rule, "log.file", "{change}");
    }
}

#[test]
fn bytes_of_the_raw_file() {
    let sound = std::fs::read(sound().join("ledger.sqlite3")).unwrap();
    let mut found = 0;
    for at in (0..sound.len()).step_by(sound.len() / 90) {
        let (_dir, ledger) = copy();
        let mut bytes = sound.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&ledger, &bytes).unwrap();
        match verify(&options(ledger)) {
            // Free space on a page holds nothing.
            Ok(report) => found += u64::from(!report.is_sound()),
            Err(Unusable::Unreadable { .. } | Unusable::NotALedger(_) | Unusable::Newer(_)) => {
                assert!(at < 100, "{at}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(found > 30, "{found}");
    // SQLite reads a file without the free zeros at its end as it reads the whole one.
    let last = sound.iter().rposition(|byte| *byte != 0).unwrap();
    for length in [0, 20, 99, 100, 4096, sound.len() / 2, last] {
        let (_dir, ledger) = copy();
        std::fs::write(&ledger, &sound[..length]).unwrap();
        if let Ok(report) = verify(&options(ledger)) {
            assert!(!report.is_sound(), "cut to {length} bytes");
        }
    }
}

#[test]
fn events_deleted_from_the_end_are_found() {
    let (_dir, ledger) = copy();
    tampered(&ledger, |conn| {
        conn.execute_batch("DELETE FROM event WHERE seq > 330; DELETE FROM attachment WHERE seq > 330;")
            .unwrap();
    });
    let report = verify(&options(ledger)).unwrap();
    let root = one_root(&report);
    assert_eq!((root.rule, root.seq), ("log.tree", Some(337)));
    assert!(
        root.consequences
            .iter()
            .any(|finding| finding.rule == "log.anchor")
    );
}

#[test]
fn without_a_readable_first_event_the_given_key_still_checks() {
    let report = damaged("event", "sealed", "seq = 1", 0);
    assert_eq!(one_root(&report).rule, "log.signature");
    assert_eq!(report.checked.signatures, report.checked.events - 1);
}
