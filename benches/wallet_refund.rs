//! A wallet's refund request, all of it confirmed long ago, against a bare warp handler that parses and answers
//! JSON of the same size: what the service costs on top of HTTP and JSON. Beside it a second service, which serves
//! metrics and is scraped once a second: what it costs to be watched. All run in this process on the same
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
use shop::{Options, Shop, coin};
use support::{Load, load, median, post, quantile, ratio, setting};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
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
    if setting("QUITTANCE_BENCH_LOG", 0) != 0 {
        // Lines as `serve` has them by default, but for where they go.
        tracing_subscriber::fmt()
            .with_env_filter("info")
            .with_writer(std::io::sink)
            .init();
    }
    let (mut shop, requests, body) = runtime.block_on(prepare(Options::default()));
    let (mut watched, watched_requests, _) = runtime.block_on(prepare(Options {
        more_config: "[quittance]\nMETRICS_BIND = 127.0.0.1:0\n".into(),
        ..Options::default()
    }));
    let bare = runtime.block_on(bare(&body));
    let service = shop.app().addr();
    let scraped = watched.app().addr();
    let scraping = runtime.spawn(scrape(watched.app().metrics_addr().unwrap()));

    // A round that does not count: caches, allocator and connections of all.
    for (addr, requests) in [
        (service, &requests),
        (scraped, &watched_requests),
        (bare, &requests),
    ] {
        load(addr, requests, CONNECTIONS, Duration::from_millis(300));
    }
    let (mut ratios, mut watched_ratios): (Vec<f64>, Vec<f64>) = Default::default();
    let (mut ours, mut seen, mut theirs): (Vec<Load>, Vec<Load>, Vec<Load>) = Default::default();
    for round in 1..=rounds {
        let a = load(service, &requests, CONNECTIONS, length);
        let w = load(scraped, &watched_requests, CONNECTIONS, length);
        let b = load(bare, &requests, CONNECTIONS, length);
        let of_round = ratio(a.per_second, b.per_second);
        let watched_of_round = ratio(w.per_second, a.per_second);
        println!(
            "round {round}: service {:.0}/s, bare warp {:.0}/s, ratio {of_round:.3}; watched {:.0}/s, ratio to \
             unwatched {watched_of_round:.3}",
            a.per_second, b.per_second, w.per_second
        );
        ratios.push(of_round);
        watched_ratios.push(watched_of_round);
        ours.push(a);
        seen.push(w);
        theirs.push(b);
    }
    scraping.abort();
    for (name, loads) in [
        ("service", &ours),
        ("watched service", &seen),
        ("bare warp", &theirs),
    ] {
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
    println!(
        "watched against unwatched (median of {rounds} rounds): {:.3}",
        median(&watched_ratios)
    );
    runtime.block_on(async {
        shop.stop().await;
        watched.stop().await;
    });
}

/// Fetches the metrics once a second, as an eager Prometheus would.
async fn scrape(addr: SocketAddr) {
    loop {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nhost: metrics\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        assert!(reply.ends_with("# EOF\n"), "{reply}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A shop whose orders are all refunded and fetched, a request for each, and a body as it is served.
async fn prepare(options: Options) -> (Shop, Vec<Vec<u8>>, Vec<u8>) {
    let shop = Shop::open_with(options).await;
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
