//! The orders of a run, as those outside know them: contracts, coins, what was deposited where, and what a shop or a
//! wallet may ask next. Knows nothing of what the service has recorded.

use quittance_sandbox::{Deposit, Direct};
use quittance_taler::{CoinPub, EddsaPrivateKey, HashCode, MerchantPub, contract_hash};
use serde_json::{Value, json};

use crate::network::short;
use crate::rng::Rng;
use crate::sold::Sold;

/// Units of money in this crate: hundredths.
pub(crate) type Cents = u64;

pub(crate) fn kudos(cents: Cents) -> String {
    format!("KUDOS:{}.{:02}", cents / 100, cents % 100)
}

/// A coin of an order.
#[derive(Debug, Clone)]
pub(crate) struct Coin {
    pub(crate) key: CoinPub,
    pub(crate) value: Cents,
    pub(crate) fee: Cents,
    pub(crate) exchange: usize,
    pub(crate) at_exchange: bool,
}

impl Coin {
    fn new(rng: &mut Rng, value: Cents, exchanges: usize) -> Coin {
        let key = EddsaPrivateKey::from_bytes(rng.bytes()).public_bytes();
        Coin {
            key: CoinPub::from_bytes(key),
            value,
            fee: *rng.of(&[0, 0, 2, 20]),
            exchange: rng.index(exchanges),
            at_exchange: false,
        }
    }
}

/// An order.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) terms: Value,
    pub(crate) h_contract: HashCode,
    pub(crate) price: Cents,
    /// The first ones pay the price together; one more may come too late.
    pub(crate) coins: Vec<Coin>,
    /// The shop may have told of refunds made elsewhere.
    pub(crate) carried_in: bool,
    /// Where the service sells it; the contract and its coins are there once it is claimed.
    pub(crate) sold: Option<Sold>,
}

/// What a client asks for.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// The shop tells of the order.
    Record,
    /// The shop tells of deposits.
    Deposits { coins: Vec<CoinPub>, paid: bool },
    /// The shop approves a total.
    Approve(Cents),
    /// A wallet fetches refunds.
    Fetch,
    /// A wallet aborts.
    Abort(Vec<CoinPub>),
    /// The shop offers the order.
    Offer,
    /// A wallet claims it.
    Claim,
    /// A wallet pays it.
    Pay(usize),
}

/// A request as it goes out.
pub(crate) struct Sent {
    pub(crate) wish: Wish,
    pub(crate) private: bool,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    pub(crate) text: String,
    /// It tells of refunds made elsewhere.
    pub(crate) carries_in: bool,
}

impl Order {
    pub(crate) fn new(
        rng: &mut Rng,
        number: usize,
        now_s: u64,
        merchant_pub: MerchantPub,
        exchanges: &[Direct],
    ) -> Order {
        let count = 1 + rng.index(3);
        let mut coins: Vec<Coin> = (0..count)
            .map(|_| {
                let value = 50 + rng.below(1000);
                Coin::new(rng, value, exchanges.len())
            })
            .collect();
        let price = coins.iter().map(|coin| coin.value).sum();
        if rng.percent(30) {
            let value = 50 + rng.below(1000);
            coins.push(Coin::new(rng, value, exchanges.len()));
        }
        let wire_s = now_s + rng.of(&[30, 300, 4_000, 90_000, 172_800]);
        let refund_s = if rng.percent(4) { now_s } else { wire_s - 10 };
        let id = format!("order-{number}");
        let listed: Vec<Value> = exchanges
            .iter()
            .map(|exchange| json!({"url": exchange.base_url(), "master_pub": exchange.master_pub()}))
            .collect();
        let terms = json!({
            "order_id": id, "amount": kudos(price), "summary": "boots", "timestamp": {"t_s": now_s},
            "pay_deadline": {"t_s": now_s + 600}, "refund_deadline": {"t_s": refund_s},
            "wire_transfer_deadline": {"t_s": wire_s}, "merchant_pub": merchant_pub,
            "merchant_base_url": "https://shop.example/", "products": [], "exchanges": listed,
        });
        let h_contract = contract_hash(&terms).expect("these are contract terms");
        Order {
            id,
            terms,
            h_contract,
            price,
            coins,
            carried_in: false,
            sold: None,
        }
    }

    /// An order that the service sells.
    pub(crate) fn sold(rng: &mut Rng, number: usize, now_s: u64, exchanges: &[Direct]) -> Order {
        let id = format!("sold-{number}");
        let price = 100 * (1 + rng.below(7)) + 10 * rng.below(3);
        let sold = Sold::new(rng, &id, price, now_s, exchanges);
        Order {
            id,
            terms: Value::Null,
            h_contract: HashCode::from_bytes([0; 64]),
            price,
            coins: Vec::new(),
            carried_in: false,
            sold: Some(sold),
        }
    }

    /// Its contract has come.
    pub(crate) fn claimed(&mut self, terms: &Value, exchanges: &[Direct]) {
        let Some(sold) = &mut self.sold else { return };
        self.coins = sold.claimed(terms, exchanges);
        self.h_contract = contract_hash(terms).expect("these are contract terms");
        self.terms = terms.clone();
    }

    pub(crate) fn coin(&self, key: &CoinPub) -> Option<&Coin> {
        self.coins.iter().find(|coin| coin.key == *key)
    }

    /// The wallet deposits a coin. Gives a word on it.
    pub(crate) fn deposit(
        &mut self,
        index: usize,
        exchanges: &[Direct],
        merchant_pub: MerchantPub,
    ) -> String {
        let coin = &mut self.coins[index];
        let deposit = Deposit {
            coin_pub: coin.key,
            h_contract: self.h_contract,
            merchant_pub,
            amount_with_fee: kudos(coin.value).parse().expect("an amount"),
            deposit_fee: kudos(coin.fee).parse().expect("an amount"),
            refund_fee: kudos(coin.fee).parse().expect("an amount"),
            refund_deadline: serde_json::from_value::<quittance_taler::TalerTimestamp>(
                self.terms["refund_deadline"].clone(),
            )
            .map(|time| time.0)
            .ok(),
        };
        exchanges[coin.exchange]
            .deposit(deposit)
            .expect("no coin is deposited in two ways");
        coin.at_exchange = true;
        format!(
            "coin {} of {} is deposited",
            short(&coin.key.to_string()),
            self.id
        )
    }

    /// What somebody asks next.
    pub(crate) fn wish(&self, rng: &mut Rng, recorded: bool) -> Wish {
        if let Some(sold) = &self.sold {
            return self.wish_of_sold(sold, rng);
        }
        if !recorded && rng.percent(90) {
            return Wish::Record;
        }
        match rng.weighted(&[3, 30, 20, 30, 17]) {
            Some(0) => Wish::Record,
            Some(1) => {
                let mut told: Vec<&Coin> = self.coins.iter().filter(|coin| coin.at_exchange).collect();
                if rng.percent(20) {
                    told.retain(|_| rng.percent(60));
                }
                if rng.percent(3) {
                    // A shop that errs: the exchange knows nothing of it.
                    told = self.coins.iter().collect();
                }
                let sum: Cents = told.iter().map(|coin| coin.value).sum();
                let paid = if sum >= self.price {
                    rng.percent(75)
                } else {
                    rng.percent(5)
                };
                let coins = told.iter().map(|coin| coin.key).collect();
                Wish::Deposits { coins, paid }
            }
            Some(2) => {
                let total = match rng.below(6) {
                    0 => self.price,
                    1 => self.price + 1 + rng.below(200),
                    _ => 1 + rng.below(self.price),
                };
                Wish::Approve(total)
            }
            Some(3) => Wish::Fetch,
            _ => {
                let mut coins: Vec<CoinPub> = self.coins.iter().map(|coin| coin.key).collect();
                coins.retain(|_| rng.percent(60));
                if rng.percent(10) {
                    coins.push(CoinPub::from_bytes(
                        EddsaPrivateKey::from_bytes(rng.bytes()).public_bytes(),
                    ));
                }
                if coins.is_empty() {
                    coins.push(self.coins[0].key);
                }
                Wish::Abort(coins)
            }
        }
    }

    fn wish_of_sold(&self, sold: &Sold, rng: &mut Rng) -> Wish {
        if sold.payments.is_empty() {
            return if rng.percent(40) { Wish::Offer } else { Wish::Claim };
        }
        let wallet = rng.index(sold.payments.len());
        match rng.weighted(&[45, 25, 10, 15, 3, 2]) {
            Some(0) => Wish::Pay(wallet),
            Some(1) => {
                let mut coins = sold.coins(wallet);
                if rng.percent(20) {
                    coins.truncate(1);
                }
                Wish::Abort(coins)
            }
            Some(2) => Wish::Approve(1 + rng.below(self.price)),
            Some(3) => Wish::Fetch,
            Some(4) => Wish::Claim,
            _ => Wish::Offer,
        }
    }

    /// The request that says it.
    #[expect(clippy::too_many_lines, reason = "one arm a wish: read as a table")]
    pub(crate) fn send(&self, wish: Wish, rng: &mut Rng, exchanges: &[Direct], now_s: u64) -> Sent {
        let id = &self.id;
        let names = |coins: &[CoinPub]| {
            let names: Vec<String> = coins
                .iter()
                .map(|coin| short(&coin.to_string()).to_owned())
                .collect();
            names.join(" ")
        };
        let (private, path, body, text) = match &wish {
            Wish::Record => (
                true,
                "/private/ledger/orders".to_owned(),
                json!({ "contract_terms": self.terms }),
                format!("the shop tells of {id}, {}", kudos(self.price)),
            ),
            Wish::Deposits { coins, paid } => {
                let mut refunds = Vec::new();
                if *paid && rng.percent(8) {
                    let coin = &self.coins[0];
                    let amount = kudos(coin.fee.max(1) + rng.below(coin.value - coin.fee.max(1)));
                    refunds.push(json!({
                        "coin_pub": coin.key, "rtransaction_id": 1 + rng.below(3), "amount": amount,
                        "execution_time": {"t_s": now_s - 10_000},
                    }));
                }
                let told = |key| {
                    let coin = self.coin(key).expect("a shop tells of the order's coins alone");
                    json!({
                        "coin_pub": coin.key, "exchange_url": exchanges[coin.exchange].base_url(),
                        "amount_with_fee": kudos(coin.value), "deposit_fee": kudos(coin.fee),
                        "refund_fee": kudos(coin.fee),
                    })
                };
                let deposits: Vec<Value> = coins.iter().map(told).collect();
                let text = format!(
                    "the shop tells of deposits of {id} ({}), paid {paid}, {} refunds made elsewhere",
                    names(coins),
                    refunds.len()
                );
                (
                    true,
                    format!("/private/ledger/orders/{id}/deposits"),
                    json!({ "deposits": deposits, "paid": paid, "refunds": refunds }),
                    text,
                )
            }
            Wish::Approve(total) => (
                true,
                format!("/private/orders/{id}/refund"),
                json!({ "refund": kudos(*total), "reason": "returned" }),
                format!("the shop approves {} of {id}", kudos(*total)),
            ),
            Wish::Fetch => (
                false,
                format!("/orders/{id}/refund"),
                json!({ "h_contract": self.h_contract }),
                format!("a wallet fetches the refunds of {id}"),
            ),
            Wish::Offer => {
                let offer = self.sold.as_ref().map_or(Value::Null, |sold| sold.offer.clone());
                let text = format!("the shop offers {id} for {}", kudos(self.price));
                (true, "/private/orders".to_owned(), offer, text)
            }
            Wish::Claim => {
                let nonce = self.sold.as_ref().map(|sold| sold.nonce);
                let text = format!("a wallet claims {id}");
                (
                    false,
                    format!("/orders/{id}/claim"),
                    json!({ "nonce": nonce }),
                    text,
                )
            }
            Wish::Pay(wallet) => {
                let payment = self.sold.as_ref().and_then(|sold| sold.payments.get(*wallet));
                let body = payment.map_or(Value::Null, |payment| payment.pay_request(""));
                let coins = self.sold.as_ref().map_or(Vec::new(), |sold| sold.coins(*wallet));
                let text = format!("wallet {wallet} pays {id} ({})", names(&coins));
                (false, format!("/orders/{id}/pay"), body, text)
            }
            Wish::Abort(coins) => {
                let listed: Vec<Value> = coins
                    .iter()
                    .map(|coin| json!({"coin_pub": coin, "exchange_url": exchanges[0].base_url()}))
                    .collect();
                (
                    false,
                    format!("/orders/{id}/abort"),
                    json!({ "h_contract": self.h_contract, "coins": listed }),
                    format!("a wallet aborts {id} ({})", names(coins)),
                )
            }
        };
        Sent {
            carries_in: body["refunds"]
                .as_array()
                .is_some_and(|refunds| !refunds.is_empty()),
            wish,
            private,
            path,
            body: body.to_string().into_bytes(),
            text,
        }
    }
}
