//! One whole story, byte for byte: the answers, and the events that they rest on. Clock, keys, coins and the exchange's
//! address are fixed, so what changes here changes what wallets and auditors see.

use serde_json::{Value, json};

use crate::support::{Options, Reply, Shop, coin, key_text};
use crate::tools::{fixed_sandbox, taken};

/// Where the exchange says it is.
const EXCHANGE: &str = "http://exchange.example/";

/// What is made anew in each run: salted digests, the ledger's keys and all that follows from them.
fn redact(name: &str, value: &mut Value) {
    match (name, value) {
        ("prev" | "event_key" | "checkpoint_key" | "by", value) => *value = json!(format!("[{name}]")),
        ("attachments", Value::Object(members)) => {
            members
                .values_mut()
                .for_each(|digest| *digest = json!("[salted]"));
        }
        (_, Value::Object(members)) => members.iter_mut().for_each(|(name, value)| redact(name, value)),
        (_, Value::Array(items)) => items.iter_mut().for_each(|item| redact("", item)),
        _ => {}
    }
}

fn answer(reply: &Reply) -> Value {
    let body = if reply.body.is_empty() {
        Value::Null
    } else {
        reply.json()
    };
    json!({"status": reply.status, "receipted": reply.receipt.is_some(), "body": body})
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a story is told from beginning to end")]
async fn a_story() {
    let exchange = fixed_sandbox().await;
    let mut shop = Shop::open_with(Options {
        merchant_key: Some(key_text([42; 32])),
        exchange: Some((
            EXCHANGE.to_owned(),
            exchange.master_pub().to_string(),
            exchange.addr(),
        )),
        ..Options::default()
    })
    .await;
    let (a, b, c) = (
        coin(1, "KUDOS:10", "KUDOS:0.2"),
        coin(2, "KUDOS:2.5", "KUDOS:0.02"),
        coin(3, "KUDOS:4", "KUDOS:0.1"),
    );
    let mut answers = serde_json::Map::new();
    let mut told = |step: &str, reply: &Reply| {
        assert!(answers.insert(step.to_owned(), answer(reply)).is_none());
    };
    let deposit = |coin: &crate::support::Coin, h_contract| {
        exchange
            .deposit(quittance_sandbox::Deposit {
                coin_pub: coin.coin_pub,
                h_contract,
                merchant_pub: shop.merchant_pub,
                amount_with_fee: coin.amount.parse().unwrap(),
                deposit_fee: coin.refund_fee.parse().unwrap(),
                refund_fee: coin.refund_fee.parse().unwrap(),
                refund_deadline: None,
            })
            .unwrap();
    };
    let terms = |id: &str, amount: &str| {
        let mut terms = shop.terms(id, amount, 86_400, 172_800);
        terms["exchanges"][0]["url"] = json!(EXCHANGE);
        terms
    };
    let tell = async |id: &str, coins: &[crate::support::Coin], paid: bool| {
        let mut told = shop.told(coins);
        for told in &mut told {
            told["exchange_url"] = json!(EXCHANGE);
        }
        let body = json!({"deposits": told, "paid": paid});
        shop.post_private(&format!("private/ledger/orders/{id}/deposits"), &body)
            .await
    };

    // Sold, refunded in two steps, fetched after each.
    let body = json!({"contract_terms": terms("2026.325-01", "KUDOS:12")});
    let reply = shop.post_private("private/ledger/orders", &body).await;
    told("01 order", &reply);
    let sold = serde_json::from_value(reply.json()["h_contract"].clone()).unwrap();
    for coin in [&a, &b] {
        deposit(coin, sold);
    }
    told(
        "02 first deposit, not enough",
        &tell("2026.325-01", std::slice::from_ref(&a), true).await,
    );
    told("03 status while unpaid", &shop.status("2026.325-01", sold).await);
    told("04 fetch while unpaid", &shop.fetch("2026.325-01", sold).await);
    told(
        "05 payment",
        &tell("2026.325-01", &[a.clone(), b.clone()], true).await,
    );
    shop.clock.advance_s(60);
    told("06 approval", &shop.approve("2026.325-01", "KUDOS:1").await);
    told("07 status", &shop.status("2026.325-01", sold).await);
    told("08 fetch", &shop.fetch("2026.325-01", sold).await);
    taken(&shop, "2026.325-01", sold, "KUDOS:1").await;
    told(
        "09 second approval",
        &shop.approve("2026.325-01", "KUDOS:10.01").await,
    );
    told("10 fetch", &shop.fetch("2026.325-01", sold).await);
    taken(&shop, "2026.325-01", sold, "KUDOS:10.01").await;
    told("11 status", &shop.status("2026.325-01", sold).await);
    let coins = json!([{"coin_pub": a.coin_pub, "contribution": "KUDOS:10", "exchange_url": EXCHANGE}]);
    let body = json!({"h_contract": sold, "coins": coins});
    told(
        "12 abort of what is paid",
        &shop.post("orders/2026.325-01/abort", &body).await,
    );

    // Half paid and aborted.
    let body = json!({"contract_terms": terms("2026.325-02", "KUDOS:6")});
    let reply = shop.post_private("private/ledger/orders", &body).await;
    told("13 order", &reply);
    let half = serde_json::from_value(reply.json()["h_contract"].clone()).unwrap();
    deposit(&c, half);
    told(
        "14 deposit",
        &tell("2026.325-02", std::slice::from_ref(&c), false).await,
    );
    let coins = json!([
        {"coin_pub": coin(9, "", "").coin_pub, "contribution": "KUDOS:2", "exchange_url": EXCHANGE},
        {"coin_pub": c.coin_pub, "exchange_url": EXCHANGE},
    ]);
    let body = json!({"h_contract": half, "coins": coins});
    told("15 abort", &shop.post("orders/2026.325-02/abort", &body).await);

    // Too late for anything.
    shop.clock.advance_s(172_800);
    told(
        "16 approval past the deadline",
        &shop.approve("2026.325-01", "KUDOS:12").await,
    );
    told("17 config", &shop.get("config").await);

    // The ledger's own files, where they are not to be had.
    told(
        "18 a tile that is not full yet",
        &shop.get("ledger/tile/0/000").await,
    );
    told(
        "19 entries without a token",
        &shop.get("ledger/tile/entries/000.p/1").await,
    );

    insta::assert_json_snapshot!("answers", answers);
    shop.audit().await;
    let events: Vec<Value> = shop
        .events()
        .iter()
        .map(|event| {
            let mut sealed: Value = serde_json::from_slice(&event.canonical()).unwrap();
            redact("", &mut sealed);
            sealed
        })
        .collect();
    insta::assert_json_snapshot!("events", events);
}
