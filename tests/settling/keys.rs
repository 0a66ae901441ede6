//! The exchange's signing keys: how they are learnt, and what happens without them.

use std::time::Duration;

use quittance_events::Facts;
use quittance_sandbox::FaultKind;

use crate::support::{Coin, Shop, coin};
use crate::{
    asked_for, asked_keys, attempts, count, entry, fail, fail_keys, failure, refunded, status, success,
};

fn one(number: u8) -> [Coin; 1] {
    [coin(number, "KUDOS:4", "KUDOS:0.1")]
}

#[tokio::test]
async fn keys_that_are_no_keys_keep_everything_unsent() {
    for kind in [
        status(500, 60),
        status(404, 21),
        FaultKind::Html,
        FaultKind::Garbage,
        FaultKind::Truncated,
        FaultKind::LostReply,
        FaultKind::Reset,
        // Not one key left that the master key signed.
        FaultKind::WrongSignature,
        FaultKind::UnknownKey,
    ] {
        let mut shop = Shop::open().await;
        let (aborted, approved) = (one(1), one(2));
        let hash = shop.sell("half", "KUDOS:20", &aborted, false).await;
        let sold = shop.sell("sold", "KUDOS:4", &approved, true).await;
        shop.approve("sold", "KUDOS:4").await.expect(200);
        fail_keys(&shop, kind, Duration::ZERO);
        let reply = shop.abort("half", hash, &aborted).await;
        assert_eq!((reply.error(), reply.receipt), ((502, 2010), None), "{kind:?}");
        let reply = shop.fetch("sold", sold).await;
        assert_eq!(entry(&reply.expect(200), 0), failure(502, 2010), "{kind:?}");
        shop.check_receipt(&reply);
        assert_eq!((asked_keys(&shop), shop.asked()), (1, 0), "{kind:?}");
        shop.clock.advance_s(5);
        shop.abort("half", hash, &aborted).await.expect(200);
        assert_eq!(
            entry(&shop.fetch("sold", sold).await.expect(200), 0),
            success(),
            "{kind:?}"
        );
        assert_eq!((asked_keys(&shop), shop.asked()), (2, 2));
        shop.stop().await;
        let events = shop.events();
        assert_eq!(
            (
                count(&events, "exchange_keys_seen"),
                count(&events, "refund_requested")
            ),
            (1, 1)
        );
        shop.audit().await;
    }
}

#[tokio::test]
async fn failures_for_want_of_keys_do_not_hide_the_first_reply() {
    let mut shop = Shop::open().await;
    let coins = one(1);
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    fail_keys(&shop, status(500, 60), Duration::ZERO);
    for _ in 0..2 {
        assert_eq!(shop.abort("half", hash, &coins).await.error(), (502, 2010));
    }
    fail(&shop, &coins[0], status(503, 53), 2);
    shop.clock.advance_s(5);
    // Whether this request or the background is first: the exchange was asked and said 503.
    assert_eq!(shop.abort("half", hash, &coins).await.error(), (502, 2014));
    shop.until("a decision", async || {
        shop.abort("half", hash, &coins).await.status == 200
    })
    .await;
    shop.stop().await;
    assert_eq!(attempts(&shop.events(), &coins[0])[0], "1 503 Later");
    shop.audit().await;
}

#[tokio::test]
async fn a_new_signing_key_is_learnt_with_one_fetch_and_recorded() {
    let mut shop = Shop::open().await;
    let (before, after, later) = (one(1), one(2), one(3));
    let first = shop.sell("before", "KUDOS:20", &before, false).await;
    shop.abort("before", first, &before).await.expect(200);
    assert_eq!(asked_keys(&shop), 1);
    let new_key = shop.sandbox.rotate_signing_key();
    let hash = shop.sell("after", "KUDOS:20", &after, false).await;
    let body = shop.abort("after", hash, &after).await.expect(200);
    assert_eq!(body["refunds"][0]["exchange_pub"], new_key.to_string());
    assert_eq!(asked_keys(&shop), 2);
    let hash = shop.sell("later", "KUDOS:4", &later, true).await;
    shop.approve("later", "KUDOS:4").await.expect(200);
    assert_eq!(entry(&shop.fetch("later", hash).await.expect(200), 0), success());
    assert_eq!(asked_keys(&shop), 2);
    // The old confirmation stands, also after a restart.
    shop.stop().await;
    shop.start().await;
    assert_eq!(
        entry(&shop.abort("before", first, &before).await.expect(200), 0),
        success()
    );
    shop.stop().await;
    let events = shop.events();
    let lists: Vec<usize> = events
        .iter()
        .filter_map(|event| match &event.facts {
            Facts::ExchangeKeysSeen(facts) => Some(facts.signkeys.len()),
            _ => None,
        })
        .collect();
    assert_eq!(lists, [1, 2]);
    assert_eq!(attempts(&events, &after[0]), ["1 200 Confirmed"]);
    shop.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_replies_under_a_new_key_record_it_once() {
    let mut shop = Shop::open().await;
    let coins = [1, 2, 3, 4, 5, 6, 7, 8].map(|number| coin(number, "KUDOS:2", "KUDOS:0.1"));
    let first = one(20);
    let hash = shop.sell("first", "KUDOS:20", &first, false).await;
    shop.abort("first", hash, &first).await.expect(200);
    shop.sandbox.rotate_signing_key();
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    let body = shop.abort("half", hash, &coins).await.expect(200);
    for index in 0..coins.len() {
        assert_eq!(entry(&body, index), success());
    }
    shop.stop().await;
    assert_eq!(count(&shop.events(), "exchange_keys_seen"), 2);
    shop.audit().await;
}

#[tokio::test]
async fn a_key_that_the_exchange_does_not_list_proves_nothing() {
    let mut shop = Shop::open().await;
    let coins = one(1);
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    fail(&shop, &coins[0], FaultKind::UnknownKey, 1);
    assert_eq!(shop.abort("half", hash, &coins).await.error(), (502, 2013));
    // Looked up once more; nothing new is nothing to record.
    assert_eq!((asked_keys(&shop), refunded(&shop, &coins[0])), (2, 1));
    shop.abort("half", hash, &coins).await.expect(200);
    assert_eq!(asked_keys(&shop), 2);
    shop.stop().await;
    assert_eq!(count(&shop.events(), "exchange_keys_seen"), 1);
    shop.audit().await;
}

#[tokio::test]
async fn a_new_key_that_is_not_published_yet_is_learnt_when_it_is() {
    let mut shop = Shop::open().await;
    let (before, after) = (one(1), one(2));
    let hash = shop.sell("before", "KUDOS:20", &before, false).await;
    shop.abort("before", hash, &before).await.expect(200);
    shop.sandbox.rotate_signing_key();
    fail_keys(&shop, FaultKind::UnknownKey, Duration::ZERO);
    let hash = shop.sell("after", "KUDOS:20", &after, false).await;
    assert_eq!(shop.abort("after", hash, &after).await.error(), (502, 2013));
    assert_eq!(
        entry(&shop.abort("after", hash, &after).await.expect(200), 0),
        success()
    );
    assert_eq!((asked_for(&shop, &after[0]), refunded(&shop, &after[0])), (2, 1));
    shop.stop().await;
    assert_eq!(
        attempts(&shop.events(), &after[0]),
        ["1 200 Unproven", "2 200 Confirmed"]
    );
    shop.audit().await;
}
