//! `POST orders/$ORDER_ID/abort`, as a wallet sees it.

use quittance_sandbox::{Fault, FaultKind};
use serde_json::json;

use crate::support::{Shop, coin};

#[tokio::test]
async fn deposited_coins_come_back_and_others_are_told_undeposited() {
    let mut shop = Shop::open().await;
    let (a, b) = (
        coin(1, "KUDOS:10", "KUDOS:0.2"),
        coin(2, "KUDOS:3.5", "KUDOS:0.02"),
    );
    let hash = shop
        .sell("half", "KUDOS:13.5", std::slice::from_ref(&a), false)
        .await;
    let reply = shop.abort("half", hash, &[b.clone(), a.clone()]).await;
    let body = reply.expect(200);
    shop.check_receipt(&reply);
    assert_eq!(body["refunds"][0], json!({"type": "undeposited"}));
    assert_eq!(body["refunds"][1]["type"], "success");
    // Again: the same body and receipt, and the exchange is not asked again.
    let again = shop.abort("half", hash, &[b, a]).await;
    assert_eq!((again.body, again.receipt), (reply.body, reply.receipt));
    assert_eq!(shop.asked(), 1);
    shop.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_wallets_at_once_ask_the_exchange_once_per_coin() {
    let shop = Shop::open().await;
    let coins = [
        coin(1, "KUDOS:10", "KUDOS:0.2"),
        coin(2, "KUDOS:3.5", "KUDOS:0.02"),
        coin(3, "KUDOS:1", "KUDOS:0"),
    ];
    let hash = shop.sell("busy", "KUDOS:20", &coins[..2], false).await;
    shop.sandbox
        .fault(Fault {
            delay: std::time::Duration::from_millis(200),
            times: 2,
            ..Fault::new(FaultKind::Delay)
        })
        .unwrap();
    let shop = std::sync::Arc::new(shop);
    let mut wallets = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (shop, coins) = (std::sync::Arc::clone(&shop), coins.clone());
        wallets.spawn(async move { shop.abort("busy", hash, &coins).await });
    }
    let replies = wallets.join_all().await;
    for reply in &replies {
        reply.expect(200);
        shop.check_receipt(reply);
        assert_eq!(
            (&reply.body, &reply.receipt),
            (&replies[0].body, &replies[0].receipt)
        );
    }
    assert_eq!(shop.asked(), 2);
    let mut shop = std::sync::Arc::into_inner(shop).unwrap();
    shop.audit().await;
}
