//! Appends with 64 callers that wait for 64 orders, against what they cannot be faster than: bare Ed25519
//! signatures on one core, and bare SQLite commits of the same bytes in batches of the same size. The slower of the
//! two is the yardstick. Prints figures and judges nothing. How to read it: `docs/performance.md`.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quittance_events::facts::{
    AbortCoin, AbortCoinState, AbortRequested, DepositRecorded, ExchangeUnreached, Failure, OrderRecorded,
};
use quittance_events::ledger::{Keys, Paths};
use quittance_events::seal::EventKey;
use quittance_events::{Append, Ledger, NewEvent, OrderKey, RefundId, Seq, Stream, create};
use quittance_taler::{
    CoinPub, EddsaPrivateKey, EddsaSignature, HashCode, MasterPub, MerchantPub, Micros, Timestamp,
};
use quittance_tlog::note::{KeyName, NoteSigner};
use support::{
    commits, flush_time, folder, inserts, median, per_second, quantile, ratio, setting, signatures, stored,
    whole,
};

const CALLERS: usize = 64;
const START_S: u64 = 1_795_226_400;

fn keys() -> Keys {
    Keys {
        event: EventKey::new(EddsaPrivateKey::from_bytes([1; 32])),
        checkpoint: NoteSigner::new(KeyName::new("shop.example/bench").unwrap(), &[2; 32]),
    }
}

fn coin() -> CoinPub {
    CoinPub::from_bytes([5; 32])
}

/// An order with one coin under an abort, so that its state stays as small as it is however often the exchange is
/// not reached.
fn opening() -> Vec<NewEvent> {
    let amount = "KUDOS:10".parse().unwrap();
    let master = MasterPub::from_bytes([9; 32]);
    let later = Timestamp::from_s(START_S + 86_400).unwrap();
    vec![
        NewEvent::bare(OrderRecorded {
            h_contract: HashCode::from_bytes([3; 64]),
            amount,
            timestamp_s: Timestamp::from_s(START_S).unwrap(),
            refund_deadline_s: later,
            wire_deadline_s: later,
            merchant_pub: MerchantPub::from_bytes([4; 32]),
            exchanges: Vec::new(),
            choice_index: None,
            by: None,
        }),
        NewEvent::bare(DepositRecorded {
            coin_pub: coin(),
            exchange_master_pub: master,
            exchange_url: "https://exchange.example/".into(),
            amount_with_fee: amount,
            deposit_fee: "KUDOS:0.01".parse().unwrap(),
            refund_fee: "KUDOS:0.01".parse().unwrap(),
            h_denom: None,
            coin_sig: None,
            exchange_pub: None,
            exchange_sig: None,
            exchange_timestamp_s: None,
            by: None,
        }),
        NewEvent::bare(AbortRequested {
            coins: vec![AbortCoin {
                coin_pub: coin(),
                state: AbortCoinState::Deposited,
                amount: Some(amount),
                merchant_sig: Some(EddsaSignature::from_bytes([6; 64])),
            }],
            part: None,
        }),
    ]
}

struct Appends {
    per_second: f64,
    times: Vec<Duration>,
    batch_mean: f64,
    /// Sealed bytes and signatures, as stored.
    stored: Vec<(Vec<u8>, Vec<u8>)>,
}

#[allow(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "figures for people"
)]
fn appends(folder: &Path, length: Duration) -> Appends {
    let paths = Paths {
        ledger: folder.join("ledger.sqlite3"),
        anchor: folder.join("ledger.anchor"),
    };
    let at = Micros::from_s(START_S).unwrap();
    create::init(&paths, &keys(), at).unwrap();
    let ledger = Arc::new(Ledger::open(&paths, keys(), "bench").unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let result = runtime.block_on(async {
        let mut states = Vec::new();
        for number in 0..CALLERS {
            let key = OrderKey {
                instance: "default".parse().unwrap(),
                order: format!("order-{number}").parse().unwrap(),
            };
            let stream = Stream::Order(key.clone(), Seq::NONE);
            let order = ledger
                .append(Append {
                    stream,
                    at,
                    events: opening(),
                })
                .await
                .unwrap()
                .order()
                .unwrap();
            states.push((key, order.moved));
        }
        let before = commits(&paths.ledger);
        let start = Instant::now();
        let mut callers = tokio::task::JoinSet::new();
        for (key, mut moved) in states {
            let ledger = Arc::clone(&ledger);
            callers.spawn(async move {
                let mut times = Vec::new();
                for attempt in 1.. {
                    let begun = Instant::now();
                    if begun - start >= length {
                        break;
                    }
                    let event = ExchangeUnreached {
                        coin_pub: coin(),
                        rtransaction_id: RefundId::ABORT,
                        attempt,
                        failure: Failure::Timeout,
                    };
                    let stream = Stream::Order(key.clone(), moved);
                    let append = Append {
                        stream,
                        at,
                        events: vec![NewEvent::bare(event)],
                    };
                    moved = ledger.append(append).await.unwrap().order().unwrap().moved;
                    times.push(begun.elapsed());
                }
                times
            });
        }
        let times: Vec<Duration> = callers.join_all().await.into_iter().flatten().collect();
        let took = start.elapsed();
        let commits = commits(&paths.ledger) - before;
        (
            per_second(times.len(), took),
            times.len() as f64 / f64::from(commits),
            times,
        )
    });
    ledger.close();
    let stored = stored(&paths.ledger, 0);
    Appends {
        per_second: result.0,
        batch_mean: result.1,
        times: result.2,
        stored,
    }
}

fn main() {
    let rounds = setting("QUITTANCE_BENCH_ROUNDS", 15);
    let length = Duration::from_millis(setting("QUITTANCE_BENCH_MS", 1000).try_into().unwrap());
    let (mut rates, mut ratios, mut times, mut batches) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut flushes = Vec::new();
    for round in 1..=rounds {
        let folder = folder();
        let flush = flush_time(folder.path());
        let ours = appends(folder.path(), length);
        let sqlite = inserts(folder.path(), &ours.stored, whole(ours.batch_mean));
        let ed25519 = signatures(&ours.stored);
        let of_round = ratio(ours.per_second, sqlite.min(ed25519));
        println!(
            "round {round}: appends {:.0}/s in batches of {:.1}, bare SQLite {sqlite:.0}/s, bare Ed25519 {ed25519:.0}/s, \
             flush {flush:?}, ratio {of_round:.3}",
            ours.per_second, ours.batch_mean,
        );
        rates.push(ours.per_second);
        ratios.push(of_round);
        batches.push(ours.batch_mean);
        times.extend(ours.times);
        flushes.push(flush);
    }
    println!(
        "appends: {:.0} events/s (median of {rounds} rounds), {CALLERS} callers, batches of {:.1}, p50 {:?}, p99 {:?}, \
         p99.9 {:?}; disk flush {:?}",
        median(&rates),
        median(&batches),
        quantile(&times, 500),
        quantile(&times, 990),
        quantile(&times, 999),
        quantile(&flushes, 500),
    );
    println!(
        "durable_appends ratio (median of {rounds} rounds): {:.3}",
        median(&ratios)
    );
}
