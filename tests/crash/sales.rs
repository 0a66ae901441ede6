//! Orders that the program sells by itself: made, claimed, and paid with coins that the exchange signed, by wallets that
//! pay again after a kill until they are told, or abort what they do not know to be paid.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quittance_sandbox::{Fault, FaultError, FaultPath, Payment};
use quittance_taler::HashCode;
use serde_json::{Value, json};

use crate::Dice;
use crate::caller::Gone;
use crate::load::{PATIENCE, Sold, World, any_fault};

/// What an order costs, in KUDOS; the merchant bears the deposit fees.
const PRICE: u64 = 5;

#[derive(Clone)]
pub(crate) struct Sale {
    pub(crate) id: String,
    pub(crate) h_contract: HashCode,
    pub(crate) payment: Payment,
    pub(crate) state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// The wallet has the contract; it may have paid and not know it.
    Claimed,
    /// The wallet gave up and will not pay any more.
    Aborting,
    /// With the merchant's signature (1104).
    Paid(Value),
}

impl World {
    /// Makes an order and claims it.
    pub(crate) async fn offer(&self, addr: SocketAddr) -> Result<(), Gone> {
        let id = format!("sale-{}", self.number());
        let order = json!({"order_id": id, "amount": format!("KUDOS:{PRICE}"), "max_fee": "KUDOS:1",
                           "summary": "boots", "fulfillment_message": "thank you"});
        let request =
            json!({"order": order, "refund_delay": {"d_us": 86_400_000_000_u64}, "create_token": false});
        let made = self.post(addr, "private/orders", &request).await?;
        assert_eq!(made.status, 200, "{}", String::from_utf8_lossy(&made.body));
        let mut purse = self
            .sandbox
            .withdraw(format!("KUDOS:{PRICE}").parse().unwrap())
            .unwrap();
        // The wallet's key is as good as any other number that is used once.
        let nonce = purse.coins().next().unwrap().coin_pub;
        let claim = self
            .post(addr, &format!("orders/{id}/claim"), &json!({"nonce": nonce}))
            .await?;
        assert_eq!(claim.status, 200, "{}", String::from_utf8_lossy(&claim.body));
        let claimed: Value = serde_json::from_slice(&claim.body).unwrap();
        let payment = purse.pay(&claimed["contract_terms"]).unwrap();
        self.sales.lock().unwrap().push(Sale {
            id,
            h_contract: payment.terms.h_contract,
            payment,
            state: State::Claimed,
        });
        Ok(())
    }

    /// One of the latest, which are in the making.
    pub(crate) fn any_sale(&self, dice: &mut Dice) -> Option<Sale> {
        let sales = self.sales.lock().unwrap();
        let recent = sales.len().min(6);
        let back = usize::try_from(dice.below(u64::try_from(recent).unwrap().max(1))).unwrap();
        sales.iter().rev().nth(back).cloned()
    }

    /// Pays, once more where the wallet has paid already. Gives whether it is known now how it ended.
    pub(crate) async fn pay(&self, addr: SocketAddr, sale: &Sale) -> Result<bool, Gone> {
        let path = format!("orders/{}/pay", sale.id);
        let reply = self.post(addr, &path, &sale.payment.pay_request("")).await?;
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        match (reply.status, body["code"].as_u64()) {
            (200, _) => self.is_paid(&sale.id, &body["sig"]),
            // Another client of this test has aborted it, or has refunded it.
            (402, Some(2167)) => assert_eq!(self.state(&sale.id), State::Aborting),
            (409, Some(2190)) => assert!(matches!(self.state(&sale.id), State::Paid(_))),
            (502 | 504, _) => return Ok(false),
            _ => panic!("{path}: {} {body}", reply.status),
        }
        Ok(true)
    }

    fn state(&self, id: &str) -> State {
        let sales = self.sales.lock().unwrap();
        sales.iter().find(|sale| sale.id == id).unwrap().state.clone()
    }

    /// The wallet has the merchant's signature, always the same one; from now on it can be refunded.
    fn is_paid(&self, id: &str, sig: &Value) {
        assert!(sig.is_string());
        let mut sales = self.sales.lock().unwrap();
        let sale = sales.iter_mut().find(|sale| sale.id == id).unwrap();
        if let State::Paid(before) = &sale.state {
            assert_eq!(before, sig, "{id} is paid with two signatures");
            return;
        }
        // A wallet that gave up while another request of its own was under way may hear that it has paid after all.
        sale.state = State::Paid(sig.clone());
        let sold = sale.sold(true);
        drop(sales);
        self.is_sold(sold);
    }

    /// The wallet gives up, if it has not heard that it paid. From now on the order is aborted again and again.
    pub(crate) fn give_up(&self, sale: &Sale) {
        let mut sales = self.sales.lock().unwrap();
        let sale = sales.iter_mut().find(|one| one.id == sale.id).unwrap();
        if sale.state == State::Claimed {
            sale.state = State::Aborting;
            let sold = sale.sold(false);
            drop(sales);
            self.is_sold(sold);
        }
    }

    /// The abort was told that the order is paid: the wallet asks for its signature.
    pub(crate) async fn was_paid(&self, addr: SocketAddr, order: &Sold) -> Result<(), Gone> {
        let sale = self
            .sales
            .lock()
            .unwrap()
            .iter()
            .find(|sale| sale.id == order.id)
            .cloned();
        let sale = sale.expect("no order that was told as unpaid becomes paid");
        assert!(self.pay(addr, &sale).await?, "{} is paid, and is not", sale.id);
        assert!(matches!(self.state(&sale.id), State::Paid(_)));
        Ok(())
    }

    /// The next deposit of one of its coins goes wrong.
    pub(crate) fn fail_deposit(&self, sale: &Sale, dice: &mut Dice) {
        let planned = self.sandbox.fault(Fault {
            path: FaultPath::Deposit,
            coin_pub: Some(sale.payment.coins[0].coin.coin_pub),
            delay: Duration::from_millis(dice.below(60)),
            ..Fault::new(any_fault(dice))
        });
        assert!(
            matches!(planned, Ok(()) | Err(FaultError::TooMany)),
            "{planned:?}"
        );
    }

    /// Every wallet hears how its payment ended.
    pub(crate) async fn finish_sales(&self, addr: SocketAddr) {
        let begun = Instant::now();
        for sale in self.sales() {
            while self.state(&sale.id) == State::Claimed {
                self.pay(addr, &sale).await.expect("it runs");
                assert!(begun.elapsed() < PATIENCE, "{} is not paid", sale.id);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

impl Sale {
    fn sold(&self, paid: bool) -> Sold {
        Sold {
            id: self.id.clone(),
            h_contract: self.h_contract,
            coins: self
                .payment
                .coins
                .iter()
                .map(|spent| spent.coin.coin_pub)
                .collect(),
            value: PRICE,
            is_ours: true,
            paid,
            approved: 0,
        }
    }
}
