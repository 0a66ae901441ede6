//! Which tokens may sell, and which may look.

use quittance::token::Grant;
use quittance::token_commands::{self, NewToken};
use quittance_events::InstanceId;
use quittance_events::facts::TokenScope;
use quittance_taler::Timestamp;
use serde_json::json;

use crate::support::Shop;

#[tokio::test]
async fn who_tells_of_orders_or_grants_refunds_may_sell_and_who_reads_may_look() {
    let mut shop = Shop::open_selling().await;
    let token = |scope| {
        let new = NewToken {
            instance: InstanceId::root(),
            grant: Grant {
                scope,
                expire_s: Timestamp::NEVER,
                refreshable: false,
            },
            description: String::new(),
        };
        let (text, _) = token_commands::add_token(&shop.config, &shop.clock.clock(), &new).unwrap();
        text.to_string()
    };
    for (scope, sells, looks) in [
        (TokenScope::Orders, true, true),
        (TokenScope::Refunds, true, true),
        (TokenScope::Read, false, true),
        (TokenScope::Audit, false, false),
        (TokenScope::All, true, true),
    ] {
        let (id, token) = (scope.as_str(), token(scope));
        let send = async |method: &str, path: String, body: &str| {
            let reply = shop
                .send(method, &path, Some(&token), body.as_bytes().to_vec())
                .await;
            reply.status
        };
        let order = json!({"order": {"order_id": id, "amount": "KUDOS:1", "summary": "x", "fulfillment_message": "y"}});
        let sold = send("POST", "private/orders".into(), &order.to_string()).await;
        assert_eq!(sold, if sells { 200 } else { 403 }, "{id}");
        let listed = send("GET", "private/orders".into(), "").await;
        assert_eq!(listed, if looks { 200 } else { 403 }, "{id}");
        let seen = send("GET", format!("private/orders/{id}"), "").await;
        assert_eq!(
            seen,
            if sells {
                200
            } else if looks {
                404
            } else {
                403
            },
            "{id}"
        );
        // Nobody has claimed it.
        let forgotten = send(
            "PATCH",
            format!("private/orders/{id}/forget"),
            r#"{"fields": ["$.x"]}"#,
        )
        .await;
        assert_eq!(forgotten, if sells { 404 } else { 403 }, "{id}");
        let deleted = send("DELETE", format!("private/orders/{id}"), "").await;
        assert_eq!(deleted, if sells { 204 } else { 403 }, "{id}");
    }
    // The auditor thinks so, too.
    shop.audit().await;
}
