//! Who may make which token.

use quittance::limits::{TOKEN_DESCRIPTION_MAX, TOKENS_MAX};

use super::*;

#[tokio::test]
async fn a_token_gives_no_more_than_it_has() {
    let mut shop = Shop::open().await;
    let (hour, never) = (in_s(&shop, 3600), Timestamp::NEVER);
    let all_hour = add(&shop, grant(TokenScope::All, hour, false)).0;
    let renews = add(&shop, grant(TokenScope::Refunds, hour, true)).0;
    let plain = add(&shop, grant(TokenScope::Refunds, never, false)).0;
    let audit = add(&shop, grant(TokenScope::Audit, never, true)).0;
    let all = shop.token.clone();
    let now = shop.clock.now_s();
    let forever = json!({"d_us": "forever"});
    let hours = |n: u64| json!({"d_us": n * 3_600_000_000});
    // Which asks for what, and gets: scope, end, refreshable; or an error.
    let never = json!("never");
    let end = json!(now + 3600);
    let cases = [
        (&all, "refunds", &forever, Ok(("refunds", &never, false))),
        (&all, "all:refreshable", &hours(1), Ok(("all", &end, true))),
        (&all, "order-simple", &hours(1), Ok(("orders", &end, false))),
        (&all, "audit", &hours(1), Err(INSUFFICIENT)),
        // No longer than itself, and nothing that would outlive it.
        (&all_hour, "read", &hours(9), Ok(("read", &end, false))),
        (&all_hour, "all:refreshable", &forever, Ok(("all", &end, false))),
        // As long again as it was made for.
        (
            &renews,
            "refunds:refreshable",
            &forever,
            Ok(("refunds", &end, true)),
        ),
        (&renews, "orders", &hours(1), Err(INSUFFICIENT)),
        (&renews, "all", &hours(1), Err(INSUFFICIENT)),
        (&plain, "refunds", &hours(1), Err(INSUFFICIENT)),
        (&audit, "audit", &hours(1), Ok(("audit", &end, false))),
        (&audit, "read", &hours(1), Err(INSUFFICIENT)),
        (&all, "everything", &hours(1), Err((400, 26))),
        (&all, "all", &json!({"d_us": 999_999}), Err((400, 26))),
        (&all, "all", &json!({"d_us": "never"}), Err((400, 22))),
        (&all, "all", &json!({"d_us": -1}), Err((400, 22))),
        (&all, "all", &json!({"d_us": 1.5}), Err((400, 22))),
        (&all, "all", &json!(60), Err((400, 22))),
    ];
    for (token, scope, duration, expected) in cases {
        let reply = ask(&shop, token, &json!({"scope": scope, "duration": duration})).await;
        match expected {
            Ok((given, end, refreshable)) => {
                let body = reply.expect(200);
                let got = (&body["scope"], &body["expiration"]["t_s"], &body["refreshable"]);
                assert_eq!(
                    got,
                    (&json!(given), end, &json!(refreshable)),
                    "{scope} for {duration}"
                );
                assert_eq!(body["token"], body["access_token"]);
            }
            Err(error) => assert_eq!(reply.error(), error, "{scope} for {duration}"),
        }
    }
    // A refreshable token that is about to end is followed by one that lives as long again, and so on.
    shop.clock.advance_s(3599);
    let body = json!({"scope": "refunds", "refreshable": true, "duration": forever});
    let next = ask(&shop, &renews, &body).await.expect(200);
    assert_eq!(next["expiration"]["t_s"], json!(now + 3599 + 3600));
    shop.clock.advance_s(3599);
    assert_eq!(approve(&shop, &renews).await, EXPIRED);
    let next = make(&shop, next["access_token"].as_str().unwrap(), &body).await;
    assert_eq!(approve(&shop, &next).await, MAY);
    shop.audit().await;
}

#[tokio::test]
async fn bounds_of_tokens_and_their_descriptions() {
    let mut shop = Shop::open().await;
    for description in [
        "x".repeat(TOKEN_DESCRIPTION_MAX + 1),
        "two\nlines".into(),
        "\u{1b}[2J".into(),
    ] {
        let body = json!({"scope": "read", "description": description});
        assert_eq!(ask(&shop, &shop.token, &body).await.error(), (400, 26));
    }
    let short = json!({"scope": "read", "duration": {"d_us": 60_000_000}, "description": "x".repeat(TOKEN_DESCRIPTION_MAX)});
    for _ in 1..TOKENS_MAX {
        make(&shop, &shop.token, &short).await;
    }
    assert_eq!(ask(&shop, &shop.token, &short).await.error(), (403, 44));
    let new = NewToken {
        instance: InstanceId::root(),
        grant: grant(TokenScope::Read, Timestamp::NEVER, false),
        description: String::new(),
    };
    assert!(token_commands::add_token(&shop.config, &shop.clock.clock(), &new).is_err());
    // What has expired gives its place away.
    shop.clock.advance_s(60);
    make(&shop, &shop.token, &short).await;
    assert_eq!(list(&shop, &shop.token).await.len(), 2);
    shop.audit().await;
}

#[tokio::test]
async fn changes_by_the_service_and_by_commands_at_once_are_all_kept() {
    const EACH: usize = 12;
    let mut shop = Shop::open().await;
    let doomed: Vec<(String, String)> = (0..EACH)
        .map(|_| add(&shop, grant(TokenScope::Read, Timestamp::NEVER, false)))
        .collect();
    let (config, clock) = (shop.config.clone(), shop.clock.clock());
    let ids: Vec<String> = doomed.iter().map(|(_, id)| id.clone()).collect();
    let commands = tokio::task::spawn_blocking(move || {
        let mut added = Vec::new();
        for id in ids {
            let new = NewToken {
                instance: InstanceId::root(),
                grant: grant(TokenScope::Refunds, Timestamp::NEVER, false),
                description: String::new(),
            };
            added.push(
                token_commands::add_token(&config, &clock, &new)
                    .unwrap()
                    .0
                    .to_string(),
            );
            token_commands::revoke_token(&config, &new.instance, &id.parse().unwrap()).unwrap();
        }
        added
    });
    let body = json!({"scope": "refunds"});
    let made = futures_util::future::join_all((0..EACH).map(|_| make(&shop, &shop.token, &body))).await;
    let added = commands.await.unwrap();
    for token in made.iter().chain(&added) {
        assert_eq!(approve(&shop, token).await, MAY);
    }
    for (token, _) in &doomed {
        assert_eq!(approve(&shop, token).await, UNKNOWN);
    }
    let listed = list(&shop, &shop.token).await;
    assert_eq!(listed.len(), 1 + 2 * EACH);
    let serials: std::collections::BTreeSet<u64> = listed
        .iter()
        .map(|token| token["serial"].as_u64().unwrap())
        .collect();
    assert_eq!(serials.len(), listed.len());
    shop.audit().await;
}
