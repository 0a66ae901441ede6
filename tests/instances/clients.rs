//! Clients that others wrote, unchanged, against this service. Run by `tests/clients/run`, which has them.

use std::collections::BTreeSet;
use std::time::SystemTime;

use quittance::http::openapi;
use serde_json::json;

use super::support::{Options, Shop, coin};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs clients from PyPI"]
async fn clients_of_others_find_what_they_expect() {
    let python = std::env::var("CLIENTS_PYTHON").expect("CLIENTS_PYTHON names a Python that has them");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut shop = Shop::open_with(Options {
        start_s: now.as_secs(),
        ..Options::default()
    })
    .await;
    let account = json!({"payto_uri": "payto://x-taler-bank/bank.example/shop?receiver-name=Shop"});
    shop.post_private("private/accounts", &account).await.expect(200);
    let coins = [coin(1, "KUDOS:5", "KUDOS:0.01"), coin(2, "KUDOS:5", "KUDOS:0.01")];
    shop.sell("paid-before", "KUDOS:10", &coins, true).await;
    let webhooks = openapi::routes().any(|(_, path)| path == "/private/webhooks");
    let ended = tokio::process::Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/check.py"))
        .env("SHOP_URL", format!("http://{}", shop.app().addr()))
        .env("SHOP_TOKEN", &shop.token)
        .env("PAID_ORDER", "paid-before")
        .env("WEBHOOKS", if webhooks { "yes" } else { "" })
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .status()
        .await
        .unwrap();
    assert!(ended.success(), "{ended}");
    shop.audit().await;
}

#[test]
fn the_page_on_conformance_names_what_is_served_and_nothing_else() {
    let page = include_str!("../../docs/conformance.md");
    let (_, served) = page.split_once("\n## Served\n").unwrap();
    let (served, _) = served.split_once("\n## ").unwrap();
    let rows = served.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: BTreeSet<String> = rows
        .map(|row| {
            let (endpoint, rest) = row.split_once('`').unwrap();
            assert!(
                rest.starts_with(" | served |") || rest.starts_with(" | differs |"),
                "{row}"
            );
            let (method, path) = endpoint.split_once(' ').unwrap();
            format!("{method} /{}", path.trim_start_matches('/'))
        })
        .collect();
    let own = |path: &str| {
        ["/openapi.json", "/health", "/ledger/", "/private/ledger/"]
            .iter()
            .any(|own| path.starts_with(own))
    };
    let served: BTreeSet<String> = openapi::routes()
        .filter(|(_, path)| !path.starts_with("/instances/") && !own(path))
        .map(|(method, path)| format!("{method} {path}"))
        .collect();
    assert_eq!(told, served);
}
