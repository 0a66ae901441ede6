//! A wallet's refund request, all of it confirmed long ago, against a bare warp handler that parses and answers
//! JSON of the same size: what the service costs on top of HTTP and JSON. Both run in this process on the same
//! runtime, in turns; the load comes from a thread of its own over connections that stay open. Prints figures and
//! judges nothing. How to read it: `docs/performance.md`.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

#[path = "../tests/support/mod.rs"]
mod shop;
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shop::{Shop, coin};
use support::{Load, load, median, post, quantile, ratio, setting};
use warp::Filter;

/// As many as a busy shop's wallets at one moment.
const CONNECTIONS: usize = 32;
/// Orders asked for in turn.
const ORDERS: usize = 64;

#[derive(Deserialize)]
struct Request {
    h_contract: String,
}

/// A refund answer's members.
#[allow(clippy::struct_field_names, reason = "the specification names them so")]
#[derive(Clone, Serialize, Deserialize)]
struct Refunds {
    merchant_pub: String,
    refund_amount: String,
    refunds: Vec<Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    coin_pub: String,
    exchange_pub: String,
    exchange_sig: String,
    exchange_status: u16,
    execution_time: Value,
    refund_amount: String,
    rtransaction_id: u64,
    #[serde(rename = "type")]
    kind: String,
}

fn main() {
    let rounds = setting("QUITTANCE_BENCH_ROUNDS", 15);
    let length = Duration::from_millis(setting("QUITTANCE_BENCH_MS", 1000).try_into().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut shop, requests, body) = runtime.block_on(prepare());
    let bare = runtime.block_on(bare(&body));
    let service = shop.app().addr();

    // A round that does not count: caches, allocator and connections of both.
    for addr in [service, bare] {
        load(addr, &requests, CONNECTIONS, Duration::from_millis(300));
    }
    let (mut ratios, mut ours, mut theirs): (Vec<f64>, Vec<Load>, Vec<Load>) = Default::default();
    for round in 1..=rounds {
        let a = load(service, &requests, CONNECTIONS, length);
        let b = load(bare, &requests, CONNECTIONS, length);
        let of_round = ratio(a.per_second, b.per_second);
        println!(
            "round {round}: service {:.0}/s, bare warp {:.0}/s, ratio {of_round:.3}",
            a.per_second, b.per_second
        );
        ratios.push(of_round);
        ours.push(a);
        theirs.push(b);
    }
    for (name, loads) in [("service", &ours), ("bare warp", &theirs)] {
        let rates: Vec<f64> = loads.iter().map(|load| load.per_second).collect();
        let times: Vec<Duration> = loads.iter().flat_map(|load| load.times.iter().copied()).collect();
        println!(
            "{name}: {:.0} requests/s (median of {rounds} rounds), p50 {:?}, p99 {:?}, p99.9 {:?}, body {} bytes",
            median(&rates),
            quantile(&times, 500),
            quantile(&times, 990),
            quantile(&times, 999),
            loads[0].reply_bytes,
        );
    }
    println!(
        "wallet_refund ratio (median of {rounds} rounds): {:.3}",
        median(&ratios)
    );
    runtime.block_on(shop.stop());
}

/// A shop whose orders are all refunded and fetched, a request for each, and a body as it is served.
async fn prepare() -> (Shop, Vec<Vec<u8>>, Vec<u8>) {
    let shop = Shop::open().await;
    let mut requests = Vec::new();
    let mut body = Vec::new();
    for number in 0..ORDERS {
        let id = format!("order-{number}");
        let hash = shop
            .sell(&id, "KUDOS:10", &[coin(1, "KUDOS:10", "KUDOS:0.01")], true)
            .await;
        shop.approve(&id, "KUDOS:5").await.expect(200);
        let reply = shop.fetch(&id, hash).await;
        assert_eq!(reply.expect(200)["refunds"][0]["type"], "success");
        body = reply.body;
        requests.push(post(
            &format!("/orders/{id}/refund"),
            &format!("{{\"h_contract\":\"{hash}\"}}"),
        ));
    }
    (shop, requests, body)
}

/// The least that a warp service can do with such a request: parse it, and serialise a reply of the same size.
async fn bare(body: &[u8]) -> SocketAddr {
    let reply: Refunds = serde_json::from_slice(body).unwrap();
    assert_eq!(serde_json::to_vec(&reply).unwrap().len(), body.len());
    let reply = Arc::new(reply);
    let route = warp::path!("orders" / String / "refund")
        .and(warp::post())
        .and(warp::body::json())
        .map(move |order: String, request: Request| {
            assert!(!order.is_empty() && request.h_contract.len() == 103);
            warp::reply::json(&*reply)
        });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(route).incoming(listener).run());
    addr
}
