//! Behind a reverse proxy: whose address counts, and that nobody chooses it who is not trusted.

use std::time::Duration;

use quittance::admission::Bounds;
use serde_json::json;

use crate::open_trusting;
use crate::support::{Shop, coin};
use crate::wire::{Wire, get_with, post_with};

fn from(addresses: &str) -> String {
    format!("x-forwarded-for: {addresses}\r\n")
}

/// A shop where the client behind these lines has a request under way, sent through `host`; one is all that an address may have.
async fn busy(trusted: &'static str, host: u8, lines: &str) -> (Shop, Wire) {
    let bounds = Bounds {
        requests_per_address: 1,
        connections_per_address: 2,
        body_time: Duration::from_mins(10),
        ..Bounds::default()
    };
    let shop = open_trusting(bounds, trusted).await;
    // The shop's own helpers ask from 127.0.0.1, one after the other.
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    shop.sell("sold", "KUDOS:4", &coins, true).await;
    let mut wire = Wire::from(host, shop.app().addr()).await;
    let request = post_with(
        "orders/sold/refund",
        lines,
        &json!({ "h_contract": "" }).to_string(),
    );
    wire.say(&request[..request.len() - 1]).await;
    (shop, wire)
}

async fn status(shop: &Shop, host: u8, lines: &str) -> u16 {
    let mut wire = Wire::from(host, shop.app().addr()).await;
    wire.ask(get_with("config", lines)).await.status
}

/// The request under way has been taken up: the same client is refused.
async fn is_counted(shop: &Shop, host: u8, lines: &str) {
    shop.until("the request is counted", async || {
        status(shop, host, lines).await == 503
    })
    .await;
}

#[tokio::test]
async fn a_trusted_proxys_word_on_the_client_counts_and_its_connections_do_not() {
    let client = from("198.51.100.7");
    let (mut shop, wire) = busy("127.0.0.2 127.0.0.3", 2, &client).await;
    is_counted(&shop, 2, &client).await;
    // Through the other proxy, too, and behind it.
    assert_eq!(status(&shop, 3, &client).await, 503);
    assert_eq!(
        status(&shop, 2, &from("203.0.113.1, 198.51.100.7, 127.0.0.3")).await,
        503
    );
    assert_eq!(
        status(&shop, 2, &(from("198.51.100.7") + &from("127.0.0.3"))).await,
        503
    );
    // What the client itself put before does not count.
    assert_eq!(status(&shop, 2, &from("198.51.100.7, 203.0.113.1")).await, 200);
    // Another client, and the proxy itself. It has more connections open than an address may have.
    let mut open = Vec::new();
    for number in 0..5 {
        let mut wire = Wire::from(2, shop.app().addr()).await;
        let client = from(&format!("203.0.113.{number}"));
        assert_eq!(wire.ask(get_with("config", &client)).await.status, 200);
        assert_eq!(wire.ask(get_with("config", "")).await.status, 200);
        open.push(wire);
    }
    drop(wire);
    shop.stop().await;
}

#[tokio::test]
async fn the_word_of_one_who_is_not_trusted_counts_for_nothing() {
    let (mut shop, wire) = busy("127.0.0.3", 2, &from("198.51.100.7")).await;
    is_counted(&shop, 2, &from("203.0.113.9")).await;
    assert_eq!(status(&shop, 4, &from("198.51.100.7")).await, 200);
    assert_eq!(status(&shop, 3, &from("198.51.100.7")).await, 200);
    drop(wire);
    shop.stop().await;
}

#[tokio::test]
async fn ipv6_clients_count_by_their_network() {
    let (mut shop, wire) = busy("127.0.0.0/8", 2, &from("2001:db8:1:2::7")).await;
    is_counted(&shop, 2, &from("2001:db8:1:2:ffff::1")).await;
    assert_eq!(status(&shop, 2, &from("2001:db8:1:3::7")).await, 200);
    drop(wire);
    shop.stop().await;
}

#[tokio::test]
async fn a_word_that_is_no_address_counts_for_who_handed_it_on() {
    let (mut shop, wire) = busy("127.0.0.0/8", 2, &from("unknown")).await;
    is_counted(&shop, 2, &from("nonsense")).await;
    assert_eq!(status(&shop, 4, &from("unknown")).await, 200);
    drop(wire);
    shop.stop().await;
}

#[tokio::test]
async fn no_header_makes_an_address_of_the_service() {
    let mut shop = open_trusting(Bounds::default(), "127.0.0.0/8").await;
    let hash = shop.record_order(&shop.terms("open", "KUDOS:4", 600, 1200)).await;
    let lines = "x-forwarded-for: 198.51.100.7\r\nx-forwarded-host: evil.example\r\nx-forwarded-proto: http\r\n\
                 x-forwarded-prefix: /evil\r\nforwarded: host=evil.example;proto=http\r\n";
    let request =
        get_with(&format!("orders/open?h_contract={hash}"), lines).replace("shop.example", "evil.example");
    let answer = Wire::to(&shop).await.ask(request).await;
    assert_eq!(answer.status, 402);
    let uri = answer.json()["taler_pay_uri"].as_str().unwrap().to_owned();
    assert!(uri.starts_with("taler://pay/shop.example/"), "{uri}");
    assert!(!format!("{answer:?}").contains("evil"));
    shop.stop().await;
}
