//! Accounts: opened, listed, closed, found again after a restart.

use quittance::commands;
use quittance_events::facts::{AccountAdded, AccountClosed, TokenScope};
use quittance_events::{AttachmentName, Facts, InstanceId};
use quittance_taler::payto::PaytoUri;
use quittance_taler::{HashCode, Timestamp, WireSalt};
use serde_json::{Value, json};

use super::support::{Reply, Shop};

const BANK: &str = "payto://x-taler-bank/bank.example/shop?receiver-name=Shop";
const IBAN: &str = "payto://iban/DE89370400440532013000?receiver-name=Shop";

async fn add(shop: &Shop, payto: &str) -> Reply {
    shop.post_private("private/accounts", &json!({ "payto_uri": payto }))
        .await
}

async fn call(shop: &Shop, method: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    shop.send(method, path, Some(&shop.token), body).await
}

fn h_wire(reply: &Value) -> HashCode {
    serde_json::from_value(reply["h_wire"].clone()).unwrap()
}

#[tokio::test]
async fn an_account_is_opened_once_listed_and_closed() {
    let mut shop = Shop::open().await;
    assert_eq!(
        call(&shop, "GET", "private/accounts", &Value::Null)
            .await
            .expect(200),
        json!({"accounts": []})
    );
    let first = add(&shop, BANK).await.expect(200);
    let salt: WireSalt = first["salt"].as_str().unwrap().parse().unwrap();
    let bank: PaytoUri = BANK.parse().unwrap();
    assert_eq!(bank.h_wire(&salt), h_wire(&first));
    // Asked again, and asked by two at once, it is the same.
    assert_eq!(add(&shop, BANK).await.expect(200), first);
    let (one, other) = tokio::join!(add(&shop, IBAN), add(&shop, IBAN));
    let second = one.expect(200);
    assert_eq!(other.expect(200), second);
    let list = call(&shop, "GET", "private/accounts", &Value::Null)
        .await
        .expect(200);
    assert_eq!(
        list["accounts"],
        json!([
            {"h_wire": first["h_wire"], "payto_uri": BANK, "active": true},
            {"h_wire": second["h_wire"], "payto_uri": IBAN, "active": true},
        ])
    );
    let path = format!("private/accounts/{}", h_wire(&first));
    assert_eq!(
        call(&shop, "GET", &path, &Value::Null).await.expect(200),
        json!({"h_wire": first["h_wire"], "payto_uri": BANK, "salt": first["salt"], "active": true})
    );
    let change = json!({"credit_facade_url": "https://bank.example/shop/"});
    assert_eq!(call(&shop, "PATCH", &path, &change).await.status, 204);
    assert_eq!(call(&shop, "DELETE", &path, &Value::Null).await.status, 204);
    for (method, body) in [("DELETE", Value::Null), ("PATCH", change)] {
        assert_eq!(call(&shop, method, &path, &body).await.error(), (404, 2022));
    }
    // Orders that name it still find it, here and after a restart.
    shop.stop().await;
    shop.start().await;
    let closed = call(&shop, "GET", &path, &Value::Null).await.expect(200);
    assert_eq!(
        (&closed["active"], &closed["salt"]),
        (&json!(false), &first["salt"])
    );
    let service = &shop.app().service;
    let root = InstanceId::root();
    let found = service.account(&root, &h_wire(&first)).await.unwrap().unwrap();
    assert_eq!((found.payto_uri.as_str(), found.salt), (BANK, salt));
    let foreign = "shop".parse().unwrap();
    assert!(
        service
            .account(&foreign, &h_wire(&first))
            .await
            .unwrap()
            .is_none()
    );
    // Opened anew it has another salt, so that nobody can tell that it is the same.
    let anew = add(&shop, BANK).await.expect(200);
    assert_ne!(anew["h_wire"], first["h_wire"]);
    shop.stop().await;
    let told: Vec<_> = shop
        .events()
        .into_iter()
        .filter_map(|event| match event.facts {
            Facts::AccountAdded(AccountAdded {
                h_wire,
                wire_method,
                by,
            }) => Some((h_wire, wire_method, by.is_some())),
            Facts::AccountClosed(AccountClosed { h_wire, by }) => {
                Some((h_wire, "closed".into(), by.is_some()))
            }
            _ => None,
        })
        .collect();
    let expected = [
        (h_wire(&first), "x-taler-bank"),
        (h_wire(&second), "iban"),
        (h_wire(&first), "closed"),
        (h_wire(&anew), "x-taler-bank"),
    ];
    assert_eq!(
        told,
        expected.map(|(h_wire, what)| (h_wire, what.to_owned(), true))
    );
}

#[tokio::test]
async fn what_is_no_account_and_who_may_not() {
    let shop = Shop::open().await;
    for (body, error) in [
        (
            json!({"payto_uri": "payto://iban/DE89370400440532013000"}),
            (400, 24),
        ),
        (json!({"payto_uri": "https://bank.example/"}), (400, 24)),
        (json!({"payto_uri": 7}), (400, 22)),
        (json!({}), (400, 22)),
    ] {
        assert_eq!(
            shop.post_private("private/accounts", &body).await.error(),
            error,
            "{body}"
        );
    }
    for path in [
        "private/accounts/none",
        &format!("private/accounts/{}", "0".repeat(103)),
    ] {
        for (method, body) in [
            ("GET", Value::Null),
            ("DELETE", Value::Null),
            ("PATCH", json!({})),
        ] {
            assert_eq!(
                call(&shop, method, path, &body).await.error(),
                (404, 2022),
                "{method} {path}"
            );
        }
    }
    assert_eq!(
        shop.post("private/accounts", &json!({"payto_uri": BANK}))
            .await
            .error(),
        (401, 40)
    );
    let reader = super::token(&shop, TokenScope::Read, Timestamp::NEVER);
    let body = json!({"payto_uri": BANK}).to_string().into_bytes();
    let refused = shop.send("POST", "private/accounts", Some(&reader), body).await;
    assert_eq!(refused.error(), (403, 16));
    let listed = shop
        .send("GET", "private/accounts", Some(&reader), Vec::new())
        .await;
    listed.expect(200);
    // One instance's hash says nothing to another: there is none here.
    assert_eq!(
        shop.send(
            "GET",
            "instances/other/private/accounts",
            Some(&shop.token),
            Vec::new()
        )
        .await
        .error(),
        (401, 41)
    );
    for number in 0..16 {
        add(&shop, &format!("{BANK}{number}")).await.expect(200);
    }
    assert_eq!(add(&shop, BANK).await.error(), (403, 44));
    add(&shop, &format!("{BANK}7")).await.expect(200);
}

#[tokio::test]
async fn an_operator_opens_one_from_the_command_line() {
    let mut shop = Shop::open().await;
    shop.stop().await;
    let (config, clock) = (shop.config.clone(), shop.clock.clock());
    let made = tokio::task::spawn_blocking(move || {
        let payto = BANK.parse().unwrap();
        let add = |id: &str| commands::add_account(&config, &clock, &id.parse().unwrap(), &payto);
        let (once, again) = (add("default").unwrap(), add("default").unwrap());
        assert_eq!(once, again);
        assert!(add("other").unwrap_err().to_string().contains("not open"));
        once
    })
    .await
    .unwrap();
    shop.start().await;
    assert_eq!(h_wire(&add(&shop, BANK).await.expect(200)), made);
    shop.stop().await;
    let by: Vec<_> = shop
        .events()
        .into_iter()
        .filter_map(|event| match event.facts {
            Facts::AccountAdded(added) => Some(added.by),
            _ => None,
        })
        .collect();
    assert_eq!(by, [None]);
}

#[tokio::test]
async fn an_account_is_erased_once_it_is_closed() {
    let mut shop = Shop::open().await;
    let made = h_wire(&add(&shop, BANK).await.expect(200));
    let erase = async |shop: &mut Shop| {
        shop.stop().await;
        let events = shop.events();
        let added = events
            .iter()
            .find(|event| event.facts.kind() == "account_added")
            .unwrap();
        let (config, clock, seq) = (shop.config.clone(), shop.clock.clock(), added.seq);
        let erased = tokio::task::spawn_blocking(move || {
            commands::erase(
                &config,
                &clock,
                (seq, AttachmentName::Account),
                "moved to another bank",
            )
        });
        let erased = erased.await.unwrap().map_err(|e| e.to_string());
        shop.start().await;
        erased
    };
    let refused = erase(&mut shop).await.unwrap_err();
    assert!(refused.contains("until it is closed"), "{refused}");
    let path = format!("private/accounts/{made}");
    assert_eq!(call(&shop, "DELETE", &path, &Value::Null).await.status, 204);
    erase(&mut shop).await.unwrap();
    let left = json!({"h_wire": made, "active": false});
    assert_eq!(call(&shop, "GET", &path, &Value::Null).await.expect(200), left);
    shop.audit().await;
}

#[tokio::test]
async fn a_shop_is_looked_for_at_its_address() {
    let shop = Shop::open().await;
    for (method, path) in [("GET", ""), ("HEAD", ""), ("GET", "instances/default/")] {
        assert_eq!(
            shop.send(method, path, None, Vec::new()).await.status,
            302,
            "{method} {path}"
        );
    }
    assert_eq!(shop.get("instances/none/").await.error(), (404, 2000));
}
