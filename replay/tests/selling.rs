//! Orders that were sold here: a sound ledger of them has no finding, in both forms of deposits, and what its story says.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use quittance_events::facts::*;
use quittance_events::{AttachmentName, NewEvent, Seq};
use quittance_replay::show;
use support::selling::*;
use support::*;

fn options() -> quittance_replay::VerifyOptions {
    quittance_replay::VerifyOptions {
        ledger: shop().join("ledger.sqlite3"),
        anchor: Some(shop().join("ledger.anchor")),
        ledger_key: Some(ledger_key()),
        exchange_keys: vec![master_pub()],
        ..quittance_replay::VerifyOptions::default()
    }
}

#[test]
fn every_sale_is_sound_and_counted() {
    let report = report_all_ways(&options());
    assert!(report.is_sound(), "{:#?}", report.findings);
    let checked = &report.checked;
    assert_eq!((checked.orders, checked.exchange_replies), (7, 7));
    let units = |text: &str| amount(text).units();
    let money = &report.money["KUDOS"];
    assert_eq!(money.deposited.0, units("10.02") + units("15") + units("8"));
    assert_eq!(
        (money.aborted.0, money.aborted_confirmed.0),
        (units("10"), units("5"))
    );
}
