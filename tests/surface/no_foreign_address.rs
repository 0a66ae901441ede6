//! Nobody leads the service to an address: not a wallet, not contract terms, not a shop, not an exchange's redirect.
//! It speaks to an exchange at the configured address of that exchange's key, and to nobody else.

use quittance_sandbox::{Fault, FaultKind};
use serde_json::json;

use crate::support::{Options, Shop, coin};
use crate::tools::{StandIn, Trap};

#[tokio::test]
async fn an_address_from_a_wallet_is_not_contacted() {
    let mut shop = Shop::open().await;
    let trap = Trap::set();
    let (a, b) = (coin(1, "KUDOS:10", "KUDOS:0.2"), coin(2, "KUDOS:5", "KUDOS:0.1"));
    let hash = shop
        .sell("led", "KUDOS:15", std::slice::from_ref(&a), false)
        .await;
    let named = |coin: &crate::support::Coin| json!({"coin_pub": coin.coin_pub, "exchange_url": trap.url()});
    let body = json!({"h_contract": hash, "coins": [named(&b), named(&a)]});
    // Once while the exchange fails, so that it is asked again by wallet and background.
    shop.sandbox.fault(Fault::new(FaultKind::LostReply)).unwrap();
    let reply = shop.post("orders/led/abort", &body).await.expect(200);
    assert_eq!(reply["refunds"][0]["type"], "undeposited");
    assert_eq!(reply["refunds"][1]["type"], "failure");
    shop.clock.advance_s(60);
    shop.until("the background's refund", async || {
        shop.post("orders/led/abort", &body).await.expect(200)["refunds"][1]["type"] == "success"
    })
    .await;
    // The coin that came late, too.
    shop.book(hash, std::slice::from_ref(&b));
    shop.tell("led", std::slice::from_ref(&b), false)
        .await
        .expect(200);
    shop.until("the late coin's refund", async || {
        shop.sandbox.refunds().len() == 2
    })
    .await;
    trap.nobody_came();
    shop.audit().await;
}

#[tokio::test]
async fn an_address_in_contract_terms_is_not_contacted_when_the_configuration_has_another() {
    let mut shop = Shop::open().await;
    let trap = Trap::set();
    let a = coin(1, "KUDOS:10", "KUDOS:0.2");
    // The terms name the right exchange, which is its key, at an address that it may have had once.
    let mut terms = shop.terms("moved", "KUDOS:10", 86_400, 172_800);
    terms["exchanges"][0]["url"] = json!(trap.url());
    let hash = shop.record_order(&terms).await;
    shop.book(hash, std::slice::from_ref(&a));
    let mut told = shop.told(std::slice::from_ref(&a));
    told[0]["exchange_url"] = json!(trap.url());
    let body = json!({"deposits": told, "paid": true});
    shop.post_private("private/ledger/orders/moved/deposits", &body)
        .await
        .expect(200);
    shop.approve("moved", "KUDOS:10").await.expect(200);
    assert_eq!(
        shop.fetch("moved", hash).await.expect(200)["refunds"][0]["type"],
        "success"
    );
    assert_eq!(shop.asked(), 1);
    trap.nobody_came();
    shop.audit().await;
}

#[tokio::test]
async fn the_url_of_the_configuration_is_not_contacted_when_connect_to_says_another() {
    let trap = Trap::set();
    let exchange = crate::tools::fixed_sandbox().await;
    let options = Options {
        exchange: Some((trap.url(), exchange.master_pub().to_string(), exchange.addr())),
        ..Options::default()
    };
    let mut shop = Shop::open_with(options).await;
    let a = coin(1, "KUDOS:10", "KUDOS:0.2");
    let hash = shop
        .sell("proxied", "KUDOS:11", std::slice::from_ref(&a), false)
        .await;
    // Its books are empty, and it says so: an answer of the right one.
    let reply = shop.abort("proxied", hash, &[a]).await.expect(200);
    assert_eq!(reply["refunds"][0], json!({"type": "undeposited"}));
    assert_eq!(
        exchange
            .requests()
            .iter()
            .filter(|request| request.path.ends_with("/refund"))
            .count(),
        1
    );
    assert_eq!(shop.asked(), 0);
    trap.nobody_came();
    shop.audit().await;
}

#[tokio::test]
async fn an_address_from_the_shop_must_be_one_of_the_terms_and_configured() {
    let mut shop = Shop::open().await;
    let trap = Trap::set();
    let a = coin(1, "KUDOS:10", "KUDOS:0.2");
    shop.sell("told", "KUDOS:10", &[], false).await;
    let mut terms = shop.terms("foreign", "KUDOS:10", 86_400, 172_800);
    terms["exchanges"] = json!([{"url": trap.url(), "master_pub": a.coin_pub}]);
    shop.record_order(&terms).await;
    let mut told = shop.told(&[a]);
    told[0]["exchange_url"] = json!(trap.url());
    for id in ["told", "foreign"] {
        let body = json!({"deposits": told, "paid": true});
        let reply = shop
            .post_private(&format!("private/ledger/orders/{id}/deposits"), &body)
            .await;
        assert_eq!(reply.error(), (400, 2025));
    }
    trap.nobody_came();
    assert!(shop.sandbox.requests().is_empty());
    shop.audit().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let stand_in = StandIn::start().await;
    let mut shop = stand_in.shop(Options::default()).await;
    let trap = Trap::set();
    let a = coin(1, "KUDOS:10", "KUDOS:0.2");
    let hash = shop
        .sell("moved", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    shop.approve("moved", "KUDOS:1").await.expect(200);
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        stand_in.says(
            status,
            &format!("location: {}coins/x/refund\r\n", trap.url()),
            "{}",
        );
        let reply = shop.fetch("moved", hash).await.expect(200);
        let entry = &reply["refunds"][0];
        assert_eq!(
            (entry["exchange_status"].as_u64(), entry["exchange_code"].as_u64()),
            (Some(502), Some(2013))
        );
        shop.clock.advance_s(5);
    }
    trap.nobody_came();
    shop.audit().await;
}
