//! Witnesses: asked off every wallet's way, believed only under the configured key, and the end of every second
//! history.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use quittance_events::copy::Copy;
use quittance_events::facts::KeyRole;
use quittance_events::ledger::vkey;
use quittance_sandbox::witness::{Witness, WitnessFault};
use quittance_tlog::{Checkpoint, CosignerKey, Note};
use support::{Options, Shop, TestClock, coin};

const ORIGIN: &str = "shop.example/test";

async fn witness(seed: u8) -> Witness {
    let clock = TestClock::at_s(support::NOON_S);
    Witness::start(seed, clock.clock()).await.unwrap()
}

/// A shop that asks these witnesses, none of which knows the shop's log yet.
async fn shop(witnesses: &[&Witness]) -> Shop {
    let sections = witnesses.iter().zip(1..).map(|(witness, number)| {
        format!(
            "[quittance-witness-{number}]\nURL = {}\nVKEY = {}\n",
            witness.url(),
            witness.vkey()
        )
    });
    Shop::open_with(Options {
        more_config: sections.collect(),
        ..Options::default()
    })
    .await
}

fn log_key(shop: &Shop) -> quittance_tlog::VerifierKey {
    let book = shop.app().service.ledger.book();
    vkey(ORIGIN, &book.keys.now(KeyRole::Checkpoint).unwrap().key).unwrap()
}

fn size_of(note: &str) -> u64 {
    Checkpoint::parse_text(Note::parse(note).unwrap().text())
        .unwrap()
        .size
}

/// Waits until the last checkpoint covers all and this key has cosigned it; gives the checkpoint as published.
async fn cosigned(shop: &Shop, key: &CosignerKey) -> Note {
    let ledger = &shop.app().service.ledger;
    let mut published = None;
    shop.until("a cosignature of the latest checkpoint", async || {
        let Some(text) = ledger.cosigned_checkpoint().unwrap() else {
            return false;
        };
        let note = Note::parse(&text).unwrap();
        let found = key.cosigned_at(&note).is_ok();
        published = found.then_some(note);
        found
    })
    .await;
    published.unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn checkpoints_are_cosigned_one_after_the_other_and_the_auditor_sees_it() {
    let (good, down) = (witness(1).await, witness(2).await);
    down.fault(WitnessFault::Down);
    let mut shop = shop(&[&good, &down]).await;
    good.know(log_key(&shop));
    let first = cosigned(&shop, &good.vkey()).await;
    assert_eq!(good.vkey().cosigned_at(&first).unwrap(), support::NOON_S);
    for number in 0..3 {
        shop.sell(
            &format!("sold-{number}"),
            "KUDOS:4",
            &[coin(number, "KUDOS:4", "KUDOS:0.1")],
            true,
        )
        .await;
    }
    shop.stop().await;
    shop.start().await;
    let later = cosigned(&shop, &good.vkey()).await;
    assert!(size_of(&later.to_string()) > size_of(&first.to_string()));
    assert_eq!(good.cosigned(ORIGIN), Some(size_of(&later.to_string())));
    // The other one comes back and catches up by itself.
    down.fault(WitnessFault::None);
    down.know(log_key(&shop));
    cosigned(&shop, &down.vkey()).await;
    shop.stop().await;
    let mut stored = Vec::new();
    let copy = Copy::open(&shop.config.ledger).unwrap();
    copy.walk_cosignatures_from(0, |_, key, _| {
        stored.push(key);
        true
    })
    .unwrap();
    assert!(stored.contains(&down.vkey().to_string()));
    assert!(stored.len() >= 3);
    let report = quittance_replay::verify(&quittance_replay::VerifyOptions {
        ledger: shop.config.ledger.clone(),
        witnesses: vec![good.vkey()],
        ..quittance_replay::VerifyOptions::default()
    })
    .unwrap();
    assert!(report.is_sound());
    let pinned = report.witnesses.iter().find(|witness| witness.pinned).unwrap();
    assert_eq!(
        (pinned.size, pinned.time_s),
        (size_of(&later.to_string()), support::NOON_S)
    );
    shop.audit().await;
}

#[tokio::test]
async fn nothing_is_kept_that_is_no_cosignature_of_this_checkpoint_by_this_key() {
    let witness = witness(3).await;
    let mut shop = shop(&[&witness]).await;
    // It does not know the log yet: 404.
    shop.until("questions", async || witness.asked() > 2).await;
    for fault in [
        WitnessFault::Garbage,
        WitnessFault::Slow(Duration::from_millis(1)),
    ] {
        witness.fault(fault);
        let asked = witness.asked();
        shop.until("more questions", async || witness.asked() > asked + 1)
            .await;
    }
    assert_eq!(
        shop.app()
            .service
            .ledger
            .last_cosigned(&witness.vkey().to_string())
            .unwrap()
            .get(),
        0
    );
    witness.know(log_key(&shop));
    witness.fault(WitnessFault::None);
    let first = size_of(&cosigned(&shop, &witness.vkey()).await.to_string());
    // The line that it gave for the checkpoint before is no word on this one.
    witness.fault(WitnessFault::Stale);
    shop.sell("sold", "KUDOS:4", &[coin(1, "KUDOS:4", "KUDOS:0.1")], true)
        .await;
    let asked = witness.asked();
    shop.until("the next checkpoint's question", async || {
        witness.asked() > asked + 1
    })
    .await;
    let last = shop
        .app()
        .service
        .ledger
        .last_cosigned(&witness.vkey().to_string())
        .unwrap();
    assert_eq!(last.get(), first);
    shop.stop().await;
    shop.audit().await;
}

#[tokio::test]
async fn a_wallet_is_served_while_no_witness_answers() {
    let witness = witness(4).await;
    witness.fault(WitnessFault::Slow(Duration::from_mins(10)));
    let mut shop = shop(&[&witness]).await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("sold", "KUDOS:4", &coins, true).await;
    shop.approve("sold", "KUDOS:1").await.expect(200);
    shop.fetch("sold", hash).await.expect(200);
    shop.stop().await;
    shop.audit().await;
}

/// Ledger and anchor restored together: the file is sound in itself, and the anchor agrees with it.
#[tokio::test]
async fn a_second_history_gets_no_cosignature() {
    let witness = witness(5).await;
    let mut shop = shop(&[&witness]).await;
    witness.know(log_key(&shop));
    cosigned(&shop, &witness.vkey()).await;
    shop.stop().await;
    let folders = ["data", "anchor"];
    for folder in folders {
        copy_folder(
            &shop.folder.path().join(folder),
            &shop.folder.path().join("backup").join(folder),
        );
    }
    shop.start().await;
    shop.sell("true", "KUDOS:4", &[coin(1, "KUDOS:4", "KUDOS:0.1")], true)
        .await;
    let seen = size_of(&cosigned(&shop, &witness.vkey()).await.to_string());
    shop.stop().await;
    for folder in folders {
        let live = shop.folder.path().join(folder);
        fs::remove_dir_all(&live).unwrap();
        copy_folder(&shop.folder.path().join("backup").join(folder), &live);
    }
    shop.start().await;
    let before = shop
        .app()
        .service
        .ledger
        .last_cosigned(&witness.vkey().to_string())
        .unwrap();
    let asked = witness.asked();
    // Shorter than what the witness saw, then longer, with other events: neither is cosigned.
    for number in 2..9 {
        shop.sell(
            &format!("false-{number}"),
            "KUDOS:9",
            &[coin(number, "KUDOS:9", "KUDOS:0.1")],
            true,
        )
        .await;
    }
    shop.stop().await;
    shop.start().await;
    shop.until("questions", async || witness.asked() > asked + 3)
        .await;
    let ledger = &shop.app().service.ledger;
    assert!(size_of(&ledger.checkpoint().unwrap().unwrap()) > seen);
    assert_eq!(ledger.last_cosigned(&witness.vkey().to_string()).unwrap(), before);
    assert_eq!(witness.cosigned(ORIGIN), Some(seen));
    shop.stop().await;
    // Sound in itself: only who remembers another history can tell.
    shop.audit().await;
}
