//! A recorded refund replayed: with the recorded merchant's key, contract and deposits, the merchant's approval leads
//! to the recorded request, signature included; the recorded reply leads to the recorded confirmation at the wallet.

use quittance_events::copy::{Copy, CopyError};
use quittance_taler::{HashCode, MasterPub};
use serde_json::{Value, json};

use crate::fixtures::{CURRENCY, EXCHANGE_URL, Recording};
use crate::stand_in::{Asked, StandIn};
use crate::support::{Options, Shop};
use crate::wallet;

/// A shop with this merchant's private key, at the stand-in. Its clock stands at the recorded contract's second.
pub(crate) async fn shop(recording: &Recording, merchant_key: &str, exchange: &StandIn) -> Shop {
    let master: MasterPub = recording.text("/exchange_master_pub").parse().unwrap();
    Shop::open_with(Options {
        start_s: recording.timestamp_s(),
        merchant_key: Some(merchant_key.to_owned()),
        currency: CURRENCY,
        exchange: Some((EXCHANGE_URL.to_owned(), master.to_string(), exchange.addr)),
        ..Options::default()
    })
    .await
}

/// A shop of the recorded merchant that knows the recorded contract, and is told these deposits and that it is paid.
pub(crate) async fn paid_shop(recording: &Recording, deposits: &[Value], exchange: &StandIn) -> Shop {
    let shop = shop(recording, recording.text("/deposit/merchant_priv"), exchange).await;
    assert_eq!(
        shop.merchant_pub.to_string(),
        recording.text("/deposit/merchant_pub")
    );
    assert_eq!(
        shop.record_order(&recording.terms()).await,
        recording.h_contract()
    );
    tell_paid(&shop, recording.order_id(), deposits).await;
    shop
}

pub(crate) async fn tell_paid(shop: &Shop, order: &str, deposits: &[Value]) {
    let body = json!({ "deposits": deposits, "paid": true });
    let reply = shop
        .post_private(&format!("private/ledger/orders/{order}/deposits"), &body)
        .await;
    assert_eq!(
        reply.expect(200),
        json!({ "deposits": deposits.len(), "paid": true })
    );
}

/// The wallet picks up its refunds; gives the entries of an answer that it accepts.
pub(crate) async fn pick_up(shop: &Shop, order: &str, h_contract: HashCode, total: &str) -> Vec<Value> {
    let reply = shop.fetch(order, h_contract).await;
    let body = reply.expect(200);
    shop.check_receipt(&reply);
    let refunds = wallet::refunds(&body).unwrap();
    assert_eq!(refunds.merchant_pub, shop.merchant_pub);
    assert_eq!(refunds.refund_amount.to_string(), total);
    body["refunds"].as_array().unwrap().clone()
}

/// The request is the recorded one: method, address, media type and every member of the body.
pub(crate) fn assert_recorded(asked: &Asked, recording: &Recording) {
    assert_eq!(asked.method, recording.text("/request/method"));
    assert_eq!(asked.url, recording.text("/request/url"));
    assert_eq!(
        asked.content_type,
        recording.text("/request/headers/Content-Type")
    );
    assert_eq!(asked.json(), *recording.request());
}

/// What the exchange replied, as the ledger keeps it: exactly these bytes, in this order.
pub(crate) fn assert_kept(shop: &Shop, recordings: &[&Recording]) {
    let mut kept = Vec::new();
    Copy::open(&shop.ledger())
        .unwrap()
        .walk::<CopyError>(|event| {
            let replies = event
                .unwrap()
                .attachments
                .into_iter()
                .filter(|attachment| attachment.name == "reply");
            kept.extend(replies.map(|reply| String::from_utf8(reply.bytes.unwrap()).unwrap()));
            Ok(())
        })
        .unwrap();
    let replied: Vec<&str> = recordings.iter().map(|recording| recording.reply_raw()).collect();
    assert_eq!(kept, replied);
}

/// Approves one total after the other and has each picked up: one recorded request, reply and entry for each.
async fn replay(deposits: &[Value], steps: &[(&str, &Recording)]) {
    let recordings: Vec<&Recording> = steps.iter().map(|(_, recording)| *recording).collect();
    let first = recordings[0];
    let exchange = StandIn::replaying(&recordings).await;
    let mut shop = paid_shop(first, deposits, &exchange).await;
    let mut entries = Vec::new();
    for (step, (total, recording)) in (0..).zip(steps) {
        shop.approve(first.order_id(), total).await.expect(200);
        // Approvals of one second are told as of one second after the other.
        entries.push(recording.entry(first.timestamp_s() + step));
        assert_eq!(
            pick_up(&shop, first.order_id(), first.h_contract(), total).await,
            entries
        );
    }
    let asked = exchange.asked();
    assert_eq!(asked.len(), steps.len());
    for (asked, recording) in asked.iter().zip(&recordings) {
        assert_recorded(asked, recording);
    }
    shop.audit().await;
    assert_kept(&shop, &recordings);
}

#[tokio::test]
async fn two_partial_refunds_of_one_coin() {
    let (first, second) = (Recording::read("200-partial"), Recording::read("200-second-rtid"));
    assert_eq!((first.id(), second.id()), (1, 2));
    replay(
        &first.deposits(),
        &[("TESTKUDOS:4", &first), ("TESTKUDOS:5.5", &second)],
    )
    .await;
}

#[tokio::test]
async fn the_second_coin_in_full_and_then_parts_of_the_first() {
    // Shares are taken in the order in which deposits were told, so the smaller coin is told first here.
    let full = Recording::read("200-second-coin-full");
    let (first, second) = (Recording::read("200-partial"), Recording::read("200-second-rtid"));
    let deposits: Vec<Value> = full.deposits().into_iter().rev().collect();
    let steps = [
        ("TESTKUDOS:2.5", &full),
        ("TESTKUDOS:6.5", &first),
        ("TESTKUDOS:8", &second),
    ];
    replay(&deposits, &steps).await;
}

#[tokio::test]
async fn a_coin_in_full_at_once() {
    let full = Recording::read("200-full-at-once");
    replay(&full.deposits(), &[("TESTKUDOS:10", &full)]).await;
}

#[tokio::test]
async fn a_refund_whose_first_reply_was_lost() {
    let (first, repeat) = (Recording::read("200-partial"), Recording::read("200-repeat"));
    let exchange = StandIn::start().await;
    exchange.loses((first.coin(), first.id()));
    exchange.replies((first.coin(), first.id()), &repeat);
    let mut shop = paid_shop(&first, &first.deposits(), &exchange).await;
    let order = first.order_id();
    shop.approve(order, "TESTKUDOS:4").await.expect(200);
    let entries = pick_up(&shop, order, first.h_contract(), "TESTKUDOS:4").await;
    assert_eq!(
        (
            &entries[0]["type"],
            &entries[0]["exchange_status"],
            &entries[0]["exchange_code"]
        ),
        (&json!("failure"), &json!(502), &json!(2012)),
    );
    // A second later the background asks again; the wallet is told what that brought, and nobody asks once more.
    shop.clock.advance_s(1);
    shop.until("the repeat", async || exchange.asked().len() > 1)
        .await;
    let entries = pick_up(&shop, order, first.h_contract(), "TESTKUDOS:4").await;
    assert_eq!(entries, [repeat.entry(first.timestamp_s())]);
    let asked = exchange.asked();
    assert_eq!(asked.len(), 2);
    assert_recorded(&asked[0], &first);
    assert_recorded(&asked[1], &repeat);
    assert_eq!(asked[0].body, asked[1].body);
    shop.audit().await;
    assert_kept(&shop, &[&repeat]);
}

#[tokio::test]
async fn a_refund_past_the_refund_deadline_and_one_after_aggregation() {
    // Between the two deadlines lies one second.
    let (late, gone) = (
        Recording::read("200-deadline-passed-not-yet-aggregated"),
        Recording::read("410-after-aggregation"),
    );
    let refund_deadline = late.get("/deposit/refund_deadline/t_s").as_u64().unwrap();
    let exchange = StandIn::replaying(&[&late, &gone]).await;
    let mut shop = paid_shop(&late, &late.deposits(), &exchange).await;
    let (order, h_contract) = (late.order_id(), late.h_contract());
    shop.clock.set_s(refund_deadline);
    let mut entries = Vec::new();
    for (step, (total, recording)) in (0..).zip([("TESTKUDOS:1", &late), ("TESTKUDOS:2", &gone)]) {
        shop.approve(order, total).await.expect(200);
        entries.push(recording.entry(refund_deadline + step));
        assert_eq!(pick_up(&shop, order, h_contract, total).await, entries);
    }
    let asked = exchange.asked();
    assert_eq!(asked.len(), 2);
    assert_recorded(&asked[0], &late);
    assert_recorded(&asked[1], &gone);
    // Past the wire deadline the merchant grants no more, and the wallet is told the same as before.
    shop.clock.advance_s(1);
    assert_eq!(shop.approve(order, "TESTKUDOS:3").await.error(), (410, 2169));
    assert_eq!(pick_up(&shop, order, h_contract, "TESTKUDOS:2").await, entries);
    assert_eq!(exchange.asked().len(), 2);
    shop.audit().await;
    assert_kept(&shop, &[&late, &gone]);
}
