//! Exchanges that fail on the way: what the wallet is told, that its coins are deposited once in the end, and that an
//! abort gives back whatever may have been taken.

use std::time::Duration;

use quittance::exchange::Times;
use quittance_events::Facts;
use quittance_sandbox::{Deposit, FaultKind};

use crate::support::{NOON_S, Options, Shop};
use crate::{batches, delay, fail};

#[tokio::test]
async fn whatever_befalls_a_batch_it_is_deposited_once_in_the_end() {
    let mut shop = Shop::open_selling().await;
    for (number, (kind, told)) in [
        (FaultKind::LostReply, (502, 2012)),
        (FaultKind::Reset, (502, 2012)),
        (FaultKind::Html, (502, 2014)),
        (FaultKind::Garbage, (502, 2013)),
        (FaultKind::Truncated, (502, 2013)),
        (FaultKind::WrongSignature, (502, 2013)),
        (FaultKind::UnknownKey, (502, 2013)),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("order-{number}");
        let (_, terms, h_contract) = shop.sold(&id, "KUDOS:7").await;
        let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
        fail(&shop.sandbox, kind, 3);
        for _ in 0..3 {
            assert_eq!(shop.pay_by(&id, &payment).await.error(), told, "{kind:?}");
        }
        let paid = shop.pay_by(&id, &payment).await;
        shop.is_paid(&paid, h_contract);
    }
    assert_eq!(batches(&shop.sandbox), 28);
    shop.stop().await;
    let asked = |event: &&quittance_events::Event| matches!(event.facts, Facts::DepositRequested(_));
    assert_eq!(
        shop.events().iter().filter(asked).count(),
        7,
        "the same coins are the same batch"
    );
    shop.audit().await;
}

#[tokio::test]
async fn a_payment_that_was_begun_in_time_is_finished_past_its_deadline() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    fail(&shop.sandbox, FaultKind::LostReply, 1);
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (502, 2012));
    shop.clock.advance_s(86_400);
    // Over a restart, too, and though the exchange fails again.
    shop.stop().await;
    shop.start().await;
    fail(&shop.sandbox, FaultKind::Html, 1);
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (502, 2014));
    let other = shop.purse("KUDOS:20").pay(&terms).unwrap();
    assert_eq!(shop.pay_by("boots", &other).await.error(), (410, 2161));
    let paid = shop.pay_by("boots", &payment).await;
    shop.is_paid(&paid, h_contract);
    assert_eq!(batches(&shop.sandbox), 3);
    shop.audit().await;
}

#[tokio::test]
async fn a_payment_that_was_begun_outlives_its_denominations() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    fail(&shop.sandbox, FaultKind::LostReply, 1);
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (502, 2012));
    // Half a year later their time is over: the exchange says so itself, and not with a word that ends the payment.
    shop.clock.advance_s(181 * 86_400);
    let told = shop.pay_by("boots", &payment).await;
    assert_eq!(told.error(), (502, 2170), "{}", told.text());
    assert_eq!(told.json()["exchange_ec"], 1009);
    assert_eq!(shop.status("boots", h_contract).await.status, 402);
    shop.audit().await;
}

#[tokio::test]
async fn an_abort_gives_back_what_was_taken_in_silence() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, _) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    fail(&shop.sandbox, FaultKind::LostReply, 1);
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (502, 2012));
    // What is in question stays so over a restart.
    shop.stop().await;
    shop.start().await;
    // Nor does its refund overtake a deposit that may still be on its way.
    assert_eq!(shop.take_back("boots", &payment).await.error(), (408, 2011));
    shop.clock.advance_s(59);
    assert_eq!(shop.take_back("boots", &payment).await.error(), (408, 2011));
    assert_eq!(shop.sandbox.refunds(), []);
    shop.clock.advance_s(1);
    let back = shop.take_back("boots", &payment).await.expect(200);
    let refunds = back["refunds"].as_array().unwrap();
    assert_eq!(refunds.len(), payment.coins.len());
    assert!(refunds.iter().all(|refund| refund["type"] == "success"), "{back}");
    assert_eq!(shop.sandbox.refunds().len(), payment.coins.len());
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (402, 2167));
    assert_eq!(batches(&shop.sandbox), 1, "nothing is deposited behind an abort");
    // Other coins still pay.
    let other = shop.purse("KUDOS:20").pay(&terms).unwrap();
    shop.pay_by("boots", &other).await.expect(200);
    assert_eq!(shop.take_back("boots", &other).await.error(), (412, 2254));
    shop.audit().await;
}

#[tokio::test]
async fn a_clock_that_is_set_lets_no_refund_overtake_a_deposit() {
    for (set_to_s, restarts) in [
        (NOON_S + 3600, false),
        (NOON_S - 110, false),
        (NOON_S + 3600, true),
    ] {
        let mut shop = Shop::open_selling().await;
        let (_, terms, _) = shop.sold("boots", "KUDOS:7").await;
        let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
        fail(&shop.sandbox, FaultKind::LostReply, 1);
        assert_eq!(shop.pay_by("boots", &payment).await.error(), (502, 2012));
        if restarts {
            shop.stop().await;
            shop.start().await;
        }
        shop.clock.set_s(set_to_s);
        for pause in [0, 59] {
            shop.clock.advance_s(pause);
            let told = shop.take_back("boots", &payment).await;
            assert_eq!(told.error(), (408, 2011), "{}", told.text());
        }
        assert_eq!(shop.sandbox.refunds(), []);
        shop.clock.advance_s(1);
        let back = shop.take_back("boots", &payment).await.expect(200);
        let refunds = back["refunds"].as_array().unwrap();
        assert!(refunds.iter().all(|refund| refund["type"] == "success"), "{back}");
        shop.audit().await;
    }
}

#[tokio::test]
async fn a_refusal_of_a_repeat_does_not_hide_what_was_taken_before() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, _) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    fail(&shop.sandbox, FaultKind::LostReply, 1);
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (502, 2012));
    let (status, code) = (410, 1009);
    fail(&shop.sandbox, FaultKind::Status { status, code }, 1);
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (502, 2170));
    assert_eq!(shop.take_back("boots", &payment).await.error(), (408, 2011));
    shop.clock.advance_s(60);
    let back = shop.take_back("boots", &payment).await.expect(200);
    let refunds = back["refunds"].as_array().unwrap();
    assert!(refunds.iter().all(|refund| refund["type"] == "success"), "{back}");
    assert_eq!(shop.sandbox.refunds().len(), payment.coins.len());
    shop.audit().await;
}

#[tokio::test]
async fn an_abort_of_what_was_never_taken_says_so() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, _) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    fail(&shop.sandbox, FaultKind::Reset, 1);
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (502, 2012));
    assert_eq!(shop.take_back("boots", &payment).await.error(), (408, 2011));
    shop.clock.advance_s(60);
    let back = shop.take_back("boots", &payment).await.expect(200);
    let refunds = back["refunds"].as_array().unwrap();
    assert!(
        refunds.iter().all(|refund| refund["type"] == "undeposited"),
        "{back}"
    );
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (402, 2167));
    shop.audit().await;
}

#[tokio::test]
async fn a_deposit_that_comes_through_behind_an_abort_goes_back() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    fail(&shop.sandbox, FaultKind::Reset, 1);
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (502, 2012));
    assert_eq!(shop.take_back("boots", &payment).await.error(), (408, 2011));
    // The connection was given up; the request was not.
    for spent in &payment.coins {
        let deposit = Deposit {
            coin_pub: spent.coin.coin_pub,
            h_contract,
            merchant_pub: shop.merchant_pub,
            amount_with_fee: spent.contribution,
            deposit_fee: spent.coin.deposit_fee,
            refund_fee: spent.coin.refund_fee,
            refund_deadline: None,
        };
        shop.sandbox.deposit(deposit).unwrap();
    }
    // The wallet does not come again: the background asks.
    shop.clock.advance_s(60);
    shop.until("the refunds", async || {
        shop.sandbox.refunds().len() == payment.coins.len()
    })
    .await;
    let back = shop.take_back("boots", &payment).await.expect(200);
    let refunds = back["refunds"].as_array().unwrap();
    assert!(refunds.iter().all(|refund| refund["type"] == "success"), "{back}");
    shop.audit().await;
}

fn impatient() -> Options {
    Options {
        times: Times {
            call: Duration::from_millis(900),
            keys: Duration::from_secs(5),
            request: Duration::from_millis(300),
            witness: Duration::from_millis(20),
        },
        ..Options::default()
    }
}

#[tokio::test]
async fn a_reply_that_comes_after_the_wallets_time_still_pays() {
    let mut shop = Shop::open_with(impatient()).await;
    shop.open_account().await;
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    delay(&shop.sandbox, Duration::from_millis(500));
    let first = shop.pay_by("boots", &payment).await;
    // On a machine that is very busy even the keys may have taken all the time.
    assert_eq!(first.error(), (504, 2011));
    shop.until("the payment", async || {
        shop.status("boots", h_contract).await.status == 200
    })
    .await;
    let again = shop.pay_by("boots", &payment).await;
    shop.is_paid(&again, h_contract);
    assert_eq!(batches(&shop.sandbox), 1);
    shop.audit().await;
}

#[tokio::test]
async fn stopping_waits_for_a_payment_that_outlived_its_request() {
    let mut shop = Shop::open_with(impatient()).await;
    shop.open_account().await;
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    delay(&shop.sandbox, Duration::from_millis(700));
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (504, 2011));
    shop.stop().await;
    shop.start().await;
    assert_eq!(shop.status("boots", h_contract).await.status, 200);
    shop.audit().await;
}

#[tokio::test]
async fn an_exchange_that_never_answers_leaves_the_payment_in_question() {
    let mut shop = Shop::open_with(impatient()).await;
    shop.open_account().await;
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    fail(&shop.sandbox, FaultKind::Delay, 1);
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (504, 2011));
    // An abort does not overtake the deposit: it waits until the call has ended, and longer than the wallet does.
    assert_eq!(shop.take_back("boots", &payment).await.error(), (408, 2011));
    assert_eq!(shop.sandbox.refunds(), []);
    shop.until("the end of the call, and a minute more", async || {
        shop.clock.advance_s(20);
        let back = shop.take_back("boots", &payment).await;
        back.status == 200
    })
    .await;
    assert_eq!(shop.sandbox.refunds().len(), payment.coins.len());
    assert_eq!(shop.status("boots", h_contract).await.status, 402);
    shop.audit().await;
}
