//! The exchange's keys and everything that it signs: the body of `/keys`, refund confirmations (1038) and the
//! signed "denomination unknown" (1042).
//!
//! All keys follow from one seed, so that a test or a demo meets the same exchange each time. They are worth
//! nothing: whoever knows the seed has them. Nothing here checks a clock against a key's lifetime: the sandbox
//! goes on signing with an expired key, for what the merchant makes of it is what a test wants to see.
//!
//! Follows protocol 14:0:2 as taler-exchange 0.9.1 speaks it. There are no denominations: the sandbox issues no
//! coins, it takes deposits on a test's word.

use quittance_taler::time::TalerTimestamp;
use quittance_taler::{
    Amount, CoinPub, Currency, EddsaPrivateKey, EddsaSignature, ExchangePub, HashCode, MasterPub,
    MerchantPub, Micros, Timestamp, message,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

/// The protocol version that the sandbox speaks and says it speaks.
const PROTOCOL_VERSION: &str = "14:0:2";

/// How long a signing key signs: 365 days, as in the recording.
const SIGNING_KEY_SIGNS_S: u64 = 31_536_000;

/// How long a signing key's signatures are good in court: five times 365 days, as in the recording.
const SIGNING_KEY_LEGAL_S: u64 = 157_680_000;

/// How long an idle reserve stays open: 28 days in microseconds, as in the recording. There are no reserves.
const RESERVE_CLOSING_DELAY_US: u64 = 2_419_200_000_000;

const PURPOSE_KEY_SET: u32 = 1035;
const PURPOSE_DENOMINATION_UNKNOWN: u32 = 1042;

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

/// The master key, the signing keys listed so far, and one that never is.
pub(crate) struct Keys {
    seed: u64,
    master: EddsaPrivateKey,
    signing: Vec<SigningKey>,
    stranger: SigningKey,
    issued: Timestamp,
}

impl Keys {
    pub(crate) fn new(seed: u64, now: Micros) -> Keys {
        let master = derive_private(seed, "master", 0);
        let signing = vec![SigningKey::derive(seed, "signing", 0, &master, now)];
        let stranger = SigningKey::derive(seed, "stranger", 0, &master, now);
        Keys {
            seed,
            master,
            signing,
            stranger,
            issued: now.floor_s(),
        }
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

    /// A signing key that `/keys` never lists.
    pub(crate) fn stranger(&self) -> &SigningKey {
        &self.stranger
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

    /// The body of `/keys`; without the current signing key on demand, as if it had not been published yet.
    pub(crate) fn body(&self, base_url: &str, currency: Currency, hide_current: bool) -> Value {
        let current = self.current();
        let signkeys: Vec<Value> = self
            .signing
            .iter()
            .rev()
            .filter(|key| !(hide_current && key.public == current.public))
            .map(SigningKey::listed)
            .collect();
        // The list is signed twice: over the hash of all denominations' hashes in a row, and over the exclusive
        // or of the groups' hashes. Of no denominations these are the hash of nothing and zero.
        let of_nothing: [u8; 64] = Sha512::digest(b"").into();
        let set = |hash: &[u8; 64]| {
            current
                .private
                .sign(&timed_hash_message(PURPOSE_KEY_SET, self.issued, hash))
        };
        json!({
            "version": PROTOCOL_VERSION,
            "base_url": base_url,
            "currency": currency,
            "asset_type": "fiat",
            "master_public_key": self.master_pub(),
            "reserve_closing_delay": { "d_us": RESERVE_CLOSING_DELAY_US },
            "signkeys": signkeys,
            "recoup": [],
            "denoms": [],
            "denominations": [],
            "auditors": [],
            "global_fees": [],
            "list_issue_date": TalerTimestamp(self.issued),
            "eddsa_pub": current.public,
            "eddsa_sig": set(&of_nothing),
            "denominations_sig": set(&[0; 64]),
        })
    }
}

/// Spoils a signature by one bit of its first half.
pub(crate) fn spoil(sig: &str) -> String {
    let sig: EddsaSignature = sig.parse().expect("the sandbox made this signature text itself");
    let mut bytes = *sig.as_bytes();
    bytes[0] ^= 1;
    EddsaSignature::from_bytes(bytes).to_string()
}

fn derive_private(seed: u64, label: &str, index: u64) -> EddsaPrivateKey {
    let mut hash = Sha512::new();
    hash.update(b"quittance sandbox key v1\0");
    hash.update(label.as_bytes());
    hash.update([0]);
    hash.update(seed.to_be_bytes());
    hash.update(index.to_be_bytes());
    let digest: [u8; 64] = hash.finalize().into();
    let (secret, _) = digest.split_first_chunk::<32>().expect("SHA-512 makes 64 bytes");
    EddsaPrivateKey::from_bytes(*secret)
}

/// Purposes 1035 and 1042 share one layout: header, a time, 64 bytes of hash.
fn timed_hash_message(purpose: u32, at: Timestamp, hash: &[u8; 64]) -> [u8; 80] {
    let mut out = [0; 80];
    out[..4].copy_from_slice(&80_u32.to_be_bytes());
    out[4..8].copy_from_slice(&purpose.to_be_bytes());
    out[8..16].copy_from_slice(&at.to_signed_bytes());
    out[16..].copy_from_slice(hash);
    out
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

    fn hash_of(texts: &[Value]) -> Vec<HashCode> {
        texts.iter().map(|group| text(&group["hash"])).collect()
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
        let mut xor = [0_u8; 64];
        for hash in hash_of(keys["denominations"].as_array().unwrap()) {
            xor.iter_mut()
                .zip(hash.as_bytes())
                .for_each(|(into, byte)| *into ^= byte);
        }
        let key_set = timed_hash_message(1035, time(&keys["list_issue_date"]), &xor);
        assert!(current.verify(&key_set, &text(&keys["denominations_sig"])));
    }

    #[test]
    fn keys_lists_what_the_master_key_signed_and_has_the_recorded_members() {
        let now = Micros::from_s(1_795_225_225).unwrap();
        let mut keys = Keys::new(7, now);
        let first = keys.current().public;
        let second = keys.rotate(now.plus_s(60));
        assert_ne!(first, second);
        let body = keys.body("http://127.0.0.1:8081/", "TESTKUDOS".parse().unwrap(), false);

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
        let of_nothing: [u8; 64] = Sha512::digest(b"").into();
        assert!(second.verify(
            &timed_hash_message(1035, issued, &of_nothing),
            &text(&body["eddsa_sig"])
        ));
        assert!(second.verify(
            &timed_hash_message(1035, issued, &[0; 64]),
            &text(&body["denominations_sig"])
        ));
        assert_eq!(
            keys.body("http://127.0.0.1:8081/", "TESTKUDOS".parse().unwrap(), true)["signkeys"],
            json!([listed[1]])
        );
    }

    #[test]
    fn keys_follow_from_the_seed_alone() {
        let now = Micros::from_s(1_795_225_225).unwrap();
        let (one, same, other) = (Keys::new(1, now), Keys::new(1, now.plus_s(9)), Keys::new(2, now));
        assert_eq!(one.master_pub(), same.master_pub());
        assert_eq!(one.current().public, same.current().public);
        assert_ne!(one.master_pub(), other.master_pub());
        assert_ne!(one.current().public, other.current().public);
        assert_ne!(one.current().public, one.stranger().public);
    }
}
