//! A client that hangs up: what it began goes on without it.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Shop, coin};
use crate::{asked_for, attempts, count, delay, entry, refunded, success};

/// Sends the first bytes of a request; hanging up is dropping the stream.
async fn send(shop: &Shop, path: &str, body: &str, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(shop.app().addr()).await.unwrap();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nhost: shop\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let text = head + body;
    let bytes = bytes.min(text.len());
    stream.write_all(&text.as_bytes()[..bytes]).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_middle_of_its_abort_changes_nothing() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    delay(&shop, &coins[0], Duration::from_millis(300));
    let body = shop.abort_body(hash, &coins).to_string();
    let stream = send(&shop, "orders/half/abort", &body, usize::MAX).await;
    shop.until("the exchange is asked", async || asked_for(&shop, &coins[0]) == 1)
        .await;
    drop(stream);
    // Nobody waits for it and the clock stands still: the reply of that one call is recorded all the same.
    shop.until("its record", async || {
        shop.app().service.ledger.open_permissions().unwrap().is_empty()
    })
    .await;
    assert_eq!(
        entry(&shop.abort("half", hash, &coins).await.expect(200), 0),
        success()
    );
    assert_eq!((asked_for(&shop, &coins[0]), refunded(&shop, &coins[0])), (1, 1));
    shop.stop().await;
    assert_eq!(attempts(&shop.events(), &coins[0]), ["1 200 Confirmed"]);
    shop.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_any_moment_of_its_refund_loses_nothing() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:8", "KUDOS:0.1")];
    let hash = shop.sell("sold", "KUDOS:8", &coins, true).await;
    let body = serde_json::json!({ "h_contract": hash }).to_string();
    for step in 1..=8 {
        shop.approve("sold", &format!("KUDOS:{step}")).await.expect(200);
        delay(&shop, &coins[0], Duration::from_millis(10));
        let stream = send(&shop, "orders/sold/refund", &body, usize::MAX).await;
        tokio::time::sleep(Duration::from_millis(step * 3)).await;
        drop(stream);
    }
    let reply = shop.fetch("sold", hash).await.expect(200);
    assert_eq!(reply["refunds"].as_array().unwrap().len(), 8);
    shop.until("all of it", async || {
        let body = shop.fetch("sold", hash).await.expect(200);
        (0..8).all(|index| entry(&body, index) == success())
    })
    .await;
    // Each permission once, each asked for once: hanging up repeats nothing either.
    assert_eq!((asked_for(&shop, &coins[0]), refunded(&shop, &coins[0])), (8, 8));
    shop.audit().await;
}

#[tokio::test]
async fn before_its_request_is_whole_leaves_no_trace() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    let body = shop.abort_body(hash, &coins).to_string();
    for bytes in [1, 30, 80, 200] {
        drop(send(&shop, "orders/half/abort", &body, bytes).await);
    }
    shop.stop().await;
    let events = shop.events();
    assert_eq!((count(&events, "abort_requested"), shop.asked()), (0, 0));
    shop.audit().await;
}
