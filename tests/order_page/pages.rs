//! Pages as HTTP gives them.

use data_encoding::BASE64;
use hyper::HeaderMap;
use quittance_taler::contract_hash;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::{Shop, coin};

pub(crate) const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Page {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn state(&self) -> &str {
        let state = self.text.split_once("data-state=\"").unwrap().1;
        state.split_once('"').unwrap().0
    }

    fn heading(&self) -> &str {
        let heading = self.text.split_once("<h1>").unwrap().1;
        heading.split_once("</h1>").unwrap().0
    }
}

/// The page in this language, as safe as every page is; JSON has the same status.
pub(crate) async fn page(shop: &Shop, path: &str, language: &str) -> Page {
    let wanted = [("accept", BROWSER), ("accept-language", language)];
    let (status, headers, text) = shop.raw("GET", path, &wanted, b"").await;
    let page = Page {
        status,
        headers,
        text,
    };
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("vary", "Accept, Accept-Language"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
    let style = page
        .text
        .split_once("<style>")
        .unwrap()
        .1
        .split_once("</style>")
        .unwrap()
        .0;
    let hash = BASE64.encode(&Sha256::digest(style));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    assert_eq!(page.header("content-security-policy"), Some(policy.as_str()));
    for never in [
        "<script", "<img", "<iframe", "<object", "<form", " style=", "@import", "url(",
    ] {
        assert!(!page.text.contains(never), "{never}");
    }
    let (status, ..) = shop
        .raw("GET", path, &[("accept", "application/json")], b"")
        .await;
    assert_eq!(page.status, status, "{path}");
    page
}

#[tokio::test]
async fn an_order_is_offered_claimed_and_expires() {
    let mut shop = Shop::open_selling().await;
    let order = json!({"order_id": "mine", "amount": "KUDOS:7.5", "summary": "boots",
                       "summary_i18n": {"de": "Stiefel", "fr": "bottes"}, "fulfillment_message": "thanks"});
    let made = shop.order(&order, &json!({})).await.expect(200);
    let token = made["token"].as_str().unwrap();
    let path = format!("orders/mine?token={token}");
    let uri = format!("taler://pay/shop.example/mine/?c={token}");
    for (language, heading, summary, amount) in [
        ("en-GB,en;q=0.9", "Please pay", "boots", "7.50\u{a0}KUDOS"),
        (
            "de-AT,de;q=0.9,en;q=0.8",
            "Bitte bezahlen",
            "Stiefel",
            "7,50\u{a0}KUDOS",
        ),
        ("fr", "À payer", "bottes", "7,50\u{a0}KUDOS"),
    ] {
        let page = page(&shop, &path, language).await;
        assert_eq!(
            (page.status, page.state(), page.heading()),
            (402, "payable", heading)
        );
        assert_eq!(page.header("taler"), Some(uri.as_str()));
        assert_eq!(page.header("content-language"), Some(&language[..2]));
        for what in [
            summary,
            amount,
            &format!("href=\"{uri}\""),
            "<svg",
            "http-equiv=\"refresh\"",
        ] {
            assert!(page.text.contains(what), "{what}: {}", page.text);
        }
    }
    let in_session = page(&shop, &format!("{path}&session_id=s-1"), "en").await;
    assert_eq!(
        in_session.header("taler"),
        Some(uri.replace("/?", "/s-1?").as_str())
    );

    shop.claim("mine", 1, Some(token)).await.expect(200);
    let claimed = page(&shop, &path, "en").await;
    assert_eq!((claimed.status, claimed.state()), (402, "claimed"));
    assert_eq!(claimed.header("taler"), Some(uri.as_str()));
    assert!(!claimed.text.contains("<svg") && claimed.text.contains(&uri));

    shop.clock.advance_s(40 * 86_400);
    let expired = page(&shop, &path, "en").await;
    assert_eq!(
        (expired.status, expired.state(), expired.header("taler")),
        (402, "expired", None)
    );
    assert!(!expired.text.contains("taler://") && !expired.text.contains("http-equiv=\"refresh\""));
    shop.audit().await;
}

#[tokio::test]
async fn whoever_lacks_the_token_sees_nothing_of_the_order() {
    let mut shop = Shop::open_selling().await;
    let token = shop.offer("mine", "KUDOS:7").await;
    let wrong = "91JPRV3F5GG4EKJN41A62V35E8";
    for (path, status, state) in [
        ("orders/mine".to_owned(), 403, "forbidden"),
        (format!("orders/mine?token={wrong}"), 403, "forbidden"),
        ("orders/mine?token=nonsense".to_owned(), 400, "forbidden"),
        (format!("orders/yours?token={token}"), 404, "unknown"),
        (
            format!("instances/other/orders/mine?token={token}"),
            404,
            "unknown",
        ),
    ] {
        let page = page(&shop, &path, "en").await;
        assert_eq!((page.status, page.state()), (status, state), "{path}");
        assert_eq!(page.header("taler"), None);
        assert!(!page.text.contains("boots") && !page.text.contains(&token));
        assert_eq!(page.header("quittance-request").map(str::len), Some(16));
    }
    shop.audit().await;
}

#[tokio::test]
async fn who_comes_after_another_is_led_to_an_order_of_his_own() {
    let mut shop = Shop::open_selling().await;
    let order = json!({"order_id": "mine", "amount": "KUDOS:7", "summary": "boots", "fulfillment_message": "thanks",
                       "public_reorder_url": "https://shop.example/again?a=1&b=2"});
    let made = shop.order(&order, &json!({})).await.expect(200);
    shop.claim("mine", 1, made["token"].as_str()).await.expect(200);
    let page = page(&shop, "orders/mine", "en").await;
    assert_eq!((page.status, page.state()), (202, "elsewhere"));
    assert!(
        page.text
            .contains("href=\"https://shop.example/again?a=1&#38;b=2\"")
    );
    assert!(!page.text.contains("boots"));
    shop.audit().await;
}

#[tokio::test]
async fn a_paid_order_leads_to_the_shop_and_to_its_refunds() {
    let mut shop = Shop::open_selling().await;
    let order = json!({"order_id": "one", "amount": "KUDOS:10", "summary": "boots",
                       "fulfillment_url": "https://shop.example/thanks?a=1&b=2"});
    let made = shop.order(&order, &json!({})).await.expect(200);
    let path = format!("orders/one?token={}", made["token"].as_str().unwrap());
    let claimed = shop.claim("one", 1, made["token"].as_str()).await.expect(200);
    let terms = &claimed["contract_terms"];
    let hash = contract_hash(terms).unwrap();
    let unpaid = page(&shop, &path, "en").await;
    assert_eq!((unpaid.status, unpaid.state()), (402, "claimed"));
    shop.pay_terms(terms, "").await.expect(200);
    let paid = page(&shop, &path, "en").await;
    assert_eq!(
        (paid.status, paid.state(), paid.header("taler")),
        (200, "paid", None)
    );
    assert!(
        paid.text
            .contains("href=\"https://shop.example/thanks?a=1&#38;b=2\"")
    );

    shop.approve("one", "KUDOS:4").await.expect(200);
    let waiting = page(&shop, &path, "de").await;
    let uri = "taler://refund/shop.example/one/";
    assert_eq!(
        (waiting.status, waiting.state(), waiting.header("taler")),
        (200, "refund_waiting", Some(uri))
    );
    assert!(waiting.text.contains("4,00\u{a0}KUDOS") && waiting.text.contains("<svg"));
    assert!(waiting.text.contains(&format!("href=\"{uri}\"")));

    shop.fetch("one", hash).await.expect(200);
    shop.until("the delivery is recorded", async || {
        page(&shop, &path, "fr").await.state() == "refunded"
    })
    .await;
    let refunded = page(&shop, &path, "fr").await;
    assert_eq!((refunded.status, refunded.heading()), (200, "Remboursé"));
    // One more: what is waiting is what was not picked up.
    shop.clock.advance_s(2);
    shop.approve("one", "KUDOS:6.5").await.expect(200);
    let waiting = page(&shop, &path, "en").await;
    assert!(waiting.state() == "refund_waiting" && waiting.text.contains("2.50\u{a0}KUDOS"));

    let by_hash = page(&shop, &format!("orders/one?h_contract={hash}"), "en").await;
    assert_eq!(by_hash.state(), "refund_waiting");
    let other = page(&shop, &format!("orders/one?h_contract={}", "0".repeat(103)), "en").await;
    assert_eq!((other.status, other.state()), (403, "forbidden"));
    shop.audit().await;
}

#[tokio::test]
async fn wallets_get_json_whatever_else_they_take() {
    let mut shop = Shop::open().await;
    let hash = shop
        .sell("one", "KUDOS:10", &[coin(1, "KUDOS:10", "KUDOS:0.2")], true)
        .await;
    let path = format!("orders/one?h_contract={hash}");
    for accepted in [
        "*/*",
        "application/json",
        "application/json, text/html",
        "text/html;q=0.5, application/json",
    ] {
        let (status, headers, _) = shop.raw("GET", &path, &[("accept", accepted)], b"").await;
        assert_eq!(
            (status, headers["content-type"].to_str().unwrap()),
            (200, "application/json")
        );
    }
    // A page is for an order alone.
    let (status, headers, _) = shop.raw("GET", "config", &[("accept", BROWSER)], b"").await;
    assert_eq!(
        (status, headers["content-type"].to_str().unwrap()),
        (200, "application/json")
    );
    shop.audit().await;
}

#[tokio::test]
async fn what_a_shop_writes_is_text_and_nothing_else() {
    let mut shop = Shop::open_selling().await;
    let bait = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\" onload=\"x";
    let order = json!({"order_id": "bait", "amount": "KUDOS:1", "summary": bait, "fulfillment_message": bait,
                       "summary_i18n": {"de": bait}});
    let made = shop.order(&order, &json!({})).await.expect(200);
    let path = format!("orders/bait?token={}", made["token"].as_str().unwrap());
    for language in ["en", "de"] {
        // The page's own checks find no tag of it.
        let page = page(&shop, &path, language).await;
        assert!(page.text.contains("&#60;script&#62;alert(1)"));
    }
    shop.audit().await;
}
