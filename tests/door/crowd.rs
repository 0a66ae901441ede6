//! A short run of the hostile load: what `benches/hostile.rs` does with thousands, for seconds.

use std::time::Duration;

use quittance::admission::Bounds;
use serde_json::json;

use crate::load::{self, Plan};
use crate::open;
use crate::support::coin;
use crate::wire::post;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wallet_among_hostile_clients_goes_without_its_refund() {
    let bounds = Bounds {
        connections_per_address: 9,
        header_time: Duration::from_secs(1),
        body_time: Duration::from_secs(1),
        write_time: Duration::from_secs(1),
        linger_time: Duration::from_millis(200),
        send_buffer: 16 * 1024,
        ..Bounds::default()
    };
    let mut shop = open(bounds).await;
    let mut requests = Vec::new();
    for number in 1..=4 {
        let id = format!("order-{number}");
        let hash = shop
            .sell(&id, "KUDOS:4", &[coin(number, "KUDOS:4", "KUDOS:0.1")], true)
            .await;
        shop.approve(&id, "KUDOS:1").await.expect(200);
        let request = post(
            &format!("orders/{id}/refund"),
            &json!({ "h_contract": hash }).to_string(),
        );
        requests.push(request.into_bytes());
    }
    let outcome = load::run(&Plan {
        to: shop.app().addr(),
        requests,
        wallets: 60,
        pause: Duration::from_millis(200),
        hostile: 42,
        length: Duration::from_secs(4),
    })
    .await;
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    assert!(outcome.times.len() >= 60, "{}", outcome.times.len());
    for harm in [
        "heads byte by byte, cut off",
        "silent connections, ended",
        "heads too long, refused",
        "bodies too long, refused",
        "garbage, ended",
        "readers that do not read, cut off",
        "bodies byte by byte, refused",
        "told 503",
    ] {
        assert!(
            outcome.hostile.contains_key(harm),
            "{harm}: {:?}",
            outcome.hostile
        );
    }
    shop.audit().await;
}
