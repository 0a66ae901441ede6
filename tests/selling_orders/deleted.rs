//! Orders that the shop takes back.

use quittance_events::Facts;
use serde_json::json;

use crate::support::{Shop, coin};

#[tokio::test]
async fn an_order_that_was_taken_back_is_unknown_and_its_id_stays_used() {
    let mut shop = Shop::open_selling().await;
    let token = shop.offer("boots", "KUDOS:7").await;
    let path = "private/orders/boots";
    assert_eq!(
        shop.delete_private("private/orders/nobodys").await.error(),
        (404, 2005)
    );
    assert_eq!(shop.delete_private(path).await.status, 204);
    for _ in 0..2 {
        assert_eq!(shop.delete_private(path).await.error(), (404, 2005));
        assert_eq!(shop.get_private(path).await.error(), (404, 2005));
        assert_eq!(
            shop.get(&format!("orders/boots?token={token}")).await.error(),
            (404, 2005)
        );
        assert_eq!(shop.claim("boots", 1, Some(&token)).await.error(), (404, 2300));
        let order = json!({"order_id": "boots", "amount": "KUDOS:7", "summary": "boots",
                           "fulfillment_url": "https://shop.example/thanks"});
        assert_eq!(shop.order(&order, &json!({})).await.error(), (409, 2503));
        let told = json!({"contract_terms": shop.terms("boots", "KUDOS:7", 86_400, 172_800)});
        let told = shop.post_private("private/ledger/orders", &told).await;
        assert_eq!(told.error(), (409, 2503));
        shop.stop().await;
        shop.start().await;
    }
    shop.audit().await;
    let events = shop.events();
    let deleted = events
        .iter()
        .filter(|event| matches!(event.facts, Facts::OrderDeleted(_)));
    assert_eq!(deleted.count(), 1);
}

#[tokio::test]
async fn one_that_a_wallet_has_claimed_goes_after_its_pay_deadline_or_by_force() {
    let mut shop = Shop::open_selling().await;
    for id in ["waits", "forced"] {
        shop.sold(id, "KUDOS:7").await;
    }
    let (_, _, h_contract) = shop.sold("late", "KUDOS:7").await;
    assert_eq!(
        shop.delete_private("private/orders/waits").await.error(),
        (409, 2520)
    );
    assert_eq!(
        shop.delete_private("private/orders/forced?force=x").await.error(),
        (400, 26)
    );
    assert_eq!(
        shop.delete_private("private/orders/forced?force=yes")
            .await
            .status,
        204
    );
    assert_eq!(
        shop.get_private("private/orders/forced").await.error(),
        (404, 2005)
    );
    shop.clock.advance_s(86_400);
    assert_eq!(shop.delete_private("private/orders/late").await.status, 204);
    // Nobody can do anything with it any more.
    assert_eq!(shop.status("late", h_contract).await.error(), (404, 2005));
    assert_eq!(shop.approve("late", "KUDOS:1").await.error(), (404, 2005));
    assert_eq!(shop.fetch("late", h_contract).await.error(), (404, 2005));
    let abort = shop
        .abort("late", h_contract, &[coin(1, "KUDOS:1", "KUDOS:0.1")])
        .await;
    assert_eq!(abort.error(), (404, 2253));
    assert_eq!(shop.tell("late", &[], false).await.error(), (404, 2005));
    shop.audit().await;
}

#[tokio::test]
async fn one_that_is_paid_or_was_told_stays() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, _) = shop.sold("paid", "KUDOS:7").await;
    shop.pay_terms(&terms, "").await.expect(200);
    assert_eq!(
        shop.delete_private("private/orders/paid?force").await.error(),
        (409, 2521)
    );
    shop.record_order(&shop.terms("told", "KUDOS:7", 86_400, 172_800))
        .await;
    assert_eq!(
        shop.delete_private("private/orders/told?force=yes").await.error(),
        (409, 2520)
    );
    shop.audit().await;
}
