//! What must hold in the end between the receipts, the ledger and the exchange's books.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use quittance_events::copy::{Copy, CopyError};
use quittance_events::facts::Verdict;
use quittance_events::seal::{EventPub, event_digest};
use quittance_events::{Event, Facts};
use quittance_taler::{Amount, CoinPub, Digest32, HashCode, sum};

use crate::load::World;
use crate::program::Program;

/// How much was checked.
#[derive(Debug)]
#[expect(dead_code, reason = "printed for whoever runs it")]
pub(crate) struct Checked {
    pub(crate) events: usize,
    pub(crate) orders: usize,
    pub(crate) answers: usize,
    pub(crate) refunds: usize,
    pub(crate) failed_attempts: usize,
}

pub(crate) fn read(program: &Program) -> BTreeMap<u64, (Digest32, Event)> {
    let mut events = BTreeMap::new();
    // A killed program leaves a WAL. It is taken up in a copy: the ledger stays as it was left.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("ledger.sqlite3");
    for end in ["", "-wal"] {
        let from = format!("{}{end}", program.ledger().display());
        if std::fs::exists(&from).unwrap() {
            std::fs::copy(from, format!("{}{end}", copy.display())).unwrap();
        }
    }
    let taken_up = rusqlite::Connection::open(&copy).unwrap();
    taken_up
        .pragma_update(None, "wal_checkpoint", "TRUNCATE")
        .unwrap();
    drop(taken_up);
    Copy::open(&copy)
        .unwrap()
        .walk::<CopyError>(|stored| {
            let sealed = stored.unwrap().sealed;
            let event = Event::parse_canonical(&sealed).unwrap();
            events.insert(event.seq.get(), (event_digest(&sealed), event));
            Ok(())
        })
        .unwrap();
    events
}

fn as_of(event: &Event) -> u64 {
    match &event.facts {
        Facts::RefundAnswered(facts) => facts.as_of.get(),
        Facts::AbortAnswered(facts) => facts.as_of.get(),
        other => panic!("a receipt of a {}", other.kind()),
    }
}

/// Every receipt is of an event of this ledger, and one state of an order was answered in one way.
fn receipts(world: &World, events: &BTreeMap<u64, (Digest32, Event)>) -> usize {
    let (
        _,
        Event {
            facts: Facts::LedgerOpened(genesis),
            ..
        },
    ) = &events[&1]
    else {
        panic!("no genesis")
    };
    let key = EventPub::new(genesis.event_key);
    let mut answers = HashMap::new();
    for kept in world.kept() {
        let seq = kept.receipt.seq.get();
        assert!(kept.receipt.verify(&key));
        let (digest, event) = events.get(&seq).unwrap_or_else(|| panic!("answer {seq} is lost"));
        assert_eq!(*digest, kept.receipt.event, "answer {seq} is another event");
        assert_eq!(event.facts.answer_body(), Some(kept.receipt.body));
        assert_eq!(event.order.as_ref().unwrap().as_str(), kept.order.id);
        let state = (kept.order.id.clone(), as_of(event));
        let (first, body) = answers.entry(state).or_insert((seq, kept.body.clone()));
        assert_eq!(
            (*first, &*body),
            (seq, &kept.body),
            "one state, two answers: {}",
            kept.order.id
        );
    }
    answers.len()
}

/// The exchange refunded what the ledger had named before, each permission once, and no coin beyond its deposit.
fn books(world: &World, events: &BTreeMap<u64, (Digest32, Event)>) -> usize {
    let mut approved: HashMap<(String, CoinPub, u64), Amount> = HashMap::new();
    let mut named: HashMap<(String, CoinPub, u64), Amount> = HashMap::new();
    for (_, event) in events.values() {
        let Some(order) = event.order.as_ref().map(|order| order.as_str().to_owned()) else {
            continue;
        };
        let key = |coin: &CoinPub, id: u64| (order.clone(), *coin, id);
        match &event.facts {
            Facts::RefundApproved(facts) => {
                approved.extend(
                    facts
                        .rows
                        .iter()
                        .map(|r| (key(&r.coin_pub, r.rtransaction_id.get()), r.amount)),
                );
            }
            Facts::RefundRequested(facts) => named.extend(facts.rows.iter().map(|row| {
                let key = key(&row.coin_pub, row.rtransaction_id.get());
                let amount = approved[&key];
                (key, amount)
            })),
            Facts::AbortRequested(facts) => {
                named.extend(
                    facts
                        .coins
                        .iter()
                        .filter_map(|c| Some((key(&c.coin_pub, 0), c.amount?))),
                );
            }
            _ => {}
        }
    }
    let orders: HashMap<HashCode, String> =
        world.orders().into_iter().map(|o| (o.h_contract, o.id)).collect();
    let mut seen = BTreeSet::new();
    let mut by_coin: HashMap<CoinPub, Vec<Amount>> = HashMap::new();
    let refunds = world.sandbox.refunds();
    for refund in &refunds {
        let key = (
            orders[&refund.h_contract].clone(),
            refund.coin_pub,
            refund.rtransaction_id,
        );
        assert_eq!(
            named.get(&key),
            Some(&refund.amount),
            "refunded and not in the ledger: {key:?}"
        );
        assert!(seen.insert(key));
        by_coin.entry(refund.coin_pub).or_default().push(refund.amount);
    }
    // All that was open is finished.
    assert_eq!(named.len(), refunds.len());
    assert_eq!(
        named.len() - named.keys().filter(|(_, _, id)| *id == 0).count(),
        approved.len()
    );
    for amounts in by_coin.into_values() {
        let total = sum(amounts[0].currency(), amounts).unwrap();
        assert!(total.units() <= "KUDOS:4".parse::<Amount>().unwrap().units());
    }
    refunds.len()
}

pub(crate) fn check(program: &Program, world: &World) -> Checked {
    let events = read(program);
    // The exchange had no reason to refuse anything: a refusal would be a permission over what is not there any more.
    let replies = events.values().filter_map(|(_, event)| match &event.facts {
        Facts::ExchangeReplied(facts) => Some(facts.verdict),
        _ => None,
    });
    let replies: Vec<Verdict> = replies.collect();
    assert!(!replies.contains(&Verdict::Refused));
    let unreached = events
        .values()
        .filter(|(_, event)| matches!(event.facts, Facts::ExchangeUnreached(_)))
        .count();
    let unconfirmed = replies
        .iter()
        .filter(|verdict| **verdict != Verdict::Confirmed)
        .count();
    Checked {
        events: events.len(),
        orders: world.orders().len(),
        answers: receipts(world, &events),
        refunds: books(world, &events),
        failed_attempts: unreached + unconfirmed,
    }
}
