//! What a shop tells of orders, deposits, payments and refunds made elsewhere: told again it changes nothing, told
//! otherwise it is a conflict, told late it is settled all the same.

use quittance_events::Facts;
use quittance_sandbox::{Aggregate, Fault, FaultKind};
use serde_json::{Value, json};

use crate::support::{Coin, Shop, coin};
use crate::tools::{carry_in, count, respelt, told_refund};

fn coins() -> [Coin; 3] {
    [
        coin(1, "KUDOS:10", "KUDOS:0.2"),
        coin(2, "KUDOS:5", "KUDOS:0.1"),
        coin(3, "KUDOS:2", "KUDOS:0.02"),
    ]
}

async fn tell(shop: &Shop, id: &str, deposits: Value, paid: bool) -> crate::support::Reply {
    let body = json!({"deposits": deposits, "paid": paid, "a member of tomorrow": [1.5]});
    shop.post_private(&format!("private/ledger/orders/{id}/deposits"), &body)
        .await
}

#[tokio::test]
async fn equal_values_again_record_nothing() {
    let mut shop = Shop::open().await;
    let [a, ..] = coins();
    let hash = shop
        .sell("same", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    let before = count(&shop);

    // The terms again, members in another order, among members that nobody knows.
    let terms = shop.terms("same", "KUDOS:10", 86_400, 172_800);
    let mut members: Vec<String> = terms
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| format!("{name:?} : {value}"))
        .collect();
    members.reverse();
    let body = format!("{{\"x\": null, \"contract_terms\": {{{}}}}}", members.join(",\n"));
    let reply = shop
        .send(
            "POST",
            "private/ledger/orders",
            Some(&shop.token),
            body.into_bytes(),
        )
        .await;
    assert_eq!(reply.expect(200), json!({"order_id": "same", "h_contract": hash}));

    // The deposit in other words for the same values.
    let mut told = shop.told(std::slice::from_ref(&a))[0].clone();
    told["coin_pub"] = json!(respelt(&a.coin_pub));
    told["amount_with_fee"] = json!("KUDOS:10.00");
    told["exchange_url"] = json!(
        shop.sandbox
            .base_url()
            .trim_end_matches('/')
            .to_uppercase()
            .replace("HTTP", "http")
    );
    told["h_denom"] = Value::Null;
    for (deposits, paid) in [
        (json!([told]), true),
        (json!([told, told]), true),
        (json!([]), false),
    ] {
        let reply = tell(&shop, "same", deposits, paid).await;
        // Once paid, always paid.
        assert_eq!(reply.expect(200), json!({"deposits": 1, "paid": true}));
    }
    assert_eq!(count(&shop), before);
    shop.audit().await;
}

#[tokio::test]
async fn a_mixed_list_records_what_is_new_and_one_conflict_refuses_all() {
    let mut shop = Shop::open().await;
    let [a, b, c] = coins();
    shop.sell("mixed", "KUDOS:17", std::slice::from_ref(&a), false)
        .await;
    let before = count(&shop);
    let told = shop.told(&[a.clone(), b.clone(), c.clone()]);
    for (what, member, value) in [
        ("amount", "amount_with_fee", json!("KUDOS:9")),
        ("fee", "deposit_fee", json!("KUDOS:0.3")),
        ("fee", "refund_fee", json!("KUDOS:0.3")),
        (
            "now with a denomination",
            "h_denom",
            json!(crate::tools::other_hash()),
        ),
        ("now with a time", "exchange_timestamp", json!({"t_s": 5})),
    ] {
        let mut conflicting = told.clone();
        conflicting[0][member] = value;
        conflicting.rotate_left(1);
        let reply = tell(&shop, "mixed", json!(conflicting), true).await;
        assert_eq!(reply.error(), (409, 56), "{what}");
        assert_eq!(count(&shop), before, "{what}");
    }
    // b stands twice in it, in two spellings.
    let mut again = told[1].clone();
    again["coin_pub"] = json!(respelt(&b.coin_pub));
    let reply = tell(&shop, "mixed", json!([told[0], told[1], again]), false).await;
    assert_eq!(reply.expect(200), json!({"deposits": 2, "paid": false}));
    assert_eq!(count(&shop), before + 1);
    let reply = tell(&shop, "mixed", json!(told), true).await;
    assert_eq!(reply.expect(200), json!({"deposits": 3, "paid": true}));
    assert_eq!(count(&shop), before + 3);
    shop.audit().await;
    let Some(Facts::PaymentCompleted(payment)) = shop.events().pop().map(|event| event.facts) else {
        panic!("the payment comes last")
    };
    assert_eq!(payment.paid.to_string(), "KUDOS:17");
    assert_eq!(payment.coins, [a.coin_pub, b.coin_pub, c.coin_pub]);
}

#[tokio::test]
async fn all_that_can_be_told_of_a_deposit_is_kept_and_compared() {
    let mut shop = Shop::open().await;
    let [a, ..] = coins();
    shop.record_order(&shop.terms("full", "KUDOS:10", 86_400, 172_800))
        .await;
    let mut told = shop.told(std::slice::from_ref(&a))[0].clone();
    let hash = crate::tools::other_hash();
    for (member, value) in [
        ("h_denom", json!(hash)),
        ("coin_sig", json!(hash)),
        ("exchange_pub", json!(a.coin_pub)),
        ("exchange_sig", json!(hash)),
        ("exchange_timestamp", json!({"t_s": 1_795_226_000})),
    ] {
        told[member] = value;
    }
    for _ in 0..2 {
        let reply = tell(&shop, "full", json!([told]), false).await;
        assert_eq!(reply.expect(200), json!({"deposits": 1, "paid": false}));
    }
    for member in [
        "h_denom",
        "coin_sig",
        "exchange_pub",
        "exchange_sig",
        "exchange_timestamp",
    ] {
        let mut less = told.clone();
        less.as_object_mut().unwrap().remove(member);
        assert_eq!(
            tell(&shop, "full", json!([less]), false).await.error(),
            (409, 56),
            "{member}"
        );
    }
    shop.audit().await;
    let Some(Facts::DepositRecorded(deposit)) = shop.events().pop().map(|event| event.facts) else {
        panic!("the deposit comes last, once")
    };
    assert_eq!(
        (deposit.h_denom, deposit.exchange_timestamp_s.unwrap().seconds()),
        (Some(hash), Some(1_795_226_000))
    );
}

#[tokio::test]
async fn a_payment_that_is_not_enough_records_its_deposits() {
    let mut shop = Shop::open().await;
    let [a, b, _] = coins();
    let hash = shop
        .record_order(&shop.terms("short", "KUDOS:12", 86_400, 172_800))
        .await;
    shop.book(hash, std::slice::from_ref(&a));
    for _ in 0..2 {
        assert_eq!(
            shop.tell("short", std::slice::from_ref(&a), true).await.error(),
            (400, 2156)
        );
        // The order, and the deposit once.
        assert_eq!(count(&shop), 4);
    }
    // It is as if `paid` had been false: the coin can come back, or the rest can follow.
    assert_eq!(shop.status("short", hash).await.status, 402);
    let reply = shop.tell("short", &[b], true).await;
    assert_eq!(reply.expect(200), json!({"deposits": 2, "paid": true}));
    let refused = shop.abort("short", hash, &[a]).await;
    assert_eq!(refused.error(), (412, 2254));
    shop.audit().await;
    assert_eq!(
        shop.kinds()[2..],
        [
            "order_recorded",
            "deposit_recorded",
            "deposit_recorded",
            "payment_completed",
            "abort_refused"
        ]
    );
}

#[tokio::test]
async fn an_order_has_one_contract_and_one_choice() {
    let mut shop = Shop::open().await;
    let mut terms = shop.terms("choice", "KUDOS:99", 86_400, 172_800);
    terms.as_object_mut().unwrap().remove("amount");
    terms["version"] = json!(1);
    terms["choices"] = json!([{"amount": "KUDOS:7"}, {"amount": "KUDOS:5", "description": "for members"}]);
    let record = async |terms: &Value, index: Option<u64>| {
        let mut body = json!({"contract_terms": terms});
        if let Some(index) = index {
            body["choice_index"] = json!(index);
        }
        shop.post_private("private/ledger/orders", &body).await
    };
    let hash = record(&terms, Some(1)).await.expect(200)["h_contract"].clone();
    let before = count(&shop);
    assert_eq!(record(&terms, Some(1)).await.expect(200)["h_contract"], hash);
    assert_eq!(record(&terms, Some(0)).await.error(), (409, 2503));
    let mut other = terms.clone();
    other["summary"] = json!("sandals");
    assert_eq!(record(&other, Some(1)).await.error(), (409, 2503));
    assert_eq!(count(&shop), before);

    // What the choice costs is what has to be paid, and what was paid is what can be refunded.
    let small = coin(4, "KUDOS:4", "KUDOS:0.1");
    assert_eq!(
        shop.tell("choice", std::slice::from_ref(&small), true)
            .await
            .error(),
        (400, 2156)
    );
    let hash = serde_json::from_value(hash).unwrap();
    let rest = coin(5, "KUDOS:2", "KUDOS:0.1");
    shop.book(hash, &[small, rest.clone()]);
    shop.tell("choice", &[rest], true).await.expect(200);
    assert_eq!(shop.approve("choice", "KUDOS:6.1").await.error(), (409, 2530));
    shop.approve("choice", "KUDOS:6").await.expect(200);
    assert_eq!(
        shop.fetch("choice", hash).await.expect(200)["refund_amount"],
        "KUDOS:6"
    );
    shop.audit().await;
}

#[tokio::test]
async fn past_orders_and_other_addresses_of_the_shop_are_taken() {
    let mut shop = Shop::open().await;
    let mut terms = shop.terms("old", "KUDOS:10", 86_400, 172_800);
    terms["merchant_base_url"] = json!("https://old.shop.example/");
    for (member, t_s) in [
        ("timestamp", 1_600_000_000),
        ("pay_deadline", 1_600_000_600),
        ("refund_deadline", 1_600_001_000),
        ("wire_transfer_deadline", 1_600_002_000),
    ] {
        terms[member] = json!({"t_s": t_s});
    }
    shop.record_order(&terms).await;
    let [a, ..] = coins();
    shop.tell("old", &[a], true).await.expect(200);
    shop.audit().await;
}

#[tokio::test]
async fn refunds_made_elsewhere_come_first_and_ids_go_on_after_them() {
    let mut shop = Shop::open().await;
    let [a, b, _] = coins();
    let now = shop.clock.now_s();
    let hash = shop
        .record_order(&shop.terms("taken", "KUDOS:15", 86_400, 172_800))
        .await;
    shop.book(hash, &[a.clone(), b.clone()]);
    // Deposits, payment and refunds of another house in one request; the last refund of this very second.
    let refunds = vec![
        told_refund(&b, 1, "KUDOS:1", now - 50),
        told_refund(&a, 3, "KUDOS:2", now),
    ];
    let body = json!({"deposits": shop.told(&[a.clone(), b.clone()]), "paid": true, "refunds": refunds});
    let path = "private/ledger/orders/taken/deposits";
    shop.post_private(path, &body).await.expect(200);
    let before = count(&shop);
    shop.post_private(path, &body).await.expect(200);
    assert_eq!(count(&shop), before);

    // They count in the total, the cap and the coin's sum, and the approval gets a second of its own.
    assert_eq!(shop.approve("taken", "KUDOS:2.9").await.error(), (409, 2530));
    assert_eq!(shop.approve("taken", "KUDOS:15.1").await.error(), (409, 2530));
    shop.approve("taken", "KUDOS:3").await.expect(200);
    assert_eq!(count(&shop), before);
    shop.approve("taken", "KUDOS:12").await.expect(200);
    let body = shop.fetch("taken", hash).await.expect(200);
    assert_eq!(body["refund_amount"], "KUDOS:12");
    let rows: Vec<_> = body["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            json!([
                row["coin_pub"],
                row["rtransaction_id"],
                row["refund_amount"],
                row["execution_time"]["t_s"],
                row["type"]
            ])
        })
        .collect();
    assert_eq!(
        json!(rows),
        json!([
            [b.coin_pub, 1, "KUDOS:1", now - 50, "success"],
            [a.coin_pub, 3, "KUDOS:2", now, "success"],
            [a.coin_pub, 4, "KUDOS:8", now + 1, "success"],
            [b.coin_pub, 2, "KUDOS:1", now + 1, "success"],
        ])
    );

    // After an approval nothing more can be carried in; what was may be told again.
    crate::tools::taken(&shop, "taken", hash, "KUDOS:12").await;
    let before = count(&shop);
    let again = vec![told_refund(&b, 1, "KUDOS:1", now - 50)];
    carry_in(&shop, "taken", again).await.expect(200);
    let late = vec![told_refund(&b, 7, "KUDOS:1", now - 50)];
    assert_eq!(carry_in(&shop, "taken", late).await.error(), (409, 56));
    assert_eq!(count(&shop), before);
    shop.audit().await;
}

#[tokio::test]
async fn refunds_made_elsewhere_are_told_once_and_alike() {
    let mut shop = Shop::open().await;
    let [a, b, c] = coins();
    let now = shop.clock.now_s();
    shop.sell("alike", "KUDOS:15", &[a.clone(), b.clone()], true)
        .await;
    shop.tell("alike", std::slice::from_ref(&c), true)
        .await
        .expect(200);
    carry_in(&shop, "alike", vec![told_refund(&a, 2, "KUDOS:4", now - 5)])
        .await
        .expect(200);
    // The coin that came after the payment is given back, which the background records when it comes to it.
    shop.until("the late coin is given back", async || {
        shop.app().service.ledger.open_permissions().unwrap().is_empty()
    })
    .await;
    let before = count(&shop);
    for (what, refunds) in [
        ("another amount", vec![told_refund(&a, 2, "KUDOS:4.1", now - 5)]),
        ("another time", vec![told_refund(&a, 2, "KUDOS:4", now - 6)]),
        (
            "more than the deposit with those before",
            vec![told_refund(&a, 3, "KUDOS:6.1", now - 5)],
        ),
        (
            "more than the deposit together",
            vec![
                told_refund(&b, 1, "KUDOS:3", now),
                told_refund(&b, 2, "KUDOS:3", now),
            ],
        ),
        (
            "one id twice, not alike",
            vec![
                told_refund(&b, 1, "KUDOS:3", now),
                told_refund(&b, 1, "KUDOS:2", now),
            ],
        ),
        (
            "a coin that came after the payment",
            vec![told_refund(&c, 1, "KUDOS:1", now)],
        ),
        (
            "a coin that did not come",
            vec![told_refund(&coin(9, "KUDOS:1", "KUDOS:0"), 1, "KUDOS:1", now)],
        ),
        ("an abort's id", vec![told_refund(&a, 0, "KUDOS:1", now)]),
        (
            "a good one before a bad one",
            vec![
                told_refund(&a, 1, "KUDOS:1", now),
                told_refund(&a, 2, "KUDOS:1", now),
            ],
        ),
    ] {
        assert_eq!(
            carry_in(&shop, "alike", refunds).await.error(),
            (409, 56),
            "{what}"
        );
        assert_eq!(count(&shop), before, "{what}");
    }
    // A mixed list records what is new. The last id that there is leaves none for an approval.
    let last = (1u64 << 53) - 1;
    let refunds = vec![
        told_refund(&a, 2, "KUDOS:4", now - 5),
        told_refund(&a, last, "KUDOS:1", now - 4),
    ];
    carry_in(&shop, "alike", refunds).await.expect(200);
    assert_eq!(count(&shop), before + 1);
    assert_eq!(shop.approve("alike", "KUDOS:7").await.error(), (409, 2530));
    shop.audit().await;
}

#[tokio::test]
async fn refunds_made_elsewhere_are_asked_by_wallets_only_and_also_past_the_deadline() {
    let mut shop = Shop::open().await;
    let [a, b, c] = coins();
    let now = shop.clock.now_s();
    let hash = shop
        .sell("quiet", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    carry_in(&shop, "quiet", vec![told_refund(&a, 1, "KUDOS:4", now - 5)])
        .await
        .expect(200);
    // Another order keeps the background busy, so that its silence about the first means something.
    let other = shop
        .sell("loud", "KUDOS:7", std::slice::from_ref(&b), false)
        .await;
    let down = FaultKind::Status {
        status: 503,
        code: 60,
    };
    shop.sandbox
        .fault(Fault {
            times: 1000,
            coin_pub: Some(b.coin_pub),
            ..Fault::new(down)
        })
        .unwrap();
    shop.abort("loud", other, &[b.clone(), c]).await.expect(200);
    let asked = |shop: &Shop, coin: &Coin| {
        let path = format!("/coins/{}/refund", coin.coin_pub);
        shop.sandbox
            .requests()
            .iter()
            .filter(|request| request.path == path)
            .count()
    };
    for _ in 0..2 {
        for _ in 0..2 {
            let before = asked(&shop, &b);
            shop.clock.advance_s(7200);
            shop.until("the background's next attempt", async || {
                asked(&shop, &b) > before
            })
            .await;
        }
        shop.stop().await;
        shop.start().await;
    }
    assert_eq!(asked(&shop, &a), 0);
    let status = shop.status("quiet", hash).await.expect(200);
    assert_eq!(
        status,
        json!({"refunded": true, "refund_pending": true, "refund_amount": "KUDOS:4", "refund_taken": "KUDOS:0"})
    );

    shop.clock.set_s(now + 200_000);
    let reply = shop.fetch("quiet", hash).await;
    assert_eq!(reply.expect(200)["refunds"][0]["type"], "success");
    shop.check_receipt(&reply);
    assert_eq!(asked(&shop, &a), 1);
    shop.audit().await;
}

#[tokio::test]
async fn a_repeat_of_what_was_carried_in_is_granted_after_the_money_went_out() {
    let mut shop = Shop::open().await;
    let [a, ..] = coins();
    let now = shop.clock.now_s();
    let hash = shop
        .sell("repeat", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    carry_in(&shop, "repeat", vec![told_refund(&a, 1, "KUDOS:4", now - 5)])
        .await
        .expect(200);
    // The exchange granted it, but the confirmation got lost on the way.
    shop.sandbox.fault(Fault::new(FaultKind::LostReply)).unwrap();
    assert_eq!(
        shop.fetch("repeat", hash).await.expect(200)["refunds"][0]["exchange_status"],
        502
    );
    shop.clock.set_s(now + 200_000);
    assert_eq!(shop.sandbox.aggregate(Aggregate::default()), 1);
    assert_eq!(
        shop.fetch("repeat", hash).await.expect(200)["refunds"][0]["type"],
        "success"
    );
    assert_eq!(shop.sandbox.refunds().len(), 1);
    shop.audit().await;
}

#[tokio::test]
async fn a_deposit_after_its_abort_goes_back_by_itself() {
    let mut shop = Shop::open().await;
    let [a, b, _] = coins();
    let hash = shop
        .record_order(&shop.terms("late", "KUDOS:5", 86_400, 172_800))
        .await;
    let reply = shop.abort("late", hash, std::slice::from_ref(&a)).await;
    assert_eq!(reply.expect(200), json!({"refunds": [{"type": "undeposited"}]}));
    shop.book(hash, &[a.clone(), b.clone()]);
    // It counts for no payment, however much it is.
    assert_eq!(
        shop.tell("late", std::slice::from_ref(&a), true).await.error(),
        (400, 2156)
    );
    shop.until("the refund of the late coin", async || {
        shop.sandbox.refunds().len() == 1
    })
    .await;
    let refund = shop.sandbox.refunds()[0];
    assert_eq!(
        (refund.coin_pub, refund.rtransaction_id, refund.amount.to_string()),
        (a.coin_pub, 0, "KUDOS:10".into())
    );
    let again = shop.abort("late", hash, std::slice::from_ref(&a)).await;
    assert_eq!(again.expect(200)["refunds"][0]["type"], "success");
    assert_eq!(shop.asked(), 1);
    // Another coin may still pay; the first one's abort stands.
    shop.tell("late", &[b], true).await.expect(200);
    assert_eq!(shop.approve("late", "KUDOS:5.1").await.error(), (409, 2530));
    assert_eq!(shop.abort("late", hash, &[a]).await.body, again.body);
    shop.audit().await;
    let kinds = shop.kinds();
    let told = kinds.iter().position(|kind| *kind == "deposit_recorded").unwrap();
    assert_eq!(kinds[told + 1], "abort_extended");
}

#[tokio::test]
async fn a_deposit_after_the_payment_goes_back_by_itself() {
    let mut shop = Shop::open().await;
    let [a, b, _] = coins();
    let hash = shop
        .sell("over", "KUDOS:10", std::slice::from_ref(&a), true)
        .await;
    shop.book(hash, std::slice::from_ref(&b));
    let reply = shop.tell("over", std::slice::from_ref(&b), false).await;
    assert_eq!(reply.expect(200), json!({"deposits": 2, "paid": true}));
    shop.until("the refund of the late coin", async || {
        shop.sandbox.refunds().len() == 1
    })
    .await;
    let refund = shop.sandbox.refunds()[0];
    assert_eq!(
        (refund.coin_pub, refund.rtransaction_id, refund.amount.to_string()),
        (b.coin_pub, 0, "KUDOS:5".into())
    );
    // It raises no cap, and stands in no refund answer.
    assert_eq!(shop.approve("over", "KUDOS:10.1").await.error(), (409, 2530));
    assert_eq!(
        shop.fetch("over", hash).await.expect(200)["refund_amount"],
        "KUDOS:0"
    );
    // A wallet that asks for it is answered, paid or not.
    let reply = shop.abort("over", hash, &[b]).await;
    assert_eq!(reply.expect(200)["refunds"][0]["type"], "success");
    shop.audit().await;
}

#[tokio::test]
async fn a_coin_whose_abort_the_exchange_refused_pays_again_unless_there_is_no_deposit() {
    for (status, code, counts) in [
        (409, 1501, true),
        (404, 1502, false),
        (404, 1500, false),
        (404, 1005, false),
        (403, 1506, true),
    ] {
        let mut shop = Shop::open().await;
        let [a, ..] = coins();
        let hash = shop
            .sell("again", "KUDOS:10", std::slice::from_ref(&a), false)
            .await;
        shop.sandbox
            .fault(Fault::new(FaultKind::Status { status, code }))
            .unwrap();
        let first = shop.abort("again", hash, std::slice::from_ref(&a)).await;
        let entry = first.expect(200)["refunds"][0].clone();
        if counts {
            assert_eq!(
                (entry["exchange_status"].as_u64(), entry["exchange_code"].as_u64()),
                (Some(status.into()), Some(code.into()))
            );
        } else {
            assert_eq!(entry, json!({"type": "undeposited"}), "{code}");
        }
        let reply = shop.tell("again", std::slice::from_ref(&a), true).await;
        if counts {
            assert_eq!(reply.expect(200), json!({"deposits": 1, "paid": true}), "{code}");
        } else {
            assert_eq!(reply.error(), (400, 2156), "{code}");
        }
        // The permission is never sent again, and a later abort is answered as the first.
        assert_eq!(shop.abort("again", hash, &[a]).await.body, first.body);
        assert_eq!(shop.asked(), 1);
        shop.stop().await;
        let report = quittance_replay::verify(&quittance_replay::VerifyOptions {
            ledger: shop.ledger(),
            anchor: Some(shop.config.anchor.clone()),
            ledger_key: Some(shop.vkey.parse().unwrap()),
            predecessor: None,
            exchange_keys: Vec::new(),
            ..quittance_replay::VerifyOptions::default()
        })
        .unwrap();
        assert!(report.is_sound(), "{}", quittance_replay::print_report(&report));
    }
}
