//! Too many connections and requests: those beyond the bound are told so at once, and those within it are served.

use std::time::Duration;

use quittance::admission::Bounds;
use quittance_sandbox::{Fault, FaultKind};
use serde_json::json;

use crate::open;
use crate::support::{Shop, coin};
use crate::wire::{Wire, get, post, post_with};

#[tokio::test]
async fn a_connection_too_many_from_one_address_is_told_at_once_and_others_come_in() {
    let bounds = Bounds {
        connections_per_address: 3,
        ..Bounds::default()
    };
    let mut shop = open(bounds).await;
    let addr = shop.app().addr();
    let mut inside = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::from(2, addr).await;
        assert_eq!(wire.ask(get("config")).await.status, 200);
        inside.push(wire);
    }
    let mut fourth = Wire::from(2, addr).await;
    let answer = fourth.ask(get("config")).await;
    answer.is_overload("too many connections from this address");
    assert_eq!(answer.header("connection"), Some("close"));
    fourth.ends().await;
    // The others are served on, another address is let in, and so is the first as soon as it has let one go.
    assert_eq!(inside[0].ask(get("config")).await.status, 200);
    assert_eq!(Wire::from(3, addr).await.ask(get("config")).await.status, 200);
    drop(inside.pop());
    shop.until("the place is free", async || {
        Wire::from(2, addr).await.ask(get("config")).await.status == 200
    })
    .await;
    shop.stop().await;
}

#[tokio::test]
async fn a_connection_too_many_in_all_is_told_at_once() {
    let bounds = Bounds {
        connections: 4,
        ..Bounds::default()
    };
    let mut shop = open(bounds).await;
    let addr = shop.app().addr();
    let mut inside = Vec::new();
    for host in 1..=4 {
        let mut wire = Wire::from(host, addr).await;
        assert_eq!(wire.ask(get("config")).await.status, 200);
        inside.push(wire);
    }
    let mut more = Wire::from(9, addr).await;
    more.ask(get("config")).await.is_overload("too many connections");
    more.ends().await;
    drop(inside);
    shop.until("places are free", async || {
        Wire::from(9, addr).await.ask(get("config")).await.status == 200
    })
    .await;
    shop.stop().await;
}

#[tokio::test]
async fn one_who_is_turned_away_in_silence_is_told_and_cut_off() {
    let bounds = Bounds {
        connections: 0,
        linger_time: Duration::from_millis(50),
        ..Bounds::default()
    };
    let mut shop = open(bounds).await;
    let mut silent = Wire::to(&shop).await;
    silent.answer().await.is_overload("too many connections");
    silent.ends().await;
    shop.stop().await;
}

#[tokio::test]
async fn more_than_can_be_told_are_closed_without_a_word() {
    let bounds = Bounds {
        connections: 0,
        turned_away: 0,
        ..Bounds::default()
    };
    let mut shop = open(bounds).await;
    Wire::to(&shop).await.ends().await;
    shop.stop().await;
}

/// An order whose refund the exchange tells late, and how a wallet asks for it.
async fn slow_refund(shop: &Shop, id: &str, number: u8) -> String {
    let coins = [coin(number, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell(id, "KUDOS:4", &coins, true).await;
    shop.approve(id, "KUDOS:1").await.expect(200);
    shop.sandbox
        .fault(Fault {
            coin_pub: Some(coins[0].coin_pub),
            delay: Duration::from_millis(1500),
            ..Fault::new(FaultKind::Delay)
        })
        .unwrap();
    post(
        &format!("orders/{id}/refund"),
        &json!({ "h_contract": hash }).to_string(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_wallets_are_bounded_and_keep_neither_the_shop_nor_a_monitor_out() {
    let bounds = Bounds {
        requests: 1,
        private_requests: 1,
        ..Bounds::default()
    };
    let mut shop = open(bounds).await;
    let request = slow_refund(&shop, "slow", 1).await;
    let mut first = Wire::to(&shop).await;
    first.say(&request).await;
    shop.until("the exchange is asked", async || shop.asked() == 1)
        .await;
    let mut second = Wire::to(&shop).await;
    second
        .ask(get("config"))
        .await
        .is_overload("too many requests are under way");
    assert_eq!(second.ask(get("health")).await.status, 200);
    let token = format!("authorization: Bearer {}\r\n", shop.token);
    let approval = json!({ "refund": "KUDOS:2", "reason": "more" }).to_string();
    let approved = second
        .ask(post_with("private/orders/slow/refund", &token, &approval))
        .await;
    assert_eq!(approved.status, 200, "{approved:?}");
    assert_eq!(first.answer().await.status, 200);
    // The connection that was refused once stays, and is served now.
    assert_eq!(second.ask(get("config")).await.status, 200);
    shop.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_still_counts_for_as_long_as_his_request_is_worked_on() {
    let bounds = Bounds {
        requests_per_address: 1,
        ..Bounds::default()
    };
    let mut shop = open(bounds).await;
    let request = slow_refund(&shop, "slow", 1).await;
    let addr = shop.app().addr();
    let mut first = Wire::from(2, addr).await;
    first.say(&request).await;
    shop.until("the exchange is asked", async || shop.asked() == 1)
        .await;
    drop(first);
    let mut again = Wire::from(2, addr).await;
    again
        .ask(get("config"))
        .await
        .is_overload("too many requests of this address are under way");
    assert_eq!(Wire::from(3, addr).await.ask(get("config")).await.status, 200);
    shop.until("the call is over", async || {
        again.ask(get("config")).await.status == 200
    })
    .await;
    shop.audit().await;
}

#[tokio::test]
async fn long_bodies_are_bounded_and_short_ones_pass() {
    let bounds = Bounds {
        small_body: 1000,
        large_bodies: 1,
        ..Bounds::default()
    };
    let mut shop = open(bounds).await;
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(2000));
    let request = post("orders/none/refund", &long);
    let mut first = Wire::to(&shop).await;
    first.say(&request[..request.len() - 1]).await;
    shop.until("the first has its place", async || {
        let answer = Wire::to(&shop).await.ask(&request).await;
        answer.status == 503 && answer.json()["detail"] == "too many long requests are under way"
    })
    .await;
    let short = post("orders/none/refund", "{}");
    assert_eq!(Wire::to(&shop).await.ask(&short).await.status, 400);
    let token = format!("authorization: Bearer {}\r\n", shop.token);
    let private = post_with("private/ledger/orders", &token, &long);
    assert_eq!(Wire::to(&shop).await.ask(&private).await.status, 400);
    first.say(&request[request.len() - 1..]).await;
    assert_eq!(first.answer().await.status, 400);
    assert_eq!(Wire::to(&shop).await.ask(&request).await.status, 400);
    shop.stop().await;
}
