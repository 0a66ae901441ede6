//! Bearer tokens as shops and operators use them: what each scope opens, when a token ends, what may be made with it,
//! changes from the command line beside a running service, and what the ledger then says.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod files;
mod ledger;
mod making;

use quittance::token::Grant;
use quittance::token_commands::{self, NewToken};
use quittance_events::InstanceId;
use quittance_events::facts::TokenScope;
use quittance_taler::Timestamp;
use serde_json::{Value, json};
use support::{Reply, Shop};

pub(crate) const READ: &str = "read";

/// A second after the shop's now.
pub(crate) fn in_s(shop: &Shop, seconds: u64) -> Timestamp {
    Timestamp::from_s(shop.clock.now_s() + seconds).unwrap()
}

pub(crate) fn grant(scope: TokenScope, expire_s: Timestamp, refreshable: bool) -> Grant {
    Grant {
        scope,
        expire_s,
        refreshable,
    }
}

/// As `quittance token add` makes it; its text and its id.
pub(crate) fn add(shop: &Shop, grant: Grant) -> (String, String) {
    let new = NewToken {
        instance: InstanceId::root(),
        grant,
        description: "added".into(),
    };
    let (text, token) = token_commands::add_token(&shop.config, &shop.clock.clock(), &new).unwrap();
    (text.to_string(), token.id.to_string())
}

/// One of this scope that never ends.
pub(crate) fn of_scope(shop: &Shop, scope: TokenScope) -> String {
    add(shop, grant(scope, Timestamp::NEVER, false)).0
}

pub(crate) async fn ask(shop: &Shop, token: &str, body: &Value) -> Reply {
    shop.send(
        "POST",
        "private/token",
        Some(token),
        body.to_string().into_bytes(),
    )
    .await
}

/// Makes a token with another one; its text.
pub(crate) async fn make(shop: &Shop, token: &str, body: &Value) -> String {
    let reply = ask(shop, token, body).await.expect(200);
    reply["access_token"].as_str().unwrap().to_owned()
}

pub(crate) async fn delete(shop: &Shop, path: &str, token: &str) -> Reply {
    shop.send("DELETE", path, Some(token), Vec::new()).await
}

/// Status and code of an approval with this token of an order that does not exist: 404 with 2005 where it may.
pub(crate) async fn approve(shop: &Shop, token: &str) -> (u16, u64) {
    let body = json!({"refund": "KUDOS:1", "reason": "broken"}).to_string();
    shop.send(
        "POST",
        "private/orders/none/refund",
        Some(token),
        body.into_bytes(),
    )
    .await
    .error()
}

pub(crate) const MAY: (u16, u64) = (404, 2005);
pub(crate) const UNKNOWN: (u16, u64) = (401, 41);
pub(crate) const EXPIRED: (u16, u64) = (401, 42);
pub(crate) const INSUFFICIENT: (u16, u64) = (403, 16);

pub(crate) async fn list(shop: &Shop, token: &str) -> Vec<Value> {
    let reply = shop.send("GET", "private/tokens", Some(token), Vec::new()).await;
    reply.expect(200)["tokens"].as_array().unwrap().clone()
}
