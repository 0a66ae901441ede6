//! A sound ledger has no finding, however it is opened, and the report says what was checked.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use quittance_replay::{VerifyOptions, print_report, rules, show, verify};
use support::{PAID, ledger_key, master_pub, sound};

fn options() -> VerifyOptions {
    VerifyOptions {
        ledger: sound().join("ledger.sqlite3"),
        anchor: Some(sound().join("ledger.anchor")),
        ledger_key: Some(ledger_key()),
        exchange_keys: vec![master_pub()],
    }
}

#[test]
fn a_sound_ledger_is_sound() {
    let report = verify(&options()).unwrap();
    println!("{}", print_report(&report));
    assert!(report.is_sound());
    assert!(report.key_pinned);
    assert_eq!(report.anchored, Some(report.checked.events));
    assert_eq!(report.checked.signatures, report.checked.events);
    println!("{}", show(&options().ledger, "default", PAID).unwrap());
    let _ = rules::RULES;
}
