//! How long it takes to open a ledger of many events, and to read one order of it: it must not grow with the
//! number of events. Prints figures and judges nothing. How to read it: `docs/performance.md`.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use quittance_events::facts::{LedgerOpened, OrderRecorded};
use quittance_events::ledger::{Keys, Paths};
use quittance_events::seal::{EventKey, no_digest};
use quittance_events::{Event, Ledger, NewEvent, OrderKey, Seq, create};
use quittance_taler::{Digest32, EddsaPrivateKey, HashCode, MerchantPub, Micros, Timestamp};
use quittance_tlog::note::{KeyName, NoteSigner};
use support::{folder, setting};

const START_S: u64 = 1_795_226_400;

fn keys() -> Keys {
    Keys {
        event: EventKey::new(EddsaPrivateKey::from_bytes([1; 32])),
        checkpoint: NoteSigner::new(KeyName::new("shop.example/bench").unwrap(), &[2; 32]),
    }
}

/// The genesis and an order for every further event.
fn events(count: usize) -> Vec<(Event, NewEvent)> {
    let keys = keys();
    let genesis = LedgerOpened {
        origin: keys.checkpoint.name().to_string(),
        event_key: keys.event.public().key(),
        checkpoint_key: Digest32::from_bytes(*keys.checkpoint.verifier().public_key()),
        recovery_key: None,
        predecessor: None,
    };
    let first = Event {
        at_us: Micros::from_s(START_S).unwrap(),
        attachments: BTreeMap::new(),
        facts: genesis.clone().into(),
        instance: None,
        ledger: genesis.origin.as_str().into(),
        order: None,
        prev: no_digest(),
        seq: Seq::FIRST,
        version: quittance_events::event::FIRST_VERSION,
    };
    let later = Timestamp::from_s(START_S + 86_400).unwrap();
    let order = OrderRecorded {
        h_contract: HashCode::from_bytes([3; 64]),
        amount: "KUDOS:10".parse().unwrap(),
        timestamp_s: Timestamp::from_s(START_S).unwrap(),
        refund_deadline_s: later,
        wire_deadline_s: later,
        merchant_pub: MerchantPub::from_bytes([4; 32]),
        exchanges: Vec::new(),
        choice_index: None,
        by: None,
    };
    let mut all = vec![(first.clone(), NewEvent::bare(genesis))];
    all.extend((1..count).map(|number| {
        let event = Event {
            facts: order.clone().into(),
            instance: Some("default".parse().unwrap()),
            order: Some(format!("order-{number}").parse().unwrap()),
            ..first.clone()
        };
        (event, NewEvent::bare(order.clone()))
    }));
    all
}

fn main() {
    let most = setting("QUITTANCE_BENCH_EVENTS", 1_000_000);
    for count in [1_000, most] {
        let folder = folder();
        let paths = Paths {
            ledger: folder.path().join("ledger.sqlite3"),
            anchor: folder.path().join("ledger.anchor"),
        };
        let start = Instant::now();
        create::create(&paths, &keys(), events(count)).unwrap();
        let made = start.elapsed();
        let bytes = std::fs::metadata(&paths.ledger).unwrap().len();
        for _ in 0..3 {
            let start = Instant::now();
            let ledger = Ledger::open(&paths, keys(), "bench").unwrap();
            let opened = start.elapsed();
            let key = OrderKey {
                instance: "default".parse().unwrap(),
                order: format!("order-{}", count / 2).parse().unwrap(),
            };
            let start = Instant::now();
            assert!(ledger.order(&key).unwrap().is_some());
            println!(
                "{count} events, {bytes} bytes: opened in {opened:?}, one order read in {:?}",
                start.elapsed()
            );
        }
        println!("{count} events: made in {made:?}");
    }
}
