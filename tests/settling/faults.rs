//! Every fault of an exchange, once at a refund and once at an abort.

use quittance_sandbox::FaultKind;
use serde_json::{Value, json};

use crate::support::{Coin, Reply, Shop, coin};
use crate::{asked_for, attempts, count, entry, fail, failure, refunded, short, status, success};

struct Case {
    kind: FaultKind,
    /// Status and code in the wallet's entry of a refund.
    entry: (u64, u64),
    /// Whether the exchange's reply is handed on.
    handed_on: bool,
    /// Status and code of an abort that hangs on this coin, and the exchange's status and code in it.
    abort: (u16, u64, Option<u64>, Option<u64>),
    /// The recorded attempt.
    recorded: &'static str,
    /// Whether the exchange has refunded all the same.
    done: bool,
}

#[expect(clippy::too_many_lines, reason = "a table, one entry a fault")]
fn cases() -> Vec<(Coin, Case)> {
    let case = |kind, entry, handed_on, abort, recorded, done| Case {
        kind,
        entry,
        handed_on,
        abort,
        recorded,
        done,
    };
    let unproven = "1 200 Unproven";
    let cases = [
        case(
            FaultKind::Delay,
            (504, 2011),
            false,
            (408, 2011, None, None),
            "1 Timeout",
            true,
        ),
        case(
            FaultKind::LostReply,
            (502, 2012),
            false,
            (502, 2012, None, None),
            "1 Closed",
            true,
        ),
        case(
            FaultKind::Reset,
            (502, 2012),
            false,
            (502, 2012, None, None),
            "1 Closed",
            false,
        ),
        case(
            status(500, 60),
            (500, 60),
            true,
            (502, 2014, Some(500), Some(60)),
            "1 500 Later",
            false,
        ),
        case(
            status(503, 53),
            (503, 53),
            true,
            (502, 2014, Some(503), Some(53)),
            "1 503 Later",
            false,
        ),
        // Of these four a wallet hears 503: a 4xx would be final to it.
        case(
            status(408, 7),
            (503, 7),
            true,
            (502, 2014, Some(408), Some(7)),
            "1 408 Later",
            false,
        ),
        case(
            status(425, 7),
            (503, 7),
            true,
            (502, 2014, Some(425), Some(7)),
            "1 425 Later",
            false,
        ),
        case(
            status(429, 7),
            (503, 7),
            true,
            (502, 2014, Some(429), Some(7)),
            "1 429 Later",
            false,
        ),
        case(
            status(451, 7),
            (503, 7),
            true,
            (502, 2014, Some(451), Some(7)),
            "1 451 Later",
            false,
        ),
        case(
            FaultKind::Html,
            (502, 2014),
            false,
            (502, 2014, Some(502), None),
            "1 502 Later",
            false,
        ),
        case(
            FaultKind::Garbage,
            (502, 2013),
            false,
            (502, 2013, Some(200), None),
            unproven,
            true,
        ),
        case(
            FaultKind::Truncated,
            (502, 2013),
            false,
            (502, 2013, Some(200), None),
            unproven,
            true,
        ),
        case(
            FaultKind::WrongSignature,
            (502, 2013),
            true,
            (502, 2013, Some(200), None),
            unproven,
            true,
        ),
        case(
            FaultKind::UnknownKey,
            (502, 2013),
            true,
            (502, 2013, Some(200), None),
            unproven,
            true,
        ),
    ];
    (1..)
        .zip(cases)
        .map(|(number, case)| (coin(number, "KUDOS:10", "KUDOS:0.1"), case))
        .collect()
}

fn check_members(reply: &Reply, case: &Case) {
    let (http_status, code, exchange_status, exchange_code) = case.abort;
    assert_eq!(reply.error(), (http_status, code), "{:?}", case.kind);
    assert_eq!(reply.receipt, None);
    let body = reply.json();
    assert_eq!(
        body["exchange_http_status"].as_u64(),
        exchange_status,
        "{:?}",
        case.kind
    );
    assert_eq!(body["exchange_code"].as_u64(), exchange_code, "{:?}", case.kind);
    check_handed_on(body.get("exchange_reply"), case);
}

fn check_handed_on(reply: Option<&Value>, case: &Case) {
    assert_eq!(reply.is_some(), case.handed_on, "{:?}", case.kind);
    match (reply, case.kind) {
        (Some(reply), FaultKind::Status { code, .. }) => assert_eq!(reply["code"], code),
        (Some(reply), _) => assert!(reply["exchange_sig"].is_string()),
        (None, _) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_that_fails_is_told_recorded_and_finished_in_the_background() {
    let mut shop = Shop::open_with(short(2000, 5000, 8000)).await;
    let mut orders = Vec::new();
    for (index, (coin, case)) in cases().into_iter().enumerate() {
        let id = format!("order-{index}");
        let hash = shop
            .sell(&id, "KUDOS:10", std::slice::from_ref(&coin), true)
            .await;
        shop.approve(&id, "KUDOS:4").await.expect(200);
        fail(&shop, &coin, case.kind, 1);
        orders.push((id, hash, coin, case));
    }
    let fetches = orders.iter().map(|(id, hash, ..)| shop.fetch(id, *hash));
    for (reply, (id, _, coin, case)) in futures_util::future::join_all(fetches).await.iter().zip(&orders) {
        let body = reply.expect(200);
        shop.check_receipt(reply);
        assert_eq!(
            entry(&body, 0),
            failure(case.entry.0, case.entry.1),
            "{id} {:?}",
            case.kind
        );
        // A failure counts in the sum: it was granted.
        assert_eq!(body["refund_amount"], "KUDOS:4");
        check_handed_on(body["refunds"][0].get("exchange_reply"), case);
        assert_eq!(refunded(&shop, coin), usize::from(case.done), "{:?}", case.kind);
    }
    shop.clock.advance_s(1);
    for (id, hash, coin, case) in &orders {
        shop.until("a confirmation", async || {
            entry(&shop.fetch(id, *hash).await.expect(200), 0) == success()
        })
        .await;
        assert_eq!(
            (asked_for(&shop, coin), refunded(&shop, coin)),
            (2, 1),
            "{:?}",
            case.kind
        );
    }
    shop.stop().await;
    let events = shop.events();
    for (.., coin, case) in &orders {
        assert_eq!(
            attempts(&events, coin),
            [case.recorded, "2 200 Confirmed"],
            "{:?}",
            case.kind
        );
    }
    shop.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_that_fails_is_told_recorded_and_finished_by_the_next() {
    let mut shop = Shop::open_with(short(2000, 5000, 8000)).await;
    let mut orders = Vec::new();
    for (index, (coin, case)) in cases().into_iter().enumerate() {
        let id = format!("order-{index}");
        let hash = shop
            .sell(&id, "KUDOS:20", std::slice::from_ref(&coin), false)
            .await;
        fail(&shop, &coin, case.kind, 1);
        orders.push((id, hash, coin, case));
    }
    let abort = |(id, hash, coin, _): &(String, _, Coin, Case)| {
        let (shop, id, hash, coin) = (&shop, id.clone(), *hash, coin.clone());
        async move { shop.abort(&id, hash, &[coin]).await }
    };
    let replies = futures_util::future::join_all(orders.iter().map(abort)).await;
    for (reply, (.., coin, case)) in replies.iter().zip(&orders) {
        check_members(reply, case);
        assert_eq!(refunded(&shop, coin), usize::from(case.done), "{:?}", case.kind);
    }
    for order in &orders {
        let reply = abort(order).await;
        let body = reply.expect(200);
        shop.check_receipt(&reply);
        assert_eq!(entry(&body, 0), success());
        assert_eq!(
            (asked_for(&shop, &order.2), refunded(&shop, &order.2)),
            (2, 1),
            "{:?}",
            order.3.kind
        );
    }
    shop.stop().await;
    let events = shop.events();
    for (.., coin, case) in &orders {
        assert_eq!(
            attempts(&events, coin),
            [case.recorded, "2 200 Confirmed"],
            "{:?}",
            case.kind
        );
    }
    // What told of no decided coin is no answer.
    assert_eq!(count(&events, "abort_answered"), orders.len());
    shop.audit().await;
}

#[tokio::test]
async fn one_decided_coin_makes_an_answer_and_the_others_are_failures_in_it() {
    let mut shop = Shop::open().await;
    let coins = [
        coin(1, "KUDOS:4", "KUDOS:0.1"),
        coin(2, "KUDOS:5", "KUDOS:0.1"),
        coin(3, "KUDOS:6", "KUDOS:0.1"),
    ];
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    fail(&shop, &coins[0], status(500, 60), 1);
    fail(&shop, &coins[2], FaultKind::LostReply, 1);
    let first = shop.abort("half", hash, &coins).await;
    let body = first.expect(200);
    assert_eq!(
        [0, 1, 2].map(|at| entry(&body, at)),
        [failure(500, 60), success(), failure(502, 2012)]
    );
    assert_eq!(body["refunds"][0]["exchange_reply"]["code"], 60);
    // Only what is open is asked again.
    let second = shop.abort("half", hash, &coins).await;
    let body = second.expect(200);
    assert_eq!(
        [0, 1, 2].map(|at| entry(&body, at)),
        [success(), success(), success()]
    );
    assert_eq!(coins.each_ref().map(|coin| asked_for(&shop, coin)), [2, 1, 2]);
    assert!(shop.check_receipt(&first).seq < shop.check_receipt(&second).seq);
    shop.audit().await;
}

#[tokio::test]
async fn with_no_decided_coin_the_first_failing_one_speaks() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1"), coin(2, "KUDOS:5", "KUDOS:0.1")];
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    fail(&shop, &coins[0], status(503, 53), 2);
    fail(&shop, &coins[1], FaultKind::Reset, 2);
    assert_eq!(shop.abort("half", hash, &coins).await.error(), (502, 2014));
    let [a, b] = coins.clone();
    assert_eq!(shop.abort("half", hash, &[b, a]).await.error(), (502, 2012));
    shop.abort("half", hash, &coins).await.expect(200);
    shop.audit().await;
}

#[tokio::test]
async fn an_exchange_that_is_not_there_is_unreached_by_connecting() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("first", "KUDOS:20", &coins, false).await;
    shop.abort("first", hash, &coins).await.expect(200);
    let late = [coin(2, "KUDOS:5", "KUDOS:0.1")];
    let hash = shop.sell("second", "KUDOS:20", &late, false).await;
    let url = shop.sandbox.base_url();
    // Its keys are known, its port is closed.
    let other = quittance_sandbox::Sandbox::start(quittance_sandbox::SandboxConfig {
        bind: "127.0.0.1:0".parse().unwrap(),
        currency: "KUDOS".parse().unwrap(),
        seed: 12,
        clock: shop.clock.clock(),
    })
    .await
    .unwrap();
    std::mem::replace(&mut shop.sandbox, other).stop().await;
    let body = json!({"h_contract": hash, "coins": [{"coin_pub": late[0].coin_pub, "exchange_url": url}]});
    assert_eq!(shop.post("orders/second/abort", &body).await.error(), (502, 2012));
    shop.stop().await;
    assert_eq!(attempts(&shop.events(), &late[0]), ["1 Connect"]);
    shop.audit().await;
}
