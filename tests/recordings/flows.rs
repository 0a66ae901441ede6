//! A recorded wallet's aborts, pick-ups and status requests, sent again. The private key of the merchant that it
//! talked to was not kept, so every contract gets this shop's merchant and an exchange with keys of its own; the hash
//! is computed anew and stands in the wallet's requests in place of the recorded one. All else is sent as recorded.

use quittance_sandbox::{Aggregate, Deposit, Fault, FaultKind, Sandbox, SandboxConfig};
use quittance_taler::{CoinPub, HashCode, message};
use serde_json::{Value, json};

use crate::fixtures::{CURRENCY, EXCHANGE_URL, Flow, Message, fees, flows};
use crate::support::{Options, Reply, Shop, TestClock};
use crate::wallet::{self, Aborted, Outcome};

/// The exchange's clock goes ahead by this: far enough for a wire deadline of seconds to pass there first.
const AHEAD_S: u64 = 30;

/// A flow under way.
struct Stage {
    shop: Shop,
    exchange: Sandbox,
    flow: Flow,
    h_contract: HashCode,
    told: Vec<Value>,
    paid: bool,
    /// Whether the wallet has got all that was approved.
    taken: bool,
    /// Types of the entries that the wallet was answered with, one text for each answer.
    answers: Vec<String>,
}

impl Stage {
    async fn open(flow: Flow) -> Stage {
        let timestamp = flow.terms["timestamp"]["t_s"].as_u64().unwrap();
        let exchange = Sandbox::start(SandboxConfig {
            bind: ([127, 0, 0, 1], 0).into(),
            currency: CURRENCY.parse().unwrap(),
            seed: 12,
            clock: TestClock::at_s(timestamp + AHEAD_S).clock(),
        })
        .await
        .unwrap();
        let shop = Shop::open_with(Options {
            start_s: timestamp,
            undeposited: "failure",
            currency: CURRENCY,
            exchange: Some((
                EXCHANGE_URL.to_owned(),
                exchange.master_pub().to_string(),
                exchange.addr(),
            )),
            ..Options::default()
        })
        .await;
        let mut terms = flow.terms.clone();
        terms["merchant_pub"] = json!(shop.merchant_pub);
        terms["exchanges"][0]["master_pub"] = json!(exchange.master_pub());
        let h_contract = shop.record_order(&terms).await;
        assert_ne!(h_contract.to_string(), flow.h_contract);
        let (told, answers) = (Vec::new(), Vec::new());
        Stage {
            shop,
            exchange,
            flow,
            h_contract,
            told,
            paid: false,
            taken: false,
            answers,
        }
    }

    /// The wallet's request with this shop's hash in place of the recorded one.
    fn rewritten(&self, text: &str) -> String {
        assert!(text.contains(&self.flow.h_contract), "{text} names no hash");
        text.replace(&self.flow.h_contract, &self.h_contract.to_string())
    }

    async fn as_wallet(&self, message: &Message) -> Reply {
        let path = message.path.trim_start_matches('/');
        if message.method == "GET" {
            return self.shop.get(&self.rewritten(path)).await;
        }
        let body = self.rewritten(&message.request.to_string());
        self.shop.send("POST", path, None, body.into_bytes()).await
    }

    /// A deposit that succeeded in the recording: at this exchange, and to be told with the end of its `pay`.
    fn deposit(&mut self, coin_pub: CoinPub, request: &Value) {
        let (deposit_fee, refund_fee) = fees(&request["denom_pub_hash"]);
        let amount = |value: &Value| value.as_str().unwrap().parse().unwrap();
        self.exchange
            .deposit(Deposit {
                coin_pub,
                h_contract: self.h_contract,
                merchant_pub: self.shop.merchant_pub,
                amount_with_fee: amount(&request["contribution"]),
                deposit_fee: amount(&deposit_fee),
                refund_fee: amount(&refund_fee),
                refund_deadline: Some(
                    serde_json::from_value::<quittance_taler::TalerTimestamp>(
                        request["refund_deadline"].clone(),
                    )
                    .unwrap()
                    .0,
                ),
            })
            .unwrap();
        self.told.push(json!({
            "coin_pub": coin_pub, "exchange_url": EXCHANGE_URL, "amount_with_fee": request["contribution"],
            "deposit_fee": deposit_fee, "refund_fee": refund_fee, "h_denom": request["denom_pub_hash"],
        }));
    }

    async fn tell(&mut self, paid: bool) {
        self.paid = paid;
        let path = format!("private/ledger/orders/{}/deposits", self.flow.order_id);
        let body = json!({ "deposits": self.told, "paid": paid });
        let reply = self.shop.post_private(&path, &body).await;
        assert_eq!(
            reply.expect(200),
            json!({ "deposits": self.told.len(), "paid": paid })
        );
    }

    /// The recorded approval. The shop hands the URI on to the wallet, which needs something behind the order's id,
    /// if only nothing.
    async fn approve(&self, request: &Value) {
        let path = format!("private/orders/{}/refund", self.flow.order_id);
        let reply = self.shop.post_private(&path, request).await.expect(200);
        let uri = reply["taler_refund_uri"].as_str().unwrap();
        let parts: Vec<&str> = uri.strip_prefix("taler://refund/").unwrap().split('/').collect();
        assert_eq!(parts, ["shop.example", self.flow.order_id.as_str(), ""]);
        assert_eq!(reply["h_contract"], json!(self.h_contract));
    }

    /// The wallet asks whether it should come. It must hear yes until it has got everything.
    async fn status(&self, message: &Message) {
        let ask = async || wallet::status(&self.as_wallet(message).await.expect(200)).unwrap();
        if self.taken {
            // That an answer went out is recorded after it did.
            self.shop
                .until("the delivery", async || !ask().await.is_worth_fetching())
                .await;
            assert!(!ask().await.refund_pending);
        } else {
            let status = ask().await;
            assert!(
                status.is_worth_fetching() && status.refunded && status.refund_pending,
                "{status:?}"
            );
        }
    }

    /// Whether the exchange granted it, as it says: otherwise the wallet's refresh of the coin would fail.
    fn assert_granted(&self, coin: CoinPub, id: u64, amount: &str, (key, sig): Proof) {
        let amount = amount.parse().unwrap();
        let merchant = self.shop.merchant_pub;
        assert!(key.verify(
            &message::refund_confirmation(&self.h_contract, &coin, &merchant, id, &amount),
            &sig
        ));
        let granted = self.exchange.refunds();
        let it = granted.iter().filter(|refund| {
            (refund.coin_pub, refund.rtransaction_id, refund.amount) == (coin, id, amount)
                && refund.h_contract == self.h_contract
        });
        assert_eq!(it.count(), 1);
    }

    async fn pick_up(&mut self, message: &Message) {
        // A wallet that comes back later than an open refund may be asked again.
        if !self.answers.is_empty() {
            self.shop.clock.advance_s(5);
        }
        let reply = self.as_wallet(message).await;
        let refunds = wallet::refunds(&reply.expect(200)).unwrap();
        self.shop.check_receipt(&reply);
        assert_eq!(refunds.merchant_pub, self.shop.merchant_pub);
        // The spread over coins is the recorded merchant's: amounts, ids and coins are those that it told.
        let recorded = wallet::refunds(&message.reply).unwrap();
        assert_eq!(refunds.refund_amount, recorded.refund_amount);
        let rows = |refunds: &wallet::Refunds| -> Vec<_> {
            let row =
                |refund: &wallet::Refund| (refund.coin_pub, refund.rtransaction_id, refund.refund_amount);
            refunds.refunds.iter().map(row).collect()
        };
        assert_eq!(rows(&refunds), rows(&recorded));
        let mut types = Vec::new();
        for refund in &refunds.refunds {
            if let Outcome::Success(key, sig) = refund.outcome {
                let amount = refund.refund_amount.to_string();
                self.assert_granted(refund.coin_pub, refund.rtransaction_id, &amount, (key, sig));
            }
            types.push(match refund.outcome {
                Outcome::Success(..) => "success".to_owned(),
                Outcome::Gone(status, code) => format!("gone {status}/{}", code.unwrap()),
                Outcome::Pending(status, code) => format!("pending {status}/{}", code.unwrap()),
            });
        }
        self.taken = types.iter().all(|kind| kind == "success");
        self.answers.push(types.join(", "));
    }

    async fn abort(&mut self, message: &Message) {
        let reply = self.as_wallet(message).await;
        let aborted = wallet::abort(&message.request, &reply.expect(200)).unwrap();
        self.shop.check_receipt(&reply);
        let mut types = Vec::new();
        for (coin, aborted) in message.request["coins"].as_array().unwrap().iter().zip(aborted) {
            let coin_pub: CoinPub = serde_json::from_value(coin["coin_pub"].clone()).unwrap();
            types.push(match aborted {
                Aborted::Refunded(key, sig) => {
                    self.assert_granted(coin_pub, 0, coin["contribution"].as_str().unwrap(), (key, sig));
                    "refunded".to_owned()
                }
                Aborted::TakenBack => "taken back".to_owned(),
                Aborted::Lost(status, code) => format!("lost {status}/{code}"),
            });
        }
        self.answers.push(types.join(", "));
    }

    /// Everything that was recorded, in order, as far as it is this service's.
    async fn play(&mut self) {
        for message in std::mem::take(&mut self.flow.messages) {
            if message.to_exchange {
                // Refund requests to the exchange are for this service to make.
                if let (Some(coin), 200) = (message.coin("deposit"), message.status) {
                    self.deposit(coin, &message.request);
                }
                continue;
            }
            let Some(end) = message.of_wallet(&self.flow.order_id) else {
                if message.method == "POST" && message.path.ends_with("/refund") {
                    self.approve(&message.request).await;
                }
                continue;
            };
            match end {
                "/claim" => {}
                // The payment backend tells how the payment went.
                "/pay" => self.tell(message.status == 200).await,
                "/refund" => self.pick_up(&message).await,
                "/abort" => self.abort(&message).await,
                query if query.starts_with("?h_contract=") => self.status(&message).await,
                other => panic!("{other} was not foreseen"),
            }
        }
    }
}

type Proof = (quittance_taler::ExchangePub, quittance_taler::EddsaSignature);

async fn open(file: &str) -> Stage {
    let [flow] = <[Flow; 1]>::try_from(flows(file)).unwrap_or_else(|_| panic!("{file} has one order"));
    Stage::open(flow).await
}

async fn play(file: &str) -> Stage {
    let mut stage = open(file).await;
    stage.play().await;
    stage.shop.audit().await;
    stage
}

#[tokio::test]
async fn refund() {
    let stage = play("wallet-flow-refund.jsonl").await;
    assert_eq!(stage.answers, ["success, success"]);
}

#[tokio::test]
async fn auto_refund() {
    // The wallet polls, fetches, polls and fetches again.
    let stage = play("wallet-flow-autorefund.trimmed.jsonl").await;
    assert_eq!(stage.answers, ["success, success", "success, success"]);
    assert_eq!(stage.exchange.refunds().len(), 2);
}

#[tokio::test]
async fn refund_at_an_exchange_that_is_down_at_first() {
    let mut stage = open("wallet-flow-pending.jsonl").await;
    // As the recording has it: once for each coin.
    let down = Fault::new(FaultKind::Status { status: 503, code: 0 });
    stage.exchange.fault(Fault { times: 2, ..down }).unwrap();
    stage.play().await;
    assert_eq!(
        stage.answers,
        ["pending 503/0, pending 503/0", "success, success"]
    );
    stage.shop.audit().await;
}

#[tokio::test]
async fn refund_after_the_exchange_paid_out() {
    let mut stage = open("wallet-flow-gone.jsonl").await;
    // The recorded merchant approved past the wire deadline, which this service refuses. Here it is the exchange's
    // clock by which that deadline is past.
    let wallets = stage
        .flow
        .messages
        .iter()
        .position(|message| message.path.contains("?h_contract="))
        .unwrap();
    let rest = stage.flow.messages.split_off(wallets);
    stage.play().await;
    assert_eq!(stage.exchange.aggregate(Aggregate::default()), 2);
    stage.flow.messages = rest;
    stage.play().await;
    assert_eq!(stage.answers, ["gone 410/1503, gone 410/1503"]);
    stage.shop.audit().await;
}

#[tokio::test]
async fn refund_that_the_wallet_comes_for_too_late() {
    let mut stage = open("wallet-flow-gone.jsonl").await;
    let wallets = stage
        .flow
        .messages
        .iter()
        .position(|message| message.path.contains("?h_contract="))
        .unwrap();
    let rest = stage.flow.messages.split_off(wallets);
    stage.play().await;
    stage.shop.clock.set_s(
        stage.flow.terms["wire_transfer_deadline"]["t_s"]
            .as_u64()
            .unwrap(),
    );
    let pick_up = rest.last().unwrap();
    assert_eq!(pick_up.of_wallet(&stage.flow.order_id), Some("/refund"));
    let reply = stage.as_wallet(pick_up).await;
    assert_eq!(reply.error(), (410, 2169));
    stage.shop.check_receipt(&reply);
    assert!(stage.exchange.refunds().is_empty());
    stage.shop.audit().await;
}

#[tokio::test]
async fn abort_after_the_first_coin() {
    for file in ["wallet-flow-abort.jsonl", "wallet-flow-abort1502.jsonl"] {
        assert_eq!(play(file).await.answers, ["refunded, taken back"]);
    }
}

#[tokio::test]
async fn abort_before_the_first_coin() {
    for file in ["wallet-flow-abortnone.jsonl", "wallet-flow-abortnone1502.jsonl"] {
        let stage = play(file).await;
        assert_eq!(stage.answers, ["taken back, taken back"]);
        // What the exchange never saw, it is not asked about.
        assert!(
            stage
                .exchange
                .requests()
                .iter()
                .all(|request| request.method == "GET")
        );
    }
}

#[tokio::test]
async fn payment_that_took_other_coins_in_the_end() {
    let mut stage = open("wallet-flow-doublespend-409.jsonl").await;
    stage.play().await;
    assert!(stage.paid && stage.answers.is_empty());
    assert_eq!(stage.told.len(), 3);
    // The recorded wallet asked nothing more. It would have heard that nothing is refunded; and an abort of the
    // coins that it tried first comes too late.
    let status = stage.shop.status(&stage.flow.order_id, stage.h_contract).await;
    let status = wallet::status(&status.expect(200)).unwrap();
    assert!(!status.refunded && !status.refund_pending && !status.is_worth_fetching());
    let first = flows("wallet-flow-doublespend-409.jsonl").remove(0);
    let pay = first
        .messages
        .iter()
        .find(|message| message.path.ends_with("/pay"))
        .unwrap();
    let coins: Vec<Value> = pay.request["coins"].as_array().unwrap().iter().map(|coin| {
        json!({"coin_pub": coin["coin_pub"], "contribution": coin["contribution"], "exchange_url": coin["exchange_url"]})
    }).collect();
    let abort = json!({ "h_contract": stage.h_contract, "coins": coins });
    let reply = stage
        .shop
        .post(&format!("orders/{}/abort", stage.flow.order_id), &abort)
        .await;
    assert_eq!(reply.error(), (412, 2254));
    assert!(stage.exchange.refunds().is_empty());
    stage.shop.audit().await;
}

#[tokio::test]
async fn the_wallets_own_integration_test() {
    let mut answers = Vec::new();
    for flow in flows("wallet-integrationtest.pay-refund.jsonl") {
        let mut stage = Stage::open(flow).await;
        stage.play().await;
        assert!(stage.paid);
        stage.shop.audit().await;
        answers.push(stage.answers);
    }
    assert_eq!(answers, [vec![], vec!["success".to_owned()], vec![]]);
}
