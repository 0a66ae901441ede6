//! Who asks again, when, and which attempts are recorded.

use quittance_sandbox::FaultKind;
use serde_json::json;

use crate::support::{Shop, coin};
use crate::{
    asked_and_recorded, asked_for, attempts, count, entry, fail, failure, refunded, status, success,
};

/// A second passes, and the background has looked at it: another order's permission was due in it and was asked.
async fn a_second_passes(shop: &Shop, number: u8) {
    let probe = [coin(number, "KUDOS:1", "KUDOS:0")];
    let id = format!("probe-{number}");
    let hash = shop.sell(&id, "KUDOS:2", &probe, false).await;
    fail(shop, &probe[0], status(503, 1), 1);
    assert_eq!(shop.abort(&id, hash, &probe).await.error(), (502, 2014));
    shop.clock.advance_s(1);
    shop.until("the probe", async || refunded(shop, &probe[0]) == 1)
        .await;
}

#[tokio::test]
async fn the_background_waits_a_second_then_twice_as_long_each_time_up_to_an_hour() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    let pauses = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600];
    fail(&shop, &coins[0], status(503, 53), 14);
    assert_eq!(shop.abort("half", hash, &coins).await.error(), (502, 2014));
    for (index, pause) in pauses.into_iter().enumerate() {
        if [2, 3600].contains(&pause) {
            shop.clock.advance_s(pause - 2);
            a_second_passes(&shop, 100 + u8::try_from(index).unwrap()).await;
            assert_eq!(
                asked_for(&shop, &coins[0]),
                index + 1,
                "before {pause} s are over"
            );
            shop.clock.advance_s(1);
        } else {
            shop.clock.advance_s(pause);
        }
        if index + 2 <= pauses.len() {
            asked_and_recorded(&shop, "half", &coins[0], 0, index + 2).await;
        }
    }
    shop.until("the refund", async || refunded(&shop, &coins[0]) == 1)
        .await;
    shop.abort("half", hash, &coins).await.expect(200);
    shop.stop().await;
    // Of a streak only attempts 1, 2, 4, 8 are recorded, and what ends it.
    let expected = [
        "1 503 Later",
        "2 503 Later",
        "4 503 Later",
        "8 503 Later",
        "15 200 Confirmed",
    ];
    assert_eq!(attempts(&shop.events(), &coins[0]), expected);
    shop.audit().await;
}

#[tokio::test]
async fn a_repeated_abort_asks_again_at_once_and_says_what_is_recorded() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    for fault in [
        status(500, 1),
        status(500, 2),
        status(500, 3),
        FaultKind::Reset,
        status(500, 5),
    ] {
        fail(&shop, &coins[0], fault, 1);
    }
    let mut told = Vec::new();
    for attempt in 1..=5 {
        let reply = shop.abort("half", hash, &coins).await;
        told.push((reply.error(), reply.json()["exchange_code"].as_u64()));
        assert_eq!(asked_for(&shop, &coins[0]), attempt);
    }
    // The third and the fifth attempt are not recorded; the last recorded one speaks.
    let unexpected = |code| ((502, 2014), Some(code));
    let closed = ((502, 2012), None);
    assert_eq!(
        told,
        [unexpected(1), unexpected(2), unexpected(2), closed, closed]
    );
    shop.abort("half", hash, &coins).await.expect(200);
    shop.stop().await;
    let events = shop.events();
    assert_eq!(
        attempts(&events, &coins[0]),
        ["1 500 Later", "2 500 Later", "4 Closed", "6 200 Confirmed"]
    );
    assert_eq!(count(&events, "abort_requested"), 1);
    shop.audit().await;
}

#[tokio::test]
async fn a_refund_is_asked_for_by_wallets_every_five_seconds_at_most() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("sold", "KUDOS:4", &coins, true).await;
    shop.approve("sold", "KUDOS:1").await.expect(200);
    fail(&shop, &coins[0], status(503, 53), 4);
    let mut bodies = Vec::new();
    for _ in 0..3 {
        bodies.push(shop.fetch("sold", hash).await);
    }
    assert_eq!(asked_for(&shop, &coins[0]), 1);
    // Nothing new: the same answer, recorded once.
    assert!(
        bodies
            .iter()
            .all(|reply| (&reply.body, &reply.receipt) == (&bodies[0].body, &bodies[0].receipt))
    );
    // The background asks after 1, 2 and 4 seconds; the next time is 8 seconds off.
    for (pause, asked) in [(1, 2), (2, 3), (4, 4)] {
        shop.clock.advance_s(pause);
        asked_and_recorded(&shop, "sold", &coins[0], 1, asked).await;
    }
    shop.clock.advance_s(4);
    assert_eq!(
        entry(&shop.fetch("sold", hash).await.expect(200), 0),
        failure(503, 53)
    );
    assert_eq!(asked_for(&shop, &coins[0]), 4);
    shop.clock.advance_s(1);
    assert_eq!(entry(&shop.fetch("sold", hash).await.expect(200), 0), success());
    assert_eq!((asked_for(&shop, &coins[0]), refunded(&shop, &coins[0])), (5, 1));
    shop.audit().await;
}

#[tokio::test]
async fn carried_in_refunds_are_asked_for_by_wallets_and_never_by_the_background() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("sold", "KUDOS:4", &coins, true).await;
    let refund = json!({"coin_pub": coins[0].coin_pub, "rtransaction_id": 1, "amount": "KUDOS:3",
                        "execution_time": {"t_s": shop.clock.now_s() - 9}});
    let body = json!({"deposits": [], "paid": true, "refunds": [refund]});
    shop.post_private("private/ledger/orders/sold/deposits", &body)
        .await
        .expect(200);
    fail(&shop, &coins[0], status(503, 53), 2);
    a_second_passes(&shop, 50).await;
    shop.stop().await;
    shop.start().await;
    a_second_passes(&shop, 51).await;
    assert_eq!(asked_for(&shop, &coins[0]), 0);
    for (advance, asked) in [(0, 1), (4, 1), (1, 2), (0, 2)] {
        shop.clock.advance_s(advance);
        assert_eq!(
            entry(&shop.fetch("sold", hash).await.expect(200), 0),
            failure(503, 53)
        );
        assert_eq!(asked_for(&shop, &coins[0]), asked);
    }
    a_second_passes(&shop, 52).await;
    assert_eq!(asked_for(&shop, &coins[0]), 2);
    // Also past the deadline: a repeat of what was made elsewhere moves no money.
    shop.clock.advance_s(200_000);
    assert_eq!(entry(&shop.fetch("sold", hash).await.expect(200), 0), success());
    assert_eq!(asked_for(&shop, &coins[0]), 3);
    shop.audit().await;
}

#[tokio::test]
async fn a_restart_takes_up_what_is_open_and_nothing_else() {
    let mut shop = Shop::open().await;
    let coins = [1, 2, 3].map(|number| coin(number, "KUDOS:4", "KUDOS:0.1"));
    let [aborted, sent, waiting] = &coins;
    let hash = shop
        .sell("half", "KUDOS:20", std::slice::from_ref(aborted), false)
        .await;
    fail(&shop, aborted, status(503, 53), 3);
    for _ in 0..3 {
        assert_eq!(
            shop.abort("half", hash, std::slice::from_ref(aborted))
                .await
                .error(),
            (502, 2014)
        );
    }
    let sold = shop
        .sell("sent", "KUDOS:4", std::slice::from_ref(sent), true)
        .await;
    shop.approve("sent", "KUDOS:1").await.expect(200);
    fail(&shop, sent, FaultKind::LostReply, 1);
    assert_eq!(
        entry(&shop.fetch("sent", sold).await.expect(200), 0),
        failure(502, 2012)
    );
    shop.sell("waiting", "KUDOS:4", std::slice::from_ref(waiting), true)
        .await;
    shop.approve("waiting", "KUDOS:1").await.expect(200);
    shop.stop().await;
    shop.start().await;
    // No clock moves and nobody asks.
    shop.until("both refunds", async || {
        let open = shop.app().service.ledger.open_permissions().unwrap();
        open.is_empty()
    })
    .await;
    assert_eq!(coins.each_ref().map(|coin| asked_for(&shop, coin)), [4, 2, 0]);
    assert_eq!(coins.each_ref().map(|coin| refunded(&shop, coin)), [1, 1, 0]);
    assert_eq!(entry(&shop.fetch("sent", sold).await.expect(200), 0), success());
    shop.stop().await;
    let events = shop.events();
    // Attempts are counted on from the last recorded one.
    assert_eq!(
        attempts(&events, aborted),
        ["1 503 Later", "2 503 Later", "3 200 Confirmed"]
    );
    assert_eq!(attempts(&events, sent), ["1 Closed", "2 200 Confirmed"]);
    shop.audit().await;
}

#[tokio::test]
async fn a_stopped_service_lets_go_of_its_ledger_whatever_tasks_are_left() {
    let mut shop = Shop::open().await;
    // As a task does that was about to record a delivery when the service stopped.
    let left = std::sync::Arc::clone(&shop.app().service);
    shop.stop().await;
    shop.start().await;
    drop(left);
    shop.audit().await;
}
