//! Wallets and a shop that do all they can at once, and keep every receipt.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quittance_events::receipt::Receipt;
use quittance_events::seal::answer_digest;
use quittance_sandbox::{Deposit, Fault, FaultError, FaultKind, Sandbox};
use quittance_taler::{CoinPub, HashCode, MerchantPub};
use serde_json::{Value, json};

use crate::Dice;
use crate::caller::{Caller, Gone, Reply};
use crate::sales::Sale;

/// Value of every coin, in KUDOS.
const COIN: u64 = 4;
/// The background's pauses double; with a handful of failures behind it a permission waits so long. And the refund of a coin
/// that may be on its way is not asked for in the first minute.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// What goes wrong next.
pub(crate) fn any_fault(dice: &mut Dice) -> FaultKind {
    match dice.below(5) {
        0 => FaultKind::LostReply,
        1 => FaultKind::Reset,
        2 => FaultKind::Garbage,
        3 => FaultKind::Delay,
        _ => FaultKind::Status {
            status: 503,
            code: 53,
        },
    }
}

#[derive(Clone)]
pub(crate) struct Sold {
    pub(crate) id: String,
    pub(crate) h_contract: HashCode,
    pub(crate) coins: Vec<CoinPub>,
    /// What its coins pay, in KUDOS.
    pub(crate) value: u64,
    /// By the program, and not told to it: a coin may turn out never to have been deposited.
    pub(crate) is_ours: bool,
    /// Paid ones are refunded, others aborted.
    pub(crate) paid: bool,
    /// Approved so far, as far as the shop was answered.
    pub(crate) approved: u64,
}

/// An answer that came with a receipt.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) order: Sold,
    pub(crate) receipt: Receipt,
    pub(crate) body: Vec<u8>,
}

impl Kept {
    /// Every entry is a success, and nothing more can come of the order.
    fn is_final(&self) -> bool {
        !self.order.paid && self.is_settled()
    }

    /// Every coin has its refund, or has none to get.
    fn is_settled(&self) -> bool {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        let is_settled = |entry: &Value| match entry["type"].as_str() {
            Some("undeposited") => self.order.is_ours && !self.order.paid,
            kind => kind == Some("success"),
        };
        body["refunds"].as_array().unwrap().iter().all(is_settled)
    }
}

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    merchant_pub: MerchantPub,
    caller: Caller,
    orders: Mutex<Vec<Sold>>,
    pub(crate) sales: Mutex<Vec<Sale>>,
    kept: Mutex<Vec<Kept>>,
    numbers: AtomicU64,
}

impl World {
    pub(crate) fn new(sandbox: Sandbox, merchant_pub: MerchantPub, token: String) -> World {
        World {
            sandbox,
            merchant_pub,
            caller: Caller::new(token),
            orders: Mutex::default(),
            sales: Mutex::default(),
            kept: Mutex::default(),
            numbers: AtomicU64::new(1),
        }
    }

    pub(crate) fn kept(&self) -> Vec<Kept> {
        self.kept.lock().unwrap().clone()
    }

    pub(crate) fn orders(&self) -> Vec<Sold> {
        self.orders.lock().unwrap().clone()
    }

    pub(crate) fn sales(&self) -> Vec<Sale> {
        self.sales.lock().unwrap().clone()
    }

    /// An order that is to be refunded or aborted; a wallet may learn that what it aborts is paid.
    pub(crate) fn is_sold(&self, sold: Sold) {
        let mut orders = self.orders.lock().unwrap();
        match orders.iter_mut().find(|order| order.id == sold.id) {
            Some(order) => order.paid = sold.paid,
            None => orders.push(sold),
        }
    }

    pub(crate) async fn post(&self, addr: SocketAddr, path: &str, body: &Value) -> Result<Reply, Gone> {
        let reply = self.caller.post(addr, path, body).await?;
        let text = String::from_utf8_lossy(&reply.body);
        assert!(![500, 501, 503].contains(&reply.status), "{path}: {text}");
        Ok(reply)
    }

    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    async fn sell(&self, addr: SocketAddr, dice: &mut Dice) -> Result<(), Gone> {
        let id = format!("order-{}", self.number());
        let paid = dice.below(2) == 0;
        let coins: Vec<CoinPub> = (0..=dice.below(3))
            .map(|_| {
                let mut bytes = [3; 32];
                bytes[..8].copy_from_slice(&self.number().to_be_bytes());
                CoinPub::from_bytes(bytes)
            })
            .collect();
        let value = COIN * u64::try_from(coins.len()).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let exchange_url = self.sandbox.base_url();
        let terms = json!({
            "order_id": id, "amount": format!("KUDOS:{}", if paid { value } else { value + 1 }), "summary": "boots",
            "timestamp": {"t_s": now}, "pay_deadline": {"t_s": now + 600}, "refund_deadline": {"t_s": now + 86_400},
            "wire_transfer_deadline": {"t_s": now + 172_800}, "merchant_pub": self.merchant_pub,
            "merchant_base_url": "https://shop.example/", "products": [],
            "exchanges": [{"url": exchange_url, "master_pub": self.sandbox.master_pub()}],
        });
        let reply = self
            .post(addr, "private/ledger/orders", &json!({ "contract_terms": terms }))
            .await?;
        assert_eq!(reply.status, 200);
        let reply: Value = serde_json::from_slice(&reply.body).unwrap();
        let h_contract: HashCode = serde_json::from_value(reply["h_contract"].clone()).unwrap();
        let amount_with_fee = format!("KUDOS:{COIN}");
        let mut told = Vec::new();
        for coin_pub in &coins {
            let deposit = Deposit {
                coin_pub: *coin_pub,
                h_contract,
                merchant_pub: self.merchant_pub,
                amount_with_fee: amount_with_fee.parse().unwrap(),
                deposit_fee: "KUDOS:0".parse().unwrap(),
                refund_fee: "KUDOS:0.1".parse().unwrap(),
                refund_deadline: None,
            };
            self.sandbox.deposit(deposit).unwrap();
            told.push(
                json!({"coin_pub": coin_pub, "exchange_url": exchange_url, "amount_with_fee": amount_with_fee,
                             "deposit_fee": "KUDOS:0", "refund_fee": "KUDOS:0.1"}),
            );
        }
        let body = json!({ "deposits": told, "paid": paid });
        let reply = self
            .post(addr, &format!("private/ledger/orders/{id}/deposits"), &body)
            .await?;
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        self.orders.lock().unwrap().push(Sold {
            id,
            h_contract,
            coins,
            value,
            is_ours: false,
            paid,
            approved: 0,
        });
        Ok(())
    }

    fn any(&self, paid: bool, dice: &mut Dice) -> Option<Sold> {
        let orders = self.orders.lock().unwrap();
        // Recent ones: those are in the making.
        let recent: Vec<&Sold> = orders
            .iter()
            .rev()
            .filter(|order| order.paid == paid)
            .take(6)
            .collect();
        let index = dice.below(u64::try_from(recent.len()).unwrap().max(1));
        recent
            .get(usize::try_from(index).unwrap())
            .map(|order| (*order).clone())
    }

    async fn approve(&self, addr: SocketAddr, order: &Sold) -> Result<(), Gone> {
        let total = (order.approved + 1).min(order.value);
        let body = json!({ "refund": format!("KUDOS:{total}"), "reason": "returned" });
        let reply = self
            .post(addr, &format!("private/orders/{}/refund", order.id), &body)
            .await?;
        // Another client may have approved more meanwhile.
        assert!(
            [200, 409].contains(&reply.status),
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
        let mut orders = self.orders.lock().unwrap();
        let order = orders.iter_mut().find(|one| one.id == order.id).unwrap();
        order.approved = order.approved.max(total);
        Ok(())
    }

    /// Fetches the order's refunds, or aborts it with all its coins.
    async fn ask(&self, addr: SocketAddr, order: &Sold) -> Result<Option<Kept>, Gone> {
        let (path, body) = if order.paid {
            (
                format!("orders/{}/refund", order.id),
                json!({ "h_contract": order.h_contract }),
            )
        } else {
            let url = self.sandbox.base_url();
            let coins = order
                .coins
                .iter()
                .map(|coin| json!({"coin_pub": coin, "exchange_url": url}));
            let coins: Vec<Value> = coins.collect();
            (
                format!("orders/{}/abort", order.id),
                json!({ "h_contract": order.h_contract, "coins": coins }),
            )
        };
        let Reply {
            status,
            receipt,
            body,
        } = self.post(addr, &path, &body).await?;
        let text = String::from_utf8_lossy(&body);
        assert!(
            status == 200 || !order.paid && [408, 412, 502, 504].contains(&status),
            "{path}: {status} {text}"
        );
        if status != 200 {
            assert_eq!(receipt, None);
            if status == 412 {
                self.was_paid(addr, order).await?;
            }
            return Ok(None);
        }
        let receipt: Receipt = receipt.expect("a receipt").parse().unwrap();
        assert_eq!(receipt.body, answer_digest(&body));
        let kept = Kept {
            order: order.clone(),
            receipt,
            body,
        };
        self.kept.lock().unwrap().push(kept.clone());
        Ok(Some(kept))
    }

    /// The next request for one of the order's coins goes wrong.
    fn fail(&self, order: &Sold, dice: &mut Dice) {
        let kind = any_fault(dice);
        let coin = usize::try_from(dice.below(u64::try_from(order.coins.len()).unwrap())).unwrap();
        let (coin_pub, delay) = (Some(order.coins[coin]), Duration::from_millis(dice.below(60)));
        let planned = self.sandbox.fault(Fault {
            coin_pub,
            delay,
            ..Fault::new(kind)
        });
        // Faults of coins that nobody asks for again pile up, and the exchange keeps so many; enough are planned then.
        assert!(
            matches!(planned, Ok(()) | Err(FaultError::TooMany)),
            "{planned:?}"
        );
    }

    /// Does this and that until the program is gone.
    pub(crate) async fn load(&self, addr: SocketAddr, mut dice: Dice) {
        loop {
            let done = match dice.below(15) {
                0..=2 => self.sell(addr, &mut dice).await,
                10..=11 => self.offer(addr).await,
                12..=14 => match self.any_sale(&mut dice) {
                    Some(sale) if dice.below(6) == 0 => {
                        self.give_up(&sale);
                        Ok(())
                    }
                    Some(sale) => {
                        if dice.below(4) == 0 {
                            self.fail_deposit(&sale, &mut dice);
                        }
                        self.pay(addr, &sale).await.map(drop)
                    }
                    None => Ok(()),
                },
                3..=4 => match self.any(true, &mut dice) {
                    Some(order) => self.approve(addr, &order).await,
                    None => Ok(()),
                },
                what => match self.any(what < 8, &mut dice) {
                    Some(order) => {
                        if dice.below(4) == 0 {
                            self.fail(&order, &mut dice);
                        }
                        self.ask(addr, &order).await.map(drop)
                    }
                    None => Ok(()),
                },
            };
            if let Err(Gone) = done {
                return;
            }
        }
    }

    /// Asks again for answers of before; those that cannot have changed are the same to the last byte. Gives how many.
    pub(crate) async fn ask_again(&self, addr: SocketAddr, dice: &mut Dice) -> u64 {
        let mut last: HashMap<String, Kept> = HashMap::new();
        for kept in self.kept() {
            match last.get(&kept.order.id) {
                Some(later) if later.receipt.seq > kept.receipt.seq => {}
                _ => drop(last.insert(kept.order.id.clone(), kept)),
            }
        }
        let mut last: Vec<Kept> = last.into_values().collect();
        last.sort_by_key(|kept| kept.receipt.seq);
        let mut same = 0;
        // The latest are those that the kill may have hit.
        for before in last
            .iter()
            .rev()
            .take(20 + usize::try_from(dice.below(20)).unwrap())
        {
            let Some(now) = self.ask(addr, &before.order).await.expect("it runs") else {
                panic!(
                    "{} was answered once with a decided coin and now is not",
                    before.order.id
                );
            };
            assert!(now.receipt.seq >= before.receipt.seq, "an answer of the past");
            if before.is_final() || now.receipt.seq == before.receipt.seq {
                assert_eq!(
                    (&now.body, &now.receipt),
                    (&before.body, &before.receipt),
                    "{}",
                    before.order.id
                );
                same += 1;
            }
        }
        same
    }

    /// Waits until every order is settled with the exchange.
    pub(crate) async fn finish(&self, addr: SocketAddr) {
        self.finish_sales(addr).await;
        let begun = Instant::now();
        let mut open = self.orders();
        loop {
            let mut still = Vec::new();
            for order in open {
                let kept = self.ask(addr, &order).await.expect("it runs");
                if !kept.is_some_and(|kept| kept.is_settled()) {
                    let now = self.orders().into_iter().find(|one| one.id == order.id);
                    still.push(now.unwrap());
                }
            }
            if still.is_empty() {
                return;
            }
            let ids: Vec<&str> = still.iter().map(|order| order.id.as_str()).collect();
            assert!(begun.elapsed() < PATIENCE, "still open: {ids:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
            open = still;
        }
    }
}
