//! The merchant's approval over HTTP: what it grants, what it refuses and in which order, and how a total is spread.

use quittance_events::Facts;
use serde_json::{Value, json};

use crate::support::{Coin, Shop, coin};
use crate::tools::count;

fn coins() -> [Coin; 2] {
    [
        coin(1, "KUDOS:10", "KUDOS:0.2"),
        coin(2, "KUDOS:2.5", "KUDOS:0.02"),
    ]
}

/// Rows of the last approval: coin, id, amount, and the second of all.
fn last_approval(shop: &Shop) -> (Value, u64) {
    let approved = shop
        .events()
        .into_iter()
        .rev()
        .find_map(|event| match event.facts {
            Facts::RefundApproved(approved) => Some(approved),
            _ => None,
        });
    let approved = approved.unwrap();
    let rows: Vec<_> = approved
        .rows
        .iter()
        .map(|row| json!([row.coin_pub, row.rtransaction_id, row.amount]))
        .collect();
    (json!(rows), approved.execution_s.seconds().unwrap())
}

fn detail(reply: &crate::support::Reply) -> String {
    assert_eq!(reply.error(), (409, 2530));
    reply.json()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_amount_is_the_new_total() {
    let mut shop = Shop::open().await;
    let [a, b] = coins();
    // 12.5 was paid for what costs 12: all that was paid can be refunded.
    let hash = shop
        .sell("total", "KUDOS:12", &[a.clone(), b.clone()], true)
        .await;
    let before = count(&shop);
    let reply = shop.approve("total", "KUDOS:0").await.expect(200);
    assert_eq!(count(&shop), before, "nothing is approved already");
    assert_eq!(
        reply,
        json!({"taler_refund_uri": "taler://refund/shop.example/total/", "h_contract": hash})
    );

    shop.approve("total", "KUDOS:2").await.expect(200);
    assert_eq!(count(&shop), before + 1);
    assert_eq!(shop.approve("total", "KUDOS:2.00").await.expect(200), reply);
    assert_eq!(count(&shop), before + 1, "the same total again");
    shop.clock.advance_s(10);
    shop.approve("total", "KUDOS:5").await.expect(200);
    for total in [
        "KUDOS:4.99999999",
        "KUDOS:0",
        "KUDOS:12.50000001",
        "KUDOS:4503599627370496",
    ] {
        assert_eq!(shop.approve("total", total).await.error(), (409, 2530), "{total}");
    }
    assert_eq!(count(&shop), before + 2);
    shop.approve("total", "KUDOS:12.5").await.expect(200);
    shop.approve("total", "KUDOS:12.5").await.expect(200);
    assert_eq!(count(&shop), before + 3);
    // None of it has gone to the exchange.
    assert!(shop.sandbox.requests().is_empty());

    let body = shop.fetch("total", hash).await.expect(200);
    let rows: Vec<_> = body["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            json!([
                row["type"],
                row["coin_pub"],
                row["rtransaction_id"],
                row["refund_amount"]
            ])
        })
        .collect();
    assert_eq!(
        json!(rows),
        json!([
            ["success", a.coin_pub, 1, "KUDOS:2"],
            ["success", a.coin_pub, 2, "KUDOS:3"],
            ["success", a.coin_pub, 3, "KUDOS:5"],
            ["success", b.coin_pub, 1, "KUDOS:2.5"],
        ])
    );
    shop.audit().await;
}

#[tokio::test]
async fn no_share_and_no_rest_lies_below_a_fee() {
    let mut shop = Shop::open().await;
    let [a, b] = coins();
    let hash = shop
        .sell("spread", "KUDOS:12.5", &[a.clone(), b.clone()], true)
        .await;
    shop.approve("spread", "KUDOS:10.01").await.expect(200);
    let body = shop.fetch("spread", hash).await.expect(200);
    let amounts: Vec<_> = body["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["coin_pub"], row["refund_amount"], row["type"]]))
        .collect();
    assert_eq!(
        json!(amounts),
        json!([
            [a.coin_pub, "KUDOS:9.8", "success"],
            [b.coin_pub, "KUDOS:0.21", "success"]
        ])
    );
    // So all of it can still be refunded.
    shop.approve("spread", "KUDOS:12.5").await.expect(200);
    let body = shop.fetch("spread", hash).await.expect(200);
    assert!(
        body["refunds"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["type"] == "success"),
        "{body}"
    );
    shop.audit().await;
}

#[tokio::test]
async fn spreads_of_first_approvals() {
    let mut shop = Shop::open().await;
    let [a, b] = coins();
    let c = coin(3, "KUDOS:1", "KUDOS:0.5");
    // Cannot be refunded at all: the fee is more than the coin.
    let dead = coin(4, "KUDOS:0.05", "KUDOS:0.1");
    for (number, (coins, total, expected)) in [
        (vec![&a, &b], "KUDOS:4", vec![(&a, "KUDOS:4")]),
        (
            vec![&b, &a],
            "KUDOS:4",
            vec![(&b, "KUDOS:2.5"), (&a, "KUDOS:1.5")],
        ),
        (vec![&a, &b], "KUDOS:11", vec![(&a, "KUDOS:10"), (&b, "KUDOS:1")]),
        (
            vec![&a, &b, &c],
            "KUDOS:12.6",
            vec![(&a, "KUDOS:10"), (&b, "KUDOS:2.1"), (&c, "KUDOS:0.5")],
        ),
        (
            vec![&a, &dead, &b],
            "KUDOS:11",
            vec![(&a, "KUDOS:10"), (&b, "KUDOS:1")],
        ),
        // The last of it could lie nowhere else: it is given up.
        (vec![&a], "KUDOS:9.9", vec![(&a, "KUDOS:9.9")]),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("spread-{number}");
        let coins: Vec<Coin> = coins.into_iter().cloned().collect();
        shop.sell(&id, "KUDOS:1", &coins, true).await;
        shop.approve(&id, total).await.expect(200);
        shop.stop().await;
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(coin, amount)| json!([coin.coin_pub, 1, amount]))
            .collect();
        assert_eq!(last_approval(&shop).0, json!(expected), "{total}");
        shop.start().await;
    }
    shop.audit().await;
}

#[tokio::test]
async fn a_total_that_fits_no_coin_is_refused_with_the_nearest_that_do() {
    let mut shop = Shop::open().await;
    let [a, _] = coins();
    shop.sell("fees", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    let before = count(&shop);
    let told = detail(&shop.approve("fees", "KUDOS:0.1").await);
    assert!(told.ends_with(": KUDOS:0, KUDOS:0.2"), "{told}");
    assert_eq!(count(&shop), before);
    shop.approve("fees", "KUDOS:0.2").await.expect(200);
    let told = detail(&shop.approve("fees", "KUDOS:0.39").await);
    assert!(told.ends_with(": KUDOS:0.2, KUDOS:0.4"), "{told}");
    // A rest below the fee is told to be lost: nothing above it fits.
    shop.approve("fees", "KUDOS:9.9").await.expect(200);
    let told = detail(&shop.approve("fees", "KUDOS:10").await);
    assert!(told.ends_with(": KUDOS:9.9"), "{told}");

    let [one, two] = [coin(5, "KUDOS:1", "KUDOS:1"), coin(6, "KUDOS:1", "KUDOS:1")];
    shop.sell("whole", "KUDOS:2", &[one, two], true).await;
    let told = detail(&shop.approve("whole", "KUDOS:1.5").await);
    assert!(told.ends_with(": KUDOS:1, KUDOS:2"), "{told}");
    shop.approve("whole", "KUDOS:1").await.expect(200);
    shop.approve("whole", "KUDOS:2").await.expect(200);
    shop.audit().await;
}

#[tokio::test]
async fn every_approval_has_a_second_of_its_own() {
    let mut shop = Shop::open().await;
    let [a, b] = coins();
    let hash = shop.sell("seconds", "KUDOS:12.5", &[a, b], true).await;
    let now = shop.clock.now_s();
    let mut expected = Vec::new();
    for (total, later, second) in [
        ("KUDOS:1", 0, now),
        ("KUDOS:2", 0, now + 1),
        ("KUDOS:3", 1, now + 2),
        ("KUDOS:11.5", 9, now + 10),
    ] {
        shop.clock.advance_s(later);
        shop.approve("seconds", total).await.expect(200);
        expected.push(second);
    }
    // Another order is not concerned.
    shop.sell("other", "KUDOS:1", &[coin(7, "KUDOS:1", "KUDOS:0")], true)
        .await;
    shop.approve("other", "KUDOS:1").await.expect(200);
    // The last approval touched two coins: they share its second.
    expected.push(now + 10);
    let body = shop.fetch("seconds", hash).await.expect(200);
    let seconds: Vec<_> = body["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["execution_time"]["t_s"].as_u64().unwrap())
        .collect();
    assert_eq!(seconds, expected);
    shop.audit().await;
    assert_eq!(last_approval(&shop).1, now + 10);
}

#[tokio::test]
async fn what_is_wrong_in_several_ways_is_told_in_this_order() {
    let mut shop = Shop::open().await;
    let [a, b] = coins();
    let now = shop.clock.now_s();
    // Two contracts that allow no refunds, one that does, all paid but the first.
    let mut never = shop.terms("never", "KUDOS:10", 86_400, 172_800);
    never["refund_deadline"] = never["timestamp"].clone();
    let mut unpaid = never.clone();
    unpaid["order_id"] = json!("unpaid");
    shop.record_order(&unpaid).await;
    shop.record_order(&never).await;
    shop.tell("never", std::slice::from_ref(&a), true)
        .await
        .expect(200);
    shop.sell("sold", "KUDOS:12.5", &[a, b], true).await;
    shop.approve("sold", "KUDOS:5").await.expect(200);
    let before = count(&shop);

    shop.clock.set_s(now + 172_799);
    shop.approve("sold", "KUDOS:5").await.expect(200);
    assert_eq!(shop.approve("sold", "KUDOS:4").await.error(), (409, 2530));
    for wire_deadline_is_past in [false, true] {
        if wire_deadline_is_past {
            shop.clock.set_s(now + 172_800);
        }
        for (id, total, expect) in [
            ("unpaid", "EUR:10", (409, 2024)),
            ("unpaid", "KUDOS:0", (409, 2531)),
            ("never", "EUR:10", (409, 2024)),
            ("never", "KUDOS:0", (403, 2532)),
            ("never", "KUDOS:99", (403, 2532)),
            ("sold", "EUR:5", (409, 2024)),
        ] {
            assert_eq!(shop.approve(id, total).await.error(), expect, "{id} {total}");
        }
    }
    // Past the deadline a repeat is still a repeat, and all else is too late.
    shop.approve("sold", "KUDOS:5").await.expect(200);
    for total in ["KUDOS:4", "KUDOS:6", "KUDOS:99", "KUDOS:0.1"] {
        assert_eq!(shop.approve("sold", total).await.error(), (410, 2169), "{total}");
    }
    assert_eq!(count(&shop), before);
    shop.audit().await;
}

#[tokio::test]
async fn a_deadline_of_never_is_never_past() {
    let mut shop = Shop::open().await;
    let [a, _] = coins();
    let mut terms = shop.terms("ever", "KUDOS:10", 86_400, 172_800);
    terms["refund_deadline"] = json!({"t_s": "never"});
    terms["wire_transfer_deadline"] = json!({"t_s": "never"});
    let hash = shop.record_order(&terms).await;
    shop.book(hash, std::slice::from_ref(&a));
    shop.tell("ever", &[a], true).await.expect(200);
    shop.clock.advance_s(300 * 86_400);
    shop.approve("ever", "KUDOS:1").await.expect(200);
    assert_eq!(
        shop.fetch("ever", hash).await.expect(200)["refunds"][0]["type"],
        "success"
    );
    shop.audit().await;
}

#[tokio::test]
async fn an_order_that_cost_nothing_has_nothing_to_refund() {
    let mut shop = Shop::open().await;
    let mut terms = shop.terms("free", "KUDOS:0", 86_400, 172_800);
    terms["exchanges"] = json!([]);
    shop.record_order(&terms).await;
    shop.tell("free", &[], true).await.expect(200);
    shop.approve("free", "KUDOS:0").await.expect(200);
    assert_eq!(shop.approve("free", "KUDOS:1").await.error(), (409, 2530));
    shop.audit().await;
}

#[tokio::test]
async fn the_reason_may_be_empty_or_long_and_is_kept_as_written() {
    let mut shop = Shop::open().await;
    let [a, _] = coins();
    shop.sell("why", "KUDOS:10", &[a], true).await;
    for (total, reason) in [
        ("KUDOS:1", String::new()),
        ("KUDOS:2", "Schuhe dr\u{fc}cken \u{1f97e}\n".repeat(4000)),
    ] {
        let body = json!({"refund": total, "reason": reason});
        shop.post_private("instances/admin/private/orders/why/refund", &body)
            .await
            .expect(200);
        let file =
            rusqlite::Connection::open_with_flags(shop.ledger(), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
                .unwrap();
        let sql = "SELECT bytes FROM attachment WHERE name = 'reason' ORDER BY seq DESC LIMIT 1";
        let kept: Vec<u8> = file.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(kept, reason.as_bytes());
    }
    shop.audit().await;
}
