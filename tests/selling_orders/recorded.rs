//! The orders and claims of recorded wallets, asked again as they stand there.

use std::path::Path;

use quittance_taler::{contract_hash, wallets_lack};
use serde_json::{Value, json};

use crate::support::{Options, Shop};

/// Members that the recorded merchant wrote of its own accord and ours has no need to: a wallet takes them as absent.
const OPTIONAL: [&str; 2] = ["max_wire_fee", "wire_fee_amortization"];

fn steps(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn recorded_orders_are_made_and_claimed_as_their_wallets_want_it() {
    // Before the deadlines that some of the recordings name.
    let mut shop = Shop::open_with(Options {
        currency: "TESTKUDOS",
        start_s: 1_795_225_000,
        ..Options::default()
    })
    .await;
    shop.open_account().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut claims = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|kind| kind != "jsonl") {
            continue;
        }
        let (mut id, mut token) = (String::new(), Value::Null);
        for step in steps(&file) {
            let path = step["path"].as_str().unwrap_or_default();
            if step["method"] == "POST" && path == "/private/orders" {
                let made = shop
                    .post_private("private/orders", &step["request"])
                    .await
                    .expect(200);
                let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
                assert_eq!(names(&made), names(&step["reply"]));
                id = made["order_id"].as_str().unwrap().to_owned();
                token = made["token"].clone();
                assert_eq!(id.len(), step["reply"]["order_id"].as_str().unwrap().len());
            } else if step["reply"]["order_status"] == "unpaid" {
                let state = shop
                    .get_private(&format!("private/orders/{id}"))
                    .await
                    .expect(200);
                for name in step["reply"].as_object().unwrap().keys() {
                    assert!(state.get(name).is_some(), "{name} of {state}");
                }
            } else if path.ends_with("/claim") {
                let body = json!({"nonce": step["request"]["nonce"], "token": token});
                let claimed = shop.post(&format!("orders/{id}/claim"), &body).await.expect(200);
                let (terms, recorded) = (&claimed["contract_terms"], &step["reply"]["contract_terms"]);
                assert_eq!(wallets_lack(terms), [""; 0], "{}", file.display());
                contract_hash(terms).unwrap();
                for (name, value) in recorded.as_object().unwrap() {
                    let ours = terms.get(name);
                    assert!(
                        ours.is_some() || OPTIONAL.contains(&name.as_str()),
                        "{name} of {terms}"
                    );
                    if [
                        "amount",
                        "summary",
                        "fulfillment_url",
                        "extra",
                        "nonce",
                        "auto_refund",
                    ]
                    .contains(&name.as_str())
                    {
                        assert_eq!(ours, Some(value), "{name}");
                    }
                }
                claims += 1;
            }
        }
    }
    assert!(claims >= 10, "{claims}");
    shop.audit().await;
}
