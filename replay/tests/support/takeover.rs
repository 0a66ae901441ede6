//! A successor of the sound ledger, as events to be forged.

use super::*;
use quittance_replay::Unusable;
use quittance_taler::Digest32;
use quittance_tlog::{Frontier, leaf_hash};

pub const SECOND: &str = "shop.example/second";

pub fn second_keys() -> Keys {
    Keys {
        event: EventKey::new(secret(51)),
        checkpoint: NoteSigner::new(KeyName::new(SECOND).unwrap(), &[52; 32]),
    }
}

/// Number of events of the sound ledger, and the root of the first so many of them.
pub fn sound_size() -> u64 {
    u64::try_from(sound_events().len()).unwrap()
}

pub fn sound_root(size: u64) -> Digest32 {
    root_of(&sound().join("ledger.sqlite3"), size)
}

pub fn root_of(ledger: &Path, size: u64) -> Digest32 {
    let (mut frontier, mut count) = (Frontier::default(), 0);
    Copy::open(ledger)
        .unwrap()
        .walk::<CopyError>(|item| {
            let stored = item.expect("a sound ledger has no orphans");
            count += 1;
            if count <= size {
                frontier.push(leaf_hash(&[stored.sealed, stored.signature].concat()));
            }
            Ok(())
        })
        .unwrap();
    Digest32::from_bytes(frontier.root().0)
}

/// When the successor takes over.
fn taken_over_at(old: &Events) -> Micros {
    old.last().unwrap().0.at_us.plus_s(60)
}

/// Genesis, all orders but the late one whose wire deadline is past, the instance.
pub fn successor(generation: Option<u64>) -> Events {
    let old = sound_events();
    let size = sound_size();
    let predecessor = Predecessor {
        origin: ORIGIN.into(),
        size,
        root: sound_root(size),
        generation,
    };
    successor_of(&old, predecessor)
}

fn genesis_of(old: &Events, predecessor: Predecessor) -> (Event, NewEvent) {
    let genesis = LedgerOpened {
        origin: SECOND.into(),
        event_key: second_keys().event.public().key(),
        checkpoint_key: Digest32::from_bytes(*second_keys().checkpoint.verifier().public_key()),
        recovery_key: None,
        predecessor: Some(predecessor),
    };
    let first = at_takeover(old, genesis.clone().into(), &old[0].0);
    (first, NewEvent::bare(genesis))
}

/// An event like one of the predecessor's, as of the takeover.
fn at_takeover(old: &Events, facts: Facts, like: &Event) -> Event {
    Event {
        at_us: taken_over_at(old),
        facts,
        ledger: SECOND.into(),
        ..like.clone()
    }
}

pub fn successor_of(old: &Events, predecessor: Predecessor) -> Events {
    let event = |facts: Facts, like: &Event| at_takeover(old, facts, like);
    let mut events = vec![genesis_of(old, predecessor)];
    for order in [PAID, ABORTED, TAKEN_OVER, WIDE, WIDE_ABORT, UNTOUCHED] {
        let mut like = None;
        for (was, new) in old {
            if was.order_key() != Some(key(order)) {
                continue;
            }
            like.get_or_insert(was);
            let stays = match &was.facts {
                Facts::ExchangeReplied(f) => {
                    f.rtransaction_id == refund_id(0) && f.verdict == Verdict::Refused
                }
                other => [
                    "order_recorded",
                    "deposit_recorded",
                    "abort_requested",
                    "abort_extended",
                    "payment_completed",
                ]
                .contains(&other.kind()),
            };
            if stays {
                events.push((event(was.facts.clone(), was), new.clone()));
            }
        }
        let rows: Vec<CarriedInRow> = order_at(old, order, old.len())
            .rows
            .iter()
            .map(|row| CarriedInRow {
                coin_pub: row.coin_pub,
                rtransaction_id: row.rtransaction_id,
                amount: row.amount,
                execution_s: row.execution_s,
                merchant_sig: row.merchant_sig,
            })
            .collect();
        let parts = u32::try_from(rows.len().div_ceil(LIST_MAX)).unwrap();
        for (rows, i) in rows.chunks(LIST_MAX).zip(1..) {
            let facts = RefundCarriedIn {
                rows: rows.to_vec(),
                part: (parts > 1).then_some(Part(i, parts)),
                by: "takeover".parse().unwrap(),
            };
            events.push((event(facts.clone().into(), like.unwrap()), NewEvent::bare(facts)));
        }
    }
    let (added, new) = &old[1];
    assert_eq!(added.facts.kind(), "instance_added");
    events.push((event(added.facts.clone(), added), new.clone()));
    events
}

/// Likewise of a ledger with one order that was sold, and all of whose batches are to be asked for again.
pub fn successor_of_sales(old: &Events, predecessor: Predecessor) -> Events {
    let mut events = vec![genesis_of(old, predecessor)];
    let mut take = |kinds: &[&str]| {
        for (was, new) in old.iter().filter(|(was, _)| kinds.contains(&was.facts.kind())) {
            let mut event = at_takeover(old, was.facts.clone(), was);
            if !matches!(was.facts, Facts::FormatRaised(_)) {
                event.version = 4;
            }
            events.push((event, new.clone()));
        }
    };
    take(&["format_raised"]);
    take(&[
        "order_created",
        "order_recorded",
        "order_claimed",
        "deposit_requested",
        "abort_requested",
    ]);
    take(&["instance_added"]);
    take(&["account_added"]);
    events
}

/// Approves another tenth for the untouched order, under this id, ten seconds after the takeover. Gives its place.
pub fn approve_first(events: &mut Events, id: u64) -> usize {
    let known = order_at(events, UNTOUCHED, events.len());
    let now = events[0].0.at_us.plus_s(10);
    let event = approval(&known, &[(41, id, "0.1")], now.floor_s());
    append(events, UNTOUCHED, event);
    let place = events.len() - 1;
    events[place].0.at_us = now;
    place
}

/// Seals a successor; with the sound ledger as its predecessor where it is to be compared.
pub fn sealed(events: Events, is_compared: bool) -> Report {
    let predecessor = is_compared.then(|| sound().join("ledger.sqlite3"));
    compared_with(events, predecessor).unwrap()
}

pub fn compared_with(events: Events, predecessor: Option<PathBuf>) -> Result<Report, Unusable> {
    let dir = tempfile::tempdir().unwrap();
    create(&paths(dir.path()), &second_keys(), events).unwrap();
    verify(&VerifyOptions {
        ledger: dir.path().join("ledger.sqlite3"),
        anchor: Some(dir.path().join("ledger.anchor")),
        predecessor,
        ..VerifyOptions::default()
    })
}

pub fn taken_over(events: Events) -> Report {
    sealed(events, true)
}
