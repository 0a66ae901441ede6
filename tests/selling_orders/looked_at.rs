//! How an order stands, for the shop.

use serde_json::{Value, json};

use crate::support::{Shop, coin};

async fn state(shop: &Shop, id: &str) -> Value {
    shop.get_private(&format!("private/orders/{id}"))
        .await
        .expect(200)
}

#[tokio::test]
async fn it_is_unpaid_then_claimed_then_paid() {
    let mut shop = Shop::open_selling().await;
    let start = shop.clock.now_s();
    let token = shop.offer("boots", "KUDOS:7").await;
    let url = format!("https://shop.example/orders/boots?token={token}");
    assert_eq!(
        state(&shop, "boots").await,
        json!({
            "order_status": "unpaid",
            "taler_pay_uri": format!("taler://pay/shop.example/boots/?c={token}"),
            "order_status_url": url,
            "creation_time": {"t_s": start},
            "pay_deadline": {"t_s": start + 86_400},
            "total_amount": "KUDOS:7",
            "summary": "boots",
            "fulfillment_url": "https://shop.example/thanks",
        })
    );
    let terms = shop.claim("boots", 1, Some(&token)).await.expect(200)["contract_terms"].clone();
    let claimed = json!({"order_status": "claimed", "contract_terms": terms, "order_status_url": url});
    assert_eq!(state(&shop, "boots").await, claimed);

    shop.clock.advance_s(5);
    shop.pay_terms(&terms, "").await.expect(200);
    let paid = state(&shop, "boots").await;
    let deposited = paid["deposit_total"].clone();
    assert_eq!(
        paid,
        json!({
            "order_status": "paid", "contract_terms": terms, "order_status_url": url,
            "refunded": false, "refund_pending": false, "refund_amount": "KUDOS:0", "refund_taken": "KUDOS:0",
            "deposit_total": deposited, "last_payment": {"t_s": start + 5}, "refund_details": [],
            "wired": false, "wire_details": [], "wire_reports": [],
            "exchange_code": 0, "exchange_http_status": 0, "exchange_ec": 0, "exchange_hc": 0,
        })
    );
    shop.clock.advance_s(5);
    shop.approve("boots", "KUDOS:1").await.expect(200);
    shop.clock.advance_s(5);
    let body = json!({"refund": "KUDOS:1.5", "reason": "torn"});
    shop.post_private("private/orders/boots/refund", &body)
        .await
        .expect(200);
    let refunded = state(&shop, "boots").await;
    assert_eq!(
        (&refunded["refunded"], &refunded["refund_pending"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(refunded["refund_amount"], "KUDOS:1.5");
    assert_eq!(
        refunded["refund_details"],
        json!([
            {"reason": "returned", "pending": true, "timestamp": {"t_s": start + 10}, "amount": "KUDOS:1"},
            {"reason": "torn", "pending": true, "timestamp": {"t_s": start + 15}, "amount": "KUDOS:0.5"},
        ])
    );
    let h_contract = quittance_taler::contract_hash(&terms).unwrap();
    shop.fetch("boots", h_contract).await.expect(200);
    shop.until("the delivery is recorded", async || {
        state(&shop, "boots").await["refund_pending"] == false
    })
    .await;
    let obtained = state(&shop, "boots").await;
    assert_eq!(obtained["refund_details"][1]["pending"], false);
    // As after a restart, when all is read from the disk.
    shop.audit().await;
    shop.start().await;
    assert_eq!(state(&shop, "boots").await, obtained);
    shop.audit().await;
}

#[tokio::test]
async fn orders_that_were_told_are_shown_too() {
    let mut shop = Shop::open().await;
    let terms = shop.terms("told", "KUDOS:7", 86_400, 172_800);
    let h_contract = shop.record_order(&terms).await;
    let url = format!("https://shop.example/orders/told?h_contract={h_contract}");
    let claimed = json!({"order_status": "claimed", "contract_terms": terms, "order_status_url": url});
    assert_eq!(state(&shop, "told").await, claimed);
    let a = coin(1, "KUDOS:7", "KUDOS:0.1");
    shop.book(h_contract, std::slice::from_ref(&a));
    shop.tell("told", &[a], true).await.expect(200);
    let paid = shop
        .get_private("private/orders/told?session_id=any")
        .await
        .expect(200);
    assert_eq!(
        (&paid["order_status"], &paid["deposit_total"]),
        (&json!("paid"), &json!("KUDOS:7"))
    );
    let unknown = shop.get_private("private/orders/nobodys").await;
    assert_eq!(unknown.error(), (404, 2005));
    assert_eq!(shop.get("private/orders/told").await.error(), (401, 40));
    shop.audit().await;
}

#[tokio::test]
async fn who_knows_a_reply_waits_for_another_one() {
    let mut shop = Shop::open_selling().await;
    let token = shop.offer("boots", "KUDOS:7").await;
    let look = async |query: &str| {
        let bearer = format!("Bearer {}", shop.token);
        let (status, headers, body) = shop
            .raw(
                "GET",
                &format!("private/orders/boots{query}"),
                &[("authorization", &bearer)],
                b"",
            )
            .await;
        let tag = headers["etag"].to_str().unwrap().to_owned();
        (status, tag, body)
    };
    let (status, unpaid, body) = look("").await;
    assert_eq!(status, 200);
    assert!(body.contains("unpaid"));
    for tag in [&*unpaid, unpaid.trim_matches('"')] {
        let known = look(&format!("?lp_not_etag={}", tag.replace('"', "%22"))).await;
        assert_eq!(known, (304, unpaid.clone(), String::new()));
    }
    let other = look("?lp_not_etag=other&timeout_ms=30000").await;
    assert_eq!(other, (200, unpaid.clone(), body));

    let query = format!("?lp_not_etag={}&timeout_ms=30000", unpaid.trim_matches('"'));
    let service = &shop.app().service;
    let ((status, claimed, body), terms) = tokio::join!(look(&query), async {
        shop.until("somebody waits", async || service.waiters.count() == 1)
            .await;
        shop.claim("boots", 1, Some(&token)).await.expect(200)["contract_terms"].clone()
    });
    assert!(status == 200 && body.contains("claimed"), "{body}");
    let query = format!("?lp_not_etag={}&timeout_ms=30000", claimed.trim_matches('"'));
    let ((status, _, body), ()) = tokio::join!(look(&query), async {
        shop.until("somebody waits", async || service.waiters.count() == 1)
            .await;
        shop.pay_terms(&terms, "").await.expect(200);
    });
    assert!(
        status == 200 && body.contains(r#""order_status":"paid""#),
        "{body}"
    );
    shop.audit().await;
}
