//! A hundred thousand single bytes of a ledger file, changed one at a time at random: each change of a stored value
//! is found. Which bytes hold values is read from the file's pages by a reader that is not SQLite's; all others hold
//! nothing that anybody could rely on: free space, headers of pages and records, pointers between pages.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "support/sqlite_pages.rs"]
mod sqlite_pages;
mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;

use quittance_events::facts::Verdict;
use quittance_replay::{VerifyOptions, verify};
use sqlite_pages::{Marks, marks};
use support::{World, coin, deposit, ledger_key, reply};
use tempfile::TempDir;

/// Changes in all.
const ALL: u64 = 100_000;
/// Changes in a test run that somebody waits for.
const QUICK: u64 = 10_000;
/// Hits that a table must be due for its not being hit to mean that something is wrong with this test.
const DUE_MIN: u64 = 20;
/// One in so many changes of other bytes is judged too: whatever it does, the tool reports or refuses.
const OTHERS_JUDGED: u64 = 100;
const THREADS: u64 = 2;

/// A small ledger with every table filled: each judgement reads all of it.
fn small() -> TempDir {
    let mut w = World::open();
    w.record("a", "2", 20);
    w.pay("a", &[(1, "2")]);
    w.approve("a", &[(1, 1, "1")]);
    w.request("a", &[(1, 1)]);
    // Long enough to go on overflow pages.
    let long = format!(r#"{{"code":2001,"hint":"{}"}}"#, "later ".repeat(1_000));
    w.tell("a", vec![reply(1, 1, 1, 503, &long, Verdict::Later)]);
    w.answer_refund("a");
    w.record("b", "1", 20);
    w.tell("b", vec![deposit(2, "1")]);
    w.abort("b", &[2]);
    assert!(w.order("b").aborted(&coin(2)).is_some());
    w.finish()
}

/// Steele and Vigna's splitmix64: the same places in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Default)]
struct Count {
    /// Of each table and index.
    found: BTreeMap<String, u64>,
    missed: Vec<String>,
    others: u64,
    others_judged: u64,
    others_found: u64,
}

/// One thread's share, on a copy of its own.
fn share(folder: &Path, sound: &[u8], marks: &Marks, thread: u64, changes: u64) -> Count {
    let dir = tempfile::tempdir().unwrap();
    let options = VerifyOptions {
        ledger: dir.path().join("ledger.sqlite3"),
        anchor: Some(folder.join("ledger.anchor")),
        ledger_key: Some(ledger_key()),
        ..VerifyOptions::default()
    };
    std::fs::write(&options.ledger, sound).unwrap();
    assert!(verify(&options).unwrap().is_sound());
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&options.ledger)
        .unwrap();
    let mut random = Random(thread);
    let mut count = Count::default();
    for _ in 0..changes {
        let place = random.below(u64::try_from(sound.len()).unwrap());
        let change = u8::try_from(1 + random.below(255)).unwrap();
        let at = usize::try_from(place).unwrap();
        let owner = marks.0[at].map(|id| marks.1[usize::from(id)].clone());
        if owner.is_none() {
            count.others += 1;
            if count.others % OTHERS_JUDGED != 0 {
                continue;
            }
        }
        file.write_all_at(&[sound[at] ^ change], place).unwrap();
        let is_found = verify(&options).map_or(true, |report| !report.is_sound());
        file.write_all_at(&sound[at..=at], place).unwrap();
        match owner {
            None => {
                count.others_judged += 1;
                count.others_found += u64::from(is_found);
            }
            Some(table) if is_found => *count.found.entry(table).or_default() += 1,
            Some(table) => count
                .missed
                .push(format!("byte {at} of {table}, changed by {change:#04x}")),
        }
    }
    count
}

#[test]
fn changed_bytes_of_stored_values_are_found() {
    change(QUICK / THREADS);
}

#[test]
#[ignore = "minutes long without optimisation; .ci/run has it in release"]
fn a_hundred_thousand_changed_bytes_are_found_where_they_hold_values() {
    change(ALL / THREADS);
}

fn change(of_each: u64) {
    let dir = small();
    let sound = std::fs::read(dir.path().join("ledger.sqlite3")).unwrap();
    let marks = marks(&sound);
    let held = marks.held();
    for table in [
        "event",
        "attachment",
        "checkpoint",
        "head",
        "order_index",
        "order_event",
        "ledger_event",
        "open_permission",
    ] {
        assert!(
            held.get(table).is_some_and(|bytes| *bytes > 0),
            "{table} holds nothing: {held:?}"
        );
    }
    let counts: Vec<Count> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let (dir, sound, marks) = (&dir, &sound, &marks);
                    move || share(dir.path(), sound, marks, thread, of_each)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let missed: Vec<&String> = counts.iter().flat_map(|count| &count.missed).collect();
    assert!(missed.is_empty(), "{} not found: {missed:#?}", missed.len());
    let sum = |of: fn(&Count) -> u64| counts.iter().map(of).sum::<u64>();
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for (table, count) in counts.iter().flat_map(|count| &count.found) {
        *found.entry(table).or_default() += count;
    }
    let (others, judged, of_them) = (
        sum(|count| count.others),
        sum(|count| count.others_judged),
        sum(|count| count.others_found),
    );
    println!(
        "{held:?} of {} bytes; found {found:?}; {others} hit no value, {judged} of them judged, {of_them} found",
        sound.len()
    );
    assert_eq!(found.values().sum::<u64>() + others, of_each * THREADS);
    for (table, bytes) in &held {
        let due = u64::try_from(*bytes).unwrap() * of_each * THREADS / u64::try_from(sound.len()).unwrap();
        assert!(
            due < DUE_MIN || found.contains_key(table),
            "{table} was never hit: {found:?}"
        );
    }
}
