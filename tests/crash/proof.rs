//! What must hold in the end between the receipts, the ledger and the exchange's books.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use quittance_events::copy::{Copy, CopyError};
use quittance_events::facts::Verdict;
use quittance_events::seal::{EventPub, event_digest};
use quittance_events::{Event, Facts};
use quittance_taler::{Amount, CoinPub, Digest32, HashCode, sum};

use crate::load::World;
use crate::program::Program;
use crate::sales::State;

/// How much was checked.
#[derive(Debug)]
#[expect(dead_code, reason = "printed for whoever runs it")]
pub(crate) struct Checked {
    pub(crate) events: usize,
    pub(crate) orders: usize,
    pub(crate) answers: usize,
    pub(crate) refunds: usize,
    pub(crate) failed_attempts: usize,
    pub(crate) payments: usize,
    pub(crate) payments_aborted: usize,
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

/// The exchange's deposits, by contract and coin.
fn deposits(world: &World) -> HashMap<(HashCode, CoinPub), Amount> {
    let mut deposits = HashMap::new();
    for deposit in world.sandbox.deposits() {
        let key = (deposit.h_contract, deposit.coin_pub);
        let twice = deposits.insert(key, deposit.amount_with_fee);
        assert_eq!(twice, None, "deposited twice: {key:?}");
    }
    deposits
}

/// The exchange refunded what the ledger had named before, each permission once, and no coin beyond its deposit.
fn books(world: &World, events: &BTreeMap<u64, (Digest32, Event)>) -> usize {
    let orders = world.orders();
    let contracts: HashMap<&str, HashCode> = orders.iter().map(|o| (o.id.as_str(), o.h_contract)).collect();
    let deposits = deposits(world);
    let mut approved: HashMap<(HashCode, CoinPub, u64), Amount> = HashMap::new();
    let mut named: HashMap<(HashCode, CoinPub, u64), Amount> = HashMap::new();
    for (_, event) in events.values() {
        // A sale that no wallet heard the end of has nothing to refund.
        let contract = event
            .order
            .as_ref()
            .and_then(|order| contracts.get(order.as_str()));
        let Some(contract) = contract else {
            continue;
        };
        let key = |coin: &CoinPub, id: u64| (*contract, *coin, id);
        // An abort takes back what was deposited. Of a coin in question nothing may have been.
        let deposited = |coin: &CoinPub| Some((key(coin, 0), *deposits.get(&(*contract, *coin))?));
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
                let asked = facts.coins.iter().filter(|coin| coin.amount.is_some());
                named.extend(asked.filter_map(|coin| deposited(&coin.coin_pub)));
            }
            Facts::AbortExtended(facts) => {
                named.extend(facts.coins.iter().filter_map(|coin| deposited(&coin.coin_pub)));
            }
            _ => {}
        }
    }
    let mut seen = BTreeSet::new();
    let mut by_deposit: HashMap<(HashCode, CoinPub), Vec<Amount>> = HashMap::new();
    let refunds = world.sandbox.refunds();
    for refund in &refunds {
        let key = (refund.h_contract, refund.coin_pub, refund.rtransaction_id);
        assert_eq!(
            named.get(&key),
            Some(&refund.amount),
            "refunded and not in the ledger: {key:?}"
        );
        assert!(seen.insert(key));
        let of_deposit = by_deposit.entry((key.0, key.1)).or_default();
        of_deposit.push(refund.amount);
    }
    // All that was open is finished.
    assert_eq!(named.len(), refunds.len());
    assert_eq!(
        named.len() - named.keys().filter(|(_, _, id)| *id == 0).count(),
        approved.len()
    );
    for (deposit, amounts) in by_deposit {
        let total = sum(amounts[0].currency(), amounts).unwrap();
        assert!(total.units() <= deposits[&deposit].units());
    }
    refunds.len()
}

/// A wallet that was told it paid has paid, all of it and once; of one that gave up the exchange has nothing left. Gives
/// how many of both.
fn sales(world: &World, events: &BTreeMap<u64, (Digest32, Event)>) -> (usize, usize) {
    let deposits = deposits(world);
    let mut requested = BTreeSet::new();
    let mut completed: HashMap<String, usize> = HashMap::new();
    let mut aborts_answered = BTreeSet::new();
    for (_, event) in events.values() {
        let id = event.order.as_ref().map(|order| order.as_str().to_owned());
        match &event.facts {
            Facts::DepositRequested(facts) => requested.extend(facts.coins.iter().map(|coin| coin.coin_pub)),
            Facts::PaymentCompleted(_) => *completed.entry(id.unwrap()).or_default() += 1,
            Facts::AbortAnswered(_) => drop(aborts_answered.insert(id.unwrap())),
            _ => {}
        }
    }
    let refunds = world.sandbox.refunds();
    let (mut paid, mut aborted) = (0, 0);
    for sale in world.sales() {
        let is_paid = match sale.state {
            State::Claimed => panic!("{} did not end", sale.id),
            State::Aborting => false,
            State::Paid(_) => true,
        };
        assert_eq!(
            completed.get(&sale.id).copied().unwrap_or(0),
            usize::from(is_paid),
            "{}",
            sale.id
        );
        assert_ne!(aborts_answered.contains(&sale.id), is_paid, "{}", sale.id);
        for spent in &sale.payment.coins {
            let coin = spent.coin.coin_pub;
            let deposited = deposits.get(&(sale.h_contract, coin));
            assert!(
                deposited.is_none() || requested.contains(&coin),
                "deposited behind the ledger's back"
            );
            if is_paid {
                assert_eq!(deposited, Some(&spent.contribution), "{}", sale.id);
            } else {
                let given_back = refunds
                    .iter()
                    .filter(|refund| refund.coin_pub == coin)
                    .map(|refund| refund.amount);
                let given_back = sum(spent.contribution.currency(), given_back).unwrap();
                let nothing = Amount::zero(spent.contribution.currency());
                assert_eq!(given_back, *deposited.unwrap_or(&nothing), "{}", sale.id);
            }
        }
        *if is_paid { &mut paid } else { &mut aborted } += 1;
    }
    (paid, aborted)
}

pub(crate) fn check(program: &Program, world: &World) -> Checked {
    let events = read(program);
    // The exchange had no reason to refuse anything but refunds of what a killed payment did not deposit: another refusal
    // would be a permission over what is not there any more.
    let sold_here: BTreeSet<String> = world.sales().into_iter().map(|sale| sale.id).collect();
    let replies = events.values().filter_map(|(_, event)| match &event.facts {
        Facts::ExchangeReplied(facts) => {
            let is_of_a_sale = sold_here.contains(event.order.as_ref().unwrap().as_str());
            let may_be_refused = is_of_a_sale && facts.http_status == 404;
            assert!(facts.verdict != Verdict::Refused || may_be_refused, "{event:?}");
            Some(facts.verdict)
        }
        _ => None,
    });
    let replies: Vec<Verdict> = replies.collect();
    let unreached = events
        .values()
        .filter(|(_, event)| matches!(event.facts, Facts::ExchangeUnreached(_)))
        .count();
    let unconfirmed = replies
        .iter()
        .filter(|verdict| **verdict != Verdict::Confirmed)
        .count();
    let (payments, payments_aborted) = sales(world, &events);
    Checked {
        events: events.len(),
        orders: world.orders().len(),
        answers: receipts(world, &events),
        refunds: books(world, &events),
        failed_attempts: unreached + unconfirmed,
        payments,
        payments_aborted,
    }
}
