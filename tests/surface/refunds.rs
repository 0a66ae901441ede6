//! What a wallet gets that comes for its refunds, and what the status tells it before and after.

use std::time::Duration;

use quittance::exchange::Times;
use quittance_sandbox::{Fault, FaultKind, FaultPath};
use quittance_taler::HashCode;
use serde_json::{Value, json};

use crate::support::{Coin, Options, Shop, coin};
use crate::tools::{StandIn, carry_in, count, taken, told_refund};

fn coins() -> [Coin; 2] {
    [coin(1, "KUDOS:10", "KUDOS:0.2"), coin(2, "KUDOS:5", "KUDOS:0.1")]
}

fn keys_fail(times: u32) -> Fault {
    Fault {
        times,
        path: FaultPath::Keys,
        ..Fault::new(FaultKind::Status {
            status: 503,
            code: 60,
        })
    }
}

/// Status and code of each entry, `(200, null)` for a success.
fn entries(body: &Value) -> Vec<(u64, Value)> {
    let entry = |row: &Value| {
        (
            row["exchange_status"].as_u64().unwrap(),
            row["exchange_code"].clone(),
        )
    };
    body["refunds"].as_array().unwrap().iter().map(entry).collect()
}

async fn status(shop: &Shop, id: &str, hash: HashCode) -> Value {
    shop.status(id, hash).await.expect(200)
}

fn told(pending: bool, amount: &str, taken: &str) -> Value {
    json!({"refunded": amount != "KUDOS:0", "refund_pending": pending, "refund_amount": amount, "refund_taken": taken})
}

#[tokio::test]
async fn where_nothing_was_paid_there_is_nothing_to_fetch() {
    let mut shop = Shop::open().await;
    let [a, _] = coins();
    let unpaid = shop.sell("unpaid", "KUDOS:10", &[], false).await;
    let half = shop
        .sell("half", "KUDOS:11", std::slice::from_ref(&a), false)
        .await;
    let free = shop.sell("free", "KUDOS:0", &[], true).await;
    let before = count(&shop);
    for _ in 0..2 {
        for (id, hash) in [("unpaid", unpaid), ("half", half), ("free", free)] {
            let reply = shop.fetch(id, hash).await;
            assert_eq!(
                (reply.status, reply.body.len(), reply.receipt),
                (204, 0, None),
                "{id}"
            );
        }
        // Also past the deadline.
        shop.clock.advance_s(200_000);
    }
    let reply = shop.status("unpaid", unpaid).await.expect(402);
    assert_eq!(
        reply,
        json!({"taler_pay_uri": "taler://pay/shop.example/unpaid/"})
    );
    assert_eq!(
        status(&shop, "free", free).await,
        told(false, "KUDOS:0", "KUDOS:0")
    );
    assert_eq!(count(&shop), before);
    assert!(shop.sandbox.requests().is_empty());
    shop.audit().await;
}

#[tokio::test]
async fn nothing_approved_is_an_empty_answer_before_the_deadline_and_gone_after_it() {
    let mut shop = Shop::open().await;
    let [a, _] = coins();
    let hash = shop.sell("none", "KUDOS:10", &[a], true).await;
    let wire_deadline = shop.clock.now_s() + 172_800;
    shop.clock.set_s(wire_deadline - 1);
    let reply = shop.fetch("none", hash).await;
    assert_eq!(
        reply.expect(200),
        json!({"refund_amount": "KUDOS:0", "refunds": [], "merchant_pub": shop.merchant_pub})
    );
    shop.check_receipt(&reply);
    assert_eq!(
        status(&shop, "none", hash).await,
        told(false, "KUDOS:0", "KUDOS:0")
    );

    shop.clock.set_s(wire_deadline);
    let gone = shop.fetch("none", hash).await;
    let body = gone.expect(410);
    assert_eq!(body["code"], 2169);
    let members: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["code", "hint"]);
    shop.check_receipt(&gone);
    let again = shop.fetch("none", hash).await;
    assert_eq!((again.body, again.receipt), (gone.body, gone.receipt));
    assert_eq!(shop.asked(), 0);
    shop.audit().await;
}

#[tokio::test]
async fn what_was_approved_is_fetched_once_and_told_as_taken_when_it_was_delivered() {
    let mut shop = Shop::open().await;
    let [a, b] = coins();
    let hash = shop.sell("good", "KUDOS:15", &[a.clone(), b.clone()], true).await;
    shop.approve("good", "KUDOS:12").await.expect(200);
    let now = shop.clock.now_s();
    assert_eq!(
        status(&shop, "good", hash).await,
        told(true, "KUDOS:12", "KUDOS:0")
    );
    let reply = shop.fetch("good", hash).await;
    let body = reply.expect(200);
    shop.check_receipt(&reply);
    for (row, (coin, amount)) in body["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .zip([(&a, "KUDOS:10"), (&b, "KUDOS:2")])
    {
        assert_eq!(row["type"], "success");
        assert_eq!(row["coin_pub"], json!(coin.coin_pub));
        assert_eq!(row["refund_amount"], amount);
        assert_eq!(
            (
                row["rtransaction_id"].as_u64(),
                row["execution_time"]["t_s"].as_u64()
            ),
            (Some(1), Some(now))
        );
        assert!(row["exchange_sig"].is_string() && row["exchange_pub"].is_string());
        assert_eq!(row.get("exchange_code"), None);
    }
    assert_eq!(
        (&body["refund_amount"], &body["merchant_pub"]),
        (&json!("KUDOS:12"), &json!(shop.merchant_pub))
    );
    taken(&shop, "good", hash, "KUDOS:12").await;
    assert_eq!(
        status(&shop, "good", hash).await,
        told(false, "KUDOS:12", "KUDOS:12")
    );

    // Again, another day, and past the deadline: the same bytes, and nobody is asked.
    let before = count(&shop);
    for _ in 0..3 {
        shop.clock.advance_s(86_400);
        let again = shop.fetch("good", hash).await;
        assert_eq!(
            (again.body, again.receipt),
            (reply.body.clone(), reply.receipt.clone())
        );
    }
    assert_eq!((count(&shop), shop.asked()), (before, 2));
    shop.audit().await;
}

#[tokio::test]
async fn an_approval_after_a_fetch_is_pending_again() {
    let mut shop = Shop::open().await;
    let [a, _] = coins();
    let hash = shop.sell("steps", "KUDOS:10", &[a], true).await;
    shop.approve("steps", "KUDOS:2").await.expect(200);
    shop.fetch("steps", hash).await.expect(200);
    taken(&shop, "steps", hash, "KUDOS:2").await;
    shop.approve("steps", "KUDOS:5").await.expect(200);
    assert_eq!(
        status(&shop, "steps", hash).await,
        told(true, "KUDOS:5", "KUDOS:2")
    );
    // The second fails for now: it stands in the sum all the same, and is not taken.
    shop.sandbox.fault(Fault::new(FaultKind::Reset)).unwrap();
    let body = shop.fetch("steps", hash).await.expect(200);
    assert_eq!(entries(&body), [(200, Value::Null), (502, json!(2012))]);
    assert_eq!(body["refund_amount"], "KUDOS:5");
    assert_eq!(
        status(&shop, "steps", hash).await,
        told(true, "KUDOS:5", "KUDOS:2")
    );
    shop.clock.advance_s(5);
    let body = shop.fetch("steps", hash).await.expect(200);
    assert_eq!(entries(&body), [(200, Value::Null), (200, Value::Null)]);
    taken(&shop, "steps", hash, "KUDOS:5").await;
    assert_eq!(
        status(&shop, "steps", hash).await,
        told(false, "KUDOS:5", "KUDOS:5")
    );
    shop.audit().await;
}

#[tokio::test]
async fn without_the_exchanges_keys_nothing_is_sent_and_the_row_says_so() {
    let mut shop = Shop::open().await;
    let [a, _] = coins();
    let hash = shop
        .sell("keyless", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    shop.approve("keyless", "KUDOS:4").await.expect(200);
    shop.sandbox.fault(keys_fail(1)).unwrap();
    let reply = shop.fetch("keyless", hash).await;
    let body = reply.expect(200);
    shop.check_receipt(&reply);
    assert_eq!(entries(&body), [(502, json!(2010))]);
    assert_eq!(
        (&body["refunds"][0]["type"], &body["refund_amount"]),
        (&json!("failure"), &json!("KUDOS:4"))
    );
    assert_eq!(body["refunds"][0].get("exchange_reply"), None);
    assert_eq!(
        status(&shop, "keyless", hash).await,
        told(true, "KUDOS:4", "KUDOS:0")
    );
    assert_eq!(shop.asked(), 0);
    // An exchange that is down is not asked once per wallet.
    shop.fetch("keyless", hash).await.expect(200);
    assert_eq!(shop.sandbox.requests().len(), 1);
    shop.clock.advance_s(5);
    assert_eq!(
        entries(&shop.fetch("keyless", hash).await.expect(200)),
        [(200, Value::Null)]
    );
    shop.audit().await;
    let kinds = shop.kinds();
    let requested = kinds.iter().position(|kind| *kind == "refund_requested").unwrap();
    let first = kinds.iter().position(|kind| *kind == "refund_answered").unwrap();
    assert!(first < requested, "{kinds:?}");
}

#[tokio::test]
async fn past_the_deadline_what_was_never_sent_is_gone() {
    let mut shop = Shop::open().await;
    let [a, b] = coins();
    let hash = shop
        .sell("late", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    let other = shop
        .sell("never", "KUDOS:5", std::slice::from_ref(&b), true)
        .await;
    let past = shop.clock.now_s() + 172_800;
    shop.approve("late", "KUDOS:2").await.expect(200);
    shop.approve("never", "KUDOS:2").await.expect(200);
    assert_eq!(
        entries(&shop.fetch("late", hash).await.expect(200)),
        [(200, Value::Null)]
    );
    taken(&shop, "late", hash, "KUDOS:2").await;
    shop.approve("late", "KUDOS:5").await.expect(200);
    assert_eq!(
        status(&shop, "never", other).await,
        told(true, "KUDOS:2", "KUDOS:0")
    );
    shop.clock.set_s(past);

    // Of this order something was requested: all of it is told.
    let reply = shop.fetch("late", hash).await;
    let body = reply.expect(200);
    shop.check_receipt(&reply);
    assert_eq!(entries(&body), [(200, Value::Null), (410, json!(1503))]);
    assert_eq!(body["refund_amount"], "KUDOS:5");
    assert_eq!(
        status(&shop, "late", hash).await,
        told(false, "KUDOS:5", "KUDOS:2")
    );
    // Of this one nothing was: 410, though something was approved.
    assert_eq!(shop.fetch("never", other).await.error(), (410, 2169));
    assert_eq!(
        status(&shop, "never", other).await,
        told(false, "KUDOS:2", "KUDOS:0")
    );
    assert_eq!(shop.asked(), 1);
    shop.audit().await;
}

#[tokio::test]
async fn past_the_deadline_what_was_sent_is_asked_until_the_exchange_decides() {
    let mut shop = Shop::open().await;
    let [a, _] = coins();
    let hash = shop.sell("sent", "KUDOS:10", &[a], true).await;
    shop.approve("sent", "KUDOS:2").await.expect(200);
    shop.sandbox
        .fault(Fault {
            times: 2,
            ..Fault::new(FaultKind::LostReply)
        })
        .unwrap();
    assert_eq!(
        entries(&shop.fetch("sent", hash).await.expect(200)),
        [(502, json!(2012))]
    );
    shop.clock.advance_s(200_000);
    assert_eq!(status(&shop, "sent", hash).await["refund_pending"], true);
    // By the background, or by this wallet if it comes sooner.
    shop.until("the second attempt", async || {
        shop.fetch("sent", hash).await.expect(200);
        shop.asked() == 2
    })
    .await;
    shop.clock.advance_s(3600);
    shop.until("the third attempt", async || {
        entries(&shop.fetch("sent", hash).await.expect(200)) == [(200, Value::Null)]
    })
    .await;
    assert_eq!(shop.sandbox.refunds().len(), 1);
    shop.audit().await;
}

#[tokio::test]
async fn a_wallet_asks_for_an_open_row_at_most_once_in_five_seconds() {
    let mut shop = Shop::open().await;
    let [a, _] = coins();
    let hash = shop
        .sell("five", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    // Carried in: the background never asks for it, so every request to the exchange is a wallet's.
    carry_in(
        &shop,
        "five",
        vec![told_refund(&a, 1, "KUDOS:4", shop.clock.now_s())],
    )
    .await
    .expect(200);
    let down = FaultKind::Status {
        status: 500,
        code: 60,
    };
    shop.sandbox
        .fault(Fault {
            times: 3,
            ..Fault::new(down)
        })
        .unwrap();
    for (seconds, asked) in [(0, 1), (0, 1), (4, 1), (1, 2), (0, 2), (5, 3), (4, 3)] {
        shop.clock.advance_s(seconds);
        assert_eq!(
            entries(&shop.fetch("five", hash).await.expect(200)),
            [(500, json!(60))]
        );
        assert_eq!(shop.asked(), asked);
    }
    shop.clock.advance_s(1);
    assert_eq!(
        entries(&shop.fetch("five", hash).await.expect(200)),
        [(200, Value::Null)]
    );
    shop.audit().await;
}

/// What the exchange says, and what a wallet is told: status, code, and whether it sees the reply. A 4xx is final to
/// a wallet, so it stands only where the exchange decided.
#[tokio::test]
async fn an_entry_for_everything_that_an_exchange_may_say() {
    let stand_in = StandIn::start().await;
    let mut shop = stand_in.shop(Options::default()).await;
    let long = format!(r#"{{"code":1501,"history":"{}"}}"#, "x".repeat(16_400));
    for (number, (says, body, status, code, handed_on)) in [
        // Refused.
        ("409 Conflict", r#"{"code":1501,"hint":"no"}"#, 409, 1501, true),
        ("410 Gone", r#"{"code":1503}"#, 410, 1503, true),
        ("404 Not Found", r#"{"code":1502}"#, 404, 1502, true),
        ("424 Failed Dependency", r#"{"code":1510}"#, 424, 1510, true),
        ("400 Bad Request", r#"{"code":22,"number":1.5}"#, 400, 22, false),
        (
            "400 Bad Request",
            r#"{"code":22,"number":9007199254740993}"#,
            400,
            22,
            false,
        ),
        ("409 Conflict", &long, 409, 1501, false),
        // Later.
        ("408 Request Timeout", r#"{"code":11}"#, 503, 11, true),
        ("425 Too Early", "", 503, 2014, false),
        ("429 Too Many Requests", "slow down", 503, 2014, false),
        (
            "451 Unavailable For Legal Reasons",
            r#"{"code":1035}"#,
            503,
            1035,
            true,
        ),
        ("500 Internal Server Error", r#"{"code":52}"#, 500, 52, true),
        ("502 Bad Gateway", "<html>", 502, 2014, false),
        ("503 Service Unavailable", r#"["code"]"#, 503, 2014, false),
        ("504 Gateway Timeout", r#"{"hint":"no code"}"#, 504, 2014, true),
        // Unproven.
        ("200 OK", "{}", 502, 2013, true),
        ("200 OK", "", 502, 2013, false),
        ("200 OK", r#"{"code":1501}"#, 502, 2013, true),
        // Malformed.
        ("404 Not Found", "<html>", 502, 2013, false),
        ("404 Not Found", "{}", 502, 2013, true),
        ("403 Forbidden", r#"{"code":"1506"}"#, 502, 2013, true),
        ("403 Forbidden", r#"{"code":-1}"#, 502, 2013, true),
        ("403 Forbidden", r#"[{"code":1506}]"#, 502, 2013, false),
        ("204 No Content", "", 502, 2013, false),
        ("201 Created", "{}", 502, 2013, true),
        ("302 Found", "{}", 502, 2013, true),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("entry-{number}");
        let a = coin(u8::try_from(number).unwrap() + 1, "KUDOS:10", "KUDOS:0.2");
        let hash = shop.sell(&id, "KUDOS:10", &[a], true).await;
        shop.approve(&id, "KUDOS:3").await.expect(200);
        stand_in.says(says, "", body);
        let answer = shop.fetch(&id, hash).await.expect(200);
        let entry = &answer["refunds"][0];
        let seen = (
            entry["type"].as_str(),
            entry["exchange_status"].as_u64(),
            entry["exchange_code"].as_u64(),
        );
        assert_eq!(
            seen,
            (Some("failure"), Some(status), Some(code)),
            "{says} {body}: {answer}"
        );
        let reply = handed_on.then(|| serde_json::from_str(body).unwrap());
        assert_eq!(entry.get("exchange_reply"), reply.as_ref(), "{says} {body}");
        assert_eq!(answer["refund_amount"], "KUDOS:3");
        // Where the exchange has decided there is nothing to wait for.
        let pending = !(400..500).contains(&status);
        assert_eq!(
            self::status(&shop, &id, hash).await,
            told(pending, "KUDOS:3", "KUDOS:0"),
            "{says} {body}"
        );
    }
    shop.audit().await;
}

#[tokio::test]
async fn an_entry_for_a_confirmation_that_proves_nothing() {
    for kind in [FaultKind::WrongSignature, FaultKind::UnknownKey] {
        let mut shop = Shop::open().await;
        let [a, _] = coins();
        let hash = shop.sell("unproven", "KUDOS:10", &[a], true).await;
        shop.approve("unproven", "KUDOS:3").await.expect(200);
        shop.sandbox.fault(Fault::new(kind)).unwrap();
        let body = shop.fetch("unproven", hash).await.expect(200);
        assert_eq!(entries(&body), [(502, json!(2013))], "{kind:?}");
        assert_eq!(
            status(&shop, "unproven", hash).await,
            told(true, "KUDOS:3", "KUDOS:0")
        );
        shop.clock.advance_s(5);
        assert_eq!(
            entries(&shop.fetch("unproven", hash).await.expect(200)),
            [(200, Value::Null)]
        );
        shop.audit().await;
    }
}

#[tokio::test]
async fn an_entry_for_an_exchange_that_is_not_there() {
    let stand_in = StandIn::start().await;
    let mut shop = stand_in.shop(Options::default()).await;
    let [a, b] = coins();
    let hash = shop.sell("gone", "KUDOS:15", &[a, b], true).await;
    // The first row brings the keys home; the second meets a closed port.
    stand_in.says("409 Conflict", "", r#"{"code":1501}"#);
    shop.approve("gone", "KUDOS:10").await.expect(200);
    assert_eq!(
        entries(&shop.fetch("gone", hash).await.expect(200)),
        [(409, json!(1501))]
    );
    stand_in.gone().await;
    shop.approve("gone", "KUDOS:12").await.expect(200);
    assert_eq!(
        entries(&shop.fetch("gone", hash).await.expect(200)),
        [(409, json!(1501)), (502, json!(2012))]
    );
    shop.audit().await;
}

#[tokio::test]
async fn an_entry_for_an_exchange_that_takes_too_long() {
    let times = |call, request| Times {
        call: Duration::from_millis(call),
        keys: Duration::from_secs(5),
        request: Duration::from_millis(request),
        ..Times::default()
    };
    let late = Fault {
        delay: Duration::from_secs(30),
        ..Fault::new(FaultKind::Delay)
    };
    // The call's time is over, which is recorded; or the wallet's, while the call goes on and nothing is.
    for (times, unreached) in [(times(100, 5000), true), (times(60_000, 400), false)] {
        let mut shop = Shop::open_with(Options {
            times,
            ..Options::default()
        })
        .await;
        let [a, _] = coins();
        let hash = shop.sell("slow", "KUDOS:10", &[a], true).await;
        // The keys first, so that the wallet's time is spent on the refund alone.
        let exchange = shop.sandbox.master_pub();
        shop.app().service.exchanges.ready(exchange).await.unwrap();
        shop.approve("slow", "KUDOS:3").await.expect(200);
        shop.sandbox.fault(late).unwrap();
        assert_eq!(
            entries(&shop.fetch("slow", hash).await.expect(200)),
            [(504, json!(2011))]
        );
        assert_eq!(
            status(&shop, "slow", hash).await,
            told(true, "KUDOS:3", "KUDOS:0")
        );
        shop.audit().await;
        assert_eq!(shop.kinds().contains(&"exchange_unreached"), unreached);
    }
}

#[tokio::test]
async fn every_name_of_the_root_instance_and_of_the_order_leads_to_one_answer() {
    let mut shop = Shop::open().await;
    let [a, _] = coins();
    let hash = shop.sell("a.b-c_d:e", "KUDOS:10", &[a], true).await;
    shop.approve("a.b-c_d:e", "KUDOS:3").await.expect(200);
    let first = shop.fetch("a.b-c_d:e", hash).await;
    taken(&shop, "a.b-c_d:e", hash, "KUDOS:3").await;
    let before = count(&shop);
    for path in [
        "instances/default/orders/a.b-c_d:e/refund",
        "instances/admin/orders/a.b-c_d%3ae/refund",
        "orders/%61%2Eb%2Dc%5Fd%3Ae/refund",
        "orders/a.b-c_d:e/refund?x=y",
    ] {
        let reply = shop
            .post(path, &json!({"h_contract": hash, "nothing": {"of": ["ours"]}}))
            .await;
        assert_eq!(
            (reply.status, &reply.body, &reply.receipt),
            (200, &first.body, &first.receipt),
            "{path}"
        );
    }
    assert_eq!(count(&shop), before);
    shop.audit().await;
}
