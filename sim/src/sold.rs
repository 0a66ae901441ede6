//! Orders that the service sells by itself: what the shop offers, and the wallets that compete for it. All of them have
//! the contract, as restored backups of one wallet have; each has coins of its own.

use quittance_sandbox::{Direct, Payment, Purse};
use quittance_taler::{Amount, ClaimNonce, CoinPub};
use serde_json::{Value, json};

use crate::orders::{Coin, kudos};
use crate::rng::Rng;

/// What is beside an order's price in a purse, for the fees of a few coins.
const FOR_FEES: u64 = 100;

#[derive(Debug, Clone)]
pub(crate) struct Sold {
    /// The body of `POST private/orders`.
    pub(crate) offer: Value,
    pub(crate) nonce: ClaimNonce,
    purses: Vec<Purse>,
    /// Of each wallet, once the contract is there.
    pub(crate) payments: Vec<Payment>,
}

fn amount(cents: u64) -> Amount {
    kudos(cents).parse().expect("an amount")
}

impl Sold {
    /// One wallet has coins of one exchange, the other of both.
    pub(crate) fn new(rng: &mut Rng, id: &str, price: u64, now_s: u64, exchanges: &[Direct]) -> Sold {
        let withdraw = |exchange: usize, cents| {
            let purse = exchanges[exchange].withdraw(amount(cents));
            purse.expect("whole hundredths are withdrawn")
        };
        let first = rng.index(exchanges.len());
        let mut halves = withdraw(0, price / 2);
        halves.join(withdraw(1, price + FOR_FEES));
        let pay_s = now_s + rng.of(&[300, 4_000, 200_000]);
        let wire_s = pay_s + rng.of(&[10, 4_000, 90_000]);
        let offer = json!({
            "create_token": false,
            "order": {
                "order_id": id, "amount": kudos(price), "summary": "boots", "fulfillment_message": "thanks",
                "pay_deadline": {"t_s": pay_s}, "refund_deadline": {"t_s": pay_s},
                "wire_transfer_deadline": {"t_s": wire_s},
            },
        });
        Sold {
            offer,
            nonce: ClaimNonce::from_bytes(rng.bytes()),
            purses: vec![withdraw(first, price + FOR_FEES), halves],
            payments: Vec::new(),
        }
    }

    /// The contract has come; gives the coins that may pay it.
    pub(crate) fn claimed(&mut self, terms: &Value, exchanges: &[Direct]) -> Vec<Coin> {
        self.payments = self
            .purses
            .iter()
            .map(|purse| purse.clone().pay(terms).expect("a purse holds enough"))
            .collect();
        let spent = self.payments.iter().flat_map(|payment| &payment.coins);
        spent
            .map(|spent| Coin {
                key: spent.coin.coin_pub,
                value: 0,
                fee: 0,
                exchange: exchanges
                    .iter()
                    .position(|exchange| exchange.base_url() == spent.coin.exchange_url)
                    .expect("coins are of these exchanges"),
                at_exchange: true,
            })
            .collect()
    }

    /// The coins of one wallet.
    pub(crate) fn coins(&self, wallet: usize) -> Vec<CoinPub> {
        let payment = self.payments.get(wallet);
        payment.map_or(Vec::new(), |payment| {
            payment.coins.iter().map(|spent| spent.coin.coin_pub).collect()
        })
    }
}
