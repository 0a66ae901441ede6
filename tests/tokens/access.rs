//! What a token opens, and until when.

use super::*;
use crate::support::Options;
use std::os::unix::fs::PermissionsExt;

/// A shop with the two tokens that a configuration may name.
async fn configured() -> (Shop, String, String) {
    let texts = ["admin", "auditor"].map(|name| format!("secret-token:{name}-{}", "x".repeat(30)));
    let folder = tempfile::TempDir::new().unwrap();
    let mut shop = Shop::open_with(Options::default()).await;
    shop.stop().await;
    for (name, text) in ["admin", "auditor"].iter().zip(&texts) {
        let path = shop.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }
    drop(folder);
    shop.config.admin_token_file = Some(shop.folder.path().join("admin"));
    shop.config.auditor_token_file = Some(shop.folder.path().join("auditor"));
    shop.start().await;
    let [admin, auditor] = texts;
    (shop, admin, auditor)
}

#[tokio::test]
async fn each_scope_opens_its_endpoints_and_no_other() {
    let (mut shop, admin, auditor) = configured().await;
    // What an endpoint says to whom it lets in, with a request that changes nothing.
    let endpoints = [
        (
            "POST",
            "private/orders/none/refund",
            json!({"refund": "KUDOS:1", "reason": ""}),
            404,
        ),
        ("POST", "private/ledger/orders", json!({}), 400),
        (
            "POST",
            "private/ledger/orders/none/deposits",
            json!({"deposits": [], "paid": false}),
            404,
        ),
        ("GET", "private/tokens", json!({}), 200),
        ("DELETE", "private/tokens/999", json!({}), 404),
        ("POST", "private/token", json!({"scope": "nonsense"}), 400),
        ("GET", "ledger/tile/entries/000.p/255", json!({}), 404),
    ];
    let tokens = [
        (
            of_scope(&shop, TokenScope::Read),
            [false, false, false, true, false, true, false],
        ),
        (
            of_scope(&shop, TokenScope::Refunds),
            [true, false, false, false, false, true, false],
        ),
        (
            of_scope(&shop, TokenScope::Orders),
            [false, true, true, false, false, true, false],
        ),
        (
            of_scope(&shop, TokenScope::Audit),
            [false, false, false, false, false, true, true],
        ),
        (
            of_scope(&shop, TokenScope::All),
            [true, true, true, true, true, true, false],
        ),
        (shop.token.clone(), [true, true, true, true, true, true, false]),
        (admin, [true; 7]),
        (auditor, [false, false, false, false, false, true, true]),
    ];
    for (number, (token, opens)) in tokens.iter().enumerate() {
        for ((method, path, body, status), opens) in endpoints.iter().zip(opens) {
            let reply = shop
                .send(method, path, Some(token), body.to_string().into_bytes())
                .await;
            if *opens {
                assert_eq!(reply.status, *status, "token {number}, {path}: {}", reply.text());
            } else {
                assert_eq!(reply.error(), INSUFFICIENT, "token {number}, {path}");
            }
        }
    }
    // An instance that is not open knows the configuration's tokens alone.
    for (token, expected) in [
        (&tokens[5].0, UNKNOWN),
        (&tokens[6].0, (404, 2000)),
        (&tokens[7].0, INSUFFICIENT),
    ] {
        let path = "instances/other/private/tokens";
        let reply = shop.send("GET", path, Some(token), Vec::new()).await;
        assert_eq!(reply.error(), expected);
    }
    shop.audit().await;
}

#[tokio::test]
async fn a_token_ends_with_its_second() {
    let mut shop = Shop::open().await;
    let body = json!({"scope": "refunds", "duration": {"d_us": 60_000_000}});
    let token = make(&shop, &shop.token, &body).await;
    let day = make(&shop, &shop.token, &json!({"scope": "refunds"})).await;
    assert_eq!(approve(&shop, &token).await, MAY);
    shop.clock.advance_s(59);
    assert_eq!(approve(&shop, &token).await, MAY);
    shop.clock.advance_s(1);
    assert_eq!(approve(&shop, &token).await, EXPIRED);
    assert_eq!(delete(&shop, "private/token", &token).await.error(), EXPIRED);
    // Nobody said how long: a day.
    assert_eq!(approve(&shop, &day).await, MAY);
    shop.clock.advance_s(86_400 - 61);
    assert_eq!(approve(&shop, &day).await, MAY);
    shop.clock.advance_s(1);
    assert_eq!(approve(&shop, &day).await, EXPIRED);
    assert_eq!(approve(&shop, &shop.token).await, MAY);
    // After a restart too.
    shop.stop().await;
    shop.start().await;
    assert_eq!(approve(&shop, &token).await, EXPIRED);
    shop.audit().await;
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_from_then_on() {
    let mut shop = Shop::open().await;
    let [first, second] = [
        make(&shop, &shop.token, &json!({"scope": "all"})).await,
        make(
            &shop,
            &shop.token,
            &json!({"scope": "refunds", "description": "till 2"}),
        )
        .await,
    ];
    let file = shop.config.keys.join("instance-default.json");
    let before = std::fs::read(&file).unwrap();
    // By itself, and by one that may do everything.
    let reply = delete(&shop, "private/token", &second).await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    assert_eq!(approve(&shop, &second).await, UNKNOWN);
    let listed = list(&shop, &shop.token).await;
    assert_eq!(listed.len(), 2);
    let serial = &listed[1]["serial"];
    let path = format!("private/tokens/{serial}");
    assert_eq!(delete(&shop, &path, &shop.token).await.status, 204);
    assert_eq!(approve(&shop, &first).await, UNKNOWN);
    assert_eq!(delete(&shop, &path, &shop.token).await.error(), (404, 2042));
    // Whoever puts an older file back does not bring them back.
    std::fs::write(&file, before).unwrap();
    for token in [&first, &second] {
        assert_eq!(approve(&shop, token).await, UNKNOWN);
    }
    assert_eq!(approve(&shop, &shop.token).await, MAY);
    shop.stop().await;
    shop.start().await;
    for token in [&first, &second] {
        assert_eq!(approve(&shop, token).await, UNKNOWN);
    }
    shop.audit().await;
}

#[tokio::test]
async fn a_configured_token_is_no_instances_to_revoke() {
    let (mut shop, admin, auditor) = configured().await;
    for token in [&admin, &auditor] {
        assert_eq!(delete(&shop, "private/token", token).await.error(), (403, 44));
    }
    assert_eq!(approve(&shop, &admin).await, MAY);
    shop.audit().await;
}

#[tokio::test]
async fn the_list_tells_of_tokens_and_never_their_text() {
    let mut shop = Shop::open().await;
    let text = make(
        &shop,
        &shop.token,
        &json!({"scope": "order-mgmt:refreshable", "description": "till 1"}),
    )
    .await;
    let reader = make(&shop, &shop.token, &json!({"scope": "readonly"})).await;
    let listed = list(&shop, &reader).await;
    let now = shop.clock.now_s();
    let expected = json!({
        "serial": 2, "id": listed[1]["id"], "scope": "refunds", "refreshable": true, "description": "till 1",
        "creation_time": {"t_s": now}, "expiration": {"t_s": now + 86_400},
    });
    assert_eq!(listed[1], expected);
    assert_eq!(listed[0]["expiration"], json!({"t_s": "never"}));
    let told = json!(listed).to_string();
    let file = std::fs::read_to_string(shop.config.keys.join("instance-default.json")).unwrap();
    for place in [&told, &file] {
        for text in [&text, &reader, &shop.token] {
            assert!(!place.contains(text.strip_prefix("secret-token:").unwrap()));
        }
        assert!(place.contains("till 1"));
    }
    // Methods, in the order of all endpoints: before the token.
    for (method, path) in [
        ("GET", "private/token"),
        ("POST", "private/tokens"),
        ("GET", "private/tokens/1"),
    ] {
        assert_eq!(shop.send(method, path, None, Vec::new()).await.error(), (405, 20));
    }
    for path in [
        "private/tokens/x",
        "private/tokens/-1",
        "private/tokens/",
        "private/token/1",
    ] {
        assert_eq!(
            delete(&shop, path, &shop.token).await.error(),
            (404, 21),
            "{path}"
        );
    }
    shop.audit().await;
}
