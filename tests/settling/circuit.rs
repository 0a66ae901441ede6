//! An exchange that is down: wallets get their answer without waiting for it, nothing is recorded that did not happen,
//! and all is finished once it is back.

use std::time::Duration;

use futures_util::future::join_all;
use quittance::limits::{CALLS_PER_EXCHANGE_MAX, CIRCUIT_FAILURES, CIRCUIT_PAUSE_S};
use quittance_sandbox::FaultKind;

use crate::support::{Coin, Shop, coin};
use crate::{asked_for, attempts, count, entry, fail, failure, refunded, short, success};

fn one(number: u8) -> [Coin; 1] {
    [coin(number, "KUDOS:4", "KUDOS:0.1")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wallets_of_an_exchange_that_is_down_are_answered_without_asking_it() {
    let mut shop = Shop::open_with(short(1000, 5000, 8000)).await;
    let (first, late, approved) = (one(1), one(2), one(3));
    let hash = shop.sell("first", "KUDOS:20", &first, false).await;
    // From here on its keys are known.
    shop.abort("first", hash, &first).await.expect(200);
    let late_hash = shop.sell("late", "KUDOS:20", &late, false).await;
    let sold_hash = shop.sell("sold", "KUDOS:4", &approved, true).await;
    shop.approve("sold", "KUDOS:2").await.expect(200);
    let mut slow = Vec::new();
    for number in 0..u8::try_from(CIRCUIT_FAILURES).unwrap() {
        let (id, coins) = (format!("slow-{number}"), one(10 + number));
        let hash = shop.sell(&id, "KUDOS:20", &coins, false).await;
        fail(&shop, &coins[0], FaultKind::Delay, 1);
        slow.push((id, hash, coins));
    }
    let aborts = slow.iter().map(|(id, hash, coins)| shop.abort(id, *hash, coins));
    for reply in join_all(aborts).await {
        assert_eq!(reply.error(), (408, 2011));
    }
    let reply = shop.abort("late", late_hash, &late).await;
    assert_eq!((reply.error(), reply.receipt), ((502, 2012), None));
    // Requested, and nothing recorded of it.
    let body = shop.fetch("sold", sold_hash).await.expect(200);
    assert_eq!(entry(&body, 0), failure(504, 2011));
    assert_eq!(
        (asked_for(&shop, &late[0]), asked_for(&shop, &approved[0])),
        (0, 0)
    );

    shop.clock.advance_s(CIRCUIT_PAUSE_S);
    shop.until("the exchange's return", async || {
        shop.abort("late", late_hash, &late).await.status == 200
    })
    .await;
    shop.until("a confirmation", async || {
        entry(&shop.fetch("sold", sold_hash).await.expect(200), 0) == success()
    })
    .await;
    for (id, hash, coins) in &slow {
        shop.abort(id, *hash, coins).await.expect(200);
        assert_eq!(refunded(&shop, &coins[0]), 1);
    }
    shop.stop().await;
    let events = shop.events();
    // What was not sent has left no trace: the first attempt is the one that the exchange answered.
    for coins in [&late, &approved] {
        assert_eq!(attempts(&events, &coins[0]), ["1 200 Confirmed"]);
    }
    for (.., coins) in &slow {
        assert_eq!(attempts(&events, &coins[0]), ["1 Timeout", "2 200 Confirmed"]);
    }
    shop.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_place_in_vain_is_no_attempt() {
    let mut shop = Shop::open_with(short(1000, 5000, 8000)).await;
    let first = one(1);
    let hash = shop.sell("first", "KUDOS:200", &first, false).await;
    shop.abort("first", hash, &first).await.expect(200);
    let most = u8::try_from(CALLS_PER_EXCHANGE_MAX).unwrap();
    let coins: Vec<Coin> = (0..most + 8)
        .map(|number| coin(10 + number, "KUDOS:4", "KUDOS:0.1"))
        .collect();
    let hash = shop.sell("many", "KUDOS:900", &coins, false).await;
    for coin in &coins {
        fail(&shop, coin, FaultKind::Delay, 1);
    }
    assert_eq!(shop.abort("many", hash, &coins).await.error(), (408, 2011));
    // None of those that waited goes out later.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let sent: Vec<bool> = coins.iter().map(|coin| asked_for(&shop, coin) == 1).collect();
    let calls = sent.iter().filter(|sent| **sent).count();
    // As places came free a few more were sent, until so many had timed out that the exchange counted as down.
    let most = usize::from(most);
    assert!(
        (most..most + usize::try_from(CIRCUIT_FAILURES).unwrap()).contains(&calls),
        "{calls}"
    );
    shop.stop().await;
    let events = shop.events();
    for (coin, sent) in coins.iter().zip(sent) {
        let expected: &[&str] = if sent { &["1 Timeout"] } else { &[] };
        assert_eq!(attempts(&events, coin), expected);
    }
    assert_eq!(count(&events, "exchange_unreached"), calls);
    shop.audit().await;
}
