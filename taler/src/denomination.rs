//! Denominations: an exchange's keys for coins of one value, with their fees and times, as its `/keys` lists them
//! and its master key signs them (1025); and whether a coin is of one.
//!
//! Follows `GET /keys` in both its shapes: the flat `denoms` of protocol 14 and before, and `denominations`, grouped
//! by value and fees, of protocol 14 and since. RSA only: Clause-Schnorr denominations (`CS`) are counted and left
//! out, so a coin of one is a coin of an unknown denomination. Never fetches anything and reads no clock.

use crate::{
    Amount, CoinPub, Digest32, EddsaSignature, HashCode, MasterPub, Micros, TalerTimestamp, Timestamp, json,
    message::assemble,
    rsa::{RsaPublicKey, RsaSignature},
};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use sha2::{Digest, Sha512};

/// The master key vouches for a denomination.
const MASTER_DENOMINATION_KEY_VALIDITY: u32 = 1025;
/// The number of RSA among the ciphers, as hashed.
const CIPHER_RSA: u32 = 1;

/// What a denomination's holder pays for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenominationFees {
    /// For withdrawing a coin.
    pub withdraw: Amount,
    /// For depositing one, in whole or in part.
    pub deposit: Amount,
    /// For refreshing one.
    pub refresh: Amount,
    /// For each refund.
    pub refund: Amount,
}

/// A denomination that the exchange's master key signed: there is no other way to get one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denomination {
    /// What coins name it by.
    pub h_denom: HashCode,
    /// The key that signs its coins.
    pub key: RsaPublicKey,
    /// The age groups that its coins may be bound to, as bits; 0 for none.
    pub age_mask: u32,
    /// What a coin is worth when fresh.
    pub value: Amount,
    /// Its fees.
    pub fees: DenominationFees,
    /// When coins begin to be made.
    pub start: Timestamp,
    /// When no more coins are made.
    pub expire_withdraw: Timestamp,
    /// When its coins are no longer taken.
    pub expire_deposit: Timestamp,
    /// When the exchange may forget it.
    pub expire_legal: Timestamp,
}

/// Whether a denomination's coins are taken at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepositWindow {
    /// None were made yet.
    NotYet,
    /// They are.
    Open,
    /// No longer.
    Over,
}

/// The hash by which a coin names its denomination: age mask and cipher (u32 each, big endian), then the key.
fn denomination_hash(age_mask: u32, key: &RsaPublicKey) -> HashCode {
    let mut hasher = Sha512::new();
    hasher.update(age_mask.to_be_bytes());
    hasher.update(CIPHER_RSA.to_be_bytes());
    hasher.update(key.as_bytes());
    HashCode::from_bytes(hasher.finalize().into())
}

impl Denomination {
    /// What a master key signs for it (1025).
    #[must_use]
    pub fn validity_message(&self, master: &MasterPub) -> [u8; 256] {
        assemble(
            MASTER_DENOMINATION_KEY_VALIDITY,
            &[
                master.as_bytes(),
                &self.start.to_signed_bytes(),
                &self.expire_withdraw.to_signed_bytes(),
                &self.expire_deposit.to_signed_bytes(),
                &self.expire_legal.to_signed_bytes(),
                &self.value.to_bytes(),
                &self.fees.withdraw.to_bytes(),
                &self.fees.deposit.to_bytes(),
                &self.fees.refresh.to_bytes(),
                &self.fees.refund.to_bytes(),
                self.h_denom.as_bytes(),
            ],
        )
    }

    /// Whether its coins are taken at that time.
    #[must_use]
    pub fn deposit_window(&self, at: Micros) -> DepositWindow {
        if at.is_past(self.expire_deposit) {
            DepositWindow::Over
        } else if at.is_past(self.start) {
            DepositWindow::Open
        } else {
            DepositWindow::NotYet
        }
    }

    /// Whether the coin, with the hash of its age commitment if it has one, is of this denomination.
    #[must_use]
    pub fn made(&self, coin: &CoinPub, age_commitment: Option<&Digest32>, signature: &CoinSignature) -> bool {
        let mut hasher = Sha512::new();
        hasher.update(coin.as_bytes());
        if let Some(age_commitment) = age_commitment {
            hasher.update(age_commitment.as_bytes());
        }
        let CoinSignature::Rsa { rsa_signature } = signature;
        self.key
            .verify(&HashCode::from_bytes(hasher.finalize().into()), rsa_signature)
    }

    fn belongs_to(&self, currency: crate::Currency) -> bool {
        let fees = &self.fees;
        [self.value, fees.withdraw, fees.deposit, fees.refresh, fees.refund]
            .iter()
            .all(|amount| amount.currency() == currency)
    }
}

/// A denomination's unblinded signature of a coin, in the JSON form `{"cipher": "RSA", "rsa_signature": …}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "cipher")]
pub enum CoinSignature {
    /// An RSA signature.
    #[serde(rename = "RSA")]
    Rsa {
        /// The number.
        rsa_signature: RsaSignature,
    },
}

impl<'de> Deserialize<'de> for CoinSignature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CoinSignature, D::Error> {
        #[derive(Deserialize)]
        struct Form {
            cipher: String,
            rsa_signature: Option<RsaSignature>,
        }
        let json::Object(form) = json::Object::<Form>::deserialize(deserializer)?;
        match (form.cipher.as_str(), form.rsa_signature) {
            ("RSA", Some(rsa_signature)) => Ok(CoinSignature::Rsa { rsa_signature }),
            ("RSA", None) => Err(D::Error::missing_field("rsa_signature")),
            (other, _) => Err(D::Error::custom(format!("the cipher {other:?} is not supported"))),
        }
    }
}

/// One value and one set of fees, in either shape.
#[derive(Deserialize)]
struct Prices {
    value: Amount,
    fee_withdraw: Amount,
    fee_deposit: Amount,
    fee_refresh: Amount,
    fee_refund: Amount,
}

/// The times of one key, in either shape.
#[derive(Deserialize)]
struct Times {
    stamp_start: TalerTimestamp,
    stamp_expire_withdraw: TalerTimestamp,
    stamp_expire_deposit: TalerTimestamp,
    stamp_expire_legal: TalerTimestamp,
    master_sig: EddsaSignature,
}

/// One of `denoms`.
#[derive(Deserialize)]
pub(crate) struct Flat {
    denom_pub: json::Object<FlatKey>,
    #[serde(flatten)]
    prices: Prices,
    #[serde(flatten)]
    times: Times,
}

#[derive(Deserialize)]
struct FlatKey {
    cipher: String,
    #[serde(default)]
    age_mask: u32,
    rsa_public_key: Option<RsaPublicKey>,
}

/// One of `denominations`.
#[derive(Deserialize)]
pub(crate) struct Group {
    cipher: String,
    #[serde(default)]
    age_mask: u32,
    #[serde(flatten)]
    prices: Prices,
    denoms: Vec<json::Object<Member>>,
}

#[derive(Deserialize)]
struct Member {
    rsa_pub: Option<RsaPublicKey>,
    #[serde(flatten)]
    times: Times,
}

/// A denomination as listed; nobody vouches for it yet. `None` where it is not RSA.
pub(crate) type Listed = Option<(Denomination, EddsaSignature)>;

/// Whether a cipher's name is RSA's, with or without age restriction. Any other is left out.
fn is_rsa(cipher: &str) -> bool {
    matches!(cipher, "RSA" | "RSA+age_restricted")
}

fn listed(
    cipher: &str,
    age_mask: u32,
    key: Option<RsaPublicKey>,
    prices: &Prices,
    times: &Times,
) -> Result<Listed, &'static str> {
    if !is_rsa(cipher) {
        return Ok(None);
    }
    let key = key.ok_or("a denomination of cipher RSA without an RSA key")?;
    let denomination = Denomination {
        h_denom: denomination_hash(age_mask, &key),
        key,
        age_mask,
        value: prices.value,
        fees: DenominationFees {
            withdraw: prices.fee_withdraw,
            deposit: prices.fee_deposit,
            refresh: prices.fee_refresh,
            refund: prices.fee_refund,
        },
        start: times.stamp_start.0,
        expire_withdraw: times.stamp_expire_withdraw.0,
        expire_deposit: times.stamp_expire_deposit.0,
        expire_legal: times.stamp_expire_legal.0,
    };
    Ok(Some((denomination, times.master_sig)))
}

impl Flat {
    pub(crate) fn into_listed(self) -> Result<Listed, &'static str> {
        let json::Object(key) = self.denom_pub;
        listed(
            &key.cipher,
            key.age_mask,
            key.rsa_public_key,
            &self.prices,
            &self.times,
        )
    }
}

impl Group {
    pub(crate) fn len(&self) -> usize {
        self.denoms.len()
    }

    pub(crate) fn into_listed(self) -> impl Iterator<Item = Result<Listed, &'static str>> {
        let Group {
            cipher,
            age_mask,
            prices,
            denoms,
        } = self;
        denoms.into_iter().map(move |json::Object(member)| {
            listed(&cipher, age_mask, member.rsa_pub, &prices, &member.times)
        })
    }
}

/// Whether the master key signed it, in that currency.
pub(crate) fn is_vouched_for(
    denomination: &Denomination,
    signature: &EddsaSignature,
    master: &MasterPub,
    currency: crate::Currency,
) -> bool {
    denomination.belongs_to(currency) && master.verify(&denomination.validity_message(master), signature)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use serde_json::{Value, from_value, json};

    #[test]
    fn a_coins_signature_is_an_rsa_object() {
        let good = json!({"cipher": "RSA", "rsa_signature": "91JPRV3F5GG4EKJN41A62V35E8"});
        let read: CoinSignature = from_value(good.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), good);
        for wrong in [
            json!({"cipher": "RSA"}),
            json!({"cipher": "CS", "cs_signature_r": "0", "cs_signature_s": "0"}),
            json!({"rsa_signature": "91JPRV3F5GG4EKJN41A62V35E8"}),
            json!({"cipher": "RSA", "rsa_signature": ""}),
            json!(["RSA", "91JPRV3F5GG4EKJN41A62V35E8"]),
            json!("91JPRV3F5GG4EKJN41A62V35E8"),
            Value::Null,
        ] {
            assert!(from_value::<CoinSignature>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
