//! `openapi.json` is true: it says of every path what the router takes, and nothing else.

use std::collections::BTreeSet;

use quittance::http::openapi::{document, routes};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Options, Shop, coin};
use crate::tools::{find, lossy, raw_whole, token_file};

/// A path of which every name is something that could be.
fn filled(template: &str) -> String {
    let names = [
        ("{instance}", "default"),
        ("{order_id}", "boots"),
        ("{level}", "0"),
        ("{index}", "000"),
        ("{bundle}", "000"),
        ("{width}", "1"),
        ("{serial}", "1"),
        ("{id}", "default"),
        ("{h_wire}", &"0".repeat(103)),
        ("{webhook_id}", "mine"),
    ];
    let path = names.iter().fold(template.to_owned(), |path, (name, value)| {
        path.replace(name, value)
    });
    assert!(!path.contains('{'), "{template}: a name without a value");
    path
}

#[test]
fn the_document_is_as_it_was() {
    insta::assert_json_snapshot!(document());
}

#[test]
fn every_route_is_in_the_document() {
    let paths = document()["paths"].as_object().unwrap();
    for (method, route) in routes() {
        let method = method.to_ascii_lowercase();
        // All that is left of a path is spelt out in a document.
        let found = match route.split_once('{').filter(|_| route.ends_with("*}")) {
            Some((below, _)) => paths
                .iter()
                .any(|(path, methods)| path.starts_with(below) && !methods[&method].is_null()),
            None => !paths[&route][&method].is_null(),
        };
        assert!(found, "{method} {route}");
    }
}

#[tokio::test]
async fn a_path_takes_the_methods_that_the_document_says() {
    let mut shop = Shop::open().await;
    for (template, methods) in document()["paths"].as_object().unwrap() {
        let path = filled(template);
        let documented: BTreeSet<String> = methods
            .as_object()
            .unwrap()
            .keys()
            .map(|method| method.to_ascii_uppercase())
            .collect();
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "BREW"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
            let reply = raw_whole(shop.app().addr(), request.as_bytes()).await;
            let head = lossy(&reply[..find(&reply, b"\r\n\r\n").unwrap()]);
            let is_405 = head.starts_with("HTTP/1.1 405 ");
            assert_eq!(is_405, !documented.contains(method), "{method} {path}: {head}");
            let allowed = head.lines().find_map(|line| line.strip_prefix("allow: "));
            let allowed = allowed.map(|list| list.split(", ").map(str::to_owned).collect::<BTreeSet<_>>());
            assert_eq!(allowed.as_ref(), is_405.then_some(&documented), "{method} {path}");
        }
        let preflight = format!(
            "OPTIONS {path} HTTP/1.1\r\nhost: a\r\norigin: https://wallet.example\r\n\
             access-control-request-method: POST\r\nconnection: close\r\n\r\n"
        );
        let reply = lossy(&raw_whole(shop.app().addr(), preflight.as_bytes()).await);
        assert!(reply.starts_with("HTTP/1.1 204 "), "{path}: {reply}");
        let value = |name: &str| {
            let line = reply
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.map(|list| list.split(", ").map(str::to_owned).collect::<BTreeSet<_>>())
        };
        assert_eq!(
            value("access-control-allow-methods").as_ref(),
            Some(&documented),
            "{path}"
        );
        assert_eq!(
            value("access-control-allow-origin"),
            Some(BTreeSet::from(["*".to_owned()]))
        );
        assert!(
            value("access-control-allow-headers")
                .unwrap()
                .contains("Authorization")
        );
    }
    shop.stop().await;
}

#[tokio::test]
async fn it_is_served_to_everybody() {
    let mut shop = Shop::open().await;
    let reply = shop.get("openapi.json").await;
    assert_eq!(&reply.expect(200), document());
    assert_eq!(
        shop.get("instances/default/openapi.json").await.error(),
        (404, 21)
    );
    shop.stop().await;
}

const ADMIN: &str = "secret-token:AAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A shop that has seen something of everything, for a program that asks whatever the document allows.
async fn seeded() -> (Shop, TempDir, Value) {
    let folder = TempDir::new().unwrap();
    let token = token_file(folder.path(), "admin.token", ADMIN);
    let more_config = format!("[quittance]\nADMIN_TOKEN_FILE = {}\n", token.display());
    let shop = Shop::open_with(Options {
        more_config,
        ..Options::default()
    })
    .await;
    shop.open_account().await;
    let mut orders = Vec::new();
    for (number, id, paid) in [
        (1, "paid", true),
        (3, "refunded", true),
        (5, "half", false),
        (7, "aborted", false),
    ] {
        let coins = [
            coin(number, "KUDOS:10", "KUDOS:0.2"),
            coin(number + 1, "KUDOS:2.5", "KUDOS:0.02"),
        ];
        let deposited = if paid { &coins[..] } else { &coins[..1] };
        let h_contract = shop.sell(id, "KUDOS:12", deposited, paid).await;
        match id {
            "refunded" => {
                shop.approve(id, "KUDOS:4").await.expect(200);
                shop.fetch(id, h_contract).await.expect(200);
            }
            "aborted" => drop(shop.abort(id, h_contract, &coins).await.expect(200)),
            _ => {}
        }
        let coins: Vec<_> = coins.iter().map(|coin| coin.coin_pub).collect();
        orders.push(json!({"order_id": id, "h_contract": h_contract, "coins": coins}));
    }
    let scene = json!({
        "orders": orders,
        "exchange_url": shop.sandbox.base_url(),
        "master_pub": shop.sandbox.master_pub(),
        "merchant_pub": shop.merchant_pub,
    });
    (shop, folder, scene)
}

/// Run by `tests/openapi/run`, which has the program.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs schemathesis and a minute"]
async fn schemathesis_finds_nothing() {
    let program = std::env::var("SCHEMATHESIS").expect("SCHEMATHESIS names the program");
    let (mut shop, folder, scene) = seeded().await;
    let file = folder.path().join("scene.json");
    std::fs::write(&file, scene.to_string()).unwrap();
    let address = format!("http://{}", shop.app().addr());
    let status = tokio::process::Command::new(program)
        .args(["run", &format!("{address}/openapi.json"), "--url", &address])
        .args(["--header", &format!("Authorization: Bearer {ADMIN}")])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "40",
            "--max-time",
            "90",
        ])
        .args([
            "--checks",
            "all",
            "--continue-on-failure",
            "--generation-deterministic",
        ])
        // An order that the document allows may still be somebody else's, or too late: 400 and 410 are answers, too.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .arg("--no-color")
        .env("QUITTANCE_SCENE", &file)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env(
            "PYTHONPATH",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi"),
        )
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(folder.path())
        .status()
        .await
        .unwrap();
    assert!(status.success(), "schemathesis: {status}");
    shop.audit().await;
}
