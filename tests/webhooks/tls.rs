//! Webhooks over TLS. The program itself, for the certificates are the system's.

use std::time::Duration;

use quittance_taler::EddsaPrivateKey;
use serde_json::json;

use crate::api::webhook;
use crate::authority::{acceptor, authority, roots};
use crate::program::{MERCHANT, Program};
use crate::server::Server;
use crate::support::coin;

/// Far longer than a call takes on a machine with much else to do.
const PATIENCE: Duration = Duration::from_mins(1);

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Tells the program of a paid order.
async fn sell(program: &Program) {
    let now = quittance_sandbox::system_clock()().get() / 1_000_000;
    let (url, coin) = (program.sandbox.base_url(), coin(1, "KUDOS:10", "KUDOS:0.2"));
    let terms = json!({
        "order_id": "boots", "amount": "KUDOS:10", "summary": "boots", "timestamp": {"t_s": now},
        "pay_deadline": {"t_s": now + 600}, "refund_deadline": {"t_s": now + 86_400},
        "wire_transfer_deadline": {"t_s": now + 172_800},
        "merchant_pub": EddsaPrivateKey::from_bytes(MERCHANT).merchant_pub(),
        "merchant_base_url": "https://shop.example/", "products": [],
        "exchanges": [{"url": url, "master_pub": program.sandbox.master_pub()}],
    });
    let deposit = json!({"coin_pub": coin.coin_pub, "exchange_url": url, "amount_with_fee": coin.amount,
                         "deposit_fee": coin.refund_fee, "refund_fee": coin.refund_fee});
    for (path, body) in [
        ("private/ledger/orders", json!({ "contract_terms": terms })),
        (
            "private/ledger/orders/boots/deposits",
            json!({"deposits": [deposit], "paid": true}),
        ),
    ] {
        program.post_private(path, &body).await;
    }
}

#[tokio::test]
async fn a_server_is_told_once_the_systems_certificates_vouch_for_it() {
    let authority = authority();
    let server = Server::start_with(Some(acceptor(&authority, "127.0.0.1"))).await;
    let mut program = Program::make("").await;
    program.start().await;
    let bearer = format!("Bearer {}", program.token);
    let headers = [("authorization", bearer.as_str())];
    let body = webhook("till", "pay", &server.url()).to_string().into_bytes();
    let made = program.send("POST", "private/webhooks", &headers, body).await;
    assert_eq!(made.0, 204);
    sell(&program).await;
    until("it is refused", || {
        program.log().contains("a webhook is not taken")
    })
    .await;
    assert!(server.heard().is_empty());
    program.terminate().await;

    program.roots = Some(roots(&program.folder, &authority));
    program.start().await;
    until("the server hears", || !server.heard().is_empty()).await;
    assert_eq!(server.heard()[0].json()["order_id"], "boots");
    program.terminate().await;
}
