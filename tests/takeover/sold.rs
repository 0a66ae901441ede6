//! A successor sells on: what was claimed can be paid there, what was paid stands, and nothing is deposited twice.

use quittance::commands::{self, NewInstance};
use quittance_events::{Facts, InstanceId};
use quittance_sandbox::{Fault, FaultKind, FaultPath, Payment};
use serde_json::{Value, json};

use crate::support::{Reply, Shop};

/// The next batch of deposits is taken, and its reply lost.
fn lose_reply(shop: &Shop) {
    let fault = Fault {
        path: FaultPath::Deposit,
        ..Fault::new(FaultKind::LostReply)
    };
    shop.sandbox.fault(fault).unwrap();
}

fn purse(shop: &Shop, terms: &Value) -> Payment {
    let mut purse = shop.sandbox.withdraw("KUDOS:10".parse().unwrap()).unwrap();
    purse.pay(terms).unwrap()
}

async fn pay(shop: &Shop, id: &str, payment: &Payment) -> Reply {
    shop.post(&format!("orders/{id}/pay"), &payment.pay_request(""))
        .await
}

/// Batches that the exchange was sent.
fn batches(shop: &Shop) -> usize {
    let sent = shop.sandbox.requests();
    sent.iter()
        .filter(|request| request.path.ends_with("batch-deposit"))
        .count()
}

#[tokio::test]
async fn a_successor_takes_over_what_was_sold() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, hash) = shop.sold("paid", "KUDOS:4").await;
    let paid = purse(&shop, &terms);
    pay(&shop, "paid", &paid).await.expect(200);
    shop.approve("paid", "KUDOS:1").await.expect(200);
    let refund = shop.fetch("paid", hash).await.expect(200);
    let (_, terms, _) = shop.sold("lost", "KUDOS:3").await;
    let lost = purse(&shop, &terms);
    lose_reply(&shop);
    let reply = pay(&shop, "lost", &lost).await;
    assert!(reply.status >= 500, "{}", reply.status);
    let (_, terms, _) = shop.sold("claimed", "KUDOS:2").await;
    let claimed = purse(&shop, &terms);
    let token = shop.offer("offered", "KUDOS:1").await;
    // Nobody gets an order for this account any more; those that name it are paid all the same.
    let h_wire = terms["h_wire"].as_str().unwrap();
    let path = format!("private/accounts/{h_wire}");
    let closed = shop.send("DELETE", &path, Some(&shop.token), Vec::new()).await;
    assert_eq!(closed.status, 204);
    shop.audit().await;

    let (old, anchor) = (shop.config.ledger.clone(), shop.config.anchor.clone());
    let continued = shop.continue_as("second", &old, &anchor).await;
    assert_eq!((continued.orders, continued.left), (3, 1));
    shop.start().await;
    assert_eq!(shop.fetch("paid", hash).await.expect(200), refund);
    let sent = batches(&shop);
    // Refunded since it was paid.
    assert_eq!(pay(&shop, "paid", &paid).await.error(), (409, 2190));
    assert_eq!(batches(&shop), sent);
    // The exchange took these coins, and says so once more.
    pay(&shop, "lost", &lost).await.expect(200);
    pay(&shop, "claimed", &claimed).await.expect(200);
    assert_eq!(batches(&shop), sent + 2);
    assert_eq!(shop.claim("offered", 1, Some(&token)).await.status, 404);
    shop.audit_after(Some(&old)).await;
    let kinds = shop.kinds();
    let of = |kind: &str| kinds.iter().filter(|other| **other == kind).count();
    assert_eq!(
        (of("format_raised"), of("order_created"), of("order_claimed")),
        (3, 3, 3)
    );
    // That of the lost reply is not asked for anew.
    assert_eq!((of("deposit_requested"), of("deposit_replied")), (2, 2));
    assert_eq!((of("account_added"), of("account_closed")), (1, 1));
}

#[tokio::test]
async fn a_successor_finishes_a_payment_that_was_begun_in_time() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, _) = shop.sold("begun", "KUDOS:3").await;
    let payment = purse(&shop, &terms);
    lose_reply(&shop);
    assert_eq!(pay(&shop, "begun", &payment).await.error(), (502, 2012));
    let path = format!("private/accounts/{}", terms["h_wire"].as_str().unwrap());
    let closed = shop.send("DELETE", &path, Some(&shop.token), Vec::new()).await;
    assert_eq!(closed.status, 204);
    let deadline = terms["pay_deadline"]["t_s"].as_u64().unwrap();
    shop.clock.advance_s(deadline + 1 - shop.clock.now_s());
    shop.audit().await;
    let (old, anchor) = (shop.config.ledger.clone(), shop.config.anchor.clone());
    let continued = shop.continue_as("second", &old, &anchor).await;
    assert_eq!(continued.orders, 1);
    shop.start().await;
    pay(&shop, "begun", &payment).await.expect(200);
    shop.audit_after(Some(&old)).await;
}

#[tokio::test]
async fn an_instance_that_was_closed_signs_for_its_orders_once_it_is_open_again() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, hash) = shop.sold("paid", "KUDOS:4").await;
    let payment = purse(&shop, &terms);
    pay(&shop, "paid", &payment).await.expect(200);
    shop.audit().await;
    let (config, clock) = (shop.config.clone(), shop.clock.clock());
    let closed = move || commands::close_instance(&config, &clock, &InstanceId::root());
    tokio::task::spawn_blocking(closed).await.unwrap().unwrap();
    let (old, anchor) = (shop.config.ledger.clone(), shop.config.anchor.clone());
    let continued = shop.continue_as("second", &old, &anchor).await;
    assert_eq!((continued.orders, continued.instances.len()), (1, 0));
    let new = NewInstance {
        id: InstanceId::root(),
        name: None,
        merchant_key: None,
        token_file: None,
    };
    let (config, clock) = (shop.config.clone(), shop.clock.clock());
    let opened = move || commands::add_instance(&config, &clock, &new);
    let token = tokio::task::spawn_blocking(opened).await.unwrap().unwrap();
    shop.token = token.unwrap();
    shop.start().await;
    shop.approve("paid", "KUDOS:1").await.expect(200);
    let refund = shop.fetch("paid", hash).await.expect(200);
    assert_eq!(refund["refunds"][0]["type"], "success", "{refund}");
    shop.audit_after(Some(&old)).await;
}

#[tokio::test]
async fn a_successor_finishes_the_abort_of_a_payment_in_question() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, _) = shop.sold("asked", "KUDOS:3").await;
    let payment = purse(&shop, &terms);
    lose_reply(&shop);
    pay(&shop, "asked", &payment).await;
    // Nothing is heard of the refund either.
    let times = u32::try_from(payment.coins.len()).unwrap();
    let fault = Fault {
        times,
        ..Fault::new(FaultKind::Status {
            status: 503,
            code: 60,
        })
    };
    shop.sandbox.fault(fault).unwrap();
    shop.clock.advance_s(60);
    shop.post("orders/asked/abort", &payment.abort_request()).await;
    shop.audit().await;
    let (old, anchor) = (shop.config.ledger.clone(), shop.config.anchor.clone());
    let continued = shop.continue_as("second", &old, &anchor).await;
    assert_eq!(continued.orders, 1);
    shop.start().await;
    shop.clock.advance_s(60);
    shop.until("all coins come back", async || {
        let reply = shop.post("orders/asked/abort", &payment.abort_request()).await;
        let body = if reply.status == 200 {
            reply.json()
        } else {
            json!({"refunds": [{}]})
        };
        let refunds = body["refunds"].as_array().unwrap();
        refunds.iter().all(|refund| refund["type"] == "success")
    })
    .await;
    assert_eq!(pay(&shop, "asked", &payment).await.error(), (402, 2167));
    shop.audit_after(Some(&old)).await;
}

#[tokio::test]
async fn forgotten_terms_are_taken_over_as_they_are_left() {
    let mut shop = Shop::open_selling().await;
    let order = json!({"order_id": "forgotten", "amount": "KUDOS:2", "summary": "boots",
        "fulfillment_url": "https://shop.example/thanks", "delivery_location": {"street": "Elm Street"},
        "$forgettable": {"delivery_location": true}});
    let made = shop.order(&order, &json!({})).await.expect(200);
    let claimed = shop
        .claim("forgotten", 1, made["token"].as_str())
        .await
        .expect(200);
    let terms = claimed["contract_terms"].clone();
    pay(&shop, "forgotten", &purse(&shop, &terms)).await.expect(200);
    let body = json!({"fields": ["$.delivery_location"]}).to_string();
    let path = "private/orders/forgotten/forget";
    let forgotten = shop.send("PATCH", path, Some(&shop.token), body.into()).await;
    assert_eq!(forgotten.status, 200);
    shop.audit().await;
    let (old, anchor) = (shop.config.ledger.clone(), shop.config.anchor.clone());
    let continued = shop.continue_as("second", &old, &anchor).await;
    assert_eq!(continued.orders, 1);
    let events = shop.events();
    assert!(
        events
            .iter()
            .all(|event| !matches!(event.facts, Facts::TermsForgotten(_)))
    );
    shop.start().await;
    shop.approve("forgotten", "KUDOS:1").await.expect(200);
    shop.audit_after(Some(&old)).await;
}
