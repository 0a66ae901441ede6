//! The wire deadline: past it nothing is sent for the first time, and what was sent is asked until it is decided.

use quittance_sandbox::FaultKind;

use crate::support::{Shop, coin};
use crate::{asked_for, count, entry, fail, failure, refunded, status, success};

#[tokio::test]
async fn past_the_wire_deadline_nothing_is_sent_for_the_first_time() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("sold", "KUDOS:4", &coins, true).await;
    shop.approve("sold", "KUDOS:4").await.expect(200);
    shop.clock.advance_s(172_800);
    let reply = shop.fetch("sold", hash).await;
    assert_eq!(reply.error(), (410, 2169));
    shop.check_receipt(&reply);
    let again = shop.fetch("sold", hash).await;
    assert_eq!((again.body, again.receipt), (reply.body, reply.receipt));
    assert_eq!(shop.asked(), 0);
    shop.stop().await;
    let events = shop.events();
    assert_eq!(
        (
            count(&events, "refund_requested"),
            count(&events, "refund_answered")
        ),
        (0, 1)
    );
    shop.audit().await;
}

#[tokio::test]
async fn one_second_before_it_everything_is_sent() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("sold", "KUDOS:4", &coins, true).await;
    shop.approve("sold", "KUDOS:4").await.expect(200);
    shop.clock.advance_s(172_799);
    assert_eq!(entry(&shop.fetch("sold", hash).await.expect(200), 0), success());
    // Confirmed is confirmed.
    shop.clock.advance_s(1);
    assert_eq!(entry(&shop.fetch("sold", hash).await.expect(200), 0), success());
    assert_eq!(shop.asked(), 1);
    shop.audit().await;
}

#[tokio::test]
async fn what_was_sent_before_it_is_asked_until_the_exchange_decides() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1"), coin(2, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("sold", "KUDOS:8", &coins, true).await;
    shop.approve("sold", "KUDOS:4").await.expect(200);
    fail(&shop, &coins[0], FaultKind::LostReply, 1);
    fail(&shop, &coins[0], status(503, 53), 1);
    assert_eq!(
        entry(&shop.fetch("sold", hash).await.expect(200), 0),
        failure(502, 2012)
    );
    shop.approve("sold", "KUDOS:8").await.expect(200);
    shop.clock.advance_s(172_800);
    shop.until("the background", async || asked_for(&shop, &coins[0]) >= 2)
        .await;
    let mut last = None;
    shop.until("a confirmation", async || {
        shop.clock.advance_s(1);
        let reply = shop.fetch("sold", hash).await;
        let body = reply.expect(200);
        // The second approval came too late to be sent: that is final, and told as the exchange would.
        assert_eq!(entry(&body, 1), failure(410, 1503));
        assert_eq!(body["refund_amount"], "KUDOS:8");
        last = Some(reply);
        entry(&body, 0) == success()
    })
    .await;
    shop.check_receipt(&last.unwrap());
    assert_eq!((asked_for(&shop, &coins[0]), refunded(&shop, &coins[0])), (3, 1));
    assert_eq!(asked_for(&shop, &coins[1]), 0);
    shop.audit().await;
}

#[tokio::test]
async fn an_abort_knows_no_deadline() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    shop.clock.advance_s(200_000);
    assert_eq!(
        entry(&shop.abort("half", hash, &coins).await.expect(200), 0),
        success()
    );
    shop.audit().await;
}
