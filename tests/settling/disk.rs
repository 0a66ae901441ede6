//! A disk that is nearly full: nothing new is taken on, what is open is settled and answered.

use std::sync::Arc;

use serde_json::json;

use crate::support::{Reply, Shop, coin};
use crate::{count, entry, fail, failure, status, success};

fn refused(reply: &Reply) {
    assert_eq!(reply.error(), (500, 52), "{}", reply.text());
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("disk is nearly full"), "{detail}");
    assert_eq!(reply.receipt, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_reserve_nothing_new_is_taken_on_and_what_is_open_is_finished() {
    let mut shop = Shop::open().await;
    let coins = [1, 2, 3].map(|number| coin(number, "KUDOS:4", "KUDOS:0.1"));
    let sold = shop.sell("sold", "KUDOS:4", &coins[..1], true).await;
    shop.approve("sold", "KUDOS:1").await.expect(200);
    let half = shop.sell("half", "KUDOS:20", &coins[1..2], false).await;
    let terms = shop.terms("half", "KUDOS:20", 86_400, 172_800);
    fail(&shop, &coins[1], status(503, 53), 1);
    assert_eq!(shop.abort("half", half, &coins[1..2]).await.error(), (502, 2014));
    let third = shop.sell("third", "KUDOS:20", &coins[2..], false).await;
    fail(&shop, &coins[0], status(503, 53), 1);

    let disk = &shop.app().service.disk;
    disk.measure_by(Arc::new(|| Ok(256 * 1024 * 1024 - 1)));
    // New: refused, each by the place that takes it on.
    refused(&shop.approve("sold", "KUDOS:2").await);
    let new = shop.terms("new", "KUDOS:20", 86_400, 172_800);
    let path = "private/ledger/orders";
    refused(&shop.post_private(path, &json!({ "contract_terms": new })).await);
    let another = coin(4, "KUDOS:1", "KUDOS:0.1");
    refused(&shop.tell("third", &[another], false).await);
    refused(&shop.abort("third", third, &coins[2..]).await);
    // Refused by the rules all the same, but there is no room to record that.
    refused(&shop.abort("sold", sold, &coins[..1]).await);
    // Told before: answered as always.
    shop.approve("sold", "KUDOS:1").await.expect(200);
    shop.post_private(path, &json!({ "contract_terms": terms }))
        .await
        .expect(200);
    shop.tell("half", &coins[1..2], false).await.expect(200);
    // Wrong: told so.
    assert_eq!(shop.approve("sold", "KUDOS:5").await.error(), (409, 2530));
    assert_eq!(shop.abort("none", half, &coins).await.error(), (404, 2253));
    // Open: settled, answered, recorded.
    let reply = shop.fetch("sold", sold).await;
    assert_eq!(entry(&reply.expect(200), 0), failure(503, 53));
    shop.check_receipt(&reply);
    let reply = shop.abort("half", half, &coins[1..2]).await;
    assert_eq!(entry(&reply.expect(200), 0), success());
    shop.check_receipt(&reply);
    shop.clock.advance_s(5);
    shop.until("the background's or the wallet's attempt", async || {
        entry(&shop.fetch("sold", sold).await.expect(200), 0) == success()
    })
    .await;

    disk.measure_by(Arc::new(|| Ok(256 * 1024 * 1024)));
    shop.approve("sold", "KUDOS:2").await.expect(200);
    shop.abort("third", third, &coins[2..]).await.expect(200);
    shop.stop().await;
    let events = shop.events();
    let kinds = [
        "order_recorded",
        "refund_approved",
        "abort_requested",
        "abort_refused",
    ];
    assert_eq!(kinds.map(|kind| count(&events, kind)), [3, 2, 2, 0]);
    shop.audit().await;
}

/// Lets every event be refused whose sealed bytes hold this, as a disk would that fails in that moment.
fn break_for(shop: &Shop, text: &str) -> rusqlite::Connection {
    let stranger = rusqlite::Connection::open(shop.ledger()).unwrap();
    let trigger = format!(
        "CREATE TRIGGER broken BEFORE INSERT ON event WHEN instr(CAST(NEW.sealed AS TEXT), '{text}') > 0
         BEGIN SELECT RAISE(ABORT, 'broken'); END"
    );
    stranger.execute_batch(&trigger).unwrap();
    stranger
}

fn mend(stranger: &rusqlite::Connection) {
    stranger.execute_batch("DROP TRIGGER broken").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_cannot_be_written_is_told_as_the_specification_has_it_until_it_can() {
    let mut shop = Shop::open().await;
    let coins = [1, 2].map(|number| coin(number, "KUDOS:4", "KUDOS:0.1"));
    let sold = shop.sell("sold", "KUDOS:4", &coins[..1], true).await;
    shop.approve("sold", "KUDOS:1").await.expect(200);
    let half = shop.sell("half", "KUDOS:20", &coins[1..], false).await;
    let stranger = break_for(&shop, "kind");
    for _ in 0..3 {
        assert_eq!(shop.approve("sold", "KUDOS:2").await.error(), (500, 52));
        assert_eq!(shop.abort("half", half, &coins[1..]).await.error(), (500, 52));
        assert_eq!(shop.fetch("sold", sold).await.error(), (500, 53));
    }
    assert_eq!(shop.asked(), 0);
    mend(&stranger);
    shop.approve("sold", "KUDOS:2").await.expect(200);
    let reply = shop.fetch("sold", sold).await;
    assert_eq!(reply.expect(200)["refund_amount"], "KUDOS:2");
    shop.abort("half", half, &coins[1..]).await.expect(200);
    shop.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_keys_that_the_ledger_could_not_take_are_not_the_exchanges_fault() {
    let mut shop = Shop::open().await;
    let coins = [1, 2].map(|number| coin(number, "KUDOS:4", "KUDOS:0.1"));
    let sold = shop.sell("sold", "KUDOS:4", &coins[..1], true).await;
    shop.approve("sold", "KUDOS:1").await.expect(200);
    let half = shop.sell("half", "KUDOS:20", &coins[1..], false).await;
    let stranger = break_for(&shop, "exchange_keys_seen");
    assert_eq!(shop.abort("half", half, &coins[1..]).await.error(), (500, 52));
    assert_eq!(shop.fetch("sold", sold).await.error(), (500, 53));
    mend(&stranger);
    // At once, and not after the pause that an exchange is given.
    let body = shop.abort("half", half, &coins[1..]).await.expect(200);
    assert_eq!(entry(&body, 0), success());
    let body = shop.fetch("sold", sold).await.expect(200);
    assert_eq!(entry(&body, 0), success());
    shop.audit().await;
}
