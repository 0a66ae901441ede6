//! What the fuzzers of dispute files begin with is sound: one that no longer were, because a page or a rule changed,
//! would be refused at its first difference, and nothing behind that would be tried. `-- --ignored` makes them anew.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use quittance_replay::VerifyOptions;
use quittance_replay::dispute::{ExportOptions, check, export};
use support::selling::{SOLD, shop};
use support::*;
use zip::ZipArchive;

/// A name, and where its ledger and its order are from.
fn seeds() -> [(&'static str, &'static Path, &'static str); 2] {
    [("late", sound(), LATE), ("sold", shop(), SOLD)]
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target)
}

#[test]
fn what_the_fuzzers_begin_with_is_sound() {
    for (name, ..) in seeds() {
        let zip = std::fs::read(folder("dispute_zip").join(format!("{name}.zip"))).unwrap();
        let report = check(&zip, name, Some(&ledger_key())).unwrap();
        assert!(report.is_sound(), "{name}: {:#?}", report.findings);
        assert_eq!(
            std::fs::read(folder("dispute_entries").join(name)).unwrap(),
            listed(&zip)
        );
    }
}

#[test]
#[ignore = "writes fuzz/seeds"]
fn renew_what_the_fuzzers_begin_with() {
    for (name, ledger, order) in seeds() {
        let dir = tempfile::tempdir().unwrap();
        let options = ExportOptions {
            verify: VerifyOptions {
                ledger: ledger.join("ledger.sqlite3"),
                anchor: Some(ledger.join("ledger.anchor")),
                ledger_key: Some(ledger_key()),
                ..VerifyOptions::default()
            },
            instance: "default".into(),
            order: order.into(),
            redact: vec![],
            out: dir.path().join("dispute.zip"),
        };
        export(&options).unwrap();
        let zip = std::fs::read(&options.out).unwrap();
        std::fs::write(folder("dispute_entries").join(name), listed(&zip)).unwrap();
        std::fs::write(folder("dispute_zip").join(format!("{name}.zip")), zip).unwrap();
    }
}

/// The entries, each begun by a line `=== NAME`, so that a fuzzer needs to know nothing of zips.
fn listed(zip: &[u8]) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(zip)).unwrap();
    let mut listed = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let begin = if index == 0 { "" } else { "\n" };
        writeln!(listed, "{begin}=== {}", entry.name().unwrap()).unwrap();
        entry.read_to_end(&mut listed).unwrap();
    }
    listed
}
