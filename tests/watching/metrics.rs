//! Metrics move as they should, are bounded, name nobody, and are served to few.

use std::sync::Arc;

use quittance::admission::Bounds;
use quittance::limits::CIRCUIT_FAILURES;
use quittance_events::facts::KeyRole;
use quittance_events::ledger::vkey;
use quittance_sandbox::witness::{Witness, WitnessFault};
use quittance_sandbox::{Fault, FaultKind, FaultPath};
use serde_json::json;
use tokio::net::TcpStream;

use crate::scraped::{Scraped, raw, watched};
use crate::support::{NOON_S, Options, Shop, TestClock, coin, key_text};

fn always(kind: FaultKind) -> Fault {
    Fault {
        times: 40,
        ..Fault::new(kind)
    }
}

#[tokio::test]
async fn requests_commits_and_exchange_calls_are_counted_as_they_happen() {
    let mut shop = Shop::open_with(watched()).await;
    let url = shop.sandbox.base_url();
    let at = |outcome| [("exchange", url.as_str()), ("outcome", outcome)];
    let before = Scraped::of(&shop).await;
    assert_eq!(before.get("requests_total", &[]), 0);
    let told = before.get("ledger_events", &[]);

    let a = coin(1, "KUDOS:10", "KUDOS:0.2");
    let hash = shop
        .sell("order-1", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    shop.approve("order-1", "KUDOS:4").await.expect(200);
    shop.fetch("order-1", hash).await.expect(200);
    shop.fetch("order-1", hash).await.expect(200);
    shop.approve("order-1", "KUDOS:99").await.expect(409);
    let wrong = shop.send("POST", "private/ledger/orders", Some("secret-token:no"), vec![]);
    assert_eq!(wrong.await.error(), (401, 41));
    assert_eq!(shop.get("no/such/path").await.error(), (404, 21));
    shop.send("BREW", "config", None, vec![]).await;

    let after = Scraped::of(&shop).await;
    let requests = |endpoint, status, code| {
        let labels = [("endpoint", endpoint), ("status", status), ("code", code)];
        after.get("requests_total", &labels)
    };
    assert_eq!(requests("record_order", "200", "0"), 1);
    assert_eq!(requests("record_deposits", "200", "0"), 1);
    assert_eq!(requests("approve", "200", "0"), 1);
    assert_eq!(requests("approve", "409", "2530"), 1);
    assert_eq!(requests("refund", "200", "0"), 2);
    assert_eq!(requests("record_order", "401", "41"), 1);
    assert_eq!(requests("none", "404", "21"), 1);
    assert_eq!(requests("config", "405", "20"), 1);
    assert_eq!(after.get("requests_total", &[]), 9);
    let times = after.get("request_seconds_count", &[("endpoint", "refund")]);
    assert_eq!(times, 2);
    assert_eq!(
        after.get(
            "request_seconds_bucket",
            &[("endpoint", "refund"), ("le", "+Inf")]
        ),
        2
    );

    assert_eq!(after.get("exchange_calls_total", &at("2xx")), 1);
    assert_eq!(after.get("exchange_verdicts_total", &at("confirmed")), 1);
    assert_eq!(after.get("exchange_keys_fetches_total", &at("recorded")), 1);
    assert_eq!(after.get("exchange_call_seconds_count", &[("exchange", &url)]), 1);

    let commits = after.get("commit_events_count", &[]);
    let written = after.get("commit_events_sum", &[]);
    assert!((1..=written).contains(&commits), "{}", after.text);
    assert_eq!(after.get("commit_seconds_count", &[]), commits);
    assert!(!after.seconds("commit_seconds_sum").is_zero());
    assert_eq!(after.get("commit_failures_total", &[]), 0);

    shop.until("a checkpoint of all of it, and the anchor", async || {
        let now = Scraped::of(&shop).await;
        let events = now.get("ledger_events", &[]);
        // The delivery of the refund's answer was recorded in its own time.
        events == told + now.get("commit_events_sum", &[])
            && now.get("appends_waiting", &[]) == 0
            && events == now.get("checkpoint_events", &[])
            && events == now.get("anchor_events", &[])
            && now.seconds("anchor_behind_seconds").is_zero()
    })
    .await;
    shop.audit().await;
}

#[tokio::test]
async fn an_open_refund_is_seen_growing_old_until_its_exchange_decides() {
    let mut shop = Shop::open_with(watched()).await;
    let url = shop.sandbox.base_url();
    let open = |now: &Scraped, age| now.get("open_refunds", &[("exchange", url.as_str()), ("age", age)]);
    let oldest = |now: &Scraped| now.get("open_refund_oldest_seconds", &[("exchange", url.as_str())]);
    let down = FaultKind::Status {
        status: 503,
        code: 60,
    };
    shop.sandbox.fault(always(down)).unwrap();
    let (a, b) = (coin(1, "KUDOS:10", "KUDOS:0.2"), coin(2, "KUDOS:5", "KUDOS:0.1"));
    let hash = shop
        .sell("refunded", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    shop.approve("refunded", "KUDOS:4").await.expect(200);
    // Approved is not asked for: a wallet may never come.
    assert_eq!(Scraped::of(&shop).await.get("open_refunds", &[]), 0);
    shop.fetch("refunded", hash).await.expect(200);
    let now = Scraped::of(&shop).await;
    assert_eq!((open(&now, "under_1m"), now.get("open_refunds", &[])), (1, 1));
    assert_eq!(
        now.get("exchange_calls_total", &[("exchange", &url), ("outcome", "5xx")]),
        1
    );
    assert_eq!(now.get("exchange_verdicts_total", &[("outcome", "later")]), 1);

    // An abort's refund counts the same, and each has an age of its own.
    shop.clock.advance_s(300);
    let aborted = shop
        .sell("aborted", "KUDOS:9", std::slice::from_ref(&b), false)
        .await;
    shop.abort("aborted", aborted, std::slice::from_ref(&b)).await;
    let now = Scraped::of(&shop).await;
    assert_eq!((open(&now, "under_1m"), open(&now, "under_10m")), (1, 1));
    assert_eq!(oldest(&now), 300);
    shop.clock.advance_s(2 * 3600);
    let now = Scraped::of(&shop).await;
    assert_eq!((open(&now, "under_1d"), now.get("open_refunds", &[])), (2, 2));

    // A restart forgets neither the exchange nor the age, though nobody asks for these orders.
    shop.stop().await;
    shop.start().await;
    shop.until("the open refunds, known again", async || {
        open(&Scraped::of(&shop).await, "under_1d") == 2
    })
    .await;
    assert_eq!(oldest(&Scraped::of(&shop).await), 7500);
    shop.clock.advance_s(86_400);
    assert_eq!(open(&Scraped::of(&shop).await, "1d_and_more"), 2);

    // The exchange is well again once it has failed as often as it was told to.
    let mut now = Scraped::of(&shop).await;
    for _ in 0..200 {
        if now.get("open_refunds", &[]) == 0 {
            break;
        }
        shop.clock.advance_s(3600);
        shop.abort("aborted", aborted, std::slice::from_ref(&b)).await;
        shop.fetch("refunded", hash).await;
        now = Scraped::of(&shop).await;
    }
    assert_eq!((now.get("open_refunds", &[]), oldest(&now)), (0, 0));
    shop.audit().await;
}

#[tokio::test]
async fn what_goes_wrong_shows() {
    let shop = Shop::open_with(watched()).await;
    let url = shop.sandbox.base_url();
    for (kind, outcome) in [(FaultKind::Garbage, "unusable"), (FaultKind::Reset, "unreached")] {
        let fault = Fault {
            path: FaultPath::Keys,
            ..Fault::new(kind)
        };
        shop.sandbox.fault(fault).unwrap();
        let id = format!("order-{outcome}");
        let hash = shop
            .sell(&id, "KUDOS:10", &[coin(1, "KUDOS:10", "KUDOS:0.2")], true)
            .await;
        shop.approve(&id, "KUDOS:4").await.expect(200);
        shop.clock.advance_s(10);
        shop.fetch(&id, hash).await.expect(200);
        let labels = [("exchange", url.as_str()), ("outcome", outcome)];
        let now = Scraped::of(&shop).await;
        assert_eq!(now.get("exchange_keys_fetches_total", &labels), 1);
    }

    // The anchor is somebody else's from here on, so it is not moved.
    std::fs::write(&shop.config.anchor, "another\n").unwrap();
    shop.sell("late", "KUDOS:1", &[], false).await;
    shop.until("the failure at the anchor", async || {
        Scraped::of(&shop).await.get("anchor_failures_total", &[]) > 0
    })
    .await;
    let now = Scraped::of(&shop).await;
    assert!(now.get("anchor_events", &[]) < now.get("checkpoint_events", &[]));
    assert!(!now.seconds("anchor_behind_seconds").is_zero());
    assert_eq!(now.get("trouble", &[("reason", "anchor_not_moved")]), 1);
    assert_eq!(now.get("trouble", &[]), 1);

    shop.clock.set_s(NOON_S - 3600);
    let terms = shop.terms("early", "KUDOS:1", 86_400, 172_800);
    let reply = shop
        .post_private("private/ledger/orders", &json!({ "contract_terms": terms }))
        .await;
    assert_eq!(reply.error(), (500, 52));
    let now = Scraped::of(&shop).await;
    assert_eq!(now.get("appends_refused_total", &[("reason", "clock_behind")]), 1);
    let failed = [("endpoint", "record_order"), ("status", "500"), ("code", "52")];
    assert_eq!(now.get("requests_total", &failed), 1);
}

#[tokio::test]
async fn the_door_the_disk_and_an_exchange_that_is_down_show() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    let master = coin(77, "KUDOS:1", "KUDOS:0").coin_pub.to_string();
    let mut shop = Shop::open_with(Options {
        bounds: Bounds {
            connections: 2,
            ..Bounds::default()
        },
        trusted_proxies: Some("none"),
        exchange: Some(("https://down.example/".into(), master.clone(), nobody)),
        ..watched()
    })
    .await;
    let others = [("from", "others")];
    shop.get("config").await;
    assert_eq!(Scraped::of(&shop).await.get("connections", &others), 1);
    let second = TcpStream::connect(shop.app().addr()).await.unwrap();
    let third = TcpStream::connect(shop.app().addr()).await.unwrap();
    shop.until("somebody turned away", async || {
        Scraped::of(&shop)
            .await
            .get("turned_away_total", &[("reason", "connections")])
            == 1
    })
    .await;
    assert_eq!(Scraped::of(&shop).await.get("connections", &others), 2);
    drop((second, third));

    let held_back = [("exchange", "https://down.example/")];
    assert!(Scraped::of(&shop).await.has("exchange_held_back", &held_back));
    assert_eq!(Scraped::of(&shop).await.get("exchange_held_back", &held_back), 0);
    let exchanges = Arc::clone(&shop.app().service.exchanges);
    for _ in 0..CIRCUIT_FAILURES {
        shop.clock.advance_s(10);
        assert!(exchanges.ready(master.parse().unwrap()).await.is_err());
    }
    let now = Scraped::of(&shop).await;
    assert_eq!(now.get("exchange_held_back", &held_back), 1);
    let fetches = [held_back[0], ("outcome", "unreached")];
    assert_eq!(
        now.get("exchange_keys_fetches_total", &fetches),
        u64::from(CIRCUIT_FAILURES)
    );

    assert_eq!((now.get("disk_low", &[]), now.get("trouble", &[])), (0, 0));
    shop.app().service.disk.measure_by(Arc::new(|| Ok(1)));
    assert_eq!(Scraped::of(&shop).await.get("disk_low", &[]), 1);
    shop.stop().await;
}

#[tokio::test]
async fn a_witness_is_seen_cosigning_failing_and_contradicting() {
    let witness = Witness::start(1, TestClock::at_s(NOON_S).clock()).await.unwrap();
    let section = format!(
        "[quittance-witness-1]\nURL = {}\nVKEY = {}\n",
        witness.url(),
        witness.vkey()
    );
    let options = watched();
    let mut shop = Shop::open_with(Options {
        more_config: section + &options.more_config,
        ..options
    })
    .await;
    let by = [("witness", "quittance-witness-1")];
    let asked = |now: &Scraped, outcome| {
        let labels = [by[0], ("outcome", outcome)];
        now.get("witness_requests_total", &labels)
    };
    // It does not know the log yet.
    shop.until("a failure", async || {
        Scraped::of(&shop).await.get("witness_failures", &by) > 0
    })
    .await;
    let now = Scraped::of(&shop).await;
    assert!(asked(&now, "failed") > 0);
    assert!(!now.has("witness_cosigned_age_seconds", &by));
    let book = shop.app().service.ledger.book();
    let key = book.keys.now(KeyRole::Checkpoint).unwrap().key;
    witness.know(vkey("shop.example/test", &key).unwrap());
    shop.until("a cosignature of all", async || {
        let now = Scraped::of(&shop).await;
        now.get("witness_cosigned_events", &by) == now.get("ledger_events", &[])
            && now.get("witness_failures", &by) == 0
    })
    .await;
    let now = Scraped::of(&shop).await;
    assert!(asked(&now, "cosigned") > 0 && now.has("witness_cosigned_age_seconds", &by));
    witness.fault(WitnessFault::Down);
    shop.sell("more", "KUDOS:1", &[], false).await;
    shop.until("another failure", async || {
        Scraped::of(&shop).await.get("witness_failures", &by) > 0
    })
    .await;
    shop.audit().await;
}

#[tokio::test]
async fn no_metric_names_an_order_a_coin_or_anything_that_a_request_brought() {
    let mut shop = Shop::open_with(Options {
        merchant_key: Some(key_text([5; 32])),
        ..watched()
    })
    .await;
    let a = coin(1, "KUDOS:10", "KUDOS:0.2");
    let hash = shop
        .sell("telltale", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    shop.approve("telltale", "KUDOS:4").await.expect(200);
    shop.fetch("telltale", hash).await.expect(200);
    shop.get("orders/telltale").await;
    shop.get("orders/telltale-no").await;
    shop.get("telltale").await;
    shop.get("instances/telltale/config").await;
    shop.send("TELLTALE", "config", Some("secret-token:telltale"), vec![])
        .await;
    let before = Scraped::of(&shop).await;
    for number in 0..200 {
        shop.get(&format!("telltale/{number}")).await;
        shop.get(&format!("orders/telltale-{number}")).await;
        shop.get(&format!("instances/telltale-{number}/config")).await;
    }
    let after = Scraped::of(&shop).await;
    assert_eq!(
        after.get("requests_total", &[]) - before.get("requests_total", &[]),
        600
    );
    assert_eq!(after.len(), before.len());
    let (coin, hash, merchant) = (
        a.coin_pub.to_string(),
        hash.to_string(),
        shop.merchant_pub.to_string(),
    );
    for secret in ["telltale", "TELLTALE", &coin, &hash, &shop.token, &merchant] {
        assert!(!after.text.contains(secret), "{secret}");
    }
    shop.audit().await;
}

#[tokio::test]
async fn metrics_are_served_at_their_own_address_only_and_to_a_few_at_once() {
    let mut shop = Shop::open_with(watched()).await;
    let addr = shop.app().metrics_addr().unwrap();
    assert_ne!(addr, shop.app().addr());
    assert_eq!(shop.get("metrics").await.error(), (404, 21));
    let (head, body) = raw(addr, "GET /metrics HTTP/1.1\r\nhost: m\r\n\r\n").await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(body.contains("\nquittance_build_info{version=\""));
    for (request, status) in [
        ("GET /config HTTP/1.1", "404"),
        ("POST /metrics HTTP/1.1", "405"),
        ("GET / HTTP/1.1", "404"),
    ] {
        let (head, _) = raw(addr, &format!("{request}\r\nhost: m\r\n\r\n")).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }

    // Whoever says nothing takes one of four places; a fifth is turned away, and wallets do not notice.
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    let mut fifth = TcpStream::connect(addr).await.unwrap();
    let mut nothing = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut fifth, &mut nothing).await;
    assert!(ended.is_err() || nothing.is_empty());
    assert_eq!(shop.get("config").await.status, 200);
    drop(silent);
    shop.until("a free place", async || {
        let Ok(mut stream) = TcpStream::connect(addr).await else {
            return false;
        };
        let request = b"GET /metrics HTTP/1.1\r\nhost: m\r\n\r\n";
        let mut reply = Vec::new();
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, request).await;
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut reply).await;
        reply.starts_with(b"HTTP/1.1 200 ")
    })
    .await;
    shop.stop().await;
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn without_an_address_nothing_is_served() {
    let mut shop = Shop::open().await;
    assert_eq!(shop.app().metrics_addr(), None);
    shop.get("config").await;
    let text = shop.app().service.metrics_text();
    assert!(!text.contains("quittance_requests_total{"));
    shop.stop().await;
}
