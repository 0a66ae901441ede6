//! Deposits: what a wallet's coin permits (1201), what an exchange confirms (1033), and the exchange's reply to a
//! batch of coins. Never sends anything. Layouts as in taler-exchange 0.9.1 (protocol 14) and as changed in 2023.
//!
//! Coins without age restriction or policy carry zeros in their place.

use crate::{
    Amount, AmountError, CoinPub, Digest32, EddsaSignature, ExchangePub, HashCode, MerchantPub,
    TalerTimestamp, Timestamp, WireSalt,
    denomination::CoinSignature,
    json::{Object, read_object},
    message::assemble,
    payto::PaytoUri,
    sum,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

/// A wallet permits the deposit of one coin.
const WALLET_COIN_DEPOSIT: u32 = 1201;
/// The exchange confirms a deposit.
const EXCHANGE_CONFIRM_DEPOSIT: u32 = 1033;
/// No deposit is made under a policy here.
const NO_POLICY: [u8; 64] = [0; 64];
/// The protocol of an exchange from which on coins sign `wallet_data_hash` too (2023-08).
const WALLET_DATA_SINCE: u64 = 17;

/// Which of the two forms of 1201 and 1033 is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepositLayout {
    /// Until 2023: a coin's signature of 392 bytes, and a confirmation of 312 for each coin.
    PerCoin,
    /// Since then: `wallet_data_hash` is signed too (456 bytes), and one confirmation of 344 bytes covers the batch.
    PerBatch,
}

impl DepositLayout {
    /// The form that an exchange of that protocol (the first number of its version) speaks.
    #[must_use]
    pub fn of_protocol(current: u64) -> DepositLayout {
        if current < WALLET_DATA_SINCE {
            DepositLayout::PerCoin
        } else {
            DepositLayout::PerBatch
        }
    }
}

/// What all coins of one payment at one exchange have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepositTerms {
    /// The hash of the contract terms.
    pub h_contract: HashCode,
    /// The hash of the merchant's account.
    pub h_wire: HashCode,
    /// The merchant.
    pub merchant_pub: MerchantPub,
    /// The contract's timestamp, which is also the wallet's.
    pub timestamp: Timestamp,
    /// Until when refunds may be granted.
    pub refund_deadline: Timestamp,
    /// When the exchange pays the merchant.
    pub wire_transfer_deadline: Timestamp,
    /// The hash of what the wallet adds to the contract. Only the newer layout signs it.
    pub wallet_data_hash: Option<HashCode>,
}

/// One coin's part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepositedCoin {
    /// The coin.
    pub coin_pub: CoinPub,
    /// The hash of its denomination's key.
    pub h_denom: HashCode,
    /// The hash of its age commitment, where it has one.
    pub h_age_commitment: Option<Digest32>,
    /// What it pays, the deposit fee included.
    pub amount_with_fee: Amount,
    /// What the exchange keeps of that.
    pub deposit_fee: Amount,
    /// The coin's signature (1201).
    pub coin_sig: EddsaSignature,
}

impl DepositTerms {
    /// What a coin signs (1201) in the layout until 2023.
    #[must_use]
    pub fn coin_message_2022(&self, coin: &DepositedCoin) -> [u8; 392] {
        self.with_coin_fields(coin, |fields| assemble(WALLET_COIN_DEPOSIT, fields))
    }

    /// What a coin signs (1201) in the layout since 2023; zeros where the wallet adds nothing.
    #[must_use]
    pub fn coin_message_2023(&self, coin: &DepositedCoin) -> [u8; 456] {
        let data = self.wallet_data_hash.map_or([0; 64], |hash| *hash.as_bytes());
        self.with_coin_fields(coin, |fields| {
            assemble(WALLET_COIN_DEPOSIT, &[fields, &[&data]].concat())
        })
    }

    fn with_coin_fields<const N: usize>(
        &self,
        coin: &DepositedCoin,
        make: impl FnOnce(&[&[u8]]) -> [u8; N],
    ) -> [u8; N] {
        make(&[
            self.h_contract.as_bytes(),
            &coin.h_age_commitment.map_or([0; 32], |hash| *hash.as_bytes()),
            &NO_POLICY,
            self.h_wire.as_bytes(),
            coin.h_denom.as_bytes(),
            &self.timestamp.to_signed_bytes(),
            &self.refund_deadline.to_signed_bytes(),
            &coin.amount_with_fee.to_bytes(),
            &coin.deposit_fee.to_bytes(),
            self.merchant_pub.as_bytes(),
        ])
    }

    /// Whether the coin permits its deposit, in the layout that the exchange speaks. Data of the wallet that the
    /// older layout does not sign are never permitted by it.
    #[must_use]
    pub fn is_permitted(&self, coin: &DepositedCoin, layout: DepositLayout) -> bool {
        let message: &[u8] = match layout {
            DepositLayout::PerCoin if self.wallet_data_hash.is_some() => return false,
            DepositLayout::PerCoin => &self.coin_message_2022(coin),
            DepositLayout::PerBatch => &self.coin_message_2023(coin),
        };
        coin.coin_pub.verify(message, &coin.coin_sig)
    }

    /// The body of `POST /batch-deposit`, each coin with its denomination's signature. `merchant_sig` is the contract's
    /// (1101), for exchanges that want it: those of 2024 and later; others ignore it.
    #[must_use]
    pub fn batch_request(
        &self,
        account: &PaytoUri,
        salt: &WireSalt,
        coins: &[(DepositedCoin, CoinSignature)],
        merchant_sig: Option<&EddsaSignature>,
    ) -> Value {
        let coins = coins.iter().map(|(coin, ub_sig)| {
            let mut members = json!({
                "contribution": coin.amount_with_fee,
                "denom_pub_hash": coin.h_denom,
                "ub_sig": ub_sig,
                "coin_pub": coin.coin_pub,
                "coin_sig": coin.coin_sig,
            });
            if let Some(age) = coin.h_age_commitment {
                members["h_age_commitment"] = json!(age);
            }
            members
        });
        let mut body = json!({
            "merchant_payto_uri": account,
            "wire_salt": salt,
            "merchant_pub": self.merchant_pub,
            "h_contract_terms": self.h_contract,
            "timestamp": TalerTimestamp(self.timestamp),
            "refund_deadline": TalerTimestamp(self.refund_deadline),
            "wire_transfer_deadline": TalerTimestamp(self.wire_transfer_deadline),
            "coins": coins.collect::<Vec<Value>>(),
        });
        if let Some(hash) = self.wallet_data_hash {
            body["wallet_data_hash"] = json!(hash);
        }
        if let Some(signature) = merchant_sig {
            body["merchant_sig"] = json!(signature);
        }
        body
    }

    /// What an exchange signs for one coin (1033) in the layout until 2023. An error if the fee is above the amount
    /// or in another currency.
    pub fn confirmation_of_coin(
        &self,
        at: Timestamp,
        coin: &DepositedCoin,
    ) -> Result<[u8; 312], AmountError> {
        let total = coin.amount_with_fee.checked_sub(coin.deposit_fee)?;
        Ok(self.with_confirmed_fields(at, &total, |fields| {
            let last: [&[u8]; 2] = [coin.coin_pub.as_bytes(), self.merchant_pub.as_bytes()];
            assemble(EXCHANGE_CONFIRM_DEPOSIT, &[fields, &last].concat())
        }))
    }

    /// What an exchange signs for a batch (1033) in the layout since 2023: the sum of what its coins pay without
    /// their fees, and a hash of their signatures in the batch's order. An error if there is no coin, a fee is above
    /// its amount, or amounts do not add up.
    pub fn confirmation_of_batch(
        &self,
        at: Timestamp,
        coins: &[DepositedCoin],
    ) -> Result<[u8; 344], AmountError> {
        let first = coins.first().ok_or(AmountError::Malformed)?;
        let without_fee = coins
            .iter()
            .map(|coin| coin.amount_with_fee.checked_sub(coin.deposit_fee))
            .collect::<Result<Vec<_>, _>>()?;
        let total = sum(first.amount_with_fee.currency(), without_fee)?;
        let mut hasher = Sha512::new();
        for coin in coins {
            hasher.update(coin.coin_sig.as_bytes());
        }
        let h_coin_sigs: [u8; 64] = hasher.finalize().into();
        Ok(self.with_confirmed_fields(at, &total, |fields| {
            let last: [&[u8]; 2] = [&h_coin_sigs, self.merchant_pub.as_bytes()];
            assemble(EXCHANGE_CONFIRM_DEPOSIT, &[fields, &last].concat())
        }))
    }

    fn with_confirmed_fields<const N: usize>(
        &self,
        at: Timestamp,
        total_without_fee: &Amount,
        make: impl FnOnce(&[&[u8]]) -> [u8; N],
    ) -> [u8; N] {
        make(&[
            self.h_contract.as_bytes(),
            self.h_wire.as_bytes(),
            &NO_POLICY,
            &at.to_signed_bytes(),
            &self.wire_transfer_deadline.to_signed_bytes(),
            &self.refund_deadline.to_signed_bytes(),
            &total_without_fee.to_bytes(),
        ])
    }

    /// In which layout the reply confirms the deposit of all these coins, in this order; `None` if in neither. That
    /// the signing key is the exchange's, and of that time, is the caller's to check.
    #[must_use]
    pub fn confirmed_layout(&self, coins: &[DepositedCoin], reply: &DepositReply) -> Option<DepositLayout> {
        let at = reply.exchange_timestamp;
        let coin_confirmed = |coin: &DepositedCoin, signature: &EddsaSignature| {
            self.confirmation_of_coin(at, coin)
                .is_ok_and(|message| reply.exchange_pub.verify(&message, signature))
        };
        let per_coin = |signatures: &[EddsaSignature]| {
            !coins.is_empty()
                && signatures.len() == coins.len()
                && coins
                    .iter()
                    .zip(signatures)
                    .all(|(coin, sig)| coin_confirmed(coin, sig))
        };
        match &reply.signatures {
            DepositSignatures::PerCoin(signatures) => per_coin(signatures).then_some(DepositLayout::PerCoin),
            DepositSignatures::One(signature) => {
                let batch = self
                    .confirmation_of_batch(at, coins)
                    .is_ok_and(|message| reply.exchange_pub.verify(&message, signature));
                // A single coin's deposit of old is answered with one signature, too.
                if batch {
                    Some(DepositLayout::PerBatch)
                } else {
                    per_coin(&[*signature]).then_some(DepositLayout::PerCoin)
                }
            }
        }
    }
}

/// An exchange's 200 to a deposit, as read; what it proves, [`DepositTerms::confirmed_layout`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepositReply {
    /// When the exchange took the deposit.
    pub exchange_timestamp: Timestamp,
    /// The signing key.
    pub exchange_pub: ExchangePub,
    /// The signatures.
    pub signatures: DepositSignatures,
}

/// The signatures of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DepositSignatures {
    /// `exchange_sigs`: one for each coin, in the batch's order.
    PerCoin(Vec<EddsaSignature>),
    /// `exchange_sig`: one for all.
    One(EddsaSignature),
}

impl DepositReply {
    /// Reads the body of a 200.
    ///
    /// # Errors
    /// No JSON object, a member is missing or wrong, or there are both or neither of `exchange_sigs` and
    /// `exchange_sig`.
    pub fn read(body: &[u8]) -> Result<DepositReply, serde_json::Error> {
        #[derive(Deserialize)]
        struct OfCoin {
            exchange_sig: EddsaSignature,
        }
        #[derive(Deserialize)]
        struct Members {
            exchange_timestamp: TalerTimestamp,
            exchange_pub: ExchangePub,
            #[serde(rename = "exchange_sigs")]
            per_coin: Option<Vec<Object<OfCoin>>>,
            #[serde(rename = "exchange_sig")]
            one: Option<EddsaSignature>,
        }
        let members: Members = read_object(body)?;
        let signatures = match (members.per_coin, members.one) {
            (Some(list), None) => {
                DepositSignatures::PerCoin(list.into_iter().map(|Object(coin)| coin.exchange_sig).collect())
            }
            (None, Some(one)) => DepositSignatures::One(one),
            _ => {
                return Err(serde::de::Error::custom(
                    "either exchange_sigs or exchange_sig must be there",
                ));
            }
        };
        Ok(DepositReply {
            exchange_timestamp: members.exchange_timestamp.0,
            exchange_pub: members.exchange_pub,
            signatures,
        })
    }
}

#[cfg(test)]
mod tests {
    //! The deposit of a real order of August 2022, other than the recordings' exchange and wallet.
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn signature(hex: &str) -> EddsaSignature {
        EddsaSignature::from_bytes(
            data_encoding::HEXLOWER
                .decode(hex.as_bytes())
                .unwrap()
                .try_into()
                .unwrap(),
        )
    }

    fn second(seconds: u64) -> Timestamp {
        Timestamp::from_s(seconds).unwrap()
    }

    fn deposit() -> (DepositTerms, DepositedCoin, DepositReply) {
        let terms = DepositTerms {
            h_contract: "KZHM5AMM8NSVEV9JHZFP4SP55ZN79FPV5S31VHZ20SK1HZ9DG8H0RPK15KD5AB5MBN2XX1PWWSQ6TH0NH36SJCNM2HHZEDDNRQV4FG8".parse().unwrap(),
            h_wire: "WZ9XX83RB89A7P63XC813H66BBEYD6PY2YT3897C7APXFSYDFA0HEPW536G79GGN6YZJJMG5RCB6G75YBKMHS7T5HM7AN9MNKNJABF8".parse().unwrap(),
            merchant_pub: "FBZF0RHHNVYJ7HD0QP9007TQGJ3KKAJS8ZF4PHPEVVMZ91JCABW0".parse().unwrap(),
            timestamp: second(1_660_992_712),
            refund_deadline: second(1_660_993_612),
            wire_transfer_deadline: second(1_660_993_612),
            wallet_data_hash: None,
        };
        let coin = DepositedCoin {
            coin_pub: "64XSRJKQKVV90KFAT1CY5M8CRZ3EQNATBPKQCRS2APWP104RA7E0".parse().unwrap(),
            h_denom: "MZR40VK9AC8ZMZBDA0VA1MN5NKXWEGZJEJH85VFXYZTVMBKGVXP96TYJB53PX89SF3K1NPKYVYR8XEPVZTVCPJZ8T662863957Q06YR".parse().unwrap(),
            h_age_commitment: None,
            amount_with_fee: "TESTKUDOS:7".parse().unwrap(),
            deposit_fee: "TESTKUDOS:0.01".parse().unwrap(),
            coin_sig: signature("a49a60a0c1e9de2edfe3de80d0d86eca66e6f8d043556fe100832afa9d13eba6983448f5381d22d89319f11b0488be22fa1ae58e6bff3e80c1393051a288df0a"),
        };
        let reply = DepositReply {
            exchange_timestamp: second(1_660_992_714),
            exchange_pub: "YMFSPHAS3367HJQ8WV62X8ST2P2NGR96T0C5749BGXNG2RT6YQ0G"
                .parse()
                .unwrap(),
            signatures: DepositSignatures::One(signature(
                "e50caf7855c8aafd0f9ccc21564f6576bd9e6b46d3b055090949b495d4a57437ad68bd69d4e01c6b1653765e99b968706ff8dab0cb1e97de999d8c9ca12b8903",
            )),
        };
        (terms, coin, reply)
    }

    #[test]
    fn a_deposit_of_2022() {
        let (terms, coin, reply) = deposit();
        assert!(terms.is_permitted(&coin, DepositLayout::PerCoin));
        assert_eq!(
            terms.confirmed_layout(&[coin], &reply),
            Some(DepositLayout::PerCoin)
        );
    }

    #[test]
    fn every_field_is_signed() {
        let (terms, coin, reply) = deposit();
        let other = HashCode::from_bytes([1; 64]);
        let later = second(1_660_993_613);
        let merchant_pub = MerchantPub::from_bytes([1; 32]);
        for (other, permitted) in [
            (
                DepositTerms {
                    h_contract: other,
                    ..terms
                },
                false,
            ),
            (
                DepositTerms {
                    h_wire: other,
                    ..terms
                },
                false,
            ),
            (
                DepositTerms {
                    merchant_pub,
                    ..terms
                },
                false,
            ),
            (
                DepositTerms {
                    refund_deadline: later,
                    ..terms
                },
                false,
            ),
            // The exchange promises when it pays, of which the coin knows nothing.
            (
                DepositTerms {
                    wire_transfer_deadline: later,
                    ..terms
                },
                true,
            ),
        ] {
            assert_eq!(other.is_permitted(&coin, DepositLayout::PerCoin), permitted);
            assert_eq!(other.confirmed_layout(&[coin], &reply), None);
        }
        // The exchange signs its own time instead of the wallet's.
        let other_time = DepositTerms {
            timestamp: later,
            ..terms
        };
        assert!(!other_time.is_permitted(&coin, DepositLayout::PerCoin));
        let eight = "TESTKUDOS:8".parse().unwrap();
        let none = "TESTKUDOS:0".parse().unwrap();
        let age = Some(Digest32::from_bytes([1; 32]));
        for other in [
            DepositedCoin {
                h_denom: other,
                ..coin
            },
            DepositedCoin {
                h_age_commitment: age,
                ..coin
            },
            DepositedCoin {
                amount_with_fee: eight,
                ..coin
            },
            DepositedCoin {
                deposit_fee: none,
                ..coin
            },
            DepositedCoin {
                coin_pub: CoinPub::from_bytes([1; 32]),
                ..coin
            },
        ] {
            assert!(!terms.is_permitted(&other, DepositLayout::PerCoin));
        }
        for other in [
            DepositedCoin {
                amount_with_fee: eight,
                ..coin
            },
            DepositedCoin {
                deposit_fee: none,
                ..coin
            },
            DepositedCoin {
                coin_pub: CoinPub::from_bytes([1; 32]),
                ..coin
            },
        ] {
            assert_eq!(terms.confirmed_layout(&[other], &reply), None);
        }
    }

    #[test]
    fn what_cannot_be_confirmed() {
        let (terms, coin, _) = deposit();
        let at = terms.timestamp;
        let dear = DepositedCoin {
            deposit_fee: "TESTKUDOS:8".parse().unwrap(),
            ..coin
        };
        assert_eq!(terms.confirmation_of_coin(at, &dear), Err(AmountError::Underflow));
        assert_eq!(
            terms.confirmation_of_batch(at, &[coin, dear]),
            Err(AmountError::Underflow)
        );
        assert_eq!(terms.confirmation_of_batch(at, &[]), Err(AmountError::Malformed));
        let foreign = DepositedCoin {
            amount_with_fee: "EUR:7".parse().unwrap(),
            deposit_fee: "EUR:1".parse().unwrap(),
            ..coin
        };
        assert_eq!(
            terms.confirmation_of_batch(at, &[coin, foreign]),
            Err(AmountError::CurrencyMismatch)
        );
    }

    #[test]
    fn the_layout_goes_by_the_protocol() {
        for (protocol, layout) in [
            (12, DepositLayout::PerCoin),
            (14, DepositLayout::PerCoin),
            (16, DepositLayout::PerCoin),
            (17, DepositLayout::PerBatch),
            (23, DepositLayout::PerBatch),
        ] {
            assert_eq!(DepositLayout::of_protocol(protocol), layout, "{protocol}");
        }
    }
}
