//! What the ledger says of tokens.

use quittance_events::Facts;
use quittance_events::facts::TokenRevoked;

use super::*;
use crate::support::coin;

/// Kind, token, scope and `by` of each event about tokens.
fn told(shop: &Shop) -> Vec<(&'static str, String, String, Option<String>)> {
    let events = shop.events();
    let told = events.iter().filter_map(|event| {
        match &event.facts {
            Facts::TokenAdded(f) => Some((f.token.to_string(), f.scope.as_str().to_owned(), f.by.clone())),
            Facts::TokenRevoked(TokenRevoked { token, by }) => {
                Some((token.to_string(), String::new(), by.clone()))
            }
            _ => None,
        }
        .map(|(token, scope, by)| (event.facts.kind(), token, scope, by.map(|by| by.to_string())))
    });
    told.collect()
}

#[tokio::test]
async fn a_token_is_told_of_from_the_first_change_on() {
    let mut shop = Shop::open().await;
    shop.sell("one", "KUDOS:5", &[coin(1, "KUDOS:5", "KUDOS:0.1")], true)
        .await;
    assert_eq!(list(&shop, &shop.token).await.len(), 1);
    shop.stop().await;
    // Nobody changed anything: the ledger is as ledgers were before tokens were told of.
    assert!(shop.kinds().iter().all(|kind| *kind != "format_raised"));
    shop.start().await;
    let made = ask(
        &shop,
        &shop.token,
        &json!({"scope": "refunds", "description": "Anna"}),
    )
    .await
    .expect(200);
    let (till, id) = (
        made["access_token"].as_str().unwrap().to_owned(),
        made["id"].as_str().unwrap().to_owned(),
    );
    let body = json!({"refund": "KUDOS:1", "reason": "broken"})
        .to_string()
        .into_bytes();
    shop.send("POST", "private/orders/one/refund", Some(&till), body)
        .await
        .expect(200);
    assert_eq!(delete(&shop, "private/token", &till).await.status, 204);
    let (_, cli) = add(&shop, grant(TokenScope::Read, in_s(&shop, 60), false));
    let listed = list(&shop, &shop.token).await;
    let first = listed[0]["id"].as_str().unwrap().to_owned();
    token_commands::revoke_token(&shop.config, &InstanceId::root(), &cli.parse().unwrap()).unwrap();
    let (_, ended) = add(&shop, grant(TokenScope::Read, in_s(&shop, 60), false));
    list(&shop, &shop.token).await;
    // One that has ended and is gone needs no revocation.
    shop.clock.advance_s(60);
    token_commands::revoke_token(&shop.config, &InstanceId::root(), &ended.parse().unwrap()).unwrap();
    list(&shop, &shop.token).await;
    shop.audit().await;
    let own = |text: &str| text.to_owned();
    let expected = [
        ("token_added", first.clone(), own("all"), None),
        ("token_added", id.clone(), own("refunds"), Some(first)),
        ("token_revoked", id.clone(), own(""), Some(id.clone())),
        ("token_added", cli.clone(), own("read"), None),
        ("token_revoked", cli, own(""), None),
        ("token_added", ended, own("read"), None),
    ];
    assert_eq!(told(&shop), expected);
    // From version 1 to 3, one by one.
    assert_eq!(
        shop.kinds()
            .iter()
            .filter(|kind| **kind == "format_raised")
            .count(),
        2
    );
    let events = shop.events();
    let approval = events.iter().find_map(|event| match &event.facts {
        Facts::RefundApproved(f) => Some(f.by.to_string()),
        _ => None,
    });
    assert_eq!(approval, Some(id));
    let ledger = std::fs::read(shop.ledger()).unwrap();
    let holds = |text: &str| ledger.windows(text.len()).any(|window| window == text.as_bytes());
    for secret in [till.strip_prefix("secret-token:").unwrap(), "Anna"] {
        assert!(!holds(secret), "{secret}");
    }
}

#[tokio::test]
async fn changes_while_nothing_was_served_are_recorded_at_the_start() {
    let mut shop = Shop::open().await;
    shop.stop().await;
    let (text, id) = add(&shop, grant(TokenScope::Refunds, Timestamp::NEVER, false));
    let first = token_commands::list_tokens(&shop.config, &InstanceId::root()).unwrap()[0]
        .id
        .clone();
    shop.start().await;
    assert_eq!(approve(&shop, &text).await, MAY);
    shop.stop().await;
    // Lost by its owner, and so is the other: whoever has the machine gets in again.
    for token in [&id.parse().unwrap(), &first] {
        token_commands::revoke_token(&shop.config, &InstanceId::root(), token).unwrap();
    }
    shop.start().await;
    assert_eq!(approve(&shop, &text).await, UNKNOWN);
    assert_eq!(approve(&shop, &shop.token).await, UNKNOWN);
    let back = of_scope(&shop, TokenScope::All);
    assert_eq!(approve(&shop, &back).await, MAY);
    shop.audit().await;
    let kinds: Vec<&str> = told(&shop).iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(
        kinds,
        [
            "token_added",
            "token_added",
            "token_revoked",
            "token_revoked",
            "token_added"
        ]
    );
}

#[tokio::test]
async fn a_ledger_that_takes_no_events_takes_no_new_token_and_gives_up_lost_ones() {
    let mut shop = Shop::open().await;
    let lost = make(&shop, &shop.token, &json!({"scope": "refunds"})).await;
    // The clock falls behind the ledger: nothing is recorded until somebody looks at it.
    shop.clock.set_s(shop.clock.now_s() - 3600);
    let body = json!({"scope": "refunds"});
    assert_eq!(ask(&shop, &shop.token, &body).await.error(), (500, 52));
    let added = of_scope(&shop, TokenScope::Refunds);
    assert_eq!(approve(&shop, &added).await, UNKNOWN);
    assert_eq!(delete(&shop, "private/token", &lost).await.status, 204);
    assert_eq!(approve(&shop, &lost).await, UNKNOWN);
    assert_eq!(approve(&shop, &shop.token).await, MAY);
    shop.clock.advance_s(3600);
    assert_eq!(approve(&shop, &added).await, MAY);
    assert_eq!(approve(&shop, &lost).await, UNKNOWN);
    shop.audit().await;
    let told = told(&shop);
    assert_eq!(
        told.iter().filter(|(kind, ..)| *kind == "token_revoked").count(),
        1
    );
    assert_eq!(told.len(), 4);
}

#[tokio::test]
async fn a_successor_takes_over_tokens_and_tells_of_them_anew() {
    let mut shop = Shop::open().await;
    shop.sell("one", "KUDOS:5", &[coin(1, "KUDOS:5", "KUDOS:0.1")], true)
        .await;
    let till = make(&shop, &shop.token, &json!({"scope": "refunds"})).await;
    let lost = make(&shop, &shop.token, &json!({"scope": "refunds"})).await;
    let body = json!({"refund": "KUDOS:1", "reason": "broken"})
        .to_string()
        .into_bytes();
    let path = "private/orders/one/refund";
    shop.send("POST", path, Some(&till), body).await.expect(200);
    assert_eq!(delete(&shop, "private/token", &lost).await.status, 204);
    shop.stop().await;
    let (old, anchor) = (shop.ledger(), shop.config.anchor.clone());
    shop.continue_as("next", &old, &anchor).await;
    shop.start().await;
    assert_eq!(approve(&shop, &lost).await, UNKNOWN);
    let body = json!({"refund": "KUDOS:2", "reason": "broken"})
        .to_string()
        .into_bytes();
    shop.send("POST", path, Some(&till), body).await.expect(200);
    shop.audit_after(Some(&old)).await;
    let kinds: Vec<&str> = told(&shop).iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, ["token_added", "token_added"]);
}
