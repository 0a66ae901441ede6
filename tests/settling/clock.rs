//! A clock that goes back: up to a minute nobody notices, beyond it the ledger takes nothing until the operator says
//! that the clock was wrong.

use quittance::commands;

use crate::support::{NOON_S, Shop, coin};
use crate::{entry, success};

#[tokio::test]
async fn more_than_a_minute_back_nothing_is_recorded_until_the_clock_is_corrected() {
    let mut shop = Shop::open().await;
    let coins = [1, 2, 3].map(|number| [coin(number, "KUDOS:4", "KUDOS:0.1")]);
    let half = shop.sell("half", "KUDOS:20", &coins[0], false).await;
    let sold = shop.sell("sold", "KUDOS:4", &coins[1], true).await;
    shop.approve("sold", "KUDOS:2").await.expect(200);
    shop.clock.set_s(NOON_S + 200);
    let last = shop.sell("last", "KUDOS:4", &coins[2], true).await;

    shop.clock.set_s(NOON_S + 139);
    assert_eq!(shop.fetch("sold", sold).await.error(), (500, 53));
    assert_eq!(shop.abort("half", half, &coins[0]).await.error(), (500, 52));
    assert_eq!(shop.approve("sold", "KUDOS:3").await.error(), (500, 52));
    assert_eq!(
        shop.tell("half", &[coin(9, "KUDOS:1", "KUDOS:0")], false)
            .await
            .error(),
        (500, 52)
    );
    let terms = serde_json::json!({ "contract_terms": shop.terms("new", "KUDOS:1", 10, 20) });
    assert_eq!(
        shop.post_private("private/ledger/orders", &terms).await.error(),
        (500, 52)
    );
    assert_eq!(shop.asked(), 0);
    // Time does not run backwards within an order: what the last one does is dated by its last event.
    shop.approve("last", "KUDOS:1").await.expect(200);

    // A minute back is within what clocks do.
    shop.clock.set_s(NOON_S + 140);
    shop.approve("sold", "KUDOS:3").await.expect(200);

    shop.clock.set_s(NOON_S + 5);
    assert_eq!(shop.abort("half", half, &coins[0]).await.error(), (500, 52));
    shop.stop().await;
    let (config, time) = (shop.config.clone(), shop.clock.clock());
    let corrected =
        tokio::task::spawn_blocking(move || commands::correct_clock(&config, &time, "a wrong time server"));
    let (from, to) = corrected.await.unwrap().unwrap();
    assert_eq!(
        (from.get(), to.get()),
        ((NOON_S + 200) * 1_000_000, (NOON_S + 5) * 1_000_000)
    );
    shop.start().await;

    // Comparisons begin anew, within orders too.
    shop.approve("sold", "KUDOS:4").await.expect(200);
    shop.approve("last", "KUDOS:2").await.expect(200);
    for (id, hash) in [("sold", sold), ("last", last)] {
        let body = shop.fetch(id, hash).await.expect(200);
        for index in 0..body["refunds"].as_array().unwrap().len() {
            assert_eq!(entry(&body, index), success(), "{id}");
        }
    }
    assert_eq!(
        entry(&shop.abort("half", half, &coins[0]).await.expect(200), 0),
        success()
    );
    shop.stop().await;
    let events = shop.events();
    assert!(events.iter().any(|event| event.facts.kind() == "clock_corrected"));
    assert!(events.last().unwrap().at_us.get() < (NOON_S + 200) * 1_000_000);
    shop.audit().await;
}

#[tokio::test]
async fn execution_seconds_grow_over_a_corrected_clock() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("sold", "KUDOS:4", &coins, true).await;
    shop.clock.set_s(NOON_S + 900);
    shop.approve("sold", "KUDOS:1").await.expect(200);
    shop.stop().await;
    shop.clock.set_s(NOON_S + 100);
    let (config, time) = (shop.config.clone(), shop.clock.clock());
    let corrected = tokio::task::spawn_blocking(move || commands::correct_clock(&config, &time, "a leap"));
    corrected.await.unwrap().unwrap();
    shop.start().await;
    shop.approve("sold", "KUDOS:2").await.expect(200);
    let body = shop.fetch("sold", hash).await.expect(200);
    let seconds =
        [0, 1].map(|index: usize| body["refunds"][index]["execution_time"]["t_s"].as_u64().unwrap());
    assert_eq!(seconds, [NOON_S + 900, NOON_S + 901]);
    shop.audit().await;
}
