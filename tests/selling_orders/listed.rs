//! Lists of orders.

use serde_json::{Value, json};

use crate::support::{Shop, coin};

async fn list(shop: &Shop, query: &str) -> Vec<Value> {
    let body = shop
        .get_private(&format!("private/orders?{query}"))
        .await
        .expect(200);
    assert!(body.get("next_offset").is_none(), "{body}");
    body["orders"].as_array().unwrap().clone()
}

async fn ids(shop: &Shop, query: &str) -> Vec<String> {
    let orders = list(shop, query).await;
    orders
        .iter()
        .map(|order| order["order_id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn orders_are_listed_by_what_became_of_them_page_by_page() {
    let mut shop = Shop::open_selling().await;
    let start = shop.clock.now_s();
    shop.offer("offered", "KUDOS:1").await;
    shop.clock.advance_s(10);
    let (_, terms, _) = shop.sold("paid", "KUDOS:2").await;
    shop.pay_terms(&terms, "").await.expect(200);
    shop.clock.advance_s(10);
    let (_, terms, h_contract) = shop.sold("refunded", "KUDOS:3").await;
    shop.pay_terms(&terms, "").await.expect(200);
    shop.approve("refunded", "KUDOS:1").await.expect(200);
    shop.clock.advance_s(10);
    shop.sell("told", "KUDOS:4", &[coin(1, "KUDOS:4", "KUDOS:0.1")], true)
        .await;
    shop.offer("gone", "KUDOS:5").await;
    shop.delete_private("private/orders/gone").await;

    let all = ["told", "refunded", "paid", "offered"];
    assert_eq!(ids(&shop, "").await, all);
    assert_eq!(ids(&shop, "paid=ALL&refunded=all&wired=no").await, all);
    assert_eq!(ids(&shop, "paid=YES").await, all[..3]);
    assert_eq!(ids(&shop, "paid=no").await, ["offered"]);
    assert_eq!(ids(&shop, "refunded=yes").await, ["refunded"]);
    assert_eq!(ids(&shop, "refunded=NO&paid=YES").await, ["told", "paid"]);
    assert_eq!(ids(&shop, "limit=2").await, ["offered", "paid"]);
    assert_eq!(ids(&shop, "delta=-1").await, ["told"]);
    assert_eq!(ids(&shop, "limit=0").await, [""; 0]);
    let before = format!("date_s={}", start + 20);
    assert_eq!(ids(&shop, &before).await, ["paid", "offered"]);
    assert_eq!(ids(&shop, &format!("{before}&limit=9")).await, ["told"]);

    let rows = list(&shop, "limit=20").await;
    let row = |at: usize| rows[at]["row_id"].as_u64().unwrap();
    assert_eq!(
        ids(&shop, &format!("offset={}&limit=-2", row(3))).await,
        ["refunded", "paid"]
    );
    assert_eq!(
        ids(&shop, &format!("start={}&delta=2", row(0))).await,
        ["paid", "refunded"]
    );
    assert_eq!(ids(&shop, &format!("offset={}&limit=2", row(3))).await, [""; 0]);
    assert_eq!(
        rows[2],
        json!({"order_id": "refunded", "row_id": row(2), "timestamp": {"t_s": start + 20}, "amount": "KUDOS:3",
               "summary": "boots", "refundable": true, "paid": true, "refund_amount": "KUDOS:1",
               "pending_refund_amount": "KUDOS:1"})
    );
    shop.fetch("refunded", h_contract).await.expect(200);
    shop.until("the refund is taken", async || {
        list(&shop, "refunded=yes").await[0]["pending_refund_amount"] == "KUDOS:0"
    })
    .await;

    for query in ["paid=maybe", "limit=x", "date_s=-1", "offset=-1"] {
        let reply = shop.get_private(&format!("private/orders?{query}")).await;
        assert_eq!(reply.error(), (400, 26), "{query}");
    }
    let wired = shop.get_private("private/orders?wired=yes").await;
    assert_eq!(wired.error(), (501, 76));
    // The same from the disk.
    let before = list(&shop, "").await;
    shop.audit().await;
    shop.start().await;
    assert_eq!(list(&shop, "").await, before);
    shop.audit().await;
}

#[tokio::test]
async fn orders_are_found_by_session_fulfillment_and_summary() {
    let mut shop = Shop::open_selling().await;
    let url = "https://shop.example/thanks?a=b&c";
    let order = json!({"order_id": "offered", "amount": "KUDOS:1", "summary": "Straße with TREES", "fulfillment_url": url});
    shop.order(&order, &json!({})).await.expect(200);
    let (_, terms, _) = shop.sold("moved", "KUDOS:2").await;
    let mut purse = shop.sandbox.withdraw("KUDOS:30".parse().unwrap()).unwrap();
    let payment = purse.pay(&terms).unwrap();
    for session in ["browser", "phone"] {
        let body = payment.pay_request(session);
        shop.post("orders/moved/pay", &body).await.expect(200);
    }
    let (_, terms, _) = shop.sold("stayed", "KUDOS:2").await;
    shop.pay_terms(&terms, "browser").await.expect(200);

    assert_eq!(ids(&shop, "session_id=browser").await, ["stayed"]);
    assert_eq!(ids(&shop, "session_id=phone").await, ["moved"]);
    assert_eq!(ids(&shop, "session_id=other").await, [""; 0]);
    assert_eq!(ids(&shop, "session_id=").await.len(), 3);
    let encoded: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    assert_eq!(
        ids(&shop, &format!("fulfillment_url={encoded}")).await,
        ["offered"]
    );
    assert_eq!(
        ids(&shop, "fulfillment_url=https://shop.example/thanks").await,
        ["stayed", "moved"]
    );
    assert_eq!(ids(&shop, "summary_filter=stra%C3%9Fe").await, ["offered"]);
    assert_eq!(ids(&shop, "summary_filter=trees&paid=yes").await, [""; 0]);
    assert_eq!(ids(&shop, "summary_filter=OO&limit=5").await, ["moved", "stayed"]);
    shop.audit().await;
}

#[tokio::test]
async fn who_waits_is_told_of_a_new_order_of_his_instance() {
    let mut shop = Shop::open_selling().await;
    shop.offer("first", "KUDOS:1").await;
    let row = list(&shop, "").await[0]["row_id"].as_u64().unwrap();
    let next = format!("private/orders?limit=5&offset={row}&timeout_ms=30000");
    let (list, _) = tokio::join!(shop.get_private(&next), async {
        let service = &shop.app().service;
        shop.until("somebody waits", async || service.waiters.count() == 1)
            .await;
        shop.offer("second", "KUDOS:1").await
    });
    assert_eq!(list.expect(200)["orders"][0]["order_id"], "second");
    // Backwards there is nothing to wait for.
    let none = shop.get_private("private/orders?offset=1&timeout_ms=30000").await;
    assert_eq!(none.expect(200)["orders"], json!([]));
    shop.audit().await;
}
