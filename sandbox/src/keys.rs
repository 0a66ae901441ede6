//! The exchange's keys and everything that it signs: the bodies of `/keys` and `/wire`, confirmations of refunds
//! (1038) and deposits (1033), and the signed "denomination unknown" (1042) and "expired" (1043).
//!
//! All keys follow from one seed, so that a test or a demo meets the same exchange each time. They are worth
//! nothing: whoever knows the seed has them. Nothing here checks a clock against a key's lifetime: the sandbox
//! goes on signing with an expired key, for what the merchant makes of it is what a test wants to see.
//!
//! Follows protocol 14:0:2 as taler-exchange 0.9.1 was recorded to speak it, or 23:0:6 of 2024, of which there is no
//! recording: what is signed of an account is from the C sources' reading alone, as nobody here checks it.

use quittance_taler::deposit::{DepositLayout, DepositTerms, DepositedCoin};
use quittance_taler::time::TalerTimestamp;
use quittance_taler::{
    Amount, AmountError, CoinPub, Currency, EddsaPrivateKey, EddsaSignature, ExchangePub, HashCode,
    MasterPub, MerchantPub, Micros, Timestamp, message,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use crate::denominations::{Denomination, Denominations};
use crate::faults::FaultKind;

/// The protocol that the exchange speaks and says it speaks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "u64")]
pub enum Protocol {
    /// 14:0:2, of taler-exchange 0.9.1: denominations in both shapes, `/wire`, a confirmation for each coin.
    #[default]
    V14,
    /// 23:0:6, of December 2024: denominations in groups, accounts and wire fees in `/keys`, a confirmation for a
    /// batch, conflicts without history.
    V23,
}

/// There are two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the sandbox speaks the protocols 14 and 23 only")]
pub struct ProtocolUnknown;

impl TryFrom<u64> for Protocol {
    type Error = ProtocolUnknown;

    fn try_from(number: u64) -> Result<Protocol, ProtocolUnknown> {
        match number {
            14 => Ok(Protocol::V14),
            23 => Ok(Protocol::V23),
            _ => Err(ProtocolUnknown),
        }
    }
}

impl Protocol {
    fn version(self) -> &'static str {
        match self {
            Protocol::V14 => "14:0:2",
            Protocol::V23 => "23:0:6",
        }
    }

    /// How its deposits are signed.
    #[must_use]
    pub fn deposit_layout(self) -> DepositLayout {
        match self {
            Protocol::V14 => DepositLayout::PerCoin,
            Protocol::V23 => DepositLayout::PerBatch,
        }
    }
}

/// The exchange's accounts, one of each wire method that it knows.
const ACCOUNTS: [(&str, &str); 2] = [
    (
        "iban",
        "payto://iban/DE75512108001245126199?receiver-name=Sandbox",
    ),
    (
        "x-taler-bank",
        "payto://x-taler-bank/localhost/exchange?receiver-name=Sandbox",
    ),
];

/// How long a wire fee stands: 5 times 365 days.
const WIRE_FEE_S: u64 = 157_680_000;

/// How long a signing key signs: 365 days, as in the recording.
const SIGNING_KEY_SIGNS_S: u64 = 31_536_000;

/// How long a signing key's signatures are good in court: five times 365 days, as in the recording.
const SIGNING_KEY_LEGAL_S: u64 = 157_680_000;

/// How long an idle reserve stays open: 28 days in microseconds, as in the recording. There are no reserves.
const RESERVE_CLOSING_DELAY_US: u64 = 2_419_200_000_000;

const PURPOSE_WIRE_FEE: u32 = 1028;
const PURPOSE_WIRE_ACCOUNT: u32 = 1030;
const PURPOSE_KEY_SET: u32 = 1035;
const PURPOSE_DENOMINATION_UNKNOWN: u32 = 1042;
const PURPOSE_DENOMINATION_EXPIRED: u32 = 1043;

/// An online signing key with the master key's word for it.
pub(crate) struct SigningKey {
    private: EddsaPrivateKey,
    public: ExchangePub,
    start: Timestamp,
    expire: Timestamp,
    end: Timestamp,
    master_sig: EddsaSignature,
}

/// What a refund confirmation is about: the fields of purpose 1038.
pub(crate) struct Confirmation<'a> {
    pub(crate) h_contract: &'a HashCode,
    pub(crate) coin_pub: &'a CoinPub,
    pub(crate) merchant_pub: &'a MerchantPub,
    pub(crate) rtransaction_id: u64,
    pub(crate) amount: &'a Amount,
}

impl SigningKey {
    fn derive(seed: u64, label: &str, index: u64, master: &EddsaPrivateKey, now: Micros) -> SigningKey {
        let private = derive_private(seed, label, index);
        let public = ExchangePub::from_bytes(private.public_bytes());
        let start = now.floor_s();
        let expire = now.plus_s(SIGNING_KEY_SIGNS_S).floor_s();
        let end = now.plus_s(SIGNING_KEY_LEGAL_S).floor_s();
        let master_sig = master.sign(&message::signing_key_validity(start, expire, end, &public));
        SigningKey {
            private,
            public,
            start,
            expire,
            end,
            master_sig,
        }
    }

    /// The body of a 200 to a refund request.
    pub(crate) fn confirm_refund(&self, what: &Confirmation<'_>) -> Value {
        let signed = message::refund_confirmation(
            what.h_contract,
            what.coin_pub,
            what.merchant_pub,
            what.rtransaction_id,
            what.amount,
        );
        json!({ "exchange_sig": self.private.sign(&signed), "exchange_pub": self.public })
    }

    /// The body of a 200 to a batch of deposits. An error if their sum is more than an amount can be.
    pub(crate) fn confirm_deposits(
        &self,
        terms: &DepositTerms,
        coins: &[DepositedCoin],
        at: Timestamp,
        layout: DepositLayout,
    ) -> Result<Value, AmountError> {
        let mut body = json!({ "exchange_timestamp": TalerTimestamp(at), "exchange_pub": self.public });
        match layout {
            DepositLayout::PerCoin => {
                let sign = |coin| {
                    let signed = terms.confirmation_of_coin(at, coin)?;
                    Ok(json!({ "exchange_sig": self.private.sign(&signed) }))
                };
                body["exchange_sigs"] = coins
                    .iter()
                    .map(sign)
                    .collect::<Result<Vec<_>, AmountError>>()?
                    .into();
            }
            DepositLayout::PerBatch => {
                let signed = terms.confirmation_of_batch(at, coins)?;
                body["exchange_sig"] = json!(self.private.sign(&signed));
            }
        }
        Ok(body)
    }

    /// The members that make "denomination expired", or "not valid yet", provable.
    pub(crate) fn affirm_denomination_expired(&self, at: Timestamp, h_denom: &HashCode) -> Value {
        let operation = b"DEPOSIT\0";
        let fields: [&[u8]; 3] = [&at.to_signed_bytes(), operation, h_denom.as_bytes()];
        let signed = signed_message(PURPOSE_DENOMINATION_EXPIRED, &fields);
        json!({
            "timestamp": TalerTimestamp(at),
            "exchange_pub": self.public,
            "exchange_sig": self.private.sign(&signed),
            "h_denom_pub": h_denom,
            "oper": "DEPOSIT",
        })
    }

    /// The members that make "denomination unknown" provable: the exchange signs when it did not know which key.
    pub(crate) fn affirm_denomination_unknown(&self, at: Timestamp, h_denom: &HashCode) -> Value {
        let signed = timed_hash_message(PURPOSE_DENOMINATION_UNKNOWN, at, h_denom.as_bytes());
        json!({
            "timestamp": TalerTimestamp(at),
            "exchange_pub": self.public,
            "exchange_sig": self.private.sign(&signed),
            "h_denom_pub": h_denom,
        })
    }

    fn listed(&self) -> Value {
        json!({
            "stamp_start": TalerTimestamp(self.start),
            "stamp_expire": TalerTimestamp(self.expire),
            "stamp_end": TalerTimestamp(self.end),
            "master_sig": self.master_sig,
            "key": self.public,
        })
    }
}

/// The master key, the denominations, the signing keys listed so far, and one that never is.
pub(crate) struct Keys {
    pub(crate) protocol: Protocol,
    pub(crate) denominations: Denominations,
    seed: u64,
    currency: Currency,
    master: EddsaPrivateKey,
    signing: Vec<SigningKey>,
    stranger: SigningKey,
    issued: Timestamp,
}

impl Keys {
    pub(crate) fn new(seed: u64, currency: Currency, now: Micros) -> Keys {
        let master = derive_private(seed, "master", 0);
        let denominations = Denominations::new(seed, currency, &master, now);
        let signing = vec![SigningKey::derive(seed, "signing", 0, &master, now)];
        let stranger = SigningKey::derive(seed, "stranger", 0, &master, now);
        Keys {
            protocol: Protocol::default(),
            denominations,
            seed,
            currency,
            master,
            signing,
            stranger,
            issued: now.floor_s(),
        }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn master_pub(&self) -> MasterPub {
        MasterPub::from_bytes(self.master.public_bytes())
    }

    /// The key that signs now: the newest one.
    pub(crate) fn current(&self) -> &SigningKey {
        self.signing
            .last()
            .expect("a set of keys is made with one signing key and never loses one")
    }

    /// Who signs under this fault, if any: the current key, or one that `/keys` never lists.
    pub(crate) fn signer(&self, met: Option<FaultKind>) -> &SigningKey {
        if met == Some(FaultKind::UnknownKey) {
            &self.stranger
        } else {
            self.current()
        }
    }

    /// Goes over to a new signing key. The older ones stay listed, as they have not expired.
    pub(crate) fn rotate(&mut self, now: Micros) -> ExchangePub {
        let index = u64::try_from(self.signing.len()).expect("a usize fits into 64 bits");
        let key = SigningKey::derive(self.seed, "signing", index, &self.master, now);
        let public = key.public;
        self.signing.push(key);
        self.issued = now.floor_s();
        public
    }

    /// Makes coins of new denominations from now on. The older ones stay listed.
    pub(crate) fn renew_denominations(&mut self, now: Micros) {
        self.denominations.renew(&self.master, now);
        self.issued = now.floor_s();
    }

    /// The body of `/keys`; without the current signing key on demand, as if it had not been published yet.
    pub(crate) fn body(&self, base_url: &str, hide_current: bool) -> Value {
        let current = self.current();
        let signkeys: Vec<Value> = self
            .signing
            .iter()
            .rev()
            .filter(|key| !(hide_current && key.public == current.public))
            .map(SigningKey::listed)
            .collect();
        let mut body = json!({
            "version": self.protocol.version(),
            "base_url": base_url,
            "currency": self.currency,
            "asset_type": "fiat",
            "master_public_key": self.master_pub(),
            "reserve_closing_delay": { "d_us": RESERVE_CLOSING_DELAY_US },
            "signkeys": signkeys,
            "recoup": [],
            "auditors": [],
            "global_fees": [],
            "list_issue_date": TalerTimestamp(self.issued),
        });
        let set = |hash: &[u8; 64]| {
            let signed = timed_hash_message(PURPOSE_KEY_SET, self.issued, hash);
            json!(current.private.sign(&signed))
        };
        match self.protocol {
            Protocol::V14 => {
                // The list is signed twice: over the hash of all denominations' hashes in a row, and over the
                // exclusive or of the groups' hashes.
                let (groups, of_groups) = self.denominations.groups_of_14();
                let mut in_a_row = Sha512::new();
                let flat = self.denominations.all().iter().inspect(|denomination| {
                    in_a_row.update(denomination.h_denom.as_bytes());
                });
                body["denoms"] = flat.map(Denomination::flat).collect();
                body["denominations"] = json!(groups);
                body["eddsa_pub"] = json!(current.public);
                body["eddsa_sig"] = set(&in_a_row.finalize().into());
                body["denominations_sig"] = set(&of_groups);
            }
            Protocol::V23 => {
                let (groups, hash) = self.denominations.groups_of_23();
                body["denominations"] = json!(groups);
                body["exchange_pub"] = json!(current.public);
                body["exchange_sig"] = set(&hash);
                body["accounts"] = ACCOUNTS
                    .map(|(_, account)| self.account_of_23(account))
                    .to_vec()
                    .into();
                body["wire_fees"] = self.wire_fees();
                body["wads"] = json!([]);
                body["hard_limits"] = json!([]);
                body["zero_limits"] = json!([]);
            }
        }
        body
    }

    /// The body of `/wire`, which protocol 14 has.
    pub(crate) fn wire(&self) -> Value {
        let accounts = ACCOUNTS.map(|(_, account)| {
            let signed = signed_message(PURPOSE_WIRE_ACCOUNT, &[&account_hash(account)]);
            json!({ "payto_uri": account, "master_sig": self.master.sign(&signed) })
        });
        json!({
            "accounts": accounts,
            "fees": self.wire_fees(),
            "master_public_key": self.master_pub(),
        })
    }

    fn account_of_23(&self, account: &str) -> Value {
        let no_restrictions: [u8; 64] = Sha512::digest(b"[]\0").into();
        let no_conversion = [0; 64];
        let fields: [&[u8]; 4] = [
            &account_hash(account),
            &no_conversion,
            &no_restrictions,
            &no_restrictions,
        ];
        json!({
            "payto_uri": account,
            "credit_restrictions": [],
            "debit_restrictions": [],
            "master_sig": self.master.sign(&signed_message(PURPOSE_WIRE_ACCOUNT, &fields)),
        })
    }

    /// A hundredth for a transfer and for closing a reserve, from the first signing key's start on.
    fn wire_fees(&self) -> Value {
        let start = self.signing[0].start;
        let end = Micros::from_s(start.seconds().unwrap_or_default())
            .expect("a signing key's start")
            .plus_s(WIRE_FEE_S)
            .floor_s();
        let fee = Amount::new(self.currency, 0, 1_000_000).expect("a hundredth");
        let of_method = |(method, _): (&str, &str)| {
            let hash: [u8; 64] = Sha512::digest([method.as_bytes(), &[0]].concat()).into();
            let fields: [&[u8]; 5] = [
                &hash,
                &start.to_signed_bytes(),
                &end.to_signed_bytes(),
                &fee.to_bytes(),
                &fee.to_bytes(),
            ];
            let fee = json!({
                "wire_fee": fee,
                "closing_fee": fee,
                "start_date": TalerTimestamp(start),
                "end_date": TalerTimestamp(end),
                "sig": self.master.sign(&signed_message(PURPOSE_WIRE_FEE, &fields)),
            });
            (method.to_owned(), json!([fee]))
        };
        ACCOUNTS.into_iter().map(of_method).collect::<Map<_, _>>().into()
    }
}

/// The first half of the hash of an account's URI with its NUL.
fn account_hash(account: &str) -> [u8; 32] {
    let hash: [u8; 64] = Sha512::digest([account.as_bytes(), &[0]].concat()).into();
    let (half, _) = hash.split_first_chunk::<32>().expect("SHA-512 makes 64 bytes");
    *half
}

/// Spoils a signature by one bit of its first half.
pub(crate) fn spoil(sig: &str) -> String {
    let sig: EddsaSignature = sig.parse().expect("the sandbox made this signature text itself");
    let mut bytes = *sig.as_bytes();
    bytes[0] ^= 1;
    EddsaSignature::from_bytes(bytes).to_string()
}

/// What everything secret or chosen follows from.
pub(crate) fn derive(seed: u64, label: &str, index: u64) -> [u8; 64] {
    let mut hash = Sha512::new();
    hash.update(b"quittance sandbox key v1\0");
    hash.update(label.as_bytes());
    hash.update([0]);
    hash.update(seed.to_be_bytes());
    hash.update(index.to_be_bytes());
    hash.finalize().into()
}

pub(crate) fn derive_private(seed: u64, label: &str, index: u64) -> EddsaPrivateKey {
    let digest = derive(seed, label, index);
    let (secret, _) = digest.split_first_chunk::<32>().expect("SHA-512 makes 64 bytes");
    EddsaPrivateKey::from_bytes(*secret)
}

/// What is signed: a header of size and purpose, then the fields.
pub(crate) fn signed_message(purpose: u32, fields: &[&[u8]]) -> Vec<u8> {
    let fields = fields.concat();
    let size = u32::try_from(fields.len() + 8).expect("messages have a few hundred bytes");
    [&size.to_be_bytes()[..], &purpose.to_be_bytes(), &fields].concat()
}

/// Purposes 1035 and 1042 share one layout: a time, 64 bytes of hash.
fn timed_hash_message(purpose: u32, at: Timestamp, hash: &[u8; 64]) -> Vec<u8> {
    signed_message(purpose, &[&at.to_signed_bytes(), hash])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn fixture(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn time(value: &Value) -> Timestamp {
        Timestamp::from_s(value["t_s"].as_u64().unwrap()).unwrap()
    }

    fn text<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value) -> T {
        value.as_str().unwrap().parse().unwrap()
    }

    /// What the two signatures of a `/keys` of protocol 14 are over.
    fn hashes_of_denominations(keys: &Value) -> ([u8; 64], [u8; 64]) {
        let mut in_a_row = Sha512::new();
        for denomination in keys["denoms"].as_array().unwrap() {
            let key: quittance_taler::rsa::RsaPublicKey = text(&denomination["denom_pub"]["rsa_public_key"]);
            let hashed = [&[0, 0, 0, 0, 0, 0, 0, 1][..], key.as_bytes()].concat();
            in_a_row.update(Sha512::digest(hashed));
        }
        let mut of_groups = [0_u8; 64];
        for group in keys["denominations"].as_array().unwrap() {
            let hash: HashCode = text(&group["hash"]);
            of_groups
                .iter_mut()
                .zip(hash.as_bytes())
                .for_each(|(into, byte)| *into ^= byte);
        }
        (in_a_row.finalize().into(), of_groups)
    }

    #[test]
    fn the_layouts_of_1042_and_1035_are_those_of_the_recorded_exchange() {
        let recorded = fixture(include_str!("../tests/fixtures/refund-404-unknown-coin.json"));
        let body = &recorded["reply"]["body"];
        let affirming: ExchangePub = text(&body["exchange_pub"]);
        let affirmed = timed_hash_message(1042, time(&body["timestamp"]), &[0; 64]);
        assert!(affirming.verify(&affirmed, &text(&body["exchange_sig"])));

        let keys = fixture(include_str!("../tests/fixtures/keys.body.json"));
        let current: ExchangePub = text(&keys["eddsa_pub"]);
        let (in_a_row, of_groups) = hashes_of_denominations(&keys);
        let issued = time(&keys["list_issue_date"]);
        let signed = |hash: &[u8; 64]| timed_hash_message(1035, issued, hash);
        assert!(current.verify(&signed(&in_a_row), &text(&keys["eddsa_sig"])));
        assert!(current.verify(&signed(&of_groups), &text(&keys["denominations_sig"])));
    }

    #[test]
    fn keys_lists_what_the_master_key_signed_and_has_the_recorded_members() {
        let now = Micros::from_s(1_795_225_225).unwrap();
        let mut keys = Keys::new(7, "TESTKUDOS".parse().unwrap(), now);
        let first = keys.current().public;
        let second = keys.rotate(now.plus_s(60));
        assert_ne!(first, second);
        let body = keys.body("http://127.0.0.1:8081/", false);

        let recorded = fixture(include_str!("../tests/fixtures/keys.body.json"));
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&body), names(&recorded));
        assert_eq!(names(&body["signkeys"][0]), names(&recorded["signkeys"][0]));

        let master: MasterPub = text(&body["master_public_key"]);
        let listed = body["signkeys"].as_array().unwrap();
        assert_eq!(
            listed
                .iter()
                .map(|key| text(&key["key"]))
                .collect::<Vec<ExchangePub>>(),
            [second, first]
        );
        for key in listed {
            let signed = message::signing_key_validity(
                time(&key["stamp_start"]),
                time(&key["stamp_expire"]),
                time(&key["stamp_end"]),
                &text(&key["key"]),
            );
            assert!(master.verify(&signed, &text(&key["master_sig"])));
        }
        let issued = time(&body["list_issue_date"]);
        let (in_a_row, of_groups) = hashes_of_denominations(&body);
        let signed = |hash: &[u8; 64]| timed_hash_message(1035, issued, hash);
        assert!(second.verify(&signed(&in_a_row), &text(&body["eddsa_sig"])));
        assert!(second.verify(&signed(&of_groups), &text(&body["denominations_sig"])));
        assert_eq!(
            keys.body("http://127.0.0.1:8081/", true)["signkeys"],
            json!([listed[1]])
        );
    }

    #[test]
    fn keys_follow_from_the_seed_alone() {
        let now = Micros::from_s(1_795_225_225).unwrap();
        let of = |seed, now| Keys::new(seed, "KUDOS".parse().unwrap(), now);
        let (one, same, other) = (of(1, now), of(1, now.plus_s(9)), of(2, now));
        assert_eq!(one.master_pub(), same.master_pub());
        assert_eq!(one.current().public, same.current().public);
        assert_ne!(one.master_pub(), other.master_pub());
        assert_ne!(one.current().public, other.current().public);
        assert_ne!(
            one.current().public,
            one.signer(Some(FaultKind::UnknownKey)).public
        );
    }
}
