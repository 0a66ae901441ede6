//! A wallet's payment: the request, what it needs of contract terms, and whether what its coins contribute is enough.
//!
//! The merchant bears deposit fees up to `max_fee`; what goes beyond, the customer pays on top of the amount. Of an
//! exchange's wire fee the merchant bears up to `max_wire_fee`, the customer the rest divided by
//! `wire_fee_amortization`; that share counts against `max_fee` like a deposit fee. Terms that name neither of the
//! two leave the whole wire fee to be counted. Never decides anything but sums.

use crate::{
    Amount, AmountError, CoinPub, ContractError, ContractTerms, Digest32, EddsaSignature, HashCode,
    TalerTimestamp, Timestamp, contract, contract_hash,
    denomination::CoinSignature,
    deposit::{DepositTerms, DepositedCoin},
    json, sum,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::cmp::Ordering;

/// The body of `POST orders/$ID/pay`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PayRequest {
    /// The coins, of any exchanges, in the wallet's order.
    #[serde(deserialize_with = "json::objects")]
    pub coins: Vec<PaidCoin>,
    /// The session that the payment is bound to; empty for none.
    #[serde(default)]
    pub session_id: String,
}

impl PayRequest {
    /// Reads a body; members besides these are ignored.
    ///
    /// # Errors
    /// No JSON object, or a member is missing or wrong.
    pub fn read(body: &[u8]) -> Result<PayRequest, serde_json::Error> {
        json::read_object(body)
    }
}

/// One coin of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PaidCoin {
    /// The coin.
    pub coin_pub: CoinPub,
    /// Its permission (1201).
    pub coin_sig: EddsaSignature,
    /// Its denomination's signature.
    pub ub_sig: CoinSignature,
    /// Its denomination.
    pub h_denom: HashCode,
    /// What it pays, deposit fee included.
    pub contribution: Amount,
    /// The exchange, as the wallet writes it.
    pub exchange_url: String,
    /// The hash of its age commitment, where it has one.
    pub h_age_commitment: Option<Digest32>,
}

/// What paying needs of contract terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentTerms {
    /// What refunds need of them, too.
    pub contract: ContractTerms,
    /// Their hash.
    pub h_contract: HashCode,
    /// The hash of the merchant's account.
    pub h_wire: HashCode,
    /// How the money is sent.
    pub wire_method: String,
    /// Until when they may be paid.
    pub pay_deadline: Timestamp,
    /// What is asked.
    pub price: Price,
}

impl PaymentTerms {
    /// Reads terms without choices.
    pub fn read(terms: &Value) -> Result<PaymentTerms, ContractError> {
        fn optional<T: DeserializeOwned>(
            members: &Map<String, Value>,
            name: &'static str,
        ) -> Result<Option<T>, ContractError> {
            members
                .contains_key(name)
                .then(|| contract::read(members, name))
                .transpose()
        }
        let contract = ContractTerms::read(terms, None)?;
        let members = terms.as_object().ok_or(ContractError::NotAnObject)?;
        let price = Price::new(
            contract.amount,
            contract::read(members, "max_fee")?,
            optional(members, "max_wire_fee")?,
            optional(members, "wire_fee_amortization")?,
        )
        .map_err(|error| ContractError::Wrong("max_fee", error.to_string()))?;
        Ok(PaymentTerms {
            h_contract: contract_hash(terms)?,
            h_wire: contract::read(members, "h_wire")?,
            wire_method: contract::read(members, "wire_method")?,
            pay_deadline: contract::read::<TalerTimestamp>(members, "pay_deadline")?.0,
            price,
            contract,
        })
    }

    /// What all coins of a payment have in common.
    #[must_use]
    pub fn deposit_terms(&self, wallet_data_hash: Option<HashCode>) -> DepositTerms {
        DepositTerms {
            h_contract: self.h_contract,
            h_wire: self.h_wire,
            merchant_pub: self.contract.merchant_pub,
            timestamp: self.contract.timestamp,
            refund_deadline: self.contract.refund_deadline,
            wire_transfer_deadline: self.contract.wire_transfer_deadline,
            wallet_data_hash,
        }
    }
}

impl PaidCoin {
    /// What is deposited of it, at its denomination's fee.
    #[must_use]
    pub fn deposited(&self, deposit_fee: Amount) -> DepositedCoin {
        DepositedCoin {
            coin_pub: self.coin_pub,
            h_denom: self.h_denom,
            h_age_commitment: self.h_age_commitment,
            amount_with_fee: self.contribution,
            deposit_fee,
            coin_sig: self.coin_sig,
        }
    }
}

/// What is asked of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    amount: Amount,
    max_fee: Amount,
    max_wire_fee: Amount,
    wire_fee_amortization: u64,
}

/// Whether a payment is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sufficiency {
    /// It is.
    Enough,
    /// The fees are above all that is paid (2154).
    FeesExceedPayment,
    /// The amount is there, but not the fees beyond what the merchant bears (2155). So much is lacking.
    InsufficientDueToFees(Amount),
    /// Less than the amount (2156). So much is lacking, fees included.
    Insufficient(Amount),
}

impl Price {
    /// What the terms say, whose amounts must be of one currency. Absent `max_wire_fee`: nothing is borne; absent
    /// `wire_fee_amortization`, and 0: 1.
    pub fn new(
        amount: Amount,
        max_fee: Amount,
        max_wire_fee: Option<Amount>,
        wire_fee_amortization: Option<u64>,
    ) -> Result<Price, AmountError> {
        let max_wire_fee = max_wire_fee.unwrap_or(Amount::zero(amount.currency()));
        amount.try_cmp(&max_fee)?;
        amount.try_cmp(&max_wire_fee)?;
        Ok(Price {
            amount,
            max_fee,
            max_wire_fee,
            wire_fee_amortization: wire_fee_amortization.unwrap_or(1).max(1),
        })
    }

    /// Whether these coins pay it. `wire_fees` holds the fee of each exchange that takes part, once. An error only
    /// where amounts are of another currency or beyond what amounts can be.
    pub fn is_paid_by(
        &self,
        coins: &[DepositedCoin],
        wire_fees: &[Amount],
    ) -> Result<Sufficiency, AmountError> {
        let currency = self.amount.currency();
        let paid = sum(currency, coins.iter().map(|coin| coin.amount_with_fee))?;
        let deposit_fees = sum(currency, coins.iter().map(|coin| coin.deposit_fee))?;
        let fees = deposit_fees.checked_add(self.customers_wire_fee(wire_fees)?)?;
        if deposit_fees.try_cmp(&paid)? == Ordering::Greater {
            return Ok(Sufficiency::FeesExceedPayment);
        }
        let needed = self.amount.checked_add(beyond(fees, self.max_fee)?)?;
        let lacking = beyond(needed, paid)?;
        Ok(if lacking.is_zero() {
            Sufficiency::Enough
        } else if paid.try_cmp(&self.amount)? == Ordering::Less {
            Sufficiency::Insufficient(lacking)
        } else {
            Sufficiency::InsufficientDueToFees(lacking)
        })
    }

    /// The customer's share, computed as wallets do: one exchange after the other uses up what the merchant bears,
    /// and each rest is divided by itself, downwards to whole units of 10^-8.
    fn customers_wire_fee(&self, wire_fees: &[Amount]) -> Result<Amount, AmountError> {
        let mut borne = self.max_wire_fee;
        let mut share = Amount::zero(self.amount.currency());
        for fee in wire_fees {
            let rest = beyond(*fee, borne)?;
            borne = beyond(borne, *fee)?;
            let units = rest.units() / u128::from(self.wire_fee_amortization);
            share = share.checked_add(Amount::from_units(rest.currency(), units)?)?;
        }
        Ok(share)
    }
}

/// By how much one is above the other; nothing where it is not.
fn beyond(one: Amount, other: Amount) -> Result<Amount, AmountError> {
    match one.checked_sub(other) {
        Err(AmountError::Underflow) => Ok(Amount::zero(one.currency())),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    fn kudos(text: &str) -> Amount {
        format!("KUDOS:{text}").parse().unwrap()
    }

    fn coin(amount_with_fee: Amount, deposit_fee: Amount) -> DepositedCoin {
        DepositedCoin {
            coin_pub: CoinPub::from_bytes([0; 32]),
            h_denom: HashCode::from_bytes([0; 64]),
            h_age_commitment: None,
            amount_with_fee,
            deposit_fee,
            coin_sig: EddsaSignature::from_bytes([0; 64]),
        }
    }

    fn coins(list: &[(&str, &str)]) -> Vec<DepositedCoin> {
        list.iter()
            .map(|(amount, fee)| coin(kudos(amount), kudos(fee)))
            .collect()
    }

    #[test]
    fn the_merchant_bears_fees_up_to_its_limit() {
        use Sufficiency::{Enough, FeesExceedPayment, Insufficient, InsufficientDueToFees};
        let price = Price::new(kudos("10"), kudos("0.3"), None, None).unwrap();
        for (paid, expected) in [
            (&[("10", "0.3")][..], Enough),
            (&[("8", "0.2"), ("2", "0.1")], Enough),
            (&[("12", "0.3")], Enough),
            (&[("9.99999999", "0")], Insufficient(kudos("0.00000001"))),
            (&[("10", "0.4")], InsufficientDueToFees(kudos("0.1"))),
            (&[("10.1", "0.4")], Enough),
            (&[("9", "0.4")], Insufficient(kudos("1.1"))),
            (&[("0.1", "0.2")], FeesExceedPayment),
            (&[], Insufficient(kudos("10"))),
        ] {
            assert_eq!(price.is_paid_by(&coins(paid), &[]).unwrap(), expected, "{paid:?}");
        }
    }

    #[test]
    fn wire_fees_are_shared() {
        let paid = coins(&[("10", "0.2")]);
        let due = |max_wire_fee: Option<&str>, amortization, wire_fees: &[&str]| {
            let price = Price::new(kudos("10"), kudos("0.3"), max_wire_fee.map(kudos), amortization).unwrap();
            let wire_fees: Vec<_> = wire_fees.iter().copied().map(kudos).collect();
            match price.is_paid_by(&paid, &wire_fees).unwrap() {
                Sufficiency::Enough => Amount::zero("KUDOS".parse().unwrap()),
                Sufficiency::InsufficientDueToFees(lacking) => lacking,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(due(Some("1"), None, &["1"]), kudos("0"));
        assert_eq!(due(Some("1"), None, &["1.1"]), kudos("0"), "within max_fee");
        assert_eq!(due(Some("1"), None, &["1.5"]), kudos("0.4"));
        assert_eq!(due(Some("1"), Some(5), &["1.5"]), kudos("0"));
        assert_eq!(
            due(Some("1"), Some(0), &["1.5"]),
            kudos("0.4"),
            "0 divides like 1"
        );
        assert_eq!(
            due(Some("1"), None, &["0.8", "0.7"]),
            kudos("0.4"),
            "one limit for all exchanges"
        );
        assert_eq!(due(None, None, &["0.5"]), kudos("0.4"));
        assert_eq!(due(None, Some(3), &["1"]), kudos("0.23333333"), "downwards");
    }

    #[test]
    fn terms_to_pay_by() {
        let whole = serde_json::json!({
            "order_id": "o",
            "amount": "KUDOS:10",
            "max_fee": "KUDOS:0.3",
            "timestamp": {"t_s": 100},
            "pay_deadline": {"t_s": 150},
            "refund_deadline": {"t_s": 200},
            "wire_transfer_deadline": {"t_s": 300},
            "merchant_pub": crate::MerchantPub::from_bytes([1; 32]),
            "h_wire": HashCode::from_bytes([2; 64]),
            "wire_method": "iban",
            "exchanges": [{"url": "https://exchange.example/", "master_pub": crate::MasterPub::from_bytes([2; 32])}],
        });
        let read = PaymentTerms::read(&whole).unwrap();
        assert_eq!(
            read.price,
            Price::new(kudos("10"), kudos("0.3"), None, None).unwrap()
        );
        assert_eq!(read.pay_deadline, Timestamp::from_s(150).unwrap());
        assert_eq!(read.h_contract, contract_hash(&whole).unwrap());
        let mut shared = whole.clone();
        shared["max_wire_fee"] = "KUDOS:1".into();
        shared["wire_fee_amortization"] = 4.into();
        assert_eq!(
            PaymentTerms::read(&shared).unwrap().price,
            Price::new(kudos("10"), kudos("0.3"), Some(kudos("1")), Some(4)).unwrap()
        );
        for name in ["max_fee", "h_wire", "wire_method", "pay_deadline", "amount"] {
            let mut lacking = whole.clone();
            lacking.as_object_mut().unwrap().remove(name);
            assert_eq!(PaymentTerms::read(&lacking), Err(ContractError::Missing(name)));
        }
        for (name, value, wrong) in [
            ("max_fee", "EUR:1", "max_fee"),
            ("max_wire_fee", "1", "max_wire_fee"),
            ("wire_fee_amortization", "1", "wire_fee_amortization"),
            ("h_wire", "1", "h_wire"),
        ] {
            let mut terms = whole.clone();
            terms[name] = value.into();
            let Err(ContractError::Wrong(member, _)) = PaymentTerms::read(&terms) else {
                panic!("{name} is not refused")
            };
            assert_eq!(member, wrong);
        }
    }

    #[test]
    fn orders_of_nothing_and_of_other_currencies() {
        let free = Price::new(kudos("0"), kudos("0"), None, None).unwrap();
        assert_eq!(free.is_paid_by(&[], &[]), Ok(Sufficiency::Enough));
        let other: Amount = "EUR:1".parse().unwrap();
        assert_eq!(
            Price::new(kudos("1"), other, None, None),
            Err(AmountError::CurrencyMismatch)
        );
        assert_eq!(
            Price::new(kudos("1"), kudos("1"), Some(other), None),
            Err(AmountError::CurrencyMismatch)
        );
        assert_eq!(
            free.is_paid_by(&[coin(other, other)], &[]),
            Err(AmountError::CurrencyMismatch)
        );
        assert_eq!(free.is_paid_by(&[], &[other]), Err(AmountError::CurrencyMismatch));
        let most = coin(
            Amount::new("KUDOS".parse().unwrap(), Amount::MAX_VALUE, 0).unwrap(),
            kudos("0"),
        );
        assert_eq!(free.is_paid_by(&[most, most], &[]), Err(AmountError::Overflow));
    }

    fn units(units: u64) -> Amount {
        Amount::from_units("KUDOS".parse().unwrap(), units.into()).unwrap()
    }

    proptest! {
        // The same said in plain numbers of the smallest unit.
        #[test]
        fn agrees_with_plain_numbers(
            (amount, max_fee, max_wire_fee, amortization) in (0u64..50, 0u64..20, 0u64..20, 1u64..4),
            list in prop::collection::vec((0u64..30, 0u64..8), 0..4),
            wire_fee in 0u64..40,
        ) {
            let price = Price::new(units(amount), units(max_fee), Some(units(max_wire_fee)), Some(amortization)).unwrap();
            let coins: Vec<_> = list
                .iter()
                .map(|(paid, fee)| coin(units(*paid), units(*fee)))
                .collect();
            let paid: u64 = list.iter().map(|(paid, _)| paid).sum();
            let deposit_fees: u64 = list.iter().map(|(_, fee)| fee).sum();
            let wire = wire_fee.saturating_sub(max_wire_fee) / amortization;
            let needed = amount + (deposit_fees + wire).saturating_sub(max_fee);
            let expected = if deposit_fees > paid {
                Sufficiency::FeesExceedPayment
            } else if paid >= needed {
                Sufficiency::Enough
            } else if paid >= amount {
                Sufficiency::InsufficientDueToFees(units(needed - paid))
            } else {
                Sufficiency::Insufficient(units(needed - paid))
            };
            prop_assert_eq!(price.is_paid_by(&coins, &[units(wire_fee)]).unwrap(), expected);
        }

        #[test]
        fn more_money_never_hurts_and_what_lacks_suffices(
            amount in 0u64..50, max_fee in 0u64..20, paid in 0u64..80, fee in 0u64..30, more in 0u64..30,
        ) {
            let price = Price::new(units(amount), units(max_fee), None, None).unwrap();
            let judge = |paid| price
                .is_paid_by(&[coin(units(paid), units(fee))], &[])
                .unwrap();
            match judge(paid) {
                Sufficiency::Enough => prop_assert_eq!(judge(paid + more), Sufficiency::Enough),
                Sufficiency::Insufficient(lacking) | Sufficiency::InsufficientDueToFees(lacking) => {
                    let lacking = u64::try_from(lacking.units()).unwrap();
                    prop_assert!(lacking > 0);
                    prop_assert_eq!(judge(paid + lacking), Sufficiency::Enough);
                    prop_assert_ne!(judge(paid + lacking - 1), Sufficiency::Enough);
                }
                Sufficiency::FeesExceedPayment => prop_assert!(fee > paid),
            }
        }
    }
}
