//! A wallet, as far as a shop notices one: coins, which of them pay a contract, the signatures by which they are
//! spent (1201), and the bodies of the requests to pay and to abort, as wallet-core of 2022 was recorded to make them.
//! Never sends anything.
//!
//! It does not refresh: what is left of a coin is spent as the same coin, which real wallets do not do. A clone is
//! a restored backup: both spend the same coins, and the exchange finds out.

use std::sync::Arc;

use quittance_taler::denomination::CoinSignature;
use quittance_taler::deposit::{DepositLayout, DepositTerms, DepositedCoin};
use quittance_taler::payment::PaymentTerms;
use quittance_taler::{
    Amount, AmountError, CoinPub, ContractError, EddsaPrivateKey, EddsaSignature, HashCode,
};
use serde_json::{Value, json};

use crate::keys::{Keys, Protocol, derive_private};

/// The most coins that are made at once: more than any payment has.
const MAX_WITHDRAWN: u128 = 1000;

/// A coin and its private key.
#[derive(Debug)]
pub struct Coin {
    private: EddsaPrivateKey,
    /// The coin.
    pub coin_pub: CoinPub,
    /// The hash of its denomination's key.
    pub h_denom: HashCode,
    /// Its denomination's signature.
    pub ub_sig: CoinSignature,
    /// What it is worth when fresh.
    pub value: Amount,
    /// What the exchange keeps of each deposit.
    pub deposit_fee: Amount,
    /// What the exchange keeps of each refund.
    pub refund_fee: Amount,
    /// Its exchange, as contracts name it.
    pub exchange_url: String,
}

/// Why no coins were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WithdrawError {
    /// In another currency, or not of whole hundredths.
    #[error("no coins make up this amount")]
    Amount,
    /// More than a thousand.
    #[error("more coins than a purse holds")]
    TooMany,
}

/// Why a purse does not pay.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PurseError {
    /// The contract terms are none that can be paid.
    #[error("these contract terms cannot be paid: {0}")]
    Contract(#[from] ContractError),
    /// Amounts are of different currencies, or beyond what amounts can be.
    #[error("the amounts do not add up: {0}")]
    Amount(#[from] AmountError),
    /// The coins of the contract's exchanges are not enough.
    #[error("the purse does not hold enough")]
    NotEnough,
}

/// Coins, of one exchange or several.
#[derive(Clone, Debug, Default)]
pub struct Purse {
    coins: Vec<Held>,
}

#[derive(Clone, Debug)]
struct Held {
    coin: Arc<Coin>,
    left: Amount,
    layout: DepositLayout,
}

/// A coin's part in a payment.
#[derive(Clone, Debug)]
pub struct Spent {
    /// The coin.
    pub coin: Arc<Coin>,
    /// What it pays, the deposit fee included.
    pub contribution: Amount,
    /// Its permission (1201).
    pub coin_sig: EddsaSignature,
}

/// A payment that is ready to be sent, any number of times.
#[derive(Clone, Debug)]
pub struct Payment {
    /// What all of its deposits have in common.
    pub terms: DepositTerms,
    /// The coins, in the order of the request.
    pub coins: Vec<Spent>,
}

impl Coin {
    /// Permits a deposit in that layout.
    #[must_use]
    pub fn permit(
        &self,
        terms: &DepositTerms,
        contribution: Amount,
        layout: DepositLayout,
    ) -> EddsaSignature {
        let unsigned = DepositedCoin {
            coin_pub: self.coin_pub,
            h_denom: self.h_denom,
            h_age_commitment: None,
            amount_with_fee: contribution,
            deposit_fee: self.deposit_fee,
            coin_sig: EddsaSignature::from_bytes([0; 64]),
        };
        match layout {
            DepositLayout::PerCoin => self.private.sign(&terms.coin_message_2022(&unsigned)),
            DepositLayout::PerBatch => self.private.sign(&terms.coin_message_2023(&unsigned)),
        }
    }
}

impl Purse {
    /// Makes coins of the current denominations, the greatest first, whose keys follow from the exchange's seed and
    /// their number.
    pub(crate) fn withdrawn(
        keys: &Keys,
        exchange_url: &str,
        amount: Amount,
        made: &mut u64,
    ) -> Result<Purse, WithdrawError> {
        let mut purse = Purse::default();
        let mut rest = amount.units();
        let denominations = keys.denominations.current();
        if denominations
            .iter()
            .any(|kind| kind.value.currency() != amount.currency())
        {
            return Err(WithdrawError::Amount);
        }
        let mut planned = Vec::new();
        for denomination in denominations {
            let count = rest / denomination.value.units();
            rest %= denomination.value.units();
            planned.push((denomination, count));
        }
        if rest != 0 {
            return Err(WithdrawError::Amount);
        }
        if planned.iter().map(|(_, count)| count).sum::<u128>() > MAX_WITHDRAWN {
            return Err(WithdrawError::TooMany);
        }
        for (denomination, count) in planned {
            for _ in 0..count {
                let private = derive_private(keys.seed(), "coin", *made);
                *made += 1;
                let coin_pub = CoinPub::from_bytes(private.public_bytes());
                let coin = Coin {
                    private,
                    coin_pub,
                    h_denom: denomination.h_denom,
                    ub_sig: denomination.sign(&coin_pub),
                    value: denomination.value,
                    deposit_fee: denomination.fee_deposit,
                    refund_fee: denomination.fee_refund,
                    exchange_url: exchange_url.to_owned(),
                };
                purse.coins.push(Held {
                    left: coin.value,
                    coin: Arc::new(coin),
                    layout: keys.protocol.deposit_layout(),
                });
            }
        }
        Ok(purse)
    }

    /// The coins, spent ones too.
    pub fn coins(&self) -> impl Iterator<Item = &Arc<Coin>> {
        self.coins.iter().map(|held| &held.coin)
    }

    /// Takes another purse's coins.
    pub fn join(&mut self, other: Purse) {
        self.coins.extend(other.coins);
    }

    /// Signs for exchanges that speak this protocol from now on.
    pub fn speak(&mut self, protocol: Protocol) {
        for held in &mut self.coins {
            held.layout = protocol.deposit_layout();
        }
    }

    /// Pays contract terms with the first coins that do, of the exchanges that the terms name: the amount, and the
    /// deposit fees beyond what the merchant bears.
    pub fn pay(&mut self, contract_terms: &Value) -> Result<Payment, PurseError> {
        let terms = PaymentTerms::read(contract_terms)?;
        let (amount, currency) = (terms.contract.amount.units(), terms.contract.amount.currency());
        let max_fee = contract_terms["max_fee"].as_str().unwrap_or_default();
        let max_fee = max_fee.parse::<Amount>()?.units();
        let (mut paid, mut fees, mut spends) = (0, 0, Vec::new());
        let needed = |fees: u128| amount + fees.saturating_sub(max_fee);
        for (at, held) in self.coins.iter().enumerate() {
            if paid >= needed(fees) {
                break;
            }
            let exchanges = &terms.contract.exchanges;
            let (left, fee) = (held.left.units(), held.coin.deposit_fee.units());
            // A coin whose fee takes all of it is of no use.
            if left <= fee
                || held.left.currency() != currency
                || exchanges
                    .iter()
                    .all(|exchange| exchange.url != held.coin.exchange_url)
            {
                continue;
            }
            fees += fee;
            let contribution = (needed(fees) - paid).min(left).max(fee);
            paid += contribution;
            spends.push((at, Amount::from_units(currency, contribution)?));
        }
        if paid < needed(fees) {
            return Err(PurseError::NotEnough);
        }
        self.spend(&terms, &spends)
    }

    /// Pays contract terms with these parts of these coins, by their place in the purse, whether that is enough or not.
    pub fn pay_with(
        &mut self,
        contract_terms: &Value,
        spends: &[(usize, Amount)],
    ) -> Result<Payment, PurseError> {
        self.spend(&PaymentTerms::read(contract_terms)?, spends)
    }

    fn spend(&mut self, terms: &PaymentTerms, spends: &[(usize, Amount)]) -> Result<Payment, PurseError> {
        let deposit_terms = terms.deposit_terms(None);
        let mut lefts = Vec::new();
        let mut coins = Vec::new();
        for (at, contribution) in spends {
            let held = self.coins.get(*at).ok_or(PurseError::NotEnough)?;
            lefts.push((*at, held.left.checked_sub(*contribution)?));
            coins.push(Spent {
                coin: Arc::clone(&held.coin),
                contribution: *contribution,
                coin_sig: held.coin.permit(&deposit_terms, *contribution, held.layout),
            });
        }
        for (at, left) in lefts {
            self.coins[at].left = left;
        }
        Ok(Payment {
            terms: deposit_terms,
            coins,
        })
    }
}

impl Spent {
    fn deposited(&self) -> DepositedCoin {
        DepositedCoin {
            coin_pub: self.coin.coin_pub,
            h_denom: self.coin.h_denom,
            h_age_commitment: None,
            amount_with_fee: self.contribution,
            deposit_fee: self.coin.deposit_fee,
            coin_sig: self.coin_sig,
        }
    }
}

impl Payment {
    /// The body of `POST orders/$ID/pay`.
    #[must_use]
    pub fn pay_request(&self, session_id: &str) -> Value {
        let coin = |spent: &Spent| {
            json!({
                "coin_pub": spent.coin.coin_pub,
                "coin_sig": spent.coin_sig,
                "contribution": spent.contribution,
                "h_denom": spent.coin.h_denom,
                "exchange_url": spent.coin.exchange_url,
                "ub_sig": spent.coin.ub_sig,
            })
        };
        json!({ "coins": self.coins.iter().map(coin).collect::<Vec<_>>(), "session_id": session_id })
    }

    /// The body of `POST orders/$ID/abort`, for all coins.
    #[must_use]
    pub fn abort_request(&self) -> Value {
        let coin = |spent: &Spent| {
            json!({
                "coin_pub": spent.coin.coin_pub,
                "contribution": spent.contribution,
                "exchange_url": spent.coin.exchange_url,
            })
        };
        json!({
            "h_contract": self.terms.h_contract,
            "coins": self.coins.iter().map(coin).collect::<Vec<_>>(),
        })
    }

    /// The coins of one exchange, as a merchant hands them to it.
    #[must_use]
    pub fn deposits(&self, exchange_url: &str) -> Vec<(DepositedCoin, CoinSignature)> {
        let of_exchange = self
            .coins
            .iter()
            .filter(|spent| spent.coin.exchange_url == exchange_url);
        of_exchange
            .map(|spent| (spent.deposited(), spent.coin.ub_sig.clone()))
            .collect()
    }
}
