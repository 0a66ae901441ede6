//! Recorded refusals replayed. Most are of requests that no honest merchant makes; a shop that told the intake
//! something wrong makes them all the same, and then request and signature are the recorded ones. Where no approval
//! can lead to the recorded request, the nearest one is made and the test says what differs.

use quittance_taler::{Amount, EddsaSignature, HashCode, MerchantPub, message};
use serde_json::{Value, json};

use crate::fixtures::Recording;
use crate::replayed::{assert_kept, assert_recorded, paid_shop, pick_up, shop, tell_paid};
use crate::stand_in::{Asked, StandIn};
use crate::support::Shop;
use crate::wallet;

/// The wallet takes this refund for lost, and the merchant does not wait for it either.
async fn assert_final(shop: &Shop, order: &str, h_contract: HashCode) {
    let status = wallet::status(&shop.status(order, h_contract).await.expect(200)).unwrap();
    assert!(status.refunded && !status.refund_pending, "{status:?}");
}

/// The shop told `deposits`; approving `total` leads to the recorded request and a final refusal.
async fn refused(recording: &Recording, deposits: &[Value], total: &str) {
    let exchange = StandIn::replaying(&[recording]).await;
    let mut shop = paid_shop(recording, deposits, &exchange).await;
    let (order, h_contract) = (recording.order_id(), recording.h_contract());
    shop.approve(order, total).await.expect(200);
    let entries = pick_up(&shop, order, h_contract, total).await;
    assert_eq!(entries, [recording.entry(recording.timestamp_s())]);
    // Decided is decided: whenever the wallet comes again, the exchange is not asked again.
    shop.clock.advance_s(60);
    assert_eq!(pick_up(&shop, order, h_contract, total).await, entries);
    assert_final(&shop, order, h_contract).await;
    let asked = exchange.asked();
    assert_eq!(asked.len(), 1);
    assert_recorded(&asked[0], recording);
    shop.audit().await;
    assert_kept(&shop, &[recording]);
}

/// The recorded deposits with another coin, amount or fee in the first.
fn told(recording: &Recording, member: &str, value: impl Into<Value>) -> Vec<Value> {
    let mut deposits = recording.deposits();
    deposits[0][member] = value.into();
    deposits
}

#[tokio::test]
async fn a_coin_that_the_exchange_never_saw() {
    let recording = Recording::read("404-unknown-coin");
    assert_eq!(recording.get("/reply/body/code"), 1005);
    let deposits = told(&recording, "coin_pub", recording.coin().to_string());
    refused(&recording, &deposits, "TESTKUDOS:1").await;
}

#[tokio::test]
async fn more_than_was_deposited() {
    let recording = Recording::read("409-more-than-deposit");
    assert_eq!(recording.get("/reply/body/code"), 1501);
    refused(
        &recording,
        &told(&recording, "amount_with_fee", "TESTKUDOS:4.01"),
        "TESTKUDOS:4.01",
    )
    .await;
}

#[tokio::test]
async fn another_amount_under_an_id_that_was_used() {
    // As after the loss of a ledger that had granted 4.
    let recording = Recording::read("conflict-same-rtid-other-amount");
    assert_eq!(
        (recording.reply_status(), recording.get("/reply/body/code")),
        (424, &json!(1510))
    );
    refused(&recording, &recording.deposits(), "TESTKUDOS:3").await;
}

#[tokio::test]
async fn the_third_refund_of_a_coin_is_too_much() {
    let granted = [Recording::read("200-partial"), Recording::read("200-second-rtid")];
    let refused = Recording::read("409-too-much");
    assert_eq!((refused.id(), refused.get("/reply/body/code")), (3, &json!(1501)));
    let all = [&granted[0], &granted[1], &refused];
    let exchange = StandIn::replaying(&all).await;
    // The exchange has 10 of this coin.
    let mut shop = paid_shop(
        &refused,
        &told(&refused, "amount_with_fee", "TESTKUDOS:10.5"),
        &exchange,
    )
    .await;
    let (order, h_contract) = (refused.order_id(), refused.h_contract());
    for total in ["TESTKUDOS:4", "TESTKUDOS:5.5", "TESTKUDOS:10.5"] {
        shop.approve(order, total).await.expect(200);
        pick_up(&shop, order, h_contract, total).await;
    }
    // The failed one is in the total, and takes nothing from those that were granted.
    let expected: Vec<Value> = (0..)
        .zip(all)
        .map(|(step, recording)| recording.entry(refused.timestamp_s() + step))
        .collect();
    assert_eq!(
        pick_up(&shop, order, h_contract, "TESTKUDOS:10.5").await,
        expected
    );
    for (asked, recording) in exchange.asked().iter().zip(all) {
        assert_recorded(asked, recording);
    }
    assert_eq!(exchange.asked().len(), 3);
    shop.until("the delivery", async || {
        let status = wallet::status(&shop.status(order, h_contract).await.expect(200)).unwrap();
        status.refund_taken.to_string() == "TESTKUDOS:5.5" && !status.refund_pending
    })
    .await;
    shop.audit().await;
    assert_kept(&shop, &all);
}

/// The request differs from the recorded one in these members alone, and its signature is this merchant's.
fn assert_like(asked: &Asked, recording: &Recording, but_for: &[&str]) {
    let (mut asked, mut recorded) = (asked.json(), recording.request().clone());
    let get = |name: &str| asked[name].as_str().unwrap().to_owned();
    let h_contract: HashCode = get("h_contract_terms").parse().unwrap();
    let amount: Amount = get("refund_amount").parse().unwrap();
    let merchant: MerchantPub = get("merchant_pub").parse().unwrap();
    let sig: EddsaSignature = get("merchant_sig").parse().unwrap();
    let id = asked["rtransaction_id"].as_u64().unwrap();
    assert!(merchant.verify(
        &message::refund_request(&h_contract, &recording.coin(), id, &amount),
        &sig
    ));
    for member in but_for {
        let (asked, recorded) = (asked[member].take(), recorded[member].take());
        assert_ne!(asked, recorded, "{member} is the recorded one after all");
    }
    assert_eq!(asked, recorded);
}

/// As [`refused`], with a contract and a merchant that are not the recorded ones.
async fn refused_like(recording: &Recording, merchant_key: &str, terms: Value, but_for: &[&str]) {
    let exchange = StandIn::replaying(&[recording]).await;
    let mut shop = shop(recording, merchant_key, &exchange).await;
    let order = recording.order_id();
    let h_contract = shop.record_order(&terms).await;
    tell_paid(&shop, order, &recording.deposits()).await;
    shop.approve(order, "TESTKUDOS:1").await.expect(200);
    let entries = pick_up(&shop, order, h_contract, "TESTKUDOS:1").await;
    assert_eq!(entries, [recording.entry(recording.timestamp_s())]);
    assert_final(&shop, order, h_contract).await;
    let asked = exchange.asked();
    assert_eq!(asked.len(), 1);
    assert_like(&asked[0], recording, but_for);
    shop.audit().await;
    assert_kept(&shop, &[recording]);
}

#[tokio::test]
async fn a_contract_that_the_exchange_does_not_know() {
    // Recorded with a random hash, of which there are no contract terms: these here are another contract.
    let recording = Recording::read("404-other-contract");
    assert_eq!(recording.get("/reply/body/code"), 1502);
    let mut terms = recording.terms();
    terms["summary"] = json!("a contract that nobody paid");
    let key = recording.text("/inputs/merchant_priv").to_owned();
    refused_like(&recording, &key, terms, &["h_contract_terms", "merchant_sig"]).await;
}

#[tokio::test]
async fn a_merchant_who_has_no_deposit() {
    // Recorded with another merchant's contract, which the intake does not take: these terms name the asking one.
    let recording = Recording::read("404-other-merchant");
    assert_eq!(recording.get("/reply/body/code"), 1502);
    let mut terms = recording.terms();
    terms["merchant_pub"] = recording.get("/inputs/merchant_pub").clone();
    let key = recording.text("/inputs/merchant_priv").to_owned();
    refused_like(&recording, &key, terms, &["h_contract_terms", "merchant_sig"]).await;
}

#[tokio::test]
async fn a_signature_that_the_exchange_does_not_accept() {
    // Recorded with another key's signature, which nothing here would make: the merchant's own is sent instead.
    let recording = Recording::read("403-bad-sig");
    assert_eq!(
        (recording.reply_status(), recording.get("/reply/body/code")),
        (403, &json!(1506))
    );
    let key = recording.text("/inputs/merchant_priv").to_owned();
    refused_like(&recording, &key, recording.terms(), &["merchant_sig"]).await;
}

#[tokio::test]
async fn a_share_below_the_refund_fee_looks_transient_and_stays_open() {
    // The shop told half of the real fee, and brings a refund from before, so that the next id is the recorded 8.
    let recording = Recording::read("below-refund-fee");
    assert_eq!((recording.id(), recording.reply_status()), (8, 500));
    assert_eq!(recording.get("/reply/body/code"), 53);
    let exchange = StandIn::replaying(&[&recording]).await;
    // Id 7 was recorded with the same reply and an amount of zero, which cannot be carried in.
    let before = Recording::read("zero-amount");
    assert_eq!((before.id(), before.reply_raw()), (7, recording.reply_raw()));
    exchange.replies((before.coin(), 7), &before);
    let mut shop = shop(&recording, recording.text("/deposit/merchant_priv"), &exchange).await;
    let (order, h_contract) = (recording.order_id(), recording.h_contract());
    assert_eq!(shop.record_order(&recording.terms()).await, h_contract);
    let body = json!({
        "deposits": told(&recording, "refund_fee", "TESTKUDOS:0.01"), "paid": true,
        "refunds": [{"coin_pub": recording.coin(), "rtransaction_id": 7, "amount": "TESTKUDOS:1",
                     "execution_time": {"t_s": recording.timestamp_s()}}],
    });
    shop.post_private(&format!("private/ledger/orders/{order}/deposits"), &body)
        .await
        .expect(200);
    shop.approve(order, "TESTKUDOS:1.01").await.expect(200);
    let entry = recording.entry(recording.timestamp_s() + 1);
    let entries = pick_up(&shop, order, h_contract, "TESTKUDOS:1.01").await;
    assert_eq!(entries[1], entry);
    assert_eq!(entries[0]["exchange_status"], 500);
    let asked_for_it = || {
        exchange
            .asked()
            .into_iter()
            .filter(|asked| asked.id() == 8)
            .collect::<Vec<_>>()
    };
    assert_eq!(asked_for_it().len(), 1);
    // The wallet comes back for it, is told the same, and the exchange has been asked anew.
    shop.clock.advance_s(5);
    assert_eq!(pick_up(&shop, order, h_contract, "TESTKUDOS:1.01").await, entries);
    let status = wallet::status(&shop.status(order, h_contract).await.expect(200)).unwrap();
    assert!(status.refund_pending && status.is_worth_fetching() && status.refund_taken.is_zero());
    let asked = asked_for_it();
    assert!(asked.len() > 1);
    for asked in &asked {
        assert_recorded(asked, &recording);
    }
    shop.audit().await;
}
