//! Witnesses: asked off every wallet's way, believed only under the configured key, and the end of every second
//! history.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use quittance::app::paths;
use quittance::instance::read_key;
use quittance::limits::WITNESS_TIME;
use quittance_events::copy::{Copy, CopyError};
use quittance_events::create::create;
use quittance_events::facts::KeyRole;
use quittance_events::ledger::{Keys, vkey};
use quittance_events::seal::EventKey;
use quittance_events::{AttachmentName, Event, NewEvent};
use quittance_replay::{Report, VerifyOptions, verify};
use quittance_sandbox::witness::{Witness, WitnessFault};
use quittance_tlog::{Checkpoint, CosignerKey, KeyName, Note, NoteSigner};
use support::{Options, Shop, TestClock, coin};

const ORIGIN: &str = "shop.example/test";

async fn witness(seed: u8) -> Witness {
    let clock = TestClock::at_s(support::NOON_S);
    Witness::start(seed, clock.clock()).await.unwrap()
}

/// Its section in the configuration.
fn section(witness: &Witness) -> String {
    let name = witness.vkey().name().to_string();
    format!("quittance-witness-{}", name.rsplit('/').next().unwrap())
}

/// A shop that asks these witnesses, none of which knows the shop's log yet.
async fn shop(witnesses: &[&Witness]) -> Shop {
    let sections = witnesses.iter().map(|witness| {
        format!(
            "[{}]\nURL = {}\nVKEY = {}\n",
            section(witness),
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

/// What an auditor is told who knows these witnesses.
fn audit(shop: &Shop, witnesses: &[CosignerKey]) -> Report {
    verify(&VerifyOptions {
        ledger: shop.ledger(),
        anchor: Some(shop.config.anchor.clone()),
        ledger_key: Some(shop.vkey.parse().unwrap()),
        witnesses: witnesses.to_vec(),
        ..VerifyOptions::default()
    })
    .unwrap()
}

/// What all tests of this program log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn collect() -> &'static Lines {
        static LINES: OnceLock<Lines> = OnceLock::new();
        LINES.get_or_init(|| {
            let lines = Lines::default();
            let writer = lines.clone();
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .init();
            lines
        })
    }

    /// Whether some line about this witness holds these words.
    fn say(&self, witness: &Witness, words: &str) -> bool {
        let log = self.0.lock().unwrap();
        let section = section(witness);
        String::from_utf8_lossy(&log)
            .lines()
            .any(|line| line.contains(&section) && line.contains(words))
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All events with what is behind them, as somebody with the keys could seal them anew.
fn events_of(ledger: &Path) -> Vec<(Event, NewEvent)> {
    let mut events = Vec::new();
    Copy::open(ledger)
        .unwrap()
        .walk::<CopyError>(|item| {
            let stored = item.unwrap();
            let event = Event::parse(&stored.sealed).unwrap();
            let attachments = stored.attachments.into_iter();
            let attachments =
                attachments.map(|a| (AttachmentName::from_name(&a.name).unwrap(), a.bytes.unwrap()));
            let facts = event.facts.clone();
            let attachments = attachments.collect();
            events.push((event, NewEvent { facts, attachments }));
            Ok(())
        })
        .unwrap();
    events
}

/// The operator has every key of this ledger.
fn operators_keys(shop: &Shop) -> Keys {
    let key = |name: &str| read_key(&shop.config.keys.join(name)).unwrap();
    Keys {
        event: EventKey::new(key("event.key")),
        checkpoint: NoteSigner::new(KeyName::new(ORIGIN).unwrap(), key("checkpoint.key").as_bytes()),
    }
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
    shop.audit().await;
    let stranger = witness(9).await.vkey();
    let report = audit(&shop, &[good.vkey(), down.vkey(), stranger.clone()]);
    assert!(report.is_sound());
    let said = |key: &CosignerKey| {
        let vkey = key.to_string();
        let of = |witness: &&quittance_replay::Witness| witness.vkey == vkey && witness.pinned;
        let witness = report.witnesses.iter().find(of).unwrap();
        (witness.size, witness.time_s)
    };
    let last = (size_of(&later.to_string()), support::NOON_S);
    assert_eq!([said(&good.vkey()), said(&down.vkey())], [last; 2]);
    assert_eq!(said(&stranger), (0, 0));
}

#[tokio::test]
async fn outsiders_get_the_checkpoint_with_its_cosignatures() {
    let (one, two) = (witness(6).await, witness(7).await);
    let shop = shop(&[&one, &two]).await;
    for witness in [&one, &two] {
        witness.know(log_key(&shop));
    }
    cosigned(&shop, &one.vkey()).await;
    cosigned(&shop, &two.vkey()).await;
    let (status, _, body) = shop.get_file("ledger/checkpoint", None).await;
    let note = Note::parse(std::str::from_utf8(&body).unwrap()).unwrap();
    assert_eq!((status, note.signatures().len()), (200, 3));
    Checkpoint::verify(&note, &[log_key(&shop)]).unwrap();
    for witness in [&one, &two] {
        assert_eq!(witness.vkey().cosigned_at(&note).unwrap(), support::NOON_S);
    }
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
    // Nor does it hold up the end.
    let began = Instant::now();
    shop.stop().await;
    assert!(began.elapsed() < WITNESS_TIME, "{:?}", began.elapsed());
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

/// The operator seals all of it anew, with every key, one event dated otherwise: sound in itself, and no witness that
/// saw the first history cosigns the second.
#[tokio::test]
async fn a_rewritten_history_is_exposed_by_the_witness() {
    let lines = Lines::collect();
    let witness = witness(8).await;
    let mut shop = shop(&[&witness]).await;
    witness.know(log_key(&shop));
    shop.sell("sold", "KUDOS:4", &[coin(1, "KUDOS:4", "KUDOS:0.1")], true)
        .await;
    shop.stop().await;
    shop.start().await;
    let true_note = cosigned(&shop, &witness.vkey()).await;
    let seen = size_of(&true_note.to_string());
    shop.stop().await;
    assert_eq!(audit(&shop, &[witness.vkey()]).witnesses[0].size, seen);

    let mut events = events_of(&shop.ledger());
    let last = &mut events.last_mut().unwrap().0;
    last.at_us = last.at_us.plus_s(1);
    assert_eq!(u64::try_from(events.len()).unwrap(), seen);
    fs::remove_file(shop.ledger()).unwrap();
    fs::remove_file(&shop.config.anchor).unwrap();
    create(&paths(&shop.config), &operators_keys(&shop), events).unwrap();

    // Of the same size: the witness has another tree of it.
    shop.clock.advance_s(60);
    shop.start().await;
    let told = "are not the first of the ledger's";
    shop.until("word of another history", async || {
        lines.say(
            &witness,
            &format!("the {seen} events that it cosigned {told} {seen}"),
        )
    })
    .await;
    // Longer: what the witness has is no beginning of it.
    shop.sell("more", "KUDOS:9", &[coin(2, "KUDOS:9", "KUDOS:0.1")], true)
        .await;
    shop.stop().await;
    shop.start().await;
    shop.until("word of another history", async || {
        lines.say(
            &witness,
            &format!("the {seen} events that it cosigned {told} {}", seen + 3),
        )
    })
    .await;
    assert_eq!(witness.cosigned(ORIGIN), Some(seen));
    let (_, _, body) = shop.get_file("ledger/checkpoint", None).await;
    let note = Note::parse(std::str::from_utf8(&body).unwrap()).unwrap();
    assert_eq!(note.signatures().len(), 1);
    shop.stop().await;
    // Nothing in the file contradicts it; that the witness is silent does.
    let report = audit(&shop, &[witness.vkey()]);
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert_eq!(report.witnesses.len(), 1);
    assert_eq!(report.witnesses[0].size, 0);
    // Who holds what the witness gave out proves it: one key, one size, two roots.
    let signed: Checkpoint =
        Checkpoint::verify(&true_note, &[operators_keys(&shop).checkpoint.verifier()]).unwrap();
    let above = i64::try_from(seen).unwrap() + 1;
    let stored = Copy::open(&shop.ledger())
        .unwrap()
        .checkpoint_below(above)
        .unwrap();
    let forged = Checkpoint::open(&stored.unwrap().1, &operators_keys(&shop).checkpoint.verifier()).unwrap();
    assert_eq!(forged.size, signed.size);
    assert_ne!(forged.root, signed.root);
}
