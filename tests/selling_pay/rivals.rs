//! Payments that fail half-way at one of two exchanges, and wallets that compete for one order: each gets its own back.

use std::time::Duration;

use quittance_sandbox::FaultKind;
use serde_json::{Value, json};

use crate::support::{NOON_S, Shop};
use crate::{batches, delay, fail, of_both, with_two_exchanges};

fn types(answer: &Value) -> Vec<&str> {
    let refunds = answer["refunds"].as_array().unwrap();
    refunds
        .iter()
        .map(|refund| refund["type"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn coins_of_two_exchanges_pay_together() {
    let (mut shop, second) = with_two_exchanges().await;
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let theirs = second.withdraw("KUDOS:4".parse().unwrap()).unwrap();
    let payment = of_both(
        &terms,
        [&shop.purse("KUDOS:8"), &theirs],
        ["KUDOS:5.1", "KUDOS:2"],
    );
    let paid = shop.pay_by("boots", &payment).await;
    shop.is_paid(&paid, h_contract);
    assert_eq!((batches(&shop.sandbox), batches(&second)), (1, 1));
    shop.audit().await;
}

#[tokio::test]
async fn half_a_payment_is_finished_by_the_wallet_or_given_back() {
    let (mut shop, second) = with_two_exchanges().await;
    let theirs = second.withdraw("KUDOS:8".parse().unwrap()).unwrap();
    // Finished: the exchange that failed is asked again, and only that.
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let payment = of_both(
        &terms,
        [&shop.purse("KUDOS:8"), &theirs],
        ["KUDOS:5.2", "KUDOS:2"],
    );
    fail(&second, FaultKind::Reset, 1);
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (502, 2012));
    assert_eq!(shop.status("boots", h_contract).await.status, 402);
    let paid = shop.pay_by("boots", &payment).await;
    shop.is_paid(&paid, h_contract);
    assert_eq!((batches(&shop.sandbox), batches(&second)), (1, 2));
    // Given back: one coin was deposited, one refused.
    let (_, terms, _) = shop.sold("shoes", "KUDOS:7").await;
    let spent = theirs.clone();
    let payment = of_both(&terms, [&shop.purse("KUDOS:8"), &spent], ["KUDOS:1.2", "KUDOS:7"]);
    let refused = shop.pay_by("shoes", &payment).await.expect(409);
    assert_eq!(refused["code"], 2150);
    assert_eq!(refused["exchange_url"], json!(second.base_url()));
    let back = shop.take_back("shoes", &payment).await.expect(200);
    assert_eq!(types(&back), ["success", "undeposited"]);
    assert_eq!((shop.sandbox.refunds().len(), second.refunds().len()), (1, 0));
    shop.audit().await;
}

#[tokio::test]
async fn a_reply_that_cannot_be_recorded_does_not_cut_off_the_other_exchanges_call() {
    let (mut shop, second) = with_two_exchanges().await;
    let theirs = second.withdraw("KUDOS:4".parse().unwrap()).unwrap();
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let payment = of_both(
        &terms,
        [&shop.purse("KUDOS:8"), &theirs],
        ["KUDOS:5.1", "KUDOS:2"],
    );
    delay(&shop.sandbox, Duration::from_secs(1));
    delay(&second, Duration::from_secs(3));
    let meanwhile = async {
        shop.until("both batches", async || {
            (batches(&shop.sandbox), batches(&second)) == (1, 1)
        })
        .await;
        // The clock was wrong by an hour when the first reply came, so that the ledger refuses it.
        shop.clock.advance_s(3600);
        shop.record_order(&shop.terms("other", "KUDOS:1", 86_400, 172_800))
            .await;
        shop.clock.set_s(NOON_S);
        tokio::time::sleep(Duration::from_secs(2)).await;
        shop.clock.advance_s(3600);
    };
    let (told, ()) = tokio::join!(shop.pay_by("boots", &payment), meanwhile);
    assert_eq!(told.error(), (500, 52), "{}", told.text());
    // What the second exchange said is recorded, so that the first alone is asked again.
    let paid = shop.pay_by("boots", &payment).await;
    shop.is_paid(&paid, h_contract);
    assert_eq!((batches(&shop.sandbox), batches(&second)), (2, 1));
    shop.audit().await;
}

#[tokio::test]
async fn of_two_wallets_one_pays_and_the_other_gets_its_coins_back() {
    let (mut shop, second) = with_two_exchanges().await;
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let theirs = second.withdraw("KUDOS:4".parse().unwrap()).unwrap();
    let half = of_both(
        &terms,
        [&shop.purse("KUDOS:8"), &theirs],
        ["KUDOS:5.1", "KUDOS:2"],
    );
    fail(&second, FaultKind::LostReply, 1);
    assert_eq!(shop.pay_by("boots", &half).await.error(), (502, 2012));
    let whole = shop.purse("KUDOS:20").pay(&terms).unwrap();
    let paid = shop.pay_by("boots", &whole).await;
    shop.is_paid(&paid, h_contract);
    assert_eq!(shop.pay_by("boots", &half).await.error(), (409, 2160));
    // One coin was deposited, the other in question: both go back, whether their wallet comes or not.
    shop.until("the refund of what is deposited", async || {
        shop.sandbox.refunds().len() == 1
    })
    .await;
    assert_eq!(second.refunds(), [], "the deposit may still be on its way");
    shop.clock.advance_s(60);
    shop.until("the refunds", async || {
        (shop.sandbox.refunds().len(), second.refunds().len()) == (1, 1)
    })
    .await;
    let back = shop.take_back("boots", &half).await.expect(200);
    assert_eq!(types(&back), ["success", "success"]);
    assert_eq!(shop.take_back("boots", &whole).await.error(), (412, 2254));
    // The payer's own is refunded as always.
    let again = shop.pay_by("boots", &whole).await;
    shop.is_paid(&again, h_contract);
    shop.audit().await;
}

#[tokio::test]
async fn payments_and_aborts_that_come_at_once_leave_one_payer() {
    let mut shop = Shop::open_selling().await;
    for round in 0..6 {
        let id = format!("order-{round}");
        let (_, terms, h_contract) = shop.sold(&id, "KUDOS:7").await;
        let (one, other) = (
            shop.purse("KUDOS:20").pay(&terms).unwrap(),
            shop.purse("KUDOS:20").pay(&terms).unwrap(),
        );
        if round % 2 == 1 {
            fail(&shop.sandbox, FaultKind::LostReply, 1);
        }
        let (first, second, _, _) = tokio::join!(
            shop.pay_by(&id, &one),
            shop.pay_by(&id, &other),
            shop.take_back(&id, &one),
            shop.take_back(&id, &other),
        );
        let granted = [&first, &second]
            .into_iter()
            .filter(|reply| reply.status == 200)
            .count();
        assert!(granted <= 1, "{} {}", first.text(), second.text());
        // Whoever has not paid by now tries once more, with coins of his own.
        if shop.status(&id, h_contract).await.status != 200 {
            let third = shop.purse("KUDOS:20").pay(&terms).unwrap();
            let paid = shop.pay_by(&id, &third).await;
            shop.is_paid(&paid, h_contract);
        }
    }
    shop.audit().await;
}
