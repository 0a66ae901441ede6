//! A wallet pays: both protocols, repeats, sessions, refunds afterwards, and what is refused before any exchange hears of it.

use quittance_events::Facts;
use quittance_events::facts::DepositForm;
use quittance_sandbox::Protocol;
use serde_json::{Value, json};

use crate::support::Shop;
use crate::{batches, fail, session};

#[tokio::test]
async fn a_wallet_pays_at_exchanges_of_both_protocols() {
    for (protocol, layout) in [
        (Protocol::V14, DepositForm::PerCoin),
        (Protocol::V23, DepositForm::PerBatch),
    ] {
        let mut shop = Shop::open_selling().await;
        shop.sandbox.speak(protocol);
        let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
        let mut purse = shop.purse("KUDOS:20");
        purse.speak(protocol);
        let payment = purse.pay(&terms).unwrap();
        let paid = shop.pay_by("boots", &payment).await;
        let paid = shop.is_paid(&paid, h_contract);
        assert_eq!(batches(&shop.sandbox), 1);
        // The same again: the same answer, nothing deposited twice, also after the deadline and a restart.
        shop.stop().await;
        shop.start().await;
        shop.clock.advance_s(2 * 86_400);
        let again = shop.pay_by("boots", &payment).await;
        assert_eq!(shop.is_paid(&again, h_contract), paid);
        assert_eq!(batches(&shop.sandbox), 1);
        shop.stop().await;
        let events = shop.events();
        let batch = events.iter().find_map(|event| match &event.facts {
            Facts::DepositRequested(facts) => Some(facts),
            _ => None,
        });
        let batch = batch.unwrap();
        assert_eq!((batch.layout, batch.coins.len()), (layout, payment.coins.len()));
        let kinds: Vec<_> = events.iter().map(|event| event.facts.kind()).collect();
        let from = kinds.iter().position(|kind| *kind == "deposit_replied").unwrap();
        assert_eq!(
            kinds[from + 1..=from + payment.coins.len()],
            vec!["deposit_recorded"; payment.coins.len()]
        );
        assert_eq!(kinds[from + payment.coins.len() + 1..], ["payment_completed"]);
        shop.audit().await;
    }
}

#[tokio::test]
async fn what_was_paid_here_is_refunded_here() {
    let mut shop = Shop::open_selling().await;
    let order = json!({"order_id": "boots", "amount": "KUDOS:7", "summary": "boots",
                       "fulfillment_message": "thanks"});
    let more = json!({"refund_delay": {"d_us": 86_400_000_000_u64}, "create_token": false});
    shop.order(&order, &more).await.expect(200);
    let claimed = shop.claim("boots", 1, None).await.expect(200);
    let payment = shop.purse("KUDOS:20").pay(&claimed["contract_terms"]).unwrap();
    assert_eq!(shop.status("boots", payment.terms.h_contract).await.status, 402);
    shop.pay_by("boots", &payment).await.expect(200);
    let status = shop.status("boots", payment.terms.h_contract).await.expect(200);
    assert_eq!(status["refund_amount"], "KUDOS:0");
    shop.approve("boots", "KUDOS:3").await.expect(200);
    assert_eq!(shop.pay_by("boots", &payment).await.error(), (409, 2190));
    let fetched = shop.fetch("boots", payment.terms.h_contract).await.expect(200);
    assert_eq!(fetched["refund_amount"], "KUDOS:3");
    let all = fetched["refunds"].as_array().unwrap();
    assert!(all.iter().all(|refund| refund["type"] == "success"), "{fetched}");
    shop.audit().await;
}

#[tokio::test]
async fn an_order_of_nothing_is_paid_by_no_coins() {
    let mut shop = Shop::open_selling().await;
    let (_, _, h_contract) = shop.sold("gift", "KUDOS:0").await;
    let body = json!({"coins": [], "session_id": ""});
    for _ in 0..2 {
        let paid = shop.post("orders/gift/pay", &body).await;
        shop.is_paid(&paid, h_contract);
    }
    assert_eq!(batches(&shop.sandbox), 0);
    shop.audit().await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_before_an_exchange_hears_of_it() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, _) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:7.1").pay(&terms).unwrap();
    let good = payment.pay_request("");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        body
    };
    let coins = good["coins"].as_array().unwrap();
    assert!(coins.len() > 1, "a payment of several coins");
    let other_sig = payment.coins[1].coin_sig.to_string();
    let unknown = quittance_taler::HashCode::from_bytes([1; 64]).to_string();
    let short = json!({"coins": [coins[0]], "session_id": ""});
    for (what, body, error) in [
        ("no JSON object", json!([]), (400, 22)),
        ("no coins member", json!({"session_id": ""}), (400, 22)),
        (
            "a coin of no form",
            with(&|body| body["coins"][0]["coin_pub"] = json!("short")),
            (400, 22),
        ),
        (
            "a coin twice",
            with(&|body| body["coins"][1] = body["coins"][0].clone()),
            (400, 26),
        ),
        (
            "a foreign exchange",
            with(&|body| body["coins"][0]["exchange_url"] = json!("https://nobody.example/")),
            (400, 2025),
        ),
        (
            "another currency",
            with(&|body| body["coins"][0]["contribution"] = json!("EUR:1")),
            (409, 2024),
        ),
        (
            "an unknown denomination",
            with(&|body| body["coins"][0]["h_denom"] = json!(unknown)),
            (400, 2151),
        ),
        (
            "another coin's signature",
            with(&|body| body["coins"][0]["coin_sig"] = json!(other_sig)),
            (403, 2157),
        ),
        (
            "another coin's denomination signature",
            with(&|body| body["coins"][0]["ub_sig"] = body["coins"][1]["ub_sig"].clone()),
            (400, 26),
        ),
        ("too little", short, (400, 2156)),
        ("nothing", json!({"coins": []}), (400, 2156)),
    ] {
        assert_eq!(
            shop.post("orders/boots/pay", &body).await.error(),
            error,
            "{what}"
        );
    }
    assert_eq!(shop.post("orders/nobodys/pay", &good).await.error(), (404, 2005));
    shop.offer("unclaimed", "KUDOS:1").await;
    assert_eq!(
        shop.post("orders/unclaimed/pay", &good).await.error(),
        (404, 2005)
    );
    let told = shop.terms("told", "KUDOS:1", 86_400, 172_800);
    shop.record_order(&told).await;
    assert_eq!(shop.post("orders/told/pay", &good).await.error(), (404, 2005));
    // The fees beyond what the merchant bears are the customer's.
    let (_, terms, _) = shop.sold("shoes", "KUDOS:4").await;
    let bare = shop
        .purse("KUDOS:4")
        .pay_with(&terms, &[(0, "KUDOS:4".parse().unwrap())])
        .unwrap();
    assert_eq!(shop.pay_by("shoes", &bare).await.error(), (400, 2155));
    shop.clock.advance_s(86_400);
    assert_eq!(shop.post("orders/boots/pay", &good).await.error(), (410, 2161));
    assert_eq!(batches(&shop.sandbox), 0);
    shop.audit().await;
}

#[tokio::test]
async fn sessions_are_shown_to_be_paid() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    let tell_paid = |session: &str, sig: &Value, hash: quittance_taler::HashCode| {
        let body = json!({"sig": sig, "h_contract": hash, "session_id": session});
        let shop = &shop;
        async move { shop.post("orders/boots/paid", &body).await }
    };
    let forged = json!(payment.coins[0].coin_sig);
    assert_eq!(tell_paid("one", &forged, h_contract).await.error(), (403, 2201));
    let paid = shop.post("orders/boots/pay", &session(&payment, "one")).await;
    let sig = shop.is_paid(&paid, h_contract)["sig"].clone();
    for id in ["one", "two", "two"] {
        let shown = tell_paid(id, &sig, h_contract).await.expect(200);
        assert_eq!(shown, json!({ "refunded": false }));
    }
    let other = quittance_taler::HashCode::from_bytes([1; 64]);
    assert_eq!(tell_paid("one", &sig, other).await.error(), (400, 2200));
    assert_eq!(tell_paid("one", &forged, h_contract).await.error(), (403, 2201));
    shop.stop().await;
    let sessions: Vec<_> = shop
        .events()
        .iter()
        .filter_map(|event| match &event.facts {
            Facts::SessionPaid(facts) => Some(facts.session),
            _ => None,
        })
        .collect();
    assert_eq!(sessions.len(), 2);
    assert_ne!(sessions[0], sessions[1]);
    shop.audit().await;
}

#[tokio::test]
async fn new_signing_keys_and_denominations_are_looked_up() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, _) = shop.sold("first", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    shop.pay_by("first", &payment).await.expect(200);
    // A new signing key: the confirmation is judged with it.
    shop.sandbox.rotate_signing_key();
    let (_, terms, _) = shop.sold("second", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    shop.pay_by("second", &payment).await.expect(200);
    // New denominations: looked up anew, but not with every such coin.
    shop.sandbox.renew_denominations();
    let (_, terms, _) = shop.sold("third", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    assert_eq!(shop.pay_by("third", &payment).await.error(), (400, 2151));
    shop.clock.advance_s(60);
    shop.pay_by("third", &payment).await.expect(200);
    // A newer protocol: the coins sign in its form.
    shop.sandbox.speak(Protocol::V23);
    shop.clock.advance_s(60);
    let (_, terms, _) = shop.sold("fourth", "KUDOS:7").await;
    let mut purse = shop.purse("KUDOS:20");
    purse.speak(Protocol::V23);
    shop.pay_by("fourth", &purse.pay(&terms).unwrap())
        .await
        .expect(200);
    shop.audit().await;
}

#[tokio::test]
async fn a_coin_that_was_spent_before_is_told_with_the_exchanges_reply() {
    for protocol in [Protocol::V14, Protocol::V23] {
        let mut shop = Shop::open_selling().await;
        shop.sandbox.speak(protocol);
        let mut purse = shop.purse("KUDOS:8");
        purse.speak(protocol);
        let mut restored = purse.clone();
        let (_, terms, _) = shop.sold("boots", "KUDOS:7").await;
        shop.pay_by("boots", &purse.pay(&terms).unwrap())
            .await
            .expect(200);
        let (_, terms, h_contract) = shop.sold("shoes", "KUDOS:7").await;
        let spent = restored.pay(&terms).unwrap();
        let told = shop.pay_by("shoes", &spent).await.expect(409);
        assert_eq!(told["code"], 2150);
        assert_eq!(
            (&told["exchange_hc"], &told["exchange_ec"]),
            (&json!(409), &json!(1012))
        );
        assert_eq!(told["exchange_url"], json!(shop.sandbox.base_url()));
        assert_eq!(told["exchange_reply"]["code"], 1012);
        let coin = told["exchange_reply"]["coin_pub"].as_str().unwrap();
        assert!(
            spent
                .coins
                .iter()
                .any(|spent| spent.coin.coin_pub.to_string() == coin)
        );
        // The wallet takes other coins.
        let mut fresh = shop.purse("KUDOS:20");
        fresh.speak(protocol);
        let payment = fresh.pay(&terms).unwrap();
        let paid = shop.pay_by("shoes", &payment).await;
        shop.is_paid(&paid, h_contract);
        // Nothing of the first try was deposited, so nothing of it goes back.
        assert_eq!(shop.sandbox.refunds(), []);
        shop.audit().await;
    }
}

#[tokio::test]
async fn an_exchange_that_refuses_otherwise_fails_the_payment_and_the_wallet_may_come_again() {
    let mut shop = Shop::open_selling().await;
    let (_, terms, h_contract) = shop.sold("boots", "KUDOS:7").await;
    let payment = shop.purse("KUDOS:20").pay(&terms).unwrap();
    for (status, code, told) in [
        (403, 1006, (502, 2170)),
        (409, 1003, (502, 2170)),
        (451, 1035, (451, 2186)),
        (503, 1007, (502, 2014)),
    ] {
        fail(
            &shop.sandbox,
            quittance_sandbox::FaultKind::Status { status, code },
            1,
        );
        let failed = shop.pay_by("boots", &payment).await;
        assert_eq!(failed.error(), told, "{}", failed.text());
        assert_eq!(failed.json()["exchange_ec"], code);
    }
    let paid = shop.pay_by("boots", &payment).await;
    shop.is_paid(&paid, h_contract);
    shop.audit().await;
}
