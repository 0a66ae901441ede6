//! How long an audit of a large ledger takes, and how much memory, against bare strict checks of the same number of
//! signatures on all cores. Prints figures and judges nothing. How to read it: `docs/performance.md`.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

#[path = "../../benches/support/mod.rs"]
mod figures;
#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quittance_events::answer::{self, RefundAnswer};
use quittance_events::copy::Copy;
use quittance_events::create::create;
use quittance_events::facts::{InstanceAdded, LedgerOpened, RefundDelivered};
use quittance_events::seal::{EventChecker, no_digest};
use quittance_events::{Event, InstanceId, NewEvent, Order, Seq};
use quittance_taler::{Digest32, EddsaSignature, Micros};
use support::{
    DAY_S, Events, ORIGIN, START_S, approval, confirmation, deposit, keys, keys_seen, merchant, paths,
    payment, recorded, requested, signing_key,
};

/// Orders between an order's payment and its refund: more than the states that the tool keeps in memory, so that
/// each is folded twice.
const LAG: usize = 20_000;
/// Events of an order: three before its refund, five with it.
const PER_ORDER: usize = 8;
/// Signatures of an order besides those of its events: the merchant's and the exchange's.
const OTHERS_PER_ORDER: usize = 2;

struct Story {
    events: Events,
    now: Micros,
}

impl Story {
    fn tell(&mut self, order: Option<&str>, new: NewEvent) -> Event {
        let event = Event {
            at_us: self.now,
            attachments: BTreeMap::new(),
            facts: new.facts.clone(),
            instance: order.map(|_| InstanceId::root()),
            ledger: ORIGIN.into(),
            order: order.map(|order| order.parse().unwrap()),
            prev: no_digest(),
            seq: Seq::new(u64::try_from(self.events.len()).unwrap() + 1).unwrap(),
            version: 1,
        };
        self.events.push((event.clone(), new));
        event
    }

    fn in_order(&mut self, order: &mut Option<Order>, name: &str, new: NewEvent) {
        let reply = new.attachments.first().map(|(_, bytes)| bytes.clone());
        let event = self.tell(Some(name), new);
        match order {
            None => *order = Some(Order::begin(&event).unwrap()),
            Some(order) => order.apply(&event, &no_digest(), reply.as_deref()).unwrap(),
        }
    }
}

/// A genesis, an instance, an exchange's keys, and orders that are paid and refunded much later.
fn story(count: usize) -> Events {
    let mut story = Story {
        events: Vec::with_capacity(count),
        now: Micros::from_s(START_S).unwrap(),
    };
    story.tell(
        None,
        NewEvent::bare(LedgerOpened {
            origin: ORIGIN.to_owned(),
            event_key: keys().event.public().key(),
            checkpoint_key: Digest32::from_bytes(*keys().checkpoint.verifier().public_key()),
            recovery_key: None,
            predecessor: None,
        }),
    );
    story.tell(
        None,
        NewEvent::bare(InstanceAdded {
            merchant_pub: merchant().merchant_pub(),
            base_url: "https://shop.example/".to_owned(),
            currency: support::amount("0").currency(),
            by: None,
        }),
    );
    story.events.last_mut().unwrap().0.instance = Some(InstanceId::root());
    story.tell(
        None,
        keys_seen(vec![signing_key(5, START_S - DAY_S, START_S + 30 * DAY_S)]),
    );
    let orders = (count - 3) / PER_ORDER;
    let name = |number: usize| format!("2026.325-{number:07}");
    let mut waiting = std::collections::VecDeque::new();
    for number in 0..orders + LAG {
        if number < orders {
            let (mut order, name) = (None, name(number));
            story.in_order(&mut order, &name, recorded(&name, "10", 20));
            story.in_order(&mut order, &name, deposit(1, "10"));
            let paid = payment(std::iter::once((support::coin(1), support::amount("10"))));
            story.in_order(&mut order, &name, paid);
            waiting.push_back((order, name));
        }
        if number >= LAG {
            let Some((mut order, name)) = waiting.pop_front() else {
                break;
            };
            let known = order.clone().unwrap();
            story.in_order(
                &mut order,
                &name,
                approval(&known, &[(1, 1, "3")], story.now.floor_s()),
            );
            story.in_order(&mut order, &name, requested(&[(1, 1)]));
            let known = order.clone().unwrap();
            story.in_order(&mut order, &name, confirmation(&known, 1, 1, 1, 5));
            let RefundAnswer::Recorded(answer) = answer::refund(order.as_ref().unwrap(), story.now).unwrap()
            else {
                panic!("an answer")
            };
            let mut facts = answer.facts;
            let as_of = Seq::new(u64::try_from(story.events.len()).unwrap()).unwrap();
            if let quittance_events::Facts::RefundAnswered(answered) = &mut facts {
                answered.as_of = as_of;
            }
            story.in_order(&mut order, &name, NewEvent::bare(facts));
            let delivered = RefundDelivered { answer: as_of.next() };
            story.in_order(&mut order, &name, NewEvent::bare(delivered));
        }
    }
    story.events
}

/// Strict checks a second, on all cores, of events that are in memory, with a key that was read once.
fn bare_checks(ledger: &Path) -> f64 {
    let copy = Copy::open(ledger).unwrap();
    let events: Vec<(Vec<u8>, EddsaSignature)> = copy
        .events_after(0, 100_000)
        .unwrap()
        .into_iter()
        .map(|event| {
            (
                event.sealed,
                EddsaSignature::from_bytes(event.signature.try_into().unwrap()),
            )
        })
        .collect();
    let cores = thread::available_parallelism().unwrap().get();
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let key = EventChecker::new(keys().event.public());
                while let Some(chunk) = events.chunks(128).nth(next.fetch_add(1, Ordering::Relaxed)) {
                    assert!(
                        chunk
                            .iter()
                            .all(|(sealed, signature)| key.verify_event(sealed, signature))
                    );
                }
            });
        }
    });
    figures::per_second(events.len(), start.elapsed())
}

/// Runs the program as an auditor does; gives its time and its greatest memory in KiB.
fn audit(ledger: &Path, options: &[&str]) -> (Duration, u64) {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_quittance-replay"))
        .arg("verify")
        .arg(ledger)
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let done = loop {
        if let Some(done) = child.try_wait().unwrap() {
            break done;
        }
        // The kernel keeps the greatest value itself: only the last moments can be missed.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = found.and_then(|found| found.trim().trim_end_matches(" kB").parse().ok());
        peak = kib.map_or(peak, |kib: u64| kib.max(peak));
        thread::sleep(Duration::from_millis(20));
    };
    assert!(done.success(), "the ledger is sound");
    (start.elapsed(), peak)
}

fn main() {
    let count = figures::setting("QUITTANCE_BENCH_EVENTS", 1_000_000);
    let rounds = figures::setting("QUITTANCE_BENCH_ROUNDS", 3);
    let folder = figures::folder();
    let paths = paths(folder.path());
    let start = Instant::now();
    let events = story(count);
    let (count, orders) = (events.len(), (count - 3) / PER_ORDER);
    create(&paths, &keys(), events).unwrap();
    let bytes = std::fs::metadata(&paths.ledger).unwrap().len();
    println!(
        "{count} events of {orders} orders, {bytes} bytes, made in {:?}",
        start.elapsed()
    );
    let signatures = count + orders * OTHERS_PER_ORDER;
    let mut ratios: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 1..=rounds {
        let bare = bare_checks(&paths.ledger);
        for (name, options) in [("verify", &[][..]), ("verify --fast", &["--fast"])] {
            let (took, peak) = audit(&paths.ledger, options);
            let rate = figures::per_second(signatures, took);
            let ratio = figures::ratio(rate, bare);
            println!(
                "round {round}: {name} took {took:?}, {rate:.0} signatures/s, peak {peak} KiB; bare {bare:.0}/s, ratio {ratio:.2}"
            );
            ratios.entry(name).or_default().push(ratio);
        }
    }
    for (name, ratios) in ratios {
        println!("{name}: median ratio {:.2}", figures::median(&ratios));
    }
}
