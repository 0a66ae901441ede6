//! Orders that were sold here: a sound ledger of them has no finding, in both forms of deposits, and what its story says.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::io::{Cursor, Read};

use quittance_replay::dispute::report::{DisputeReport, Standing};
use quittance_replay::dispute::{ExportOptions, check, export};
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

#[test]
fn the_story_of_a_sale_is_told() {
    let ledger = shop().join("ledger.sqlite3");
    let told = |order: &str| show(&ledger, "default", order, None).unwrap();
    let coin = |n: u8| format!("coin {}", &purse_pub(n).to_string()[..8]);
    let (first, second) = (coin(1), coin(2));
    for (order, expected) in [
        (
            SOLD,
            "offered: KUDOS:10 of 2026-11-21T12:00:00Z, to be paid until 2026-11-21T13:00:00Z".to_owned(),
        ),
        (SOLD, "claimed by the wallet with the nonce ".to_owned()),
        (
            SOLD,
            format!(
                "about to ask https://exchange.example/ to take KUDOS:6 of {first}, KUDOS:4.02 of {second}"
            ),
        ),
        (
            SOLD,
            "the exchange did not reply in time about the deposits of event ".to_owned(),
        ),
        (SOLD, "status 503, code 60, attempt 2".to_owned()),
        (SOLD, "the exchange confirmed the deposits of event ".to_owned()),
        (SOLD, "a wallet showed it to be paid in the session ".to_owned()),
        (
            RIVALS,
            format!(
                "deposits that do not count are given back: KUDOS:5 of {}",
                coin(11)
            ),
        ),
        (
            ASKED,
            format!("KUDOS:5 of {} goes back if the exchange took it", coin(21)),
        ),
        (GONE, "taken back, by token tk1".to_owned()),
    ] {
        let story = told(order);
        assert!(story.contains(&expected), "{expected}\n{story}");
    }
}

#[test]
fn a_dispute_file_of_a_sale_has_claim_deposits_and_evidence() {
    for order in [SOLD, RIVALS, ASKED, FREE, CLAIMED] {
        let dir = tempfile::tempdir().unwrap();
        let options = ExportOptions {
            verify: options(),
            instance: "default".into(),
            order: order.into(),
            redact: vec![],
            out: dir.path().join("dispute.zip"),
        };
        export(&options).unwrap();
        let bytes = std::fs::read(&options.out).unwrap();
        let report = check(&bytes, "dispute.zip", Some(&ledger_key())).unwrap();
        assert!(report.is_sound(), "{order}: {:#?}", report.findings);
        assert_eq!((report.signatures, report.proven), (report.events, report.events));
        let mut json = Vec::new();
        let mut archive = zip::ZipArchive::new(Cursor::new(&bytes)).unwrap();
        archive
            .by_name("report.json")
            .unwrap()
            .read_to_end(&mut json)
            .unwrap();
        let told: DisputeReport = serde_json::from_slice(&json).unwrap();
        // What rests on signatures of exchange, coins and merchant is told as such.
        for event in &told.timeline {
            let expected = match event.kind.as_str() {
                "order_claimed" | "deposit_requested" | "deposit_recorded" => Some(Standing::Proven),
                "order_created" | "order_recorded" | "deposit_unreached" => Some(Standing::Claimed),
                _ => None,
            };
            assert!(
                expected.is_none_or(|expected| event.standing == expected),
                "{order}: {event:?}"
            );
        }
        let kinds: Vec<&str> = told.context.iter().map(|event| event.kind.as_str()).collect();
        assert!(
            kinds.contains(&"account_added") && kinds.contains(&"exchange_keys_seen"),
            "{kinds:?}"
        );
    }
}

#[test]
fn an_offer_is_nothing_to_dispute() {
    let dir = tempfile::tempdir().unwrap();
    let options = ExportOptions {
        verify: options(),
        instance: "default".into(),
        order: OFFERED.into(),
        redact: vec![],
        out: dir.path().join("dispute.zip"),
    };
    let refused = export(&options).unwrap_err().to_string();
    assert!(refused.contains("no wallet has claimed the order"), "{refused}");
}
