//! The recorded wallet flows with Quittance as the whole merchant: orders are made, claimed, paid, aborted and refunded by the
//! recorded requests, in their order. The private keys of the recorded merchant, coins and exchange were not kept, so
//! the shop's own key, coins of the sandbox and its exchange take their places: the contract's hash, the coins' keys and what
//! is signed are put into the recorded requests, and all else is sent as recorded. To the order's request its recorded
//! id is added, so that all paths stay, and `max_fee`, which that merchant put into every contract. The recorded merchant
//! deposited coin by coin and could fail after the first; here a batch is taken whole or not at all, and what
//! comes nearest is a batch that is taken and whose reply is lost.

use std::collections::HashMap;
use std::sync::Arc;

use quittance_sandbox::{Aggregate, Coin, Deposit, Fault, FaultKind, FaultPath, Sandbox, SandboxConfig};
use quittance_taler::deposit::DepositLayout;
use quittance_taler::payment::PaymentTerms;
use quittance_taler::{Amount, CoinPub, EddsaSignature, ExchangePub, HashCode, contract_hash, message};
use serde_json::{Value, json};

use crate::fixtures::{CURRENCY, EXCHANGE_URL, Flow, Message, flows};
use crate::support::{Options, Reply, Shop, TestClock};
use crate::wallet::{self, Aborted, Outcome, Refused};

const AHEAD_S: u64 = 30;
const BASE_URL: &str = "https://shop.example/";

struct Stage {
    shop: Shop,
    exchange: Sandbox,
    /// The exchange's.
    clock: TestClock,
    flow: Flow,
    /// As claimed; null before.
    terms: Value,
    h_contract: HashCode,
    fresh: Vec<Arc<Coin>>,
    /// Ours in place of recorded ones.
    coins: HashMap<CoinPub, Arc<Coin>>,
    taken: bool,
    /// What the wallet made of each answer to a payment, pick-up or abort.
    answers: Vec<String>,
}

fn coin_pub(value: &Value) -> CoinPub {
    serde_json::from_value(value.clone()).unwrap()
}

fn amount(value: &Value) -> Amount {
    value.as_str().unwrap().parse().unwrap()
}

impl Stage {
    async fn open(flow: Flow) -> Stage {
        let timestamp = flow.terms["timestamp"]["t_s"].as_u64().unwrap();
        let clock = TestClock::at_s(timestamp);
        let exchange = Sandbox::start(SandboxConfig {
            bind: ([127, 0, 0, 1], 0).into(),
            currency: CURRENCY.parse().unwrap(),
            seed: 12,
            clock: clock.clock(),
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
        shop.open_account().await;
        let purse = exchange
            .withdraw(format!("{CURRENCY}:100").parse().unwrap())
            .unwrap();
        Stage {
            shop,
            exchange,
            clock,
            terms: Value::Null,
            h_contract: flow.h_contract.parse().unwrap(),
            flow,
            fresh: purse.coins().cloned().collect(),
            coins: HashMap::new(),
            taken: false,
            answers: Vec::new(),
        }
    }

    /// A recorded request with this shop's hash and coins in place of the recorded ones.
    fn rewritten(&self, text: &str) -> String {
        let mut text = text.replace(&self.flow.h_contract, &self.h_contract.to_string());
        for (recorded, ours) in &self.coins {
            text = text.replace(&recorded.to_string(), &ours.coin_pub.to_string());
        }
        text
    }

    async fn send(&self, message: &Message, token: Option<&str>) -> Reply {
        let path = self.rewritten(message.path.trim_start_matches('/'));
        let body = if message.method == "GET" {
            Vec::new()
        } else {
            self.rewritten(&message.request.to_string()).into_bytes()
        };
        self.shop.send(&message.method, &path, token, body).await
    }

    async fn as_shop(&self, message: &Message) -> Reply {
        self.send(message, Some(&self.shop.token)).await
    }

    async fn as_wallet(&self, message: &Message) -> Reply {
        self.send(message, None).await
    }

    /// Where the recorded merchant takes the order's name and what it bears of fees from.
    async fn make(&self, message: &Message) -> String {
        let mut request = message.request.clone();
        request["order"]["order_id"] = json!(self.flow.order_id);
        request["order"]["max_fee"] = self.flow.terms["max_fee"].clone();
        let made = self
            .shop
            .post_private("private/orders", &request)
            .await
            .expect(200);
        assert_eq!(made["order_id"], self.flow.order_id.as_str());
        made["token"].as_str().unwrap().to_owned()
    }

    /// What the shop asks in between, and the wallet's own integration test.
    async fn look(&self, message: &Message, token: &str) {
        let told = self.as_shop(message).await.expect(200);
        let recorded = message.reply["order_status"].as_str().unwrap();
        assert_eq!(told["order_status"], recorded);
        if recorded == "unpaid" {
            let uri = told["taler_pay_uri"].as_str().unwrap();
            let parts: Vec<&str> = uri.strip_prefix("taler://pay/").unwrap().split('/').collect();
            let last = format!("?c={token}");
            assert_eq!(
                parts,
                ["shop.example", self.flow.order_id.as_str(), last.as_str()]
            );
        } else {
            assert_eq!(told["contract_terms"], self.terms);
            assert_eq!(told["deposit_total"], message.reply["deposit_total"]);
        }
        assert!(told["order_status_url"].as_str().unwrap().starts_with(BASE_URL));
    }

    async fn claim(&mut self, message: &Message, token: &str) {
        let mut request = message.request.clone();
        request["token"] = json!(token);
        let path = message.path.trim_start_matches('/');
        let reply = self.shop.post(path, &request).await.expect(200);
        self.terms = wallet::claim(&self.flow.order_id, &request, BASE_URL, &reply).unwrap();
        self.h_contract = contract_hash(&self.terms).unwrap();
        // What the shop asked for stands in it.
        for (name, value) in self.flow.before[0].request["order"].as_object().unwrap() {
            assert_eq!(self.terms[name], *value, "{name}");
        }
        assert_eq!(self.terms["exchanges"][0]["url"], EXCHANGE_URL);
    }

    /// The coin of ours that stands for a recorded one.
    fn stands_for(&mut self, recorded: CoinPub, contribution: Amount) -> Arc<Coin> {
        let fresh = &mut self.fresh;
        let coin = self.coins.entry(recorded).or_insert_with(|| {
            let fits = |coin: &Arc<Coin>| coin.value.units() >= contribution.units();
            // The smallest that is great enough, so that there are coins for all.
            let place = fresh.iter().rposition(fits).expect("the purse holds such a coin");
            fresh.remove(place)
        });
        Arc::clone(coin)
    }

    async fn pay(&mut self, message: &Message, deposited: usize) {
        let terms = PaymentTerms::read(&self.terms).unwrap().deposit_terms(None);
        let mut request = message.request.clone();
        for paid in request["coins"].as_array_mut().unwrap() {
            let contribution = amount(&paid["contribution"]);
            let coin = self.stands_for(coin_pub(&paid["coin_pub"]), contribution);
            paid["coin_pub"] = json!(coin.coin_pub);
            paid["coin_sig"] = json!(coin.permit(&terms, contribution, DepositLayout::PerCoin));
            paid["h_denom"] = json!(coin.h_denom);
            paid["ub_sig"] = json!(coin.ub_sig);
        }
        if let Ok(Refused::Replace(spent)) = wallet_refused(message)
            && self.answers.is_empty()
        {
            self.spend_elsewhere(spent);
        }
        if message.status >= 500 {
            let kind = if deposited > 0 {
                FaultKind::LostReply
            } else {
                FaultKind::Status { status: 503, code: 0 }
            };
            let fault = Fault {
                path: FaultPath::Deposit,
                ..Fault::new(kind)
            };
            self.exchange.fault(fault).unwrap();
        }
        let path = message.path.trim_start_matches('/');
        let reply = self.shop.post(path, &request).await;
        if message.status == 200 {
            wallet::paid(&self.terms, &reply.expect(200)).unwrap();
            self.answers.push("paid".to_owned());
            return;
        }
        let made_of_it = wallet::refused(reply.status, &reply.json()).unwrap();
        let recorded = wallet_refused(message).unwrap();
        match (made_of_it, recorded) {
            (Refused::Replace(ours), Refused::Replace(recorded)) => {
                assert_eq!(ours, self.coins[&recorded].coin_pub);
            }
            _ => assert_eq!(made_of_it, recorded, "{}", reply.text()),
        }
        self.answers.push(match made_of_it {
            Refused::Replace(_) => "to replace a coin".to_owned(),
            Refused::Later => "later".to_owned(),
            Refused::Lost => "lost".to_owned(),
        });
    }

    /// The coin was spent before, by a restored backup of that wallet.
    fn spend_elsewhere(&self, recorded: CoinPub) {
        let coin = &self.coins[&recorded];
        self.exchange
            .deposit(Deposit {
                coin_pub: coin.coin_pub,
                h_contract: HashCode::from_bytes([9; 64]),
                merchant_pub: self.shop.merchant_pub,
                amount_with_fee: coin.value,
                deposit_fee: coin.deposit_fee,
                refund_fee: coin.refund_fee,
                refund_deadline: None,
            })
            .unwrap();
    }

    async fn approve(&self, message: &Message) {
        let reply = self.as_shop(message).await.expect(200);
        let uri = reply["taler_refund_uri"].as_str().unwrap();
        let parts: Vec<&str> = uri.strip_prefix("taler://refund/").unwrap().split('/').collect();
        assert_eq!(parts, ["shop.example", self.flow.order_id.as_str(), ""]);
        assert_eq!(reply["h_contract"], json!(self.h_contract));
    }

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
            assert!(status.is_worth_fetching() && status.refunded && status.refund_pending);
        }
    }

    /// Whether the exchange granted it, as it says: otherwise the wallet's refresh of the coin would fail.
    fn assert_granted(
        &self,
        coin: CoinPub,
        id: u64,
        amount: Amount,
        (key, sig): (ExchangePub, EddsaSignature),
    ) {
        let merchant = self.shop.merchant_pub;
        let confirmed = message::refund_confirmation(&self.h_contract, &coin, &merchant, id, &amount);
        assert!(key.verify(&confirmed, &sig));
        let granted = self.exchange.refunds();
        let it = granted.iter().filter(|refund| {
            (refund.coin_pub, refund.rtransaction_id, refund.amount) == (coin, id, amount)
                && refund.h_contract == self.h_contract
        });
        assert_eq!(it.count(), 1);
    }

    async fn pick_up(&mut self, message: &Message) {
        if self.answers.len() > 1 {
            // A wallet that comes back later than an open refund may be asked again.
            self.shop.clock.advance_s(5);
        }
        let reply = self.as_wallet(message).await;
        let refunds = wallet::refunds(&reply.expect(200)).unwrap();
        self.shop.check_receipt(&reply);
        assert_eq!(refunds.merchant_pub, self.shop.merchant_pub);
        // Amounts, ids and coins are those that the recorded merchant told.
        let recorded = wallet::refunds(&message.reply).unwrap();
        assert_eq!(refunds.refund_amount, recorded.refund_amount);
        let told: Vec<_> = refunds
            .refunds
            .iter()
            .map(|refund| (refund.coin_pub, refund.rtransaction_id, refund.refund_amount))
            .collect();
        let of_recorded: Vec<_> = recorded
            .refunds
            .iter()
            .map(|refund| {
                (
                    self.coins[&refund.coin_pub].coin_pub,
                    refund.rtransaction_id,
                    refund.refund_amount,
                )
            })
            .collect();
        assert_eq!(told, of_recorded);
        let mut types = Vec::new();
        for refund in &refunds.refunds {
            types.push(match refund.outcome {
                Outcome::Success(key, sig) => {
                    self.assert_granted(
                        refund.coin_pub,
                        refund.rtransaction_id,
                        refund.refund_amount,
                        (key, sig),
                    );
                    "success".to_owned()
                }
                Outcome::Gone(status, code) => format!("gone {status}/{}", code.unwrap()),
                Outcome::Pending(status, code) => format!("pending {status}/{}", code.unwrap()),
            });
        }
        self.taken = types.iter().all(|kind| kind == "success");
        self.answers.push(types.join(", "));
    }

    async fn abort(&mut self, message: &Message) {
        // Whether the coins are deposited is in question, and the deposit may still be on its way: the wallet is asked to
        // come again soon.
        assert_eq!(self.as_wallet(message).await.error(), (408, 2011));
        self.shop.clock.advance_s(60);
        let reply = self.as_wallet(message).await;
        let aborted = wallet::abort(&message.request, &reply.expect(200)).unwrap();
        self.shop.check_receipt(&reply);
        let mut types = Vec::new();
        for (coin, aborted) in message.request["coins"].as_array().unwrap().iter().zip(aborted) {
            let ours = self.coins[&coin_pub(&coin["coin_pub"])].coin_pub;
            types.push(match aborted {
                Aborted::Refunded(key, sig) => {
                    self.assert_granted(ours, 0, amount(&coin["contribution"]), (key, sig));
                    "refunded".to_owned()
                }
                Aborted::TakenBack => "taken back".to_owned(),
                Aborted::Lost(status, code) => format!("lost {status}/{code}"),
            });
        }
        self.answers.push(types.join(", "));
    }

    /// All that was recorded of the order, in order.
    async fn play(&mut self) {
        let mut token = String::new();
        for message in std::mem::take(&mut self.flow.before) {
            if message.method == "POST" {
                token = self.make(&message).await;
            } else {
                self.look(&message, &token).await;
            }
            // The claim compares with what the shop asked for.
            self.flow.before.push(message);
        }
        self.go_on(&token).await;
    }

    async fn go_on(&mut self, token: &str) {
        let mut deposited = 0;
        for message in std::mem::take(&mut self.flow.messages) {
            if message.to_exchange {
                // What goes to the exchange is for this service to send.
                deposited += usize::from(message.coin("deposit").is_some() && message.status == 200);
                continue;
            }
            let Some(end) = message.of_wallet(&self.flow.order_id) else {
                if message.method == "POST" {
                    self.approve(&message).await;
                } else {
                    self.look(&message, token).await;
                }
                continue;
            };
            match end {
                "/claim" => self.claim(&message, token).await,
                "/pay" => self.pay(&message, deposited).await,
                "/refund" => self.pick_up(&message).await,
                "/abort" => self.abort(&message).await,
                query if query.starts_with("?h_contract=") => self.status(&message).await,
                other => panic!("{other} was not foreseen"),
            }
        }
    }
}

fn wallet_refused(message: &Message) -> Result<Refused, String> {
    wallet::refused(u16::try_from(message.status).unwrap(), &message.reply)
}

async fn open(file: &str) -> Stage {
    let [flow] = <[Flow; 1]>::try_from(flows(file)).unwrap_or_else(|_| panic!("{file} has one order"));
    Stage::open(flow).await
}

async fn play(file: &str) -> Vec<String> {
    let mut stage = open(file).await;
    stage.play().await;
    stage.shop.audit().await;
    stage.answers
}

#[tokio::test]
async fn paid_and_refunded() {
    assert_eq!(
        play("wallet-flow-refund.jsonl").await,
        ["paid", "success, success"]
    );
    let answers = ["paid", "success, success", "success, success"];
    assert_eq!(play("wallet-flow-autorefund.trimmed.jsonl").await, answers);
}

#[tokio::test]
async fn refunded_at_an_exchange_that_is_down_at_first() {
    let mut stage = open("wallet-flow-pending.jsonl").await;
    let down = Fault::new(FaultKind::Status { status: 503, code: 0 });
    stage.exchange.fault(Fault { times: 2, ..down }).unwrap();
    stage.play().await;
    let answers = ["paid", "pending 503/0, pending 503/0", "success, success"];
    assert_eq!(stage.answers, answers);
    stage.shop.audit().await;
}

#[tokio::test]
async fn refunded_after_the_exchange_paid_out() {
    let mut stage = open("wallet-flow-gone.jsonl").await;
    // The recorded merchant approved past the wire deadline, which this service refuses: here it is the exchange's clock
    // by which it is past.
    let asks = |message: &Message| message.path.contains("?h_contract=");
    let wallets = stage.flow.messages.iter().position(asks).unwrap();
    let rest = stage.flow.messages.split_off(wallets);
    stage.play().await;
    stage.clock.advance_s(AHEAD_S);
    assert_eq!(stage.exchange.aggregate(Aggregate::default()), 2);
    stage.flow.messages = rest;
    stage.go_on("").await;
    assert_eq!(stage.answers, ["paid", "gone 410/1503, gone 410/1503"]);
    stage.shop.audit().await;
}

#[tokio::test]
async fn a_payment_that_was_taken_and_not_confirmed_is_aborted() {
    for file in ["wallet-flow-abort.jsonl", "wallet-flow-abort1502.jsonl"] {
        assert_eq!(play(file).await, ["later", "refunded, refunded"]);
    }
}

#[tokio::test]
async fn a_payment_that_was_not_taken_is_aborted() {
    for file in ["wallet-flow-abortnone.jsonl", "wallet-flow-abortnone1502.jsonl"] {
        assert_eq!(play(file).await, ["later", "taken back, taken back"]);
    }
}

#[tokio::test]
async fn a_spent_coin_is_replaced() {
    let answers = ["to replace a coin", "to replace a coin", "paid"];
    assert_eq!(play("wallet-flow-doublespend-409.jsonl").await, answers);
}

#[tokio::test]
async fn the_wallets_own_integration_test() {
    let mut answers = Vec::new();
    for flow in flows("wallet-integrationtest.pay-refund.jsonl") {
        let mut stage = Stage::open(flow).await;
        stage.play().await;
        stage.shop.audit().await;
        answers.push(stage.answers);
    }
    assert_eq!(answers, [vec!["paid"], vec!["paid", "success"], vec!["paid"]]);
}
