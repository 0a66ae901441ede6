//! A shop at work: orders that wallets have claimed are paid with two coins each; some are refunded after that, of
//! some one coin turns out to be spent and what was deposited is aborted. Service, exchange and wallets share this
//! process. The yardstick is what the ledger alone cannot do without: bare Ed25519 signatures and bare SQLite commits
//! of the same events, the slower of the two. Prints figures and judges nothing. How to read it:
//! `docs/performance.md`.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

#[path = "../tests/support/mod.rs"]
mod shop;
mod support;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use quittance_sandbox::{Deposit, Payment};
use quittance_taler::EddsaPrivateKey;
use serde_json::{Value, json};
use shop::Shop;
use support::{
    commits, flush_time, inserts, median, per_second, quantile, ratio, setting, signatures, stored, whole,
};

/// As many wallets at one moment.
const WALLETS: usize = 32;
/// Orders of a round: 2 of 6 are refunded, 1 is aborted.
const ORDERS: usize = 480;

/// How an order ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Paid,
    Refunded,
    Aborted,
}

struct Sale {
    id: String,
    fate: Fate,
    payment: Payment,
}

/// Sends requests over connections that stay open.
#[derive(Clone)]
struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    addr: SocketAddr,
    token: String,
}

impl Http {
    async fn post(&self, path: &str, body: &Value, status: u16) -> Value {
        let request = hyper::Request::post(format!("http://{}/{path}", self.addr))
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let reply = self.client.request(request).await.unwrap();
        let answered = reply.status().as_u16();
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(answered, status, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }
}

/// Makes an order, claims it, and picks the coins; none of it is timed.
async fn offer(http: &Http, shop: &Shop, round: usize, number: usize) -> Sale {
    let id = format!("order-{round}-{number}");
    let order = json!({ "order_id": id, "amount": "KUDOS:5", "summary": "boots", "max_fee": "KUDOS:1",
                        "fulfillment_message": "thank you" });
    let request =
        json!({ "order": order, "refund_delay": {"d_us": 86_400_000_000_u64}, "create_token": false });
    http.post("private/orders", &request, 200).await;
    let mut nonce = [1; 32];
    nonce[..8].copy_from_slice(&round.to_be_bytes());
    nonce[8..16].copy_from_slice(&number.to_be_bytes());
    let nonce = EddsaPrivateKey::from_bytes(nonce).merchant_pub();
    let claimed = http
        .post(&format!("orders/{id}/claim"), &json!({ "nonce": nonce }), 200)
        .await;
    let mut purse = shop.sandbox.withdraw("KUDOS:5".parse().unwrap()).unwrap();
    let payment = purse.pay(&claimed["contract_terms"]).unwrap();
    let fate = match number % 6 {
        0 => Fate::Aborted,
        1 | 3 => Fate::Refunded,
        _ => Fate::Paid,
    };
    if fate == Fate::Aborted {
        // Spent at another shop, all of it.
        let coin = &payment.coins[1].coin;
        shop.sandbox
            .deposit(Deposit {
                coin_pub: coin.coin_pub,
                h_contract: quittance_taler::HashCode::from_bytes([9; 64]),
                merchant_pub: EddsaPrivateKey::from_bytes([9; 32]).merchant_pub(),
                amount_with_fee: coin.value,
                deposit_fee: coin.deposit_fee,
                refund_fee: coin.refund_fee,
                refund_deadline: None,
            })
            .unwrap();
    }
    Sale { id, fate, payment }
}

/// How long the requests of each kind took.
#[derive(Default)]
struct Times {
    pay: Vec<Duration>,
    refused: Vec<Duration>,
    abort: Vec<Duration>,
    approve: Vec<Duration>,
    refund: Vec<Duration>,
}

impl Times {
    fn extend(&mut self, other: Times) {
        self.pay.extend(other.pay);
        self.refused.extend(other.refused);
        self.abort.extend(other.abort);
        self.approve.extend(other.approve);
        self.refund.extend(other.refund);
    }
}

async fn timed(http: &Http, path: &str, body: &Value, status: u16, times: &mut Vec<Duration>) -> Value {
    let start = Instant::now();
    let reply = http.post(path, body, status).await;
    times.push(start.elapsed());
    reply
}

async fn wallet(http: Http, sales: Arc<Mutex<VecDeque<Sale>>>) -> Times {
    let mut times = Times::default();
    loop {
        let Some(sale) = sales.lock().unwrap().pop_front() else {
            return times;
        };
        let of = |what: &str| format!("orders/{}/{what}", sale.id);
        let pay = sale.payment.pay_request("");
        if sale.fate == Fate::Aborted {
            let refused = timed(&http, &of("pay"), &pay, 409, &mut times.refused).await;
            assert_eq!(refused["code"], 2150);
            let abort = sale.payment.abort_request();
            timed(&http, &of("abort"), &abort, 200, &mut times.abort).await;
            continue;
        }
        timed(&http, &of("pay"), &pay, 200, &mut times.pay).await;
        if sale.fate == Fate::Refunded {
            let approval = json!({ "refund": "KUDOS:2", "reason": "returned" });
            let path = format!("private/{}", of("refund"));
            timed(&http, &path, &approval, 200, &mut times.approve).await;
            let ask = json!({ "h_contract": sale.payment.terms.h_contract });
            let reply = timed(&http, &of("refund"), &ask, 200, &mut times.refund).await;
            assert_eq!(reply["refunds"][0]["type"], "success");
        }
    }
}

#[allow(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "figures for people"
)]
fn mean(events: usize, commits: u32) -> f64 {
    events as f64 / f64::from(commits)
}

fn main() {
    let rounds = setting("QUITTANCE_BENCH_ROUNDS", 15);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut shop = runtime.block_on(Shop::open());
    let http = Http {
        client: Client::builder(TokioExecutor::new()).build_http(),
        addr: shop.app().addr(),
        token: shop.token.clone(),
    };
    let account = json!({ "payto_uri": "payto://iban/DE75512108001245126199?receiver-name=Shop" });
    runtime.block_on(http.post("private/accounts", &account, 200));
    let (mut sales_rates, mut event_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut times = Times::default();
    for round in 1..=rounds {
        let flush = flush_time(shop.folder.path());
        let mut offers = VecDeque::new();
        for number in 0..ORDERS {
            offers.push_back(runtime.block_on(offer(&http, &shop, round, number)));
        }
        let offers = Arc::new(Mutex::new(offers));
        let ledger = shop.config.ledger.clone();
        let before = (stored(&ledger, 0).len(), commits(&ledger));
        let start = Instant::now();
        let of_round = runtime.block_on(async {
            let mut wallets = tokio::task::JoinSet::new();
            for _ in 0..WALLETS {
                wallets.spawn(wallet(http.clone(), Arc::clone(&offers)));
            }
            wallets.join_all().await
        });
        let took = start.elapsed();
        let commits = commits(&ledger) - before.1;
        for of_wallet in of_round {
            times.extend(of_wallet);
        }
        let events = stored(&ledger, before.0);
        let batch = mean(events.len(), commits);
        let scratch = tempfile::TempDir::new_in(shop.folder.path()).unwrap();
        let sqlite = inserts(scratch.path(), &events, whole(batch));
        let ed25519 = signatures(&events);
        let (sales, rate) = (per_second(ORDERS, took), per_second(events.len(), took));
        let of_round = ratio(rate, sqlite.min(ed25519));
        println!(
            "round {round}: {sales:.0} orders/s, {rate:.0} events/s in batches of {batch:.1}, bare SQLite {sqlite:.0}/s, \
             bare Ed25519 {ed25519:.0}/s, flush {flush:?}, ratio {of_round:.3}"
        );
        sales_rates.push(sales);
        event_rates.push(rate);
        ratios.push(of_round);
    }
    for (name, times) in [
        ("pay", &times.pay),
        ("pay, refused for a spent coin", &times.refused),
        ("abort", &times.abort),
        ("approval", &times.approve),
        ("refund", &times.refund),
    ] {
        println!(
            "{name}: {} requests, p50 {:?}, p99 {:?}, p99.9 {:?}",
            times.len(),
            quantile(times, 500),
            quantile(times, 990),
            quantile(times, 999)
        );
    }
    println!(
        "selling: {:.0} orders/s, {:.0} events/s (medians of {rounds} rounds), {WALLETS} wallets",
        median(&sales_rates),
        median(&event_rates)
    );
    println!(
        "selling ratio (median of {rounds} rounds): {:.3}",
        median(&ratios)
    );
    runtime.block_on(shop.audit());
}
