//! `private/webhooks`: made, told, changed and taken away.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::Shop;

/// Makes a webhook; its secret, where one was told.
pub(crate) async fn make(shop: &Shop, webhook: &Value) -> Option<String> {
    let token = format!("Bearer {}", shop.token);
    let body = webhook.to_string();
    let headers = [("authorization", token.as_str())];
    let (status, headers, text) = shop
        .raw("POST", "private/webhooks", &headers, body.as_bytes())
        .await;
    assert_eq!((status, text.as_str()), (204, ""));
    let secret = headers.get("quittance-webhook-secret");
    secret.map(|secret| secret.to_str().unwrap().to_owned())
}

pub(crate) fn webhook(id: &str, event_type: &str, url: &str) -> Value {
    json!({"webhook_id": id, "event_type": event_type, "url": url, "http_method": "POST"})
}

async fn send(shop: &Shop, method: &str, path: &str, body: &Value) -> crate::support::Reply {
    let body = body.to_string().into_bytes();
    shop.send(method, path, Some(&shop.token), body).await
}

#[tokio::test]
async fn a_webhook_is_made_told_changed_and_taken_away() {
    let mut shop = Shop::open().await;
    assert_eq!(
        shop.get_private("private/webhooks").await.expect(200),
        json!({"webhooks": []})
    );
    let mut paid = webhook("paid-1", "pay", "https://shop.example/hook");
    paid["header_template"] = json!("Authorization: Bearer TOP-SECRET");
    let secret = make(&shop, &paid).await.expect("a new one has a secret");
    assert_eq!(secret.len(), 52);
    // Asked again, as after a lost answer: the secret is told once.
    assert_eq!(make(&shop, &paid).await, None);
    let other = webhook("paid-1", "refund", "https://shop.example/hook");
    assert_eq!(
        send(&shop, "POST", "private/webhooks", &other).await.error(),
        (409, 2900)
    );

    let listed = json!({"webhooks": [{"webhook_id": "paid-1", "event_type": "pay"}]});
    assert_eq!(shop.get_private("private/webhooks").await.expect(200), listed);
    let path = "private/webhooks/paid-1";
    let told = shop.get_private(path).await.expect(200);
    let expected = json!({"event_type": "pay", "url": "https://shop.example/hook", "http_method": "POST",
                          "header_template": "Authorization: Bearer TOP-SECRET"});
    assert_eq!(told, expected);

    let change = json!({"event_type": "refund", "url": "https://shop.example/other", "http_method": "PUT",
                        "body_template": "{{ order_id }}"});
    assert_eq!(send(&shop, "PATCH", path, &change).await.status, 204);
    assert_eq!(shop.get_private(path).await.expect(200), change);
    // It is all there after a restart, for its owner's eyes only, and nothing of it is in the ledger.
    shop.stop().await;
    shop.start().await;
    assert_eq!(shop.get_private(path).await.expect(200), change);
    let file = shop.config.keys.join("webhooks-default.json");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&file).unwrap().contains(&secret));

    assert_eq!(send(&shop, "DELETE", path, &json!({})).await.status, 204);
    for method in ["GET", "DELETE", "PATCH"] {
        assert_eq!(send(&shop, method, path, &change).await.error(), (404, 2019));
    }
    assert_eq!(
        shop.get_private("private/webhooks").await.expect(200),
        json!({"webhooks": []})
    );
    shop.stop().await;
    let ledger = std::fs::read(shop.ledger()).unwrap();
    for text in [secret.as_str(), "TOP-SECRET", "shop.example/hook", "paid-1"] {
        assert!(
            !ledger.windows(text.len()).any(|bytes| bytes == text.as_bytes()),
            "{text}"
        );
    }
    shop.audit().await;
}

#[tokio::test]
async fn what_cannot_be_told_is_refused() {
    let mut shop = Shop::open().await;
    let good = webhook("w", "pay", "https://shop.example/hook");
    for (member, value) in [
        ("webhook_id", json!("a/b")),
        ("webhook_id", json!("")),
        ("event_type", json!("order_settled")),
        ("url", json!("shop.example")),
        ("url", json!("file:///etc/passwd")),
        ("url", json!("https://user:secret@shop.example/")),
        ("http_method", json!("DELETE")),
        ("header_template", json!("Host: elsewhere.example")),
        ("header_template", json!("no header")),
        ("body_template", json!("{{#contract_terms}}x{{/contract_terms}}")),
        ("body_template", json!("x".repeat(8193))),
    ] {
        let mut bad = good.clone();
        bad[member] = value;
        assert_eq!(
            send(&shop, "POST", "private/webhooks", &bad).await.error(),
            (400, 26),
            "{bad}"
        );
    }
    for lacking in ["webhook_id", "event_type", "url", "http_method"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(lacking);
        assert_eq!(
            send(&shop, "POST", "private/webhooks", &bad).await.error(),
            (400, 22)
        );
    }
    assert_eq!(shop.post("private/webhooks", &good).await.error(), (401, 40));
    for number in 0..16 {
        make(
            &shop,
            &webhook(&format!("w{number}"), "pay", "https://shop.example/hook"),
        )
        .await
        .unwrap();
    }
    assert_eq!(
        send(&shop, "POST", "private/webhooks", &good).await.error().0,
        403
    );
    shop.audit().await;
}

#[tokio::test]
async fn whoever_may_only_look_sees_no_templates_and_changes_nothing() {
    let mut shop = Shop::open().await;
    let request = json!({"scope": "readonly"});
    let made = shop.post_private("private/token", &request).await.expect(200);
    let reader = made["token"].as_str().unwrap();
    make(&shop, &webhook("w", "pay", "https://shop.example/hook"))
        .await
        .unwrap();
    let body = webhook("v", "pay", "https://shop.example/hook")
        .to_string()
        .into_bytes();
    for (method, path, status) in [
        ("GET", "private/webhooks", 200),
        ("GET", "private/webhooks/w", 403),
        ("POST", "private/webhooks", 403),
        ("PATCH", "private/webhooks/w", 403),
        ("DELETE", "private/webhooks/w", 403),
    ] {
        let reply = shop.send(method, path, Some(reader), body.clone()).await;
        assert_eq!(reply.status, status, "{method} {path}");
    }
    shop.audit().await;
}
