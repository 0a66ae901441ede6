//! Batches of deposits: what was recorded of taler-exchange 0.9.1 said of the sandbox's own coins, the same in protocol
//! 23, and the wallet that spends them.

use quittance_sandbox::{Payment, Protocol, Purse, PurseError, WithdrawError};
use quittance_taler::deposit::{DepositLayout, DepositReply, DepositedCoin};
use quittance_taler::payment::PayRequest;
use quittance_taler::{EddsaSignature, contract_hash};

use crate::*;

fn kudos(amount: &str) -> Amount {
    format!("TESTKUDOS:{amount}").parse().unwrap()
}

fn merchant() -> EddsaPrivateKey {
    EddsaPrivateKey::from_bytes([42; 32])
}

impl Exchange {
    async fn speaking(protocol: Protocol) -> Exchange {
        let exchange = Exchange::start().await;
        exchange.sandbox.speak(protocol);
        exchange
    }

    fn purse(&self, amount: &str) -> Purse {
        self.sandbox.withdraw(kudos(amount)).unwrap()
    }

    /// Terms of a recorded contract, paid here, to the account that the recorded request names.
    fn terms(&self, recorded: &str, order: &str) -> Value {
        let mut terms = recording(recorded)["contract_terms"].clone();
        terms["order_id"] = json!(order);
        terms["merchant_pub"] = json!(merchant().merchant_pub());
        terms["exchanges"] =
            json!([{ "url": self.sandbox.base_url(), "master_pub": self.sandbox.master_pub() }]);
        terms
    }

    /// The recorded request with the payment's coins in it.
    fn batch(&self, recorded: &str, payment: &Payment) -> Value {
        let mut body = recording(recorded)["request"]["body"].clone();
        let account = body["merchant_payto_uri"].as_str().unwrap().parse().unwrap();
        let salt = text(&body["wire_salt"]);
        let coins = payment.deposits(&self.sandbox.base_url());
        let made = payment.terms.batch_request(&account, &salt, &coins, None);
        let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(members(&made), members(&body));
        assert_eq!(shape(&made["coins"][0]), shape(&body["coins"][0]));
        body = made;
        body
    }

    async fn deposit(&self, body: &Value) -> Reply {
        self.post("/batch-deposit", body).await
    }

    /// Status, member names, number and sentence are the recording's; what else it says is given back.
    async fn deposit_like(&self, recorded: &str, body: &Value) -> Value {
        let reply = self.deposit(body).await;
        let recorded_reply = &recording(recorded)["reply"];
        assert_eq!(
            u64::from(reply.status),
            recorded_reply["status"].as_u64().unwrap()
        );
        assert_eq!(shape(&reply.json()), shape(&recorded_reply["body"]), "{recorded}");
        for name in ["code", "hint", "field", "line"] {
            assert_eq!(
                reply.json().get(name),
                recorded_reply["body"].get(name),
                "{recorded}: {name}"
            );
        }
        reply.json()
    }

    async fn signing_key(&self) -> ExchangePub {
        text(&self.get("/keys").await.json()["signkeys"][0]["key"])
    }

    /// The coin's deposit for this contract is refunded by so much.
    async fn refund(&self, payment: &Payment, at: usize, id: u64, amount: &str) -> Reply {
        let coin = payment.coins[at].coin.coin_pub;
        let amount = kudos(amount);
        let signed = message::refund_request(&payment.terms.h_contract, &coin, id, &amount);
        let body = json!({
            "refund_amount": amount,
            "h_contract_terms": payment.terms.h_contract,
            "rtransaction_id": id,
            "merchant_pub": payment.terms.merchant_pub,
            "merchant_sig": merchant().sign(&signed),
        });
        self.post(&format!("/coins/{coin}/refund"), &body).await
    }

    fn deposited(&self) -> usize {
        // The books are asked without the network: this is no request of a merchant.
        self.sandbox.deposits().len()
    }
}

fn coins_of(exchange: &Exchange, payment: &Payment) -> Vec<DepositedCoin> {
    let coins = payment.deposits(&exchange.sandbox.base_url());
    coins.into_iter().map(|(coin, _)| coin).collect()
}

/// In which layout the reply confirms the payment's coins, signed by the listed key.
async fn confirmed(exchange: &Exchange, payment: &Payment, reply: &[u8]) -> Option<DepositLayout> {
    let reply = DepositReply::read(reply).unwrap();
    assert_eq!(reply.exchange_pub, exchange.signing_key().await);
    payment
        .terms
        .confirmed_layout(&coins_of(exchange, payment), &reply)
}

/// Two coins of one payment: 10 of 16, and 2.5 of 4.
fn two_coins(exchange: &Exchange) -> (Purse, Value, Payment) {
    let mut purse = exchange.purse("20");
    let terms = exchange.terms("deposit-batch-two-coins", "two");
    let payment = purse
        .pay_with(&terms, &[(0, kudos("10")), (1, kudos("2.5"))])
        .unwrap();
    (purse, terms, payment)
}

#[tokio::test]
async fn a_batch_is_confirmed_as_recorded_and_its_repeat_with_the_same_bytes() {
    let exchange = Exchange::start().await;
    let (_, terms, payment) = two_coins(&exchange);
    assert_eq!(payment.terms.h_contract, contract_hash(&terms).unwrap());
    let body = exchange.batch("deposit-batch-two-coins", &payment);
    exchange.deposit_like("deposit-batch-two-coins", &body).await;
    let first = exchange.deposit(&body).await;
    assert_eq!(
        confirmed(&exchange, &payment, &first.body).await,
        Some(DepositLayout::PerCoin)
    );
    exchange.now_s.fetch_add(3600, Ordering::SeqCst);
    exchange.deposit_like("deposit-batch-repeat", &body).await;
    assert_eq!(exchange.deposit(&body).await.body, first.body);
    assert_eq!(exchange.deposited(), 2);

    // A part of it, in another order, was deposited too.
    let mut part = body.clone();
    part["coins"] = json!([body["coins"][1]]);
    assert_eq!(exchange.deposit(&part).await.status, 200);
    assert_eq!(exchange.deposited(), 2);
}

#[tokio::test]
async fn protocol_23_confirms_a_batch_with_one_signature() {
    let exchange = Exchange::speaking(Protocol::V23).await;
    let (_, _, payment) = two_coins(&exchange);
    let body = exchange.batch("deposit-batch-two-coins", &payment);
    let first = exchange.deposit(&body).await;
    assert_eq!(first.status, 200);
    assert_eq!(
        confirmed(&exchange, &payment, &first.body).await,
        Some(DepositLayout::PerBatch)
    );
    exchange.now_s.fetch_add(3600, Ordering::SeqCst);
    assert_eq!(exchange.deposit(&body).await.body, first.body);

    // Coins that were signed for the other protocol are refused, in both directions.
    let terms = exchange.terms("deposit-batch-two-coins", "other");
    for (exchange_speaks, purse_speaks) in [(Protocol::V23, Protocol::V14), (Protocol::V14, Protocol::V23)] {
        exchange.sandbox.speak(exchange_speaks);
        let mut purse = exchange.purse("16");
        purse.speak(purse_speaks);
        let payment = purse.pay(&terms).unwrap();
        let refused = exchange
            .deposit(&exchange.batch("deposit-batch-two-coins", &payment))
            .await;
        assert_eq!((refused.status, refused.code()), (403, 1205));
    }
}

#[tokio::test]
async fn a_batch_with_a_spent_coin_is_refused_whole_as_recorded() {
    for protocol in [Protocol::V14, Protocol::V23] {
        let exchange = Exchange::speaking(protocol).await;
        let mut purse = exchange.purse("2");
        let mut backup = purse.clone();
        let spent = purse
            .pay_with(
                &exchange.terms("deposit-after-failed-batch", "first"),
                &[(0, kudos("2"))],
            )
            .unwrap();
        assert_eq!(
            exchange
                .deposit(&exchange.batch("deposit-after-failed-batch", &spent))
                .await
                .status,
            200
        );

        let name = "deposit-double-spend-409";
        let again = backup
            .pay_with(&exchange.terms(name, "second"), &[(0, kudos("1"))])
            .unwrap();
        let double = exchange.batch(name, &again);
        let name = "deposit-batch-fresh-plus-overspent";
        let fresh = exchange
            .purse("1")
            .pay_with(&exchange.terms(name, "third"), &[(0, kudos("1"))])
            .unwrap();
        let alone = exchange.batch(name, &fresh);
        let mut batch = alone.clone();
        // The spent coin's part is signed for this contract too, by its owner's backup.
        let coin = again.coins[0].coin.clone();
        let layout = protocol.deposit_layout();
        let mut second = double["coins"][0].clone();
        second["coin_sig"] = json!(coin.permit(&fresh.terms, kudos("1"), layout));
        batch["coins"].as_array_mut().unwrap().push(second);

        for (name, body) in [("deposit-double-spend-409", &double), (name, &batch)] {
            if protocol == Protocol::V14 {
                let refused = exchange.deposit_like(name, body).await;
                let entry = &refused["history"][0];
                assert_eq!(refused["h_denom_pub"], json!(coin.h_denom));
                assert_eq!(entry["amount"], json!("TESTKUDOS:2"));
                assert_eq!(entry["deposit_fee"], json!("TESTKUDOS:0.02"));
                assert_eq!(entry["h_contract_terms"], json!(spent.terms.h_contract));
                assert_eq!(entry["h_wire"], json!(spent.terms.h_wire));
                assert_eq!(entry["coin_sig"], json!(spent.coins[0].coin_sig));
                assert_eq!(refused["history"].as_array().unwrap().len(), 1);
            } else {
                let refused = exchange.deposit(body).await;
                assert_eq!((refused.status, refused.code()), (409, 1012));
                assert!(refused.json().get("history").is_none());
            }
            let refused = exchange.deposit(body).await.json();
            assert_eq!(refused["coin_pub"], json!(coin.coin_pub));
            assert_eq!(exchange.deposited(), 1);
        }
        // The exchange has never seen the fresh coin; then it takes it alone.
        let unseen = exchange.refund(&fresh, 0, 1, "1").await;
        assert_eq!((unseen.status, unseen.code()), (404, 1005));
        if protocol == Protocol::V14 {
            exchange.deposit_like("deposit-after-failed-batch", &alone).await;
        }
        assert_eq!(exchange.deposit(&alone).await.status, 200);
        assert_eq!(exchange.deposited(), 2);
    }
}

#[tokio::test]
async fn requests_are_refused_as_recorded() {
    let exchange = Exchange::start().await;
    // Of denominations that are not the sandbox's, but refused before or because of that.
    for name in [
        "deposit-404-unknown-denom",
        "deposit-bad-denom-sig",
        "deposit-400-refund-after-wire",
    ] {
        let body = recording(name)["request"]["body"].clone();
        let refused = exchange.deposit_like(name, &body).await;
        if name == "deposit-404-unknown-denom" {
            assert_eq!(refused["h_denom_pub"], body["coins"][0]["denom_pub_hash"]);
        }
    }
    let (_, _, payment) = two_coins(&exchange);
    let good = exchange.batch("deposit-batch-two-coins", &payment);
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let other = recording("deposit-403-bad-coin-sig")["request"]["body"]["h_contract_terms"].clone();
    exchange
        .deposit_like("deposit-403-bad-coin-sig", &with("h_contract_terms", other))
        .await;
    let account = recording("deposit-400-payto-malformed")["request"]["body"]["merchant_payto_uri"].clone();
    exchange
        .deposit_like(
            "deposit-400-payto-malformed",
            &with("merchant_payto_uri", account),
        )
        .await;
    assert_eq!(exchange.deposited(), 0);
    assert_eq!(exchange.deposit(&good).await.status, 200);
}

#[tokio::test]
async fn requests_are_refused_in_the_order_of_the_checks() {
    let exchange = Exchange::start().await;
    let (_, _, payment) = two_coins(&exchange);
    let good = exchange.batch("deposit-batch-two-coins", &payment);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        body
    };
    let other_signature = payment.coins[1].coin.ub_sig.clone();
    let many = vec![good["coins"][0].clone(); 257];
    let later = (NOW_S + 86_400) * 2;
    for (refusal, body) in [
        ((400, 22, ""), json!([])),
        (
            (400, 22, "merchant_payto_uri"),
            with(&|body| body["merchant_payto_uri"] = json!(1)),
        ),
        (
            (400, 22, "wire_salt"),
            with(&|body| body["wire_salt"] = json!("0")),
        ),
        ((400, 22, "coins"), with(&|body| body["coins"] = json!({}))),
        ((400, 22, "timestamp"), with(&|body| body["timestamp"] = json!(1))),
        (
            (400, 22, "refund_deadline"),
            with(&|body| body["refund_deadline"] = Value::Null),
        ),
        (
            (400, 22, "wire_transfer_deadline"),
            with(&|body| body["wire_transfer_deadline"] = Value::Null),
        ),
        (
            (400, 26, ""),
            with(&|body| body["merchant_payto_uri"] = json!("mailto:me")),
        ),
        (
            (400, 1208, ""),
            with(&|body| body["refund_deadline"] = json!({ "t_s": later })),
        ),
        (
            (400, 1209, ""),
            with(&|body| body["wire_transfer_deadline"] = json!({ "t_s": "never" })),
        ),
        ((400, 26, ""), with(&|body| body["coins"] = json!([]))),
        ((400, 26, ""), with(&|body| body["coins"] = json!(many))),
        ((400, 22, ""), with(&|body| body["coins"][1] = json!(1))),
        (
            (400, 22, "contribution"),
            with(&|body| body["coins"][1]["contribution"] = json!("EUR:1")),
        ),
        (
            (400, 22, "coin_sig"),
            with(&|body| body["coins"][1]["coin_sig"] = Value::Null),
        ),
        (
            (400, 22, "ub_sig"),
            with(&|body| body["coins"][1]["ub_sig"]["cipher"] = json!("CS")),
        ),
        (
            (404, 1005, ""),
            with(&|body| body["coins"][1]["denom_pub_hash"] = json!(HashCode::from_bytes([1; 64]))),
        ),
        (
            (400, 1021, ""),
            with(&|body| body["coins"][1]["contribution"] = json!("TESTKUDOS:4.01")),
        ),
        (
            (403, 1006, ""),
            with(&|body| body["coins"][0]["ub_sig"] = json!(other_signature)),
        ),
        (
            (400, 1207, ""),
            with(&|body| body["coins"][1]["contribution"] = json!("TESTKUDOS:0.01")),
        ),
        (
            (403, 1205, ""),
            with(&|body| body["coins"][1]["coin_sig"] = json!(EddsaSignature::from_bytes([1; 64]))),
        ),
        (
            (403, 1205, ""),
            with(&|body| body["coins"][0]["contribution"] = json!("TESTKUDOS:9")),
        ),
    ] {
        let reply = exchange.deposit(&body).await;
        let field = reply.json()["field"].as_str().unwrap_or_default().to_owned();
        let (status, code) = (reply.status, reply.code());
        assert_eq!((status, code, field.as_str()), refusal, "{}", reply.json());
    }
    assert_eq!(exchange.deposited(), 0);

    // 180 days on the coins have expired, and before the sandbox began they were not made.
    for (at, refusal) in [(NOW_S + 180 * 86_400, (410, 1009)), (NOW_S - 1, (412, 1008))] {
        exchange.now_s.store(at, Ordering::SeqCst);
        let reply = exchange.deposit(&good).await;
        assert_eq!((reply.status, reply.code()), refusal);
        assert_eq!(reply.json()["h_denom_pub"], json!(payment.coins[0].coin.h_denom));
    }
    exchange.now_s.store(NOW_S + 180 * 86_400 - 1, Ordering::SeqCst);
    assert_eq!(exchange.deposit(&good).await.status, 200);
}

#[tokio::test]
async fn a_coin_pays_several_orders_and_what_is_refunded_can_be_spent_again() {
    for protocol in [Protocol::V14, Protocol::V23] {
        let exchange = Exchange::speaking(protocol).await;
        let mut purse = exchange.purse("4");
        let name = "deposit-batch-two-coins";
        let mut backup = purse.clone();
        let mut pay = |order: &str, amount: &str| {
            purse
                .pay_with(&exchange.terms(name, order), &[(0, kudos(amount))])
                .unwrap()
        };
        let (first, second) = (pay("first", "3"), pay("second", "1"));
        for payment in [&first, &second] {
            assert_eq!(exchange.deposit(&exchange.batch(name, payment)).await.status, 200);
        }
        // The same contract with other facts.
        let less = backup
            .pay_with(&exchange.terms(name, "second"), &[(0, kudos("0.5"))])
            .unwrap();
        let refused = exchange.deposit(&exchange.batch(name, &less)).await;
        assert_eq!((refused.status, refused.code()), (409, 1206));
        assert_eq!(refused.json().get("h_wire").is_some(), protocol == Protocol::V23);
        let third = backup
            .pay_with(&exchange.terms(name, "third"), &[(0, kudos("1"))])
            .unwrap();
        let third = exchange.batch(name, &third);
        assert_eq!(exchange.deposit(&third).await.code(), 1012);

        // One order's refunds are bounded by that order's deposit.
        assert_eq!(exchange.refund(&second, 0, 1, "1.01").await.code(), 1501);
        assert_eq!(exchange.refund(&first, 0, 1, "1").await.status, 200);
        // The refund cost 0.02.
        assert_eq!(exchange.deposit(&third).await.code(), 1012);
        assert_eq!(exchange.refund(&first, 0, 2, "0.02").await.status, 200);
        assert_eq!(exchange.deposit(&third).await.code(), 1012);
        assert_eq!(exchange.refund(&first, 0, 3, "0.04").await.status, 200);
        assert_eq!(exchange.deposit(&third).await.status, 200);
        // Refunded whole, the second order's deposit fee comes back, which is worth the refund's fee.
        assert_eq!(exchange.refund(&second, 0, 1, "1").await.status, 200);
        let fourth = backup
            .pay_with(&exchange.terms(name, "fourth"), &[(0, kudos("1"))])
            .unwrap();
        assert_eq!(exchange.deposit(&exchange.batch(name, &fourth)).await.status, 200);
        assert_eq!(exchange.sandbox.refunds().len(), 4);
        assert_eq!(exchange.deposited(), 4);
    }
}

#[tokio::test]
async fn faults_of_deposits() {
    for protocol in [Protocol::V14, Protocol::V23] {
        let exchange = Exchange::speaking(protocol).await;
        let name = "deposit-batch-two-coins";
        let (_, _, payment) = two_coins(&exchange);
        let body = exchange.batch(name, &payment);
        let fault = |kind| Fault {
            path: FaultPath::Deposit,
            coin_pub: Some(payment.coins[1].coin.coin_pub),
            ..Fault::new(kind)
        };
        for kind in [
            FaultKind::Reset,
            FaultKind::Html,
            FaultKind::Status {
                status: 503,
                code: 60,
            },
        ] {
            exchange.sandbox.fault(fault(kind)).unwrap();
            let reply = exchange
                .send("POST", "/batch-deposit", body.to_string().as_bytes())
                .await;
            assert_ne!(reply.map_or(0, |reply| reply.status), 200);
            assert_eq!(exchange.deposited(), 0, "{kind:?}");
        }
        exchange.sandbox.fault(fault(FaultKind::LostReply)).unwrap();
        let lost = exchange
            .send("POST", "/batch-deposit", body.to_string().as_bytes())
            .await;
        assert!(lost.is_err());
        assert_eq!(exchange.deposited(), 2);

        exchange.sandbox.fault(fault(FaultKind::WrongSignature)).unwrap();
        let wrong = exchange.deposit(&body).await;
        assert_eq!(confirmed(&exchange, &payment, &wrong.body).await, None);
        exchange.sandbox.fault(fault(FaultKind::UnknownKey)).unwrap();
        let stranger = DepositReply::read(&exchange.deposit(&body).await.body).unwrap();
        assert_ne!(stranger.exchange_pub, exchange.signing_key().await);
        for kind in [FaultKind::Garbage, FaultKind::Truncated] {
            exchange.sandbox.fault(fault(kind)).unwrap();
            let spoiled = exchange.deposit(&body).await;
            assert_eq!(spoiled.status, 200);
            assert!(DepositReply::read(&spoiled.body).is_err());
        }
        let good = exchange.deposit(&body).await;
        assert_eq!(
            confirmed(&exchange, &payment, &good.body).await,
            Some(protocol.deposit_layout())
        );
        assert_eq!(exchange.deposited(), 2);
    }
}

#[tokio::test]
async fn a_purse_pays_what_is_asked_and_the_fees_that_the_merchant_does_not_bear() {
    let exchange = Exchange::start().await;
    let mut terms = exchange.terms("deposit-batch-two-coins", "o");
    let paid = |payment: &Payment| -> Vec<String> {
        payment
            .coins
            .iter()
            .map(|spent| spent.contribution.to_string().split_off(10))
            .collect()
    };
    let mut purse = exchange.purse("31");
    assert_eq!(paid(&purse.pay(&terms).unwrap()), ["12.5"], "fees within max_fee");
    terms["max_fee"] = json!("TESTKUDOS:0.2");
    // The rest of 16, and 8 and 2 less what is left: fees of 0.16, 0.08 and 0.02, of which 0.2 are borne.
    assert_eq!(paid(&purse.pay(&terms).unwrap()), ["3.5", "8", "1.06"]);
    assert_eq!(purse.pay(&terms).unwrap_err(), PurseError::NotEnough);
    terms["amount"] = json!("TESTKUDOS:0");
    assert!(purse.pay(&terms).unwrap().coins.is_empty());
    terms["exchanges"] = json!([]);
    terms["amount"] = json!("TESTKUDOS:1");
    assert!(matches!(purse.pay(&terms), Err(PurseError::Contract(_))));

    for (amount, error) in [
        ("EUR:1", WithdrawError::Amount),
        ("TESTKUDOS:0.001", WithdrawError::Amount),
        ("TESTKUDOS:16016", WithdrawError::TooMany),
    ] {
        let refused = exchange.sandbox.withdraw(amount.parse().unwrap());
        assert_eq!(refused.unwrap_err(), error);
    }
    let values: Vec<String> = exchange
        .purse("35.13")
        .coins()
        .map(|coin| coin.value.to_string().split_off(10))
        .collect();
    assert_eq!(values, ["16", "16", "2", "1", "0.1", "0.01", "0.01", "0.01"]);
}

#[tokio::test]
async fn the_requests_of_a_wallet_are_as_recorded() {
    let exchange = Exchange::start().await;
    let (_, _, payment) = two_coins(&exchange);
    let recorded = recording("wallet-requests");
    let (pay, abort) = (payment.pay_request("session"), payment.abort_request());
    let first_only = |request: &Value| {
        let mut request = shape(request);
        request["coins"].as_array_mut().unwrap().truncate(1);
        request
    };
    assert_eq!(first_only(&pay), first_only(&recorded["pay"]));
    assert_eq!(first_only(&abort), first_only(&recorded["abort"]));
    let read = PayRequest::read(pay.to_string().as_bytes()).unwrap();
    assert_eq!(read.session_id, "session");
    let coins: Vec<DepositedCoin> = read
        .coins
        .iter()
        .zip(&payment.coins)
        .map(|(coin, spent)| coin.deposited(spent.coin.deposit_fee))
        .collect();
    assert_eq!(coins, coins_of(&exchange, &payment));
    for coin in &coins {
        assert!(payment.terms.is_permitted(coin, DepositLayout::PerCoin));
    }
}
