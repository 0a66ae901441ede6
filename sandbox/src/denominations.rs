//! The coins that the sandbox makes: denominations with RSA keys, fees and times, signed by the master key (1025), as
//! `/keys` lists them in both its shapes, and the signature that makes a number a coin.
//!
//! A coin is signed unblinded: the sandbox knows whom it gave which coin, which no merchant can tell. All keys share
//! one modulus of 1024 bits, small so that tests start fast, and differ in their exponent, which follows from the
//! seed; so two sandboxes do not take each other's coins. Nothing here reads a clock or checks one.

use std::sync::LazyLock;

use num_bigint::BigUint;
use quittance_taler::denomination::CoinSignature;
use quittance_taler::rsa::{RsaPublicKey, RsaSignature};
use quittance_taler::time::TalerTimestamp;
use quittance_taler::{
    Amount, CoinPub, Currency, Digest32, EddsaPrivateKey, EddsaSignature, HashCode, Micros, Timestamp,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::keys::{derive, signed_message};

const PURPOSE_DENOMINATION: u32 = 1025;

/// Two primes of which (p-1)/2 is a prime as well, so that every odd exponent below has an inverse.
const PRIMES: [&[u8]; 2] = [
    b"E8B947D51E07695A1A9F7573E1E88AEFAB59ABE6786CD681B29A8705E161241886467618A19068A044A77117C195A502\
      B1F5D42F91967416E1A0481D2A5C5B17",
    b"DD0AA1C45D336149C49C2D9ECD08106EC214FAF1FBE116C09E29FB47BE15DF9633B7AF2C712B941C364160753198A919\
      84ECF8A150C18DE73519BFFE3535283B",
];

/// Value, deposit fee and refund fee in hundredths, greatest value first; withdrawing and refreshing cost a
/// hundredth. Some are free, as recorded.
const KINDS: [(u32, u32, u32); 7] = [
    (1600, 16, 16),
    (800, 8, 8),
    (400, 2, 2),
    (200, 2, 2),
    (100, 2, 2),
    (10, 1, 0),
    (1, 0, 0),
];

/// How long coins are made: 30 days.
const WITHDRAW_S: u64 = 30 * 86_400;
/// How long coins are taken: 180 days, so that they expire before the signing keys (365 days) do.
const DEPOSIT_S: u64 = 180 * 86_400;
/// How long the key is remembered: 5 times 365 days.
const LEGAL_S: u64 = 5 * 365 * 86_400;

struct Primes {
    p: BigUint,
    q: BigUint,
    n: BigUint,
}

static RSA: LazyLock<Primes> = LazyLock::new(|| {
    let [p, q] = PRIMES.map(|hex| BigUint::parse_bytes(hex, 16).expect("hexadecimal digits"));
    let n = &p * &q;
    Primes { p, q, n }
});

/// One denomination.
pub(crate) struct Denomination {
    pub(crate) h_denom: HashCode,
    pub(crate) value: Amount,
    pub(crate) fee_deposit: Amount,
    pub(crate) fee_refund: Amount,
    /// Of withdrawing and refreshing.
    fee_other: Amount,
    exponent: BigUint,
    key: RsaPublicKey,
    pub(crate) start: Timestamp,
    expire_withdraw: Timestamp,
    pub(crate) expire_deposit: Timestamp,
    expire_legal: Timestamp,
    pub(crate) master_sig: EddsaSignature,
}

fn hundredths(currency: Currency, count: u32) -> Amount {
    Amount::from_units(currency, u128::from(count) * 1_000_000).expect("a few coins' worth")
}

fn public_key(exponent: &BigUint) -> RsaPublicKey {
    let (modulus, exponent) = (RSA.n.to_bytes_be(), exponent.to_bytes_be());
    let length = |number: &[u8]| u16::try_from(number.len()).expect("128 and 4").to_be_bytes();
    let bytes = [&length(&modulus)[..], &length(&exponent), &modulus, &exponent].concat();
    RsaPublicKey::from_bytes(&bytes).expect("a modulus of 1024 bits and an odd exponent")
}

/// What is signed of a coin.
fn coin_hash(coin: &CoinPub, age_commitment: Option<&Digest32>) -> HashCode {
    let mut hash = Sha512::new();
    hash.update(coin.as_bytes());
    hash.update(age_commitment.map_or(&[][..], |hash| hash.as_bytes()));
    HashCode::from_bytes(hash.finalize().into())
}

impl Denomination {
    fn new(
        seed: u64,
        index: u64,
        kind: (u32, u32, u32),
        currency: Currency,
        master: &EddsaPrivateKey,
        now: Micros,
    ) -> Denomination {
        let derived = derive(seed, "denomination", index);
        let [a, b, c, d] = *derived.first_chunk::<4>().expect("SHA-512 makes 64 bytes");
        // Odd, and above all small exponents that are weak without padding.
        let exponent = BigUint::from(u32::from_be_bytes([a, b, c, d]) | 0x8000_0001);
        let key = public_key(&exponent);
        let mut hash = Sha512::new();
        // No age restriction; RSA.
        hash.update(0_u32.to_be_bytes());
        hash.update(1_u32.to_be_bytes());
        hash.update(key.as_bytes());
        let (value, deposit, refund) = kind;
        let mut made = Denomination {
            h_denom: HashCode::from_bytes(hash.finalize().into()),
            value: hundredths(currency, value),
            fee_deposit: hundredths(currency, deposit),
            fee_refund: hundredths(currency, refund),
            fee_other: hundredths(currency, 1),
            exponent,
            key,
            start: now.floor_s(),
            expire_withdraw: now.plus_s(WITHDRAW_S).floor_s(),
            expire_deposit: now.plus_s(DEPOSIT_S).floor_s(),
            expire_legal: now.plus_s(LEGAL_S).floor_s(),
            master_sig: EddsaSignature::from_bytes([0; 64]),
        };
        made.master_sig = master.sign(&made.message(master));
        made
    }

    fn message(&self, master: &EddsaPrivateKey) -> Vec<u8> {
        signed_message(
            PURPOSE_DENOMINATION,
            &[
                &master.public_bytes(),
                &self.start.to_signed_bytes(),
                &self.expire_withdraw.to_signed_bytes(),
                &self.expire_deposit.to_signed_bytes(),
                &self.expire_legal.to_signed_bytes(),
                &self.value.to_bytes(),
                &self.fee_other.to_bytes(),
                &self.fee_deposit.to_bytes(),
                &self.fee_other.to_bytes(),
                &self.fee_refund.to_bytes(),
                self.h_denom.as_bytes(),
            ],
        )
    }

    /// Makes a coin of a key.
    pub(crate) fn sign(&self, coin: &CoinPub) -> CoinSignature {
        let hash = self.key.full_domain_hash(&coin_hash(coin, None));
        let part = |prime: &BigUint| {
            let inverse = self.exponent.modinv(&(prime - 1_u8));
            let inverse = inverse.expect("the exponent is odd and below (p-1)/2, which is a prime");
            hash.modpow(&inverse, prime)
        };
        let Primes { p, q, n } = &*RSA;
        let (of_p, of_q) = (part(p), part(q));
        let q_inverse = q.modinv(p).expect("two primes");
        // q is the smaller prime, so of_q is below p.
        let signature = &of_q + q * ((p + &of_p - &of_q) * q_inverse % p);
        debug_assert!(&signature < n);
        CoinSignature::Rsa {
            rsa_signature: RsaSignature::from_bytes(&signature.to_bytes_be()).expect("at most 128 bytes"),
        }
    }

    /// Whether a coin is of this denomination.
    pub(crate) fn made(
        &self,
        coin: &CoinPub,
        age_commitment: Option<&Digest32>,
        signature: &CoinSignature,
    ) -> bool {
        let CoinSignature::Rsa { rsa_signature } = signature;
        self.key.verify(&coin_hash(coin, age_commitment), rsa_signature)
    }

    fn prices(&self) -> Value {
        json!({
            "value": self.value,
            "fee_withdraw": self.fee_other,
            "fee_deposit": self.fee_deposit,
            "fee_refresh": self.fee_other,
            "fee_refund": self.fee_refund,
        })
    }

    fn times(&self) -> Value {
        json!({
            "master_sig": self.master_sig,
            "stamp_start": TalerTimestamp(self.start),
            "stamp_expire_withdraw": TalerTimestamp(self.expire_withdraw),
            "stamp_expire_deposit": TalerTimestamp(self.expire_deposit),
            "stamp_expire_legal": TalerTimestamp(self.expire_legal),
        })
    }

    /// One of `denoms`.
    pub(crate) fn flat(&self) -> Value {
        let key = json!({ "cipher": "RSA", "age_mask": 0, "rsa_public_key": self.key });
        merged([self.prices(), self.times(), json!({ "denom_pub": key })])
    }
}

fn merged<const N: usize>(parts: [Value; N]) -> Value {
    let members = parts.into_iter().filter_map(|part| match part {
        Value::Object(members) => Some(members),
        _ => None,
    });
    Value::Object(members.flatten().collect())
}

/// The denominations of an exchange, oldest first.
pub(crate) struct Denominations {
    seed: u64,
    currency: Currency,
    all: Vec<Denomination>,
}

impl Denominations {
    pub(crate) fn new(seed: u64, currency: Currency, master: &EddsaPrivateKey, now: Micros) -> Denominations {
        let mut made = Denominations {
            seed,
            currency,
            all: Vec::new(),
        };
        made.renew(master, now);
        made
    }

    /// Goes over to new keys; the older ones stay.
    pub(crate) fn renew(&mut self, master: &EddsaPrivateKey, now: Micros) {
        for kind in KINDS {
            let index = u64::try_from(self.all.len()).expect("a usize fits into 64 bits");
            let made = Denomination::new(self.seed, index, kind, self.currency, master, now);
            self.all.push(made);
        }
    }

    pub(crate) fn all(&self) -> &[Denomination] {
        &self.all
    }

    /// Those that coins are made of now, greatest value first.
    pub(crate) fn current(&self) -> &[Denomination] {
        &self.all[self.all.len() - KINDS.len()..]
    }

    pub(crate) fn of(&self, h_denom: &HashCode) -> Option<&Denomination> {
        self.all
            .iter()
            .find(|denomination| denomination.h_denom == *h_denom)
    }

    /// `denominations`: one group for each value and its fees.
    fn groups(&self) -> impl Iterator<Item = (Value, Vec<&Denomination>)> {
        (0..KINDS.len()).map(|kind| {
            let members: Vec<_> = self.all.iter().skip(kind).step_by(KINDS.len()).collect();
            let keys = members.iter().map(|member| {
                let key = json!({ "rsa_pub": member.key });
                merged([member.times(), key])
            });
            let denoms = json!({ "cipher": "RSA", "denoms": keys.collect::<Vec<_>>() });
            (merged([members[0].prices(), denoms]), members)
        })
    }

    /// The groups as protocol 14 has them, with the exclusive or of their members' hashes; and that of all.
    pub(crate) fn groups_of_14(&self) -> (Vec<Value>, [u8; 64]) {
        let mut of_all = [0; 64];
        let groups = self.groups().map(|(mut group, members)| {
            let mut of_group = [0; 64];
            for member in members {
                xor(&mut of_group, member.h_denom.as_bytes());
            }
            xor(&mut of_all, &of_group);
            group["hash"] = json!(HashCode::from_bytes(of_group));
            group
        });
        (groups.collect(), of_all)
    }

    /// The groups as newer protocols have them; and the hash of the master key's signatures in their order.
    pub(crate) fn groups_of_23(&self) -> (Vec<Value>, [u8; 64]) {
        let mut hash = Sha512::new();
        let groups = self.groups().map(|(group, members)| {
            for member in members {
                hash.update(member.master_sig.as_bytes());
            }
            group
        });
        let groups = groups.collect();
        (groups, hash.finalize().into())
    }
}

fn xor(into: &mut [u8; 64], other: &[u8; 64]) {
    into.iter_mut().zip(other).for_each(|(into, byte)| *into ^= byte);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn each_denomination_makes_its_own_coins_and_no_others() {
        let master = EddsaPrivateKey::from_bytes([1; 32]);
        let now = Micros::from_s(1_795_225_225).unwrap();
        let of_seed = |seed| Denominations::new(seed, "KUDOS".parse().unwrap(), &master, now);
        let (ours, theirs) = (of_seed(1), of_seed(2));
        let coin = CoinPub::from_bytes([4; 32]);
        for (at, denomination) in ours.all().iter().enumerate() {
            let signature = denomination.sign(&coin);
            let age = Digest32::from_bytes([1; 32]);
            assert!(denomination.made(&coin, None, &signature));
            assert!(!denomination.made(&coin, Some(&age), &signature));
            assert!(!denomination.made(&CoinPub::from_bytes([5; 32]), None, &signature));
            for (other, same) in ours.all().iter().chain(theirs.all()).zip(0..) {
                assert_eq!(other.made(&coin, None, &signature), at == same);
            }
        }
    }

    #[test]
    fn signatures_of_many_coins_are_valid() {
        let master = EddsaPrivateKey::from_bytes([1; 32]);
        let now = Micros::from_s(1_795_225_225).unwrap();
        let made = Denominations::new(9, "KUDOS".parse().unwrap(), &master, now);
        for number in 0..=40 {
            let coin = CoinPub::from_bytes([number; 32]);
            let denomination = &made.all()[usize::from(number) % KINDS.len()];
            assert!(denomination.made(&coin, None, &denomination.sign(&coin)));
        }
    }
}
