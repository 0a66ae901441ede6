//! Aborts that the exchange refuses, and orders over which several parties fight.

use std::time::Duration;

use quittance_sandbox::Aggregate;
use serde_json::json;

use crate::support::{Coin, Options, Shop, coin};
use crate::{asked_for, count, delay, entry, fail, failure, refunded, status, success};

fn four(number: u8) -> Coin {
    coin(number, "KUDOS:4", "KUDOS:0.1")
}

#[tokio::test]
async fn a_refused_abort_answers_that_refusal_for_ever_and_its_coin_pays_again() {
    let mut shop = Shop::open().await;
    let coins = [four(1)];
    let hash = shop.sell("half", "KUDOS:4", &coins, false).await;
    fail(&shop, &coins[0], status(409, 1501), 1);
    let reply = shop.abort("half", hash, &coins).await;
    let body = reply.expect(200);
    assert_eq!(entry(&body, 0), failure(409, 1501));
    assert_eq!(body["refunds"][0]["exchange_reply"]["code"], 1501);
    let again = shop.abort("half", hash, &coins).await;
    assert_eq!((&again.body, &again.receipt), (&reply.body, &reply.receipt));
    // It counts for a payment again; paid or not, the refusal is answered.
    let told = shop.tell("half", &coins, true).await.expect(200);
    assert_eq!((&told["deposits"], &told["paid"]), (&json!(1), &json!(true)));
    let after = shop.abort("half", hash, &coins).await;
    assert_eq!(after.body, reply.body);
    shop.check_receipt(&after);
    assert_eq!((asked_for(&shop, &coins[0]), refunded(&shop, &coins[0])), (1, 0));
    // And what was paid can be refunded.
    shop.approve("half", "KUDOS:4").await.expect(200);
    assert_eq!(entry(&shop.fetch("half", hash).await.expect(200), 0), success());
    assert_eq!(refunded(&shop, &coins[0]), 1);
    shop.audit().await;
}

#[tokio::test]
async fn an_exchange_that_has_paid_out_refuses_for_good() {
    let mut shop = Shop::open().await;
    let coins = [four(1)];
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    assert_eq!(shop.sandbox.aggregate(Aggregate::default()), 1);
    assert_eq!(
        entry(&shop.abort("half", hash, &coins).await.expect(200), 0),
        failure(410, 1503)
    );
    shop.stop().await;
    shop.start().await;
    assert_eq!(
        entry(&shop.abort("half", hash, &coins).await.expect(200), 0),
        failure(410, 1503)
    );
    assert_eq!(asked_for(&shop, &coins[0]), 1);
    shop.audit().await;
}

#[tokio::test]
async fn a_deposit_that_the_exchange_does_not_know_is_undeposited_and_pays_nothing() {
    for (mode, told) in [
        ("typed", json!({"type": "undeposited"})),
        (
            "failure",
            json!({"type": "failure", "exchange_status": 404, "exchange_code": 1502}),
        ),
    ] {
        let mut shop = Shop::open_with(Options {
            undeposited: mode,
            ..Options::default()
        })
        .await;
        // One was told and never deposited, the other was deposited for another contract: 1005 and 1502.
        let coins = [four(1), four(2)];
        let other = shop
            .record_order(&shop.terms("other", "KUDOS:9", 86_400, 172_800))
            .await;
        shop.book(other, &coins[1..]);
        let hash = shop
            .record_order(&shop.terms("half", "KUDOS:8", 86_400, 172_800))
            .await;
        shop.tell("half", &coins, false).await.expect(200);
        let reply = shop.abort("half", hash, &coins).await;
        assert_eq!(reply.expect(200)["refunds"], json!([told, told]));
        let again = shop.abort("half", hash, &coins).await;
        assert_eq!((again.body, again.receipt), (reply.body, reply.receipt));
        assert_eq!(shop.tell("half", &coins, true).await.error(), (400, 2156));
        assert_eq!(coins.each_ref().map(|coin| asked_for(&shop, coin)), [1, 1]);
        let report = shop.audit().await;
        assert!(
            !report.notes.is_empty(),
            "the auditor should be told of deposits that there are not"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_wallet_pays_with_other_coins_while_an_abort_is_under_way() {
    let shop = std::sync::Arc::new(Shop::open().await);
    let (given_up, paying) = ([four(1)], [four(2), four(3)]);
    let hash = shop.sell("fight", "KUDOS:8", &given_up, false).await;
    delay(&shop, &given_up[0], Duration::from_millis(400));
    let abort = tokio::spawn({
        let (shop, coins) = (std::sync::Arc::clone(&shop), given_up.clone());
        async move { shop.abort("fight", hash, &coins).await }
    });
    shop.until("the exchange is asked", async || {
        asked_for(&shop, &given_up[0]) == 1
    })
    .await;
    shop.book(hash, &paying);
    // Told with the coin that is given up: it does not count, the others do.
    let all = [given_up.as_slice(), &paying].concat();
    assert_eq!(
        shop.tell("fight", &all, true).await.expect(200)["paid"],
        json!(true)
    );
    assert_eq!(shop.abort("fight", hash, &paying).await.error(), (412, 2254));
    assert_eq!(shop.abort("fight", hash, &all).await.error(), (412, 2254));
    let reply = abort.await.unwrap();
    assert_eq!(entry(&reply.expect(200), 0), success());
    let again = shop.abort("fight", hash, &given_up).await;
    assert_eq!((&again.body, &again.receipt), (&reply.body, &reply.receipt));
    assert_eq!(shop.approve("fight", "KUDOS:8.01").await.error(), (409, 2530));
    shop.approve("fight", "KUDOS:8").await.expect(200);
    let body = shop.fetch("fight", hash).await.expect(200);
    assert_eq!(
        (
            body["refund_amount"].as_str(),
            body["refunds"].as_array().unwrap().len()
        ),
        (Some("KUDOS:8"), 2)
    );
    assert_eq!(shop.asked(), 3);
    let mut shop = std::sync::Arc::into_inner(shop).unwrap();
    shop.stop().await;
    assert_eq!(count(&shop.events(), "abort_refused"), 2);
    shop.audit().await;
}

#[tokio::test]
async fn two_wallets_give_up_their_own_coins_of_one_order() {
    let mut shop = Shop::open().await;
    let coins = [four(1), four(2)];
    let hash = shop.sell("fight", "KUDOS:20", &coins, false).await;
    assert_eq!(
        entry(&shop.abort("fight", hash, &coins[..1]).await.expect(200), 0),
        success()
    );
    assert_eq!((asked_for(&shop, &coins[1]), refunded(&shop, &coins[1])), (0, 0));
    assert_eq!(
        entry(&shop.abort("fight", hash, &coins[1..]).await.expect(200), 0),
        success()
    );
    assert_eq!(shop.asked(), 2);
    shop.audit().await;
}

#[tokio::test]
async fn a_deposit_after_its_abort_is_given_back_by_the_background() {
    let mut shop = Shop::open().await;
    let coins = [four(1)];
    let hash = shop
        .record_order(&shop.terms("late", "KUDOS:4", 86_400, 172_800))
        .await;
    let reply = shop.abort("late", hash, &coins).await;
    assert_eq!(reply.expect(200)["refunds"], json!([{"type": "undeposited"}]));
    shop.book(hash, &coins);
    // It says paid, but the coin was given up.
    assert_eq!(shop.tell("late", &coins, true).await.error(), (400, 2156));
    shop.until("the refund", async || {
        shop.app().service.ledger.open_permissions().unwrap().is_empty()
    })
    .await;
    assert_eq!((asked_for(&shop, &coins[0]), refunded(&shop, &coins[0])), (1, 1));
    let after = shop.abort("late", hash, &coins).await;
    assert_eq!(entry(&after.expect(200), 0), success());
    shop.check_receipt(&after);
    shop.stop().await;
    let events = shop.events();
    assert_eq!(
        (
            count(&events, "abort_requested"),
            count(&events, "abort_extended")
        ),
        (1, 1)
    );
    shop.audit().await;
}

#[tokio::test]
async fn a_deposit_after_the_payment_is_given_back_by_the_background() {
    let mut shop = Shop::open().await;
    let coins = [four(1), four(2)];
    let hash = shop.sell("sold", "KUDOS:4", &coins[..1], true).await;
    shop.book(hash, &coins[1..]);
    fail(&shop, &coins[1], status(503, 53), 1);
    shop.tell("sold", &coins, true).await.expect(200);
    shop.until("the first attempt", async || asked_for(&shop, &coins[1]) == 1)
        .await;
    // A wallet may ask for it too: it is under an abort, so this is a repeat and no 412.
    shop.until("a decision", async || {
        shop.abort("sold", hash, &coins[1..]).await.status == 200
    })
    .await;
    assert_eq!(refunded(&shop, &coins[1]), 1);
    assert_eq!(shop.abort("sold", hash, &coins).await.error(), (412, 2254));
    // It is no refund of the merchant's, and none of his to grant.
    assert_eq!(
        shop.fetch("sold", hash).await.expect(200)["refund_amount"],
        "KUDOS:0"
    );
    assert_eq!(shop.approve("sold", "KUDOS:5").await.error(), (409, 2530));
    shop.audit().await;
}

#[tokio::test]
async fn a_refund_that_the_exchange_refuses_is_told_and_not_asked_again() {
    let mut shop = Shop::open().await;
    let coins = [four(1)];
    let hash = shop.sell("sold", "KUDOS:4", &coins, true).await;
    shop.approve("sold", "KUDOS:3").await.expect(200);
    shop.sandbox.aggregate(Aggregate::default());
    let reply = shop.fetch("sold", hash).await;
    assert_eq!(entry(&reply.expect(200), 0), failure(410, 1503));
    shop.clock.advance_s(10);
    let again = shop.fetch("sold", hash).await;
    assert_eq!((again.body, again.receipt), (reply.body, reply.receipt));
    assert_eq!((asked_for(&shop, &coins[0]), refunded(&shop, &coins[0])), (1, 0));
    assert_eq!(
        shop.status("sold", hash).await.expect(200)["refund_pending"],
        json!(false)
    );
    shop.audit().await;
}
