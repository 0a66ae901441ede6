//! Recorded deposits paid again: merchant's key, account, contract, nonce, coins and their signatures are the recorded ones, so
//! what goes to the exchange must be what it understood, and its recorded confirmations must be taken. Two things are not
//! as recorded. The recorded contract was worded by another merchant, so it comes into the ledger as an offer
//! of these words, and not by `POST private/orders`. And the recorded requests were made by a program and no wallet: the
//! wallet's are made of its coins.

use quittance::account::WireAccount;
use quittance::app::open_ledger;
use quittance::decide::sale;
use quittance_events::{Append, InstanceId, NewEvent, OrderKey, Seq, Stream};
use quittance_taler::Micros;
use quittance_taler::order::Offer;
use serde_json::{Value, json};

use crate::fixtures::{CURRENCY, EXCHANGE_URL, Paying, Recording};
use crate::replayed::{assert_recorded, pick_up};
use crate::stand_in::StandIn;
use crate::support::{Options, Reply, Shop};
use crate::wallet::{self, Refused};

/// The recorded merchant's shop, which offers all of this.
async fn shop(offers: &[&Paying], exchange: &StandIn) -> Shop {
    let first = offers[0];
    let timestamp = first.get("/contract_terms/timestamp/t_s").as_u64().unwrap();
    let mut shop = Shop::open_with(Options {
        start_s: timestamp,
        merchant_key: Some(first.text("/merchant_priv").to_owned()),
        currency: CURRENCY,
        exchange: Some((
            EXCHANGE_URL.to_owned(),
            first.text("/exchange_master_pub").to_owned(),
            exchange.addr,
        )),
        ..Options::default()
    })
    .await;
    assert_eq!(shop.merchant_pub.to_string(), first.text("/merchant_pub"));
    shop.stop().await;
    let ledger = open_ledger(&shop.config, "test").unwrap();
    let at = Micros::from_s(timestamp).unwrap();
    for recording in offers {
        let account = WireAccount {
            payto_uri: recording.text("/merchant_payto_uri").parse().unwrap(),
            salt: recording.text("/wire_salt").parse().unwrap(),
        };
        assert_eq!(account.h_wire().to_string(), recording.text("/h_wire"));
        let mut terms = recording.terms().clone();
        terms.as_object_mut().unwrap().remove("nonce").unwrap();
        let offer = Offer::from_terms(&terms).unwrap();
        let by = "test".parse().unwrap();
        let created = sale::create(None, || Ok(offer.clone()), account.h_wire(), false, &by).unwrap();
        let key = OrderKey {
            instance: InstanceId::root(),
            order: recording.order_id().parse().unwrap(),
        };
        let append = async |stream, events: Vec<NewEvent>| {
            ledger.append(Append { stream, at, events }).await.unwrap();
        };
        append(
            Stream::Ledger(Some(InstanceId::root())),
            vec![account.added(None)],
        )
        .await;
        append(Stream::Order(key, Seq::NONE), created).await;
        let status = recording.reply_status();
        exchange.replies_to_deposits(recording.h_contract(), status, recording.get("/reply/body"));
    }
    ledger.close();
    shop.start().await;
    shop
}

/// The contract comes out as recorded, signature included: Ed25519 leaves no choice.
async fn claim(shop: &Shop, recording: &Paying) {
    let body = json!({"nonce": recording.get("/contract_terms/nonce")});
    let path = format!("orders/{}/claim", recording.order_id());
    let claimed = shop.post(&path, &body).await.expect(200);
    assert_eq!(claimed["contract_terms"], *recording.terms());
    assert_eq!(claimed["sig"], *recording.get("/merchant_contract_sig"));
}

async fn pay(shop: &Shop, recording: &Paying) -> Reply {
    let path = format!("orders/{}/pay", recording.order_id());
    shop.post(&path, &recording.pay_request()).await
}

/// The exchange was asked for what it was recorded to understand.
fn assert_asked(exchange: &StandIn, recordings: &[&Paying]) {
    let asked = exchange.deposits_asked();
    assert_eq!(asked.len(), recordings.len());
    for (asked, recording) in asked.iter().zip(recordings) {
        let (asked_for, recorded) = (asked.json(), recording.get("/request/body"));
        assert_eq!(asked.method, "POST");
        assert_eq!(asked.url, format!("{EXCHANGE_URL}batch-deposit"));
        if recording.text("/request/url").ends_with("/batch-deposit") {
            for (name, value) in recorded.as_object().unwrap() {
                assert_eq!(asked_for[name], *value, "{name}");
            }
            continue;
        }
        // Recorded at the endpoint for one coin, which later exchanges do not have: the same members, the coin's among
        // those of the deposit.
        for (name, value) in recorded.as_object().unwrap() {
            let [coin] = &asked_for["coins"].as_array().unwrap()[..] else {
                panic!("one coin")
            };
            let of_either = asked_for.get(name).or_else(|| coin.get(name));
            assert_eq!(of_either, Some(value), "{name}");
        }
    }
}

#[tokio::test]
async fn two_coins_are_paid_and_refunded() {
    let recording = Paying::read("batch-two-coins");
    let exchange = StandIn::start().await;
    let mut shop = shop(&[&recording], &exchange).await;
    claim(&shop, &recording).await;
    let paid = pay(&shop, &recording).await;
    wallet::paid(recording.terms(), &paid.expect(200)).unwrap();
    // Again: the same answer, and nothing is deposited twice.
    assert_eq!(pay(&shop, &recording).await.body, paid.body);
    assert_asked(&exchange, &[&recording]);

    // The recorded refunds are of this contract.
    let refunds = [Recording::read("200-partial"), Recording::read("200-second-rtid")];
    for (total, refund) in ["TESTKUDOS:4", "TESTKUDOS:5.5"].into_iter().zip(&refunds) {
        assert_eq!(refund.h_contract(), recording.h_contract());
        exchange.replies((refund.coin(), refund.id()), refund);
        shop.approve(recording.order_id(), total).await.expect(200);
        let entries = pick_up(&shop, recording.order_id(), recording.h_contract(), total).await;
        assert!(
            entries.iter().all(|entry| entry["type"] == "success"),
            "{entries:?}"
        );
    }
    for (asked, refund) in exchange.asked().iter().zip(&refunds) {
        assert_recorded(asked, refund);
    }
    // Paid again after a refund is told apart.
    assert_eq!(pay(&shop, &recording).await.error(), (409, 2190));
    shop.audit().await;
}

#[tokio::test]
async fn one_coin_that_was_recorded_alone() {
    let recording = Paying::read("single");
    let exchange = StandIn::start().await;
    let mut shop = shop(&[&recording], &exchange).await;
    // What confirms the coin is the same; it stands in a list where a batch was asked for.
    let reply = recording.get("/reply/body");
    let listed = json!({
        "exchange_timestamp": reply["exchange_timestamp"], "exchange_pub": reply["exchange_pub"],
        "exchange_sigs": [{"exchange_sig": reply["exchange_sig"]}],
    });
    exchange.replies_to_deposits(recording.h_contract(), 200, &listed);
    claim(&shop, &recording).await;
    let paid = pay(&shop, &recording).await;
    wallet::paid(recording.terms(), &paid.expect(200)).unwrap();
    assert_asked(&exchange, &[&recording]);
    shop.audit().await;
}

/// The exchange's whole reply reaches the wallet, and nothing is deposited.
async fn refused(shop: &Shop, recording: &Paying) {
    claim(shop, recording).await;
    let reply = pay(shop, recording).await;
    let body: Value = reply.expect(409);
    assert_eq!(body["exchange_reply"], *recording.get("/reply/body"));
    let spent = recording.get("/reply/body/coin_pub").as_str().unwrap();
    assert_eq!(
        wallet::refused(reply.status, &body),
        Ok(Refused::Replace(spent.parse().unwrap()))
    );
}

#[tokio::test]
async fn a_coin_that_was_spent_elsewhere() {
    let recording = Paying::read("double-spend-409");
    let exchange = StandIn::start().await;
    let mut shop = shop(&[&recording], &exchange).await;
    refused(&shop, &recording).await;
    assert_asked(&exchange, &[&recording]);
    shop.stop().await;
    assert!(!shop.kinds().contains(&"deposit_recorded"));
    shop.audit().await;
}

#[tokio::test]
async fn a_fresh_coin_beside_a_spent_one_is_not_lost() {
    let both = Paying::read("batch-fresh-plus-overspent");
    let after = Paying::read("after-failed-batch");
    let exchange = StandIn::start().await;
    let mut shop = shop(&[&both, &after], &exchange).await;
    refused(&shop, &both).await;
    // The fresh one pays another order.
    claim(&shop, &after).await;
    let paid = pay(&shop, &after).await;
    wallet::paid(after.terms(), &paid.expect(200)).unwrap();
    assert_asked(&exchange, &[&both, &after]);
    let report = shop.audit().await;
    assert!(report.is_sound());
}
