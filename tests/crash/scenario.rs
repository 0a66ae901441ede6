//! A short story that a disk may spoil at any point: a shop tells of two orders, refunds the one in two steps, and a
//! wallet fetches and aborts; then it sells one by itself, which a wallet claims and pays. What was answered is kept, so that it can be asked for afterwards; a story that was cut
//! short goes on where it was.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quittance_events::receipt::Receipt;
use quittance_events::seal::answer_digest;
use quittance_events::{Event, Facts};
use quittance_sandbox::{Deposit, Payment, Purse, Sandbox, Spent};
use quittance_taler::{Amount, CoinPub, EddsaPrivateKey, HashCode};
use serde_json::{Value, json};

use crate::caller::{Caller, Gone, Reply};
use crate::program::{MERCHANT, Program};
use crate::proof;
use crate::support::selling::PAYTO;

/// Tries of one request at a service whose disk fails now and then: more than any disk here fails in a row.
const TRIES: u32 = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    RecordSold,
    DepositSold,
    RecordHalf,
    DepositHalf,
    Approve(u32),
    Fetch(u32),
    Abort,
    Account,
    Offer,
    Claim,
    Pay,
}

const STEPS: [Step; 13] = [
    Step::RecordSold,
    Step::DepositSold,
    Step::Approve(1),
    Step::Fetch(1),
    Step::RecordHalf,
    Step::DepositHalf,
    Step::Abort,
    Step::Approve(2),
    Step::Fetch(2),
    Step::Account,
    Step::Offer,
    Step::Claim,
    Step::Pay,
];

pub(crate) struct Story<'a> {
    sandbox: &'a Sandbox,
    caller: Caller,
    sold: (Value, CoinPub),
    half: (Value, CoinPub),
    hashes: [Option<HashCode>; 2],
    purse: Purse,
    /// Of the order that is sold here, once it is claimed.
    payment: Option<Payment>,
    answered: BTreeSet<Step>,
    kept: Vec<(Receipt, Vec<u8>)>,
    /// Requests that the disk kept from being answered.
    pub(crate) refused: u32,
}

fn coin(number: u64) -> CoinPub {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    CoinPub::from_bytes(bytes)
}

impl<'a> Story<'a> {
    /// Each story has a number: the exchange's books are the same for all.
    pub(crate) fn new(sandbox: &'a Sandbox, token: &str, number: u64) -> Story<'a> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let merchant_pub = EddsaPrivateKey::from_bytes(MERCHANT).merchant_pub();
        let terms = |id: &str, amount: &str| {
            json!({
                "order_id": id, "amount": amount, "summary": format!("boots {number}"), "timestamp": {"t_s": now},
                "pay_deadline": {"t_s": now + 600}, "refund_deadline": {"t_s": now + 86_400},
                "wire_transfer_deadline": {"t_s": now + 172_800}, "merchant_pub": merchant_pub,
                "merchant_base_url": "https://shop.example/", "products": [],
                "exchanges": [{"url": sandbox.base_url(), "master_pub": sandbox.master_pub()}],
            })
        };
        Story {
            sandbox,
            caller: Caller::new(token.to_owned()),
            sold: (terms("sold", "KUDOS:4"), coin(2 * number)),
            half: (terms("half", "KUDOS:9"), coin(2 * number + 1)),
            hashes: [None; 2],
            purse: sandbox.withdraw("KUDOS:5".parse().unwrap()).unwrap(),
            payment: None,
            answered: BTreeSet::new(),
            kept: Vec::new(),
            refused: 0,
        }
    }

    /// Tells it from where it was cut short to its end.
    pub(crate) async fn tell(&mut self, addr: SocketAddr) -> Result<(), Gone> {
        for step in STEPS {
            if !self.answered.contains(&step) {
                self.take(addr, step).await?;
                self.answered.insert(step);
            }
        }
        Ok(())
    }

    /// Every refund is a success in the end.
    pub(crate) async fn finish(&mut self, addr: SocketAddr) {
        for step in [Step::Fetch(2), Step::Abort] {
            let mut body = Value::Null;
            for _ in 0..TRIES {
                body = self.take(addr, step).await.expect("it runs");
                let all = body["refunds"].as_array().unwrap();
                if all.iter().all(|entry| entry["type"] == "success") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let all = body["refunds"].as_array().unwrap();
            assert!(
                !all.is_empty() && all.iter().all(|e| e["type"] == "success"),
                "{step:?}: {body}"
            );
        }
        for (coin, total) in [(self.sold.1, "KUDOS:2"), (self.half.1, "KUDOS:4")] {
            let refunds = self.sandbox.refunds();
            let amounts = refunds
                .iter()
                .filter(|one| one.coin_pub == coin)
                .map(|one| one.amount);
            let sum = quittance_taler::sum("KUDOS".parse().unwrap(), amounts).unwrap();
            assert_eq!(sum, total.parse().unwrap());
        }
        let payment = self.payment.as_ref().unwrap();
        let deposits = self.sandbox.deposits();
        let deposited = |spent: &&Spent| {
            let of_coin = deposits.iter().filter(|one| one.coin_pub == spent.coin.coin_pub);
            let amounts: Vec<Amount> = of_coin.map(|one| one.amount_with_fee).collect();
            amounts == [spent.contribution]
        };
        assert!(
            payment.coins.iter().all(|spent| deposited(&spent)),
            "{deposits:?}"
        );
    }

    async fn take(&mut self, addr: SocketAddr, step: Step) -> Result<Value, Gone> {
        let url = self.sandbox.base_url();
        let (path, body) = match step {
            Step::RecordSold => ("private/ledger/orders", json!({"contract_terms": self.sold.0})),
            Step::RecordHalf => ("private/ledger/orders", json!({"contract_terms": self.half.0})),
            Step::DepositSold | Step::DepositHalf => {
                let is_sold = step == Step::DepositSold;
                let coin = if is_sold { self.sold.1 } else { self.half.1 };
                self.book(coin, usize::from(!is_sold));
                let deposit = json!({"coin_pub": coin, "exchange_url": url, "amount_with_fee": "KUDOS:4",
                                     "deposit_fee": "KUDOS:0", "refund_fee": "KUDOS:0.1"});
                let id = if is_sold { "sold" } else { "half" };
                let body = json!({"deposits": [deposit], "paid": is_sold});
                return self
                    .ask(addr, step, &format!("private/ledger/orders/{id}/deposits"), &body)
                    .await;
            }
            Step::Approve(total) => (
                "private/orders/sold/refund",
                json!({"refund": format!("KUDOS:{total}"), "reason": "returned"}),
            ),
            Step::Fetch(_) => ("orders/sold/refund", json!({"h_contract": self.hashes[0]})),
            Step::Abort => (
                "orders/half/abort",
                json!({"h_contract": self.hashes[1], "coins": [{"coin_pub": self.half.1, "exchange_url": url}]}),
            ),
            Step::Account => ("private/accounts", json!({ "payto_uri": PAYTO })),
            Step::Offer => {
                let order = json!({"order_id": "here", "amount": "KUDOS:5", "max_fee": "KUDOS:1", "summary": "boots",
                                   "fulfillment_message": "thank you"});
                ("private/orders", json!({"order": order, "create_token": false}))
            }
            Step::Claim => ("orders/here/claim", json!({ "nonce": self.sold.1 })),
            Step::Pay => ("orders/here/pay", self.payment.as_ref().unwrap().pay_request("")),
        };
        let body = self.ask(addr, step, path, &body).await?;
        if let Step::RecordSold | Step::RecordHalf = step {
            let hash = serde_json::from_value(body["h_contract"].clone()).unwrap();
            self.hashes[usize::from(step == Step::RecordHalf)] = Some(hash);
        }
        if step == Step::Claim {
            let payment = self.purse.pay(&body["contract_terms"]).unwrap();
            self.payment = Some(payment);
        }
        if let Step::Fetch(total) = step {
            assert_eq!(body["refund_amount"], format!("KUDOS:{total}"));
        }
        Ok(body)
    }

    fn book(&self, coin_pub: CoinPub, order: usize) {
        let deposit = Deposit {
            coin_pub,
            h_contract: self.hashes[order].unwrap(),
            merchant_pub: EddsaPrivateKey::from_bytes(MERCHANT).merchant_pub(),
            amount_with_fee: "KUDOS:4".parse().unwrap(),
            deposit_fee: "KUDOS:0".parse().unwrap(),
            refund_fee: "KUDOS:0.1".parse().unwrap(),
            refund_deadline: None,
        };
        self.sandbox.deposit(deposit).unwrap();
    }

    /// Asks until it is answered. The exchange is well, so all else is the ledger's 500, which takes nothing back later.
    async fn ask(&mut self, addr: SocketAddr, step: Step, path: &str, body: &Value) -> Result<Value, Gone> {
        for _ in 0..TRIES {
            let Reply {
                status,
                receipt,
                body: bytes,
            } = self.caller.post(addr, path, body).await?;
            let text = String::from_utf8_lossy(&bytes);
            let json: Value =
                serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{step:?}: {e}: {text}"));
            if status == 200 {
                if matches!(step, Step::Fetch(_) | Step::Abort) {
                    let receipt: Receipt = receipt.expect("a receipt").parse().unwrap();
                    assert_eq!(receipt.body, answer_digest(&bytes));
                    self.kept.push((receipt, bytes));
                }
                return Ok(json);
            }
            let code = if matches!(step, Step::Fetch(_)) { 53 } else { 52 };
            assert_eq!(
                (status, json["code"].as_u64()),
                (500, Some(code)),
                "{step:?}: {text}"
            );
            assert_eq!(receipt, None);
            self.refused += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{step:?}: the service does not recover");
    }

    /// All that was answered stands in the ledger; gives how much that is. The program must not run.
    pub(crate) fn check(&self, program: &Program) -> usize {
        let events = proof::read(program);
        let has = |wanted: &dyn Fn(&Facts) -> bool| events.values().any(|(_, event)| wanted(&event.facts));
        let is_paid = |id: &str| {
            let is_of = |event: &Event| event.order.as_ref().is_some_and(|order| order.as_str() == id);
            let mut of_order = events.values().filter(|(_, event)| is_of(event));
            of_order.any(|(_, event)| matches!(event.facts, Facts::PaymentCompleted(_)))
        };
        for step in &self.answered {
            let stands = match step {
                Step::RecordSold => {
                    has(&|f| matches!(f, Facts::OrderRecorded(f) if Some(f.h_contract) == self.hashes[0]))
                }
                Step::RecordHalf => {
                    has(&|f| matches!(f, Facts::OrderRecorded(f) if Some(f.h_contract) == self.hashes[1]))
                }
                Step::DepositSold => is_paid("sold"),
                Step::Pay => is_paid("here"),
                Step::Account => has(&|f| matches!(f, Facts::AccountAdded(_))),
                Step::Offer => has(&|f| matches!(f, Facts::OrderCreated(_))),
                Step::Claim => has(&|f| matches!(f, Facts::OrderClaimed(_))),
                Step::DepositHalf => {
                    has(&|f| matches!(f, Facts::DepositRecorded(f) if f.coin_pub == self.half.1))
                }
                Step::Approve(total) => {
                    let total = format!("KUDOS:{total}").parse().unwrap();
                    has(&|f| matches!(f, Facts::RefundApproved(f) if f.total == total))
                }
                // By their receipts.
                Step::Fetch(_) | Step::Abort => true,
            };
            let kinds: Vec<&str> = events.values().map(|(_, event)| event.facts.kind()).collect();
            assert!(stands, "{step:?} was answered and is lost: {kinds:?}");
        }
        for (receipt, _) in &self.kept {
            let (digest, event) = &events[&receipt.seq.get()];
            assert_eq!(*digest, receipt.event, "answer {} is another event", receipt.seq);
            assert_eq!(event.facts.answer_body(), Some(receipt.body));
        }
        self.answered.len() + self.kept.len()
    }
}
