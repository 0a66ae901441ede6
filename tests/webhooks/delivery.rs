//! What a shop's server hears, and how often.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use quittance::commands;
use quittance_events::{Event, Facts};
use serde_json::json;

use crate::api::{make, webhook};
use crate::server::{Heard, Server};
use crate::support::{Reply, Shop, coin};

const THREE_DAYS_S: u64 = 3 * 24 * 3600;

/// An order that the shop tells of, paid with the coin of this number.
async fn sell(shop: &Shop, id: &str, number: u8) {
    let coins = [coin(number, "KUDOS:10", "KUDOS:0.2")];
    shop.sell(id, "KUDOS:10", &coins, true).await;
}

async fn heard(shop: &Shop, server: &Server, count: usize) -> Vec<Heard> {
    shop.until("the shop's server hears", async || server.heard().len() >= count)
        .await;
    let heard = server.heard();
    assert_eq!(heard.len(), count);
    heard
}

/// Lets the background look around a few times: what is not due must not be told.
async fn let_it_look() {
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
}

/// The events that tell of webhooks: kind, what of, attempt.
fn told(events: &[Event]) -> Vec<(&'static str, &'static str, u64)> {
    let kind_of =
        |seq: quittance_events::Seq| events.iter().find(|event| event.seq == seq).unwrap().facts.kind();
    let told = events.iter().filter_map(|event| match &event.facts {
        Facts::WebhookDelivered(f) => Some((event.facts.kind(), kind_of(f.of), f.attempt)),
        Facts::WebhookGivenUp(f) => Some((event.facts.kind(), kind_of(f.of), f.attempt)),
        _ => None,
    });
    told.collect()
}

async fn recorded(shop: &mut Shop, count: usize) -> Vec<(&'static str, &'static str, u64)> {
    let is_there = |shop: &Shop| {
        let kinds = ["webhook_delivered", "webhook_given_up"];
        let none = quittance_events::Seq::NONE;
        let (events, _) = shop
            .app()
            .service
            .ledger
            .events_of_kinds(none, 100_000, &kinds)
            .unwrap();
        events.len() >= count
    };
    let shared: &Shop = shop;
    shared.until("it is recorded", async || is_there(shared)).await;
    shop.stop().await;
    told(&shop.events())
}

#[tokio::test]
async fn a_payment_and_its_refunds_are_told_once_signed_and_recorded() {
    let mut shop = Shop::open_selling().await;
    let server = Server::start().await;
    let mut paid = webhook("paid", "pay", &server.url());
    paid["header_template"] = json!("X-Order: {{ order_id }}\nAuthorization: Bearer abc\n");
    paid["body_template"] =
        json!(r#"{"id": "{{order_id}}", "what": "{{contract_terms.summary}}", "terms": {{contract_terms}}}"#);
    let paid = make(&shop, &paid).await.unwrap();
    let refunded = make(&shop, &webhook("refunded", "refund", &server.url()))
        .await
        .unwrap();

    let (_, terms, _) = shop.sold("one", "KUDOS:10").await;
    shop.pay_terms(&terms, "").await.expect(200);
    let first = heard(&shop, &server, 1).await.remove(0);
    assert_eq!(first.line, "POST /hook?of=shop HTTP/1.1");
    assert_eq!(first.headers["x-order"], "one");
    assert_eq!(first.headers["authorization"], "Bearer abc");
    assert_eq!(first.headers["quittance-webhook"], "paid");
    assert_eq!(first.headers["content-type"], "application/json");
    let body = first.json();
    assert_eq!((&body["id"], &body["what"]), (&json!("one"), &json!("boots")));
    assert_eq!(body["terms"]["order_id"], "one");
    let payment = first.checked(&paid);

    for (total, count) in [("KUDOS:1", 2), ("KUDOS:3.5", 3)] {
        shop.clock.advance_s(2);
        shop.approve("one", total).await.expect(200);
        let last = heard(&shop, &server, count).await.pop().unwrap();
        assert!(last.checked(&refunded) > payment);
        let now = shop.clock.now_s();
        let expected = json!({"webhook_type": "refund", "instance_id": "default", "order_id": "one",
                              "amount": "KUDOS:10", "refund_amount": total, "reason": "returned",
                              "timestamp": {"t_s": now}});
        assert_eq!(last.json(), expected);
    }
    let told = recorded(&mut shop, 3).await;
    let delivered = |of| ("webhook_delivered", of, 1);
    assert_eq!(
        told,
        [
            delivered("payment_completed"),
            delivered("refund_approved"),
            delivered("refund_approved")
        ]
    );
    // A restart finds nothing to tell.
    shop.start().await;
    let_it_look().await;
    assert_eq!(server.heard().len(), 3);
    shop.audit().await;
}

#[tokio::test]
async fn it_is_tried_again_with_growing_pauses_also_after_a_restart() {
    let mut shop = Shop::open().await;
    let server = Server::start().await;
    let secret = make(&shop, &webhook("paid", "pay", &server.url())).await.unwrap();
    // A redirect is not followed.
    server.answers("302 Found\r\nlocation: http://127.0.0.1:1/elsewhere");
    sell(&shop, "one", 1).await;
    heard(&shop, &server, 1).await;
    for (pause, count) in [(10, 2), (20, 3), (40, 4)] {
        shop.clock.advance_s(pause - 1);
        let_it_look().await;
        assert_eq!(server.heard().len(), count - 1, "too early");
        shop.clock.advance_s(1);
        heard(&shop, &server, count).await;
        server.answers("500 Internal Server Error");
    }
    shop.stop().await;
    shop.start().await;
    server.answers("200 OK");
    let heard = heard(&shop, &server, 5).await;
    let events: Vec<u64> = heard.iter().map(|heard| heard.checked(&secret)).collect();
    assert!(
        events.windows(2).all(|pair| pair[0] == pair[1]),
        "one event has one number: {events:?}"
    );
    let told = recorded(&mut shop, 1).await;
    assert_eq!(told, [("webhook_delivered", "payment_completed", 1)]);
    shop.audit().await;
}

#[tokio::test]
async fn after_three_days_it_is_given_up() {
    let mut shop = Shop::open().await;
    let server = Server::start().await;
    make(&shop, &webhook("paid", "pay", &server.url())).await.unwrap();
    server.answers("503 Service Unavailable");
    sell(&shop, "one", 1).await;
    heard(&shop, &server, 1).await;
    shop.clock.advance_s(THREE_DAYS_S - 1);
    heard(&shop, &server, 2).await;
    shop.clock.advance_s(1);
    let told = recorded(&mut shop, 1).await;
    assert_eq!(told, [("webhook_given_up", "payment_completed", 3)]);
    shop.start().await;
    shop.clock.advance_s(3600);
    let_it_look().await;
    assert_eq!(server.heard().len(), 3);
    shop.audit().await;
}

#[tokio::test]
async fn one_that_is_taken_away_or_made_later_is_told_nothing() {
    let mut shop = Shop::open().await;
    let server = Server::start().await;
    make(&shop, &webhook("gone", "pay", &server.url())).await.unwrap();
    server.answers("500 Internal Server Error");
    sell(&shop, "one", 1).await;
    heard(&shop, &server, 1).await;
    let gone = shop
        .send("DELETE", "private/webhooks/gone", Some(&shop.token), Vec::new())
        .await;
    assert_eq!(gone.status, 204);
    shop.clock.advance_s(1);
    // One of the same name is another one.
    make(&shop, &webhook("gone", "pay", &server.url())).await.unwrap();
    shop.stop().await;
    shop.start().await;
    shop.clock.advance_s(3600);
    let_it_look().await;
    assert_eq!(server.heard().len(), 1);
    shop.audit().await;
}

/// Of the instance `branch`.
const TOKEN: &str = "secret-token:of-the-branch-in-the-harbour-1";

async fn open_branch(shop: &Shop) {
    let branch = json!({"id": "branch", "name": "Branch", "auth": {"method": "token", "token": TOKEN},
                        "address": {}, "jurisdiction": {}, "use_stefan": false,
                        "default_pay_delay": {"d_us": 3_600_000_000_u64},
                        "default_wire_transfer_delay": {"d_us": 7_200_000_000_u64}});
    let opened = shop.post_private("management/instances", &branch).await;
    assert_eq!(opened.status, 204, "{}", opened.text());
}

async fn close_branch(shop: &Shop) {
    let path = "management/instances/branch";
    let closed = shop.send("DELETE", path, Some(&shop.token), Vec::new()).await;
    assert_eq!(closed.status, 204, "{}", closed.text());
}

async fn at_branch(shop: &Shop, method: &str, path: &str, body: serde_json::Value) -> Reply {
    let path = format!("instances/branch/private/{path}");
    let body = body.to_string().into_bytes();
    let reply = shop.send(method, &path, Some(TOKEN), body).await;
    assert!(reply.status < 300, "{path}: {}", reply.text());
    reply
}

async fn sell_at_branch(shop: &Shop, order: &str) {
    let id = "branch".parse().unwrap();
    let instance = shop.app().service.instances.get(&id).unwrap();
    let coins = [coin(200, "KUDOS:10", "KUDOS:0.2")];
    let mut terms = shop.terms(order, "KUDOS:10", 86_400, 172_800);
    terms["merchant_pub"] = json!(instance.merchant.merchant_pub());
    at_branch(shop, "POST", "ledger/orders", json!({"contract_terms": terms})).await;
    let told = json!({"deposits": shop.told(&coins), "paid": true});
    at_branch(shop, "POST", &format!("ledger/orders/{order}/deposits"), told).await;
}

#[tokio::test]
async fn an_instance_tells_its_own_servers_alone_and_none_once_it_is_closed() {
    let mut shop = Shop::open().await;
    let [of_root, of_branch] = [Server::start().await, Server::start().await];
    of_branch.answers("500 Internal Server Error");
    make(&shop, &webhook("paid", "pay", &of_root.url()))
        .await
        .unwrap();
    open_branch(&shop).await;
    let to_branch = webhook("paid", "pay", &of_branch.url());
    at_branch(&shop, "POST", "webhooks", to_branch.clone()).await;
    sell_at_branch(&shop, "one").await;
    heard(&shop, &of_branch, 1).await;

    let file = shop.config.keys.join("webhooks-branch.json");
    let left = std::fs::read(&file).unwrap();
    close_branch(&shop).await;
    assert!(!file.exists(), "its secrets are gone");
    shop.clock.advance_s(10);
    let_it_look().await;
    assert_eq!((of_branch.heard().len(), of_root.heard().len()), (1, 0));
    // Whoever has it next is not told of to whoever had it; not even where a file was left, as by a crash or by a
    // program from before.
    std::fs::write(&file, left).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    open_branch(&shop).await;
    sell_at_branch(&shop, "two").await;
    for restarted in [false, true] {
        if restarted {
            shop.stop().await;
            shop.start().await;
        }
        shop.clock.advance_s(10);
        let_it_look().await;
        let listed = at_branch(&shop, "GET", "webhooks", json!({})).await.expect(200);
        assert_eq!(listed, json!({"webhooks": []}));
        assert_eq!(of_branch.heard().len(), 1);
    }
    // The same from the command line.
    at_branch(&shop, "POST", "webhooks", to_branch).await;
    assert!(file.exists());
    shop.stop().await;
    let (config, clock, id) = (shop.config.clone(), shop.clock.clock(), "branch".parse().unwrap());
    let closed = move || commands::close_instance(&config, &clock, &id);
    tokio::task::spawn_blocking(closed).await.unwrap().unwrap();
    assert!(!file.exists());
    shop.audit().await;
}

#[tokio::test]
async fn a_server_that_swallows_everything_keeps_no_other_shop_waiting() {
    let mut shop = Shop::open().await;
    let [dead, well] = [Server::start().await, Server::start().await];
    dead.says_nothing();
    make(&shop, &webhook("paid", "pay", &dead.url())).await.unwrap();
    open_branch(&shop).await;
    at_branch(&shop, "POST", "webhooks", webhook("paid", "pay", &well.url())).await;
    for number in 1..=40 {
        sell(&shop, &format!("of-root-{number}"), number).await;
    }
    heard(&shop, &dead, 2).await;
    sell_at_branch(&shop, "one").await;
    assert_eq!(heard(&shop, &well, 1).await[0].json()["instance_id"], "branch");
    let_it_look().await;
    assert_eq!(dead.heard().len(), 2);
    shop.audit().await;
}

#[tokio::test]
async fn a_server_that_is_down_is_called_once_a_pause_for_all_that_there_is_to_tell() {
    let mut shop = Shop::open().await;
    let server = Server::start().await;
    make(&shop, &webhook("paid", "pay", &server.url())).await.unwrap();
    server.answers("503 Service Unavailable");
    for number in 1..=5 {
        sell(&shop, &format!("order-{number}"), number).await;
        heard(&shop, &server, 1).await;
        let_it_look().await;
    }
    for (pause, count) in [(10, 2), (20, 3), (40, 4)] {
        shop.clock.advance_s(pause - 1);
        let_it_look().await;
        assert_eq!(server.heard().len(), count - 1, "too early");
        shop.clock.advance_s(1);
        heard(&shop, &server, count).await;
        let_it_look().await;
        assert_eq!(server.heard().len(), count, "once");
    }
    // A restart knows of no pause, and finds all of it.
    shop.stop().await;
    shop.start().await;
    let_it_look().await;
    let again = server.heard().len();
    assert!((5..=6).contains(&again), "{again}");
    server.answers("200 OK");
    shop.clock.advance_s(10);
    let heard = heard(&shop, &server, again + 5).await;
    let orders: BTreeSet<String> = heard[again..]
        .iter()
        .map(|heard| heard.json()["order_id"].to_string())
        .collect();
    assert_eq!(orders.len(), 5);
    let told = recorded(&mut shop, 5).await;
    assert!(told.iter().all(|(kind, _, _)| *kind == "webhook_delivered"));
    shop.audit().await;
}

#[tokio::test]
async fn what_waits_for_a_server_that_is_down_is_given_up_when_its_time_is_over() {
    let mut shop = Shop::open().await;
    let server = Server::start().await;
    make(&shop, &webhook("paid", "pay", &server.url())).await.unwrap();
    server.answers("503 Service Unavailable");
    for number in 1..=3 {
        sell(&shop, &format!("order-{number}"), number).await;
        heard(&shop, &server, 1).await;
        let_it_look().await;
    }
    shop.clock.advance_s(THREE_DAYS_S);
    let told = recorded(&mut shop, 3).await;
    let given_up = |attempts| ("webhook_given_up", "payment_completed", attempts);
    // One call for all: of the second, which was not tried before.
    assert_eq!(told, [given_up(1), given_up(1), given_up(0)]);
    assert_eq!(server.heard().len(), 2);
    shop.audit().await;
}

#[tokio::test]
async fn one_that_is_changed_to_tell_of_the_other_thing_tells_nothing_from_before() {
    let mut shop = Shop::open().await;
    let [server, moved] = [Server::start().await, Server::start().await];
    let change = async |shop: &Shop, event_type: &str, url: String| {
        let change = json!({"event_type": event_type, "url": url, "http_method": "POST"});
        let body = change.to_string().into_bytes();
        let changed = shop
            .send("PATCH", "private/webhooks/w", Some(&shop.token), body)
            .await;
        assert_eq!(changed.status, 204, "{}", changed.text());
    };
    make(&shop, &webhook("w", "refund", &server.url())).await.unwrap();
    sell(&shop, "one", 1).await;
    shop.clock.advance_s(1);
    change(&shop, "pay", server.url()).await;
    shop.stop().await;
    shop.start().await;
    let_it_look().await;
    assert_eq!(server.heard().len(), 0);

    server.answers("500 Internal Server Error");
    sell(&shop, "two", 2).await;
    assert_eq!(heard(&shop, &server, 1).await[0].json()["order_id"], "two");
    // One that only leads elsewhere is the same one, and tells there what it has still to tell.
    shop.clock.advance_s(9);
    change(&shop, "pay", moved.url()).await;
    moved.answers("500 Internal Server Error");
    shop.stop().await;
    shop.start().await;
    assert_eq!(heard(&shop, &moved, 1).await[0].json()["order_id"], "two");
    // To the other thing and back: it has nothing left of before.
    shop.clock.advance_s(9);
    change(&shop, "refund", moved.url()).await;
    change(&shop, "pay", moved.url()).await;
    shop.clock.advance_s(3600);
    let_it_look().await;
    assert_eq!((server.heard().len(), moved.heard().len()), (1, 1));
    shop.audit().await;
}
