//! What wallets and customers see of an order, and long polling.

use std::time::Duration;

use quittance_taler::HashCode;
use serde_json::{Value, json};

use crate::support::Shop;
use crate::support::selling::nonce;

/// Longer than any test takes: what comes sooner was woken.
const LONG: &str = "timeout_ms=30000";

fn of(id: &str, query: &str) -> String {
    format!("orders/{id}?{query}")
}

#[tokio::test]
async fn an_order_is_seen_by_who_has_its_token_or_its_contract() {
    let mut shop = Shop::open_selling().await;
    let token = shop.offer("boots", "KUDOS:7").await;
    let by_token = of("boots", &format!("token={token}"));
    let wrong = of("boots", "token=91JPRV3F5GG4EKJN41A62V35E8");
    let pay = format!("taler://pay/shop.example/boots/?c={token}");
    let unpaid = json!({"taler_pay_uri": pay, "fulfillment_url": "https://shop.example/thanks"});
    assert_eq!(shop.get(&by_token).await.expect(402), unpaid);
    assert_eq!(shop.get("orders/boots").await.error(), (403, 2105));
    assert_eq!(shop.get(&wrong).await.error(), (403, 2105));
    let none = HashCode::from_bytes([1; 64]);
    assert_eq!(shop.status("boots", none).await.error(), (403, 2106));
    assert_eq!(shop.get("orders/nobodys").await.error(), (404, 2005));

    let claimed = shop.claim("boots", 1, Some(&token)).await.expect(200);
    let terms = &claimed["contract_terms"];
    let h_contract = quittance_taler::contract_hash(terms).unwrap();
    assert_eq!(shop.get(&by_token).await.expect(402), unpaid);
    assert_eq!(shop.status("boots", h_contract).await.expect(402), unpaid);
    assert_eq!(shop.status("boots", none).await.error(), (403, 2106));
    assert_eq!(shop.get(&wrong).await.error(), (403, 2105));
    assert_eq!(shop.get("orders/boots").await.error(), (403, 2105));

    shop.pay_terms(terms, "").await.expect(200);
    let paid = json!({"refunded": false, "refund_pending": false, "refund_amount": "KUDOS:0", "refund_taken": "KUDOS:0"});
    assert_eq!(shop.status("boots", h_contract).await.expect(200), paid);
    let mut with_url = paid;
    with_url["fulfillment_url"] = json!("https://shop.example/thanks");
    assert_eq!(shop.get(&by_token).await.expect(200), with_url);
    for query in [
        "timeout_ms=x",
        "refund=EUR:1",
        "refund=1",
        "token=x",
        "session_id=..",
        "await_refund_obtained=maybe",
    ] {
        assert_eq!(shop.get(&of("boots", query)).await.error(), (400, 26), "{query}");
    }
    shop.audit().await;
}

#[tokio::test]
async fn without_a_token_whoever_knows_the_id_sees_it_and_others_may_order_again() {
    let mut shop = Shop::open_selling().await;
    let order = json!({"order_id": "open", "amount": "KUDOS:1", "summary": "x", "fulfillment_message": "y"});
    shop.order(&order, &json!({"create_token": false}))
        .await
        .expect(200);
    let pay = json!({"taler_pay_uri": "taler://pay/shop.example/open/"});
    assert_eq!(shop.get("orders/open").await.expect(402), pay);
    shop.claim("open", 1, None).await.expect(200);
    assert_eq!(shop.get("orders/open").await.expect(402), pay);

    let again = "https://shop.example/again";
    let order = json!({"order_id": "theirs", "amount": "KUDOS:1", "summary": "x", "fulfillment_message": "y",
                       "public_reorder_url": again});
    let token = shop.order(&order, &json!({})).await.expect(200)["token"].clone();
    let elsewhere = json!({"public_reorder_url": again});
    assert_eq!(shop.get("orders/theirs").await.expect(202), elsewhere);
    shop.claim("theirs", 1, token.as_str()).await.expect(200);
    assert_eq!(shop.get("orders/theirs").await.expect(202), elsewhere);
    shop.audit().await;
}

#[tokio::test]
async fn in_a_session_it_is_paid_once_that_is_shown_there() {
    let mut shop = Shop::open_selling().await;
    let (token, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    shop.pay_terms(&terms, "browser").await.expect(200);
    let seen = async |session: &str| {
        let query = format!("h_contract={h_contract}&session_id={session}");
        shop.get(&of("boots", &query)).await
    };
    seen("browser").await.expect(200);
    seen("").await.expect(200);
    let elsewhere = seen("phone").await.expect(402);
    assert_eq!(
        elsewhere["taler_pay_uri"],
        format!("taler://pay/shop.example/boots/phone?c={token}")
    );
    let private = shop
        .get_private("private/orders/boots?session_id=phone")
        .await
        .expect(200);
    assert_eq!(private["order_status"], "claimed");
    let url = format!("https://shop.example/orders/boots?token={token}&session_id=phone");
    assert_eq!(private["order_status_url"], url);
    let private = shop.get_private("private/orders/boots?session_id=browser").await;
    assert_eq!(private.expect(200)["order_status"], "paid");
    shop.audit().await;
}

#[tokio::test]
async fn who_pays_from_the_address_that_the_shop_was_told_pays_in_its_session() {
    let mut shop = Shop::open_selling().await;
    let token = shop.offer("boots", "KUDOS:7").await;
    let private = "private/orders/boots?session_id=browser";
    let url = shop.get_private(private).await.expect(200)["order_status_url"].clone();
    let path = url
        .as_str()
        .unwrap()
        .strip_prefix("https://shop.example/")
        .unwrap();
    let pay = shop.get(path).await.expect(402)["taler_pay_uri"].clone();
    assert_eq!(pay, format!("taler://pay/shop.example/boots/browser?c={token}"));
    let claimed = shop.claim("boots", 1, Some(&token)).await.expect(200);
    // Where the URI says so.
    shop.pay_terms(&claimed["contract_terms"], "browser")
        .await
        .expect(200);
    shop.get(path).await.expect(200);
    assert_eq!(
        shop.get_private(private).await.expect(200)["order_status"],
        "paid"
    );
    shop.audit().await;
}

#[tokio::test]
async fn what_was_bought_before_is_not_to_be_paid_again() {
    let mut shop = Shop::open_selling().await;
    // The same fulfillment URL.
    let (_, first, _) = shop.sold("first", "KUDOS:7").await;
    let purse = &mut shop.sandbox.withdraw("KUDOS:30".parse().unwrap()).unwrap();
    let payment = purse.pay(&first).unwrap();
    let pay = async |shop: &Shop, session: &str| {
        let body = payment.pay_request(session);
        shop.post("orders/first/pay", &body).await.expect(200);
    };
    pay(&shop, "one").await;
    let token = shop.offer("second", "KUDOS:7").await;
    let public = async |shop: &Shop, session: &str, wait: &str| {
        let query = format!("token={token}&session_id={session}&{wait}");
        let path = of("second", &query);
        let shown = tokio::time::timeout(Duration::from_secs(20), shop.get(&path)).await;
        shown.expect("it is answered at once").expect(402)["already_paid_order_id"].clone()
    };
    let private = async |shop: &Shop, query: &str| {
        let path = format!("private/orders/second?session_id={query}");
        let shown = tokio::time::timeout(Duration::from_secs(20), shop.get_private(&path)).await;
        let body = shown.expect("it is answered at once").expect(200);
        (
            body["already_paid_order_id"].clone(),
            body["already_paid_fulfillment_url"].clone(),
        )
    };
    let url = json!("https://shop.example/thanks");
    let nothing = (Value::Null, Value::Null);
    assert_eq!(
        private(&shop, &format!("one&{LONG}")).await,
        (json!("first"), url.clone())
    );
    assert_eq!(private(&shop, "two").await, nothing);
    assert_eq!(public(&shop, "two", "").await, Value::Null);
    // The wallet claims the second one, finds that it has the first, and shows that one in this session.
    shop.claim("second", 2, Some(&token)).await.expect(200);
    pay(&shop, "two").await;
    assert_eq!(public(&shop, "two", LONG).await, "first");
    // The first is in the last session alone.
    assert_eq!(public(&shop, "one", "").await, Value::Null);
    let path = format!("orders/second?token={token}&session_id=two");
    let (status, headers, body) = shop.raw("GET", &path, &[("accept", "text/html")], b"").await;
    assert_eq!(
        (status, headers["location"].to_str().unwrap(), body),
        (302, url.as_str().unwrap(), String::new())
    );

    // After a restart too.
    shop.audit().await;
    shop.start().await;
    shop.until("sessions are known again", async || {
        public(&shop, "two", "").await == "first"
    })
    .await;
    // What was refunded was not kept.
    shop.approve("first", "KUDOS:1").await.expect(200);
    assert_eq!(public(&shop, "two", "").await, Value::Null);
    assert_eq!(
        public(&shop, "two&allow_refunded_for_repurchase=YES", LONG).await,
        "first"
    );
    shop.audit().await;
}

#[tokio::test]
async fn who_waits_is_told_of_payment_refund_and_delivery() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let query = |more: &str| of("boots", &format!("h_contract={h_contract}&{LONG}&{more}"));
    let (public, private) = (query(""), format!("private/orders/boots?{LONG}"));
    let (paid, for_shop, ()) = tokio::join!(shop.get(&public), shop.get_private(&private), async {
        waiting(&shop, 2).await;
        shop.pay_terms(&terms, "").await.expect(200);
    });
    assert_eq!(paid.expect(200)["refunded"], false);
    assert_eq!(for_shop.expect(200)["order_status"], "paid");

    let above = query("refund=KUDOS:1");
    let (refunded, ()) = tokio::join!(shop.get(&above), async {
        waiting(&shop, 1).await;
        // Not enough to wake it for good.
        shop.approve("boots", "KUDOS:1").await.expect(200);
        shop.clock.advance_s(1);
        shop.approve("boots", "KUDOS:2.5").await.expect(200);
    });
    assert_eq!(refunded.expect(200)["refund_amount"], "KUDOS:2.5");
    let obtained = query("await_refund_obtained=yes");
    let (obtained, ()) = tokio::join!(shop.get(&obtained), async {
        waiting(&shop, 1).await;
        shop.fetch("boots", h_contract).await.expect(200);
    });
    let obtained: Value = obtained.expect(200);
    assert_eq!(
        (&obtained["refund_pending"], &obtained["refund_taken"]),
        (&json!(false), &json!("KUDOS:2.5"))
    );
    shop.audit().await;
}

/// Until so many requests wait, which hold no place among those that are worked on.
async fn waiting(shop: &Shop, count: usize) {
    let service = &shop.app().service;
    shop.until("somebody waits", async || service.waiters.count() == count)
        .await;
    shop.until("who waits holds no place", async || {
        let inside = service.admission.inside();
        inside.public + inside.private == 0
    })
    .await;
}

#[tokio::test]
async fn waiting_ends_in_time_when_the_client_leaves_and_when_the_service_stops() {
    let mut shop = Shop::open_selling().await;
    let token = shop.offer("boots", "KUDOS:7").await;
    let path = of("boots", &format!("token={token}"));
    shop.get(&format!("{path}&timeout_ms=30")).await.expect(402);
    assert_eq!(shop.app().service.waiters.count(), 0);
    // A client that hangs up.
    let long = format!("{path}&{LONG}");
    tokio::select! {
        _ = shop.get(&long) => panic!("it was answered"),
        () = waiting(&shop, 1) => {}
    }
    let service = std::sync::Arc::clone(&shop.app().service);
    shop.until("nobody waits", async || service.waiters.count() == 0)
        .await;
    // The claim wakes it, but there is nothing to wait for in that: it goes on.
    let still = async {
        waiting(&shop, 1).await;
        let body = json!({"nonce": nonce(1), "token": token});
        shop.post("orders/boots/claim", &body).await.expect(200);
        waiting(&shop, 1).await;
        service.waiters.close();
    };
    let (seen, ()) = tokio::join!(shop.get(&long), still);
    seen.expect(402);
    shop.audit().await;
}
