//! When time runs out: of a call, of a wallet's request, of a fetch of keys.

use std::time::Duration;

use quittance_sandbox::FaultKind;

use crate::support::{Shop, coin};
use crate::{
    TOO_LONG, asked_for, asked_keys, attempts, delay, entry, fail_keys, failure, refunded, short, success,
};

#[tokio::test]
async fn when_the_request_runs_out_of_time_the_call_goes_on_without_it() {
    let mut shop = Shop::open_with(short(5000, 5000, 200)).await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    delay(&shop, &coins[0], Duration::from_millis(600));
    let reply = shop.abort("half", hash, &coins).await;
    assert_eq!((reply.error(), &reply.receipt), ((408, 2011), &None));
    // Asking again waits for the same call.
    shop.until("the reply", async || {
        shop.abort("half", hash, &coins).await.status == 200
    })
    .await;
    assert_eq!((asked_for(&shop, &coins[0]), refunded(&shop, &coins[0])), (1, 1));
    shop.stop().await;
    assert_eq!(attempts(&shop.events(), &coins[0]), ["1 200 Confirmed"]);
    shop.audit().await;
}

#[tokio::test]
async fn a_coin_that_takes_too_long_does_not_keep_the_others_from_an_answer() {
    let mut shop = Shop::open_with(short(5000, 5000, 1000)).await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1"), coin(2, "KUDOS:5", "KUDOS:0.1")];
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    delay(&shop, &coins[0], Duration::from_millis(1800));
    let body = shop.abort("half", hash, &coins).await.expect(200);
    assert_eq!(
        [entry(&body, 0), entry(&body, 1)],
        [failure(504, 2011), success()]
    );
    shop.until("the other", async || {
        entry(&shop.abort("half", hash, &coins).await.expect(200), 0) == success()
    })
    .await;
    assert_eq!(coins.each_ref().map(|coin| asked_for(&shop, coin)), [1, 1]);
    shop.audit().await;
}

#[tokio::test]
async fn a_refund_that_takes_too_long_is_a_504_until_it_is_recorded() {
    let mut shop = Shop::open_with(short(5000, 5000, 300)).await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("sold", "KUDOS:4", &coins, true).await;
    shop.approve("sold", "KUDOS:1").await.expect(200);
    // The exchange's keys are known from now on: they do not count against the time.
    shop.until("the first", async || {
        entry(&shop.fetch("sold", hash).await.expect(200), 0) == success()
    })
    .await;
    shop.approve("sold", "KUDOS:4").await.expect(200);
    delay(&shop, &coins[0], Duration::from_millis(700));
    assert_eq!(
        entry(&shop.fetch("sold", hash).await.expect(200), 1),
        failure(504, 2011)
    );
    shop.until("the reply", async || {
        entry(&shop.fetch("sold", hash).await.expect(200), 1) == success()
    })
    .await;
    assert_eq!(asked_for(&shop, &coins[0]), 2);
    shop.audit().await;
}

#[tokio::test]
async fn keys_that_do_not_come_in_time_keep_everything_unsent() {
    let mut shop = Shop::open_with(short(5000, 1000, 8000)).await;
    let (aborted, approved) = (
        [coin(1, "KUDOS:4", "KUDOS:0.1")],
        [coin(2, "KUDOS:4", "KUDOS:0.1")],
    );
    let hash = shop.sell("half", "KUDOS:20", &aborted, false).await;
    let sold = shop.sell("sold", "KUDOS:4", &approved, true).await;
    shop.approve("sold", "KUDOS:4").await.expect(200);
    fail_keys(&shop, FaultKind::Delay, TOO_LONG);
    assert_eq!(shop.abort("half", hash, &aborted).await.error(), (504, 2011));
    // An exchange that is down is not asked once per wallet.
    assert_eq!(shop.abort("half", hash, &aborted).await.error(), (504, 2011));
    assert_eq!(
        entry(&shop.fetch("sold", sold).await.expect(200), 0),
        failure(502, 2010)
    );
    assert_eq!((asked_keys(&shop), shop.asked()), (1, 0));
    shop.clock.advance_s(5);
    shop.abort("half", hash, &aborted).await.expect(200);
    assert_eq!(entry(&shop.fetch("sold", sold).await.expect(200), 0), success());
    assert_eq!(asked_keys(&shop), 2);
    shop.audit().await;
}
