//! Recomputes every contract hash and refund signature in recordings of a real exchange (taler-exchange
//! 0.9.1) and a real wallet, and in vectors made by the C library.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use quittance_taler::{
    Amount, CoinPub, EddsaPrivateKey, EddsaSignature, ExchangePub, HashCode, MasterPub, MerchantPub,
    TalerTimestamp, contract::ContractTerms, contract_hash, json, message, uri,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{collections::HashMap, fs, path::PathBuf};

/// All fixtures of that prefix and suffix, by name.
fn fixtures(prefix: &str, suffix: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .filter(|(name, _)| name.starts_with(prefix) && name.ends_with(suffix))
        .collect();
    found.sort();
    found
}

fn fixture(name: &str) -> Value {
    let [(_, bytes)] = &fixtures(name, name)[..] else {
        panic!("no fixture {name}")
    };
    serde_json::from_slice(bytes).unwrap()
}

fn get<T: DeserializeOwned>(object: &Value, name: &str) -> T {
    T::deserialize(&object[name]).unwrap_or_else(|error| panic!("{name} of {object}: {error}"))
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// What a refund is signed over, wherever it was recorded.
struct Refund {
    h_contract: HashCode,
    coin: CoinPub,
    merchant: MerchantPub,
    id: u64,
    amount: Amount,
}

impl Refund {
    fn of(fields: &Value, coin: CoinPub) -> Refund {
        Refund {
            h_contract: get(fields, "h_contract_terms"),
            coin,
            merchant: get(fields, "merchant_pub"),
            id: get(fields, "rtransaction_id"),
            amount: get(fields, "refund_amount"),
        }
    }

    fn request(&self) -> [u8; 136] {
        message::refund_request(&self.h_contract, &self.coin, self.id, &self.amount)
    }

    fn confirmation(&self) -> [u8; 168] {
        message::refund_confirmation(
            &self.h_contract,
            &self.coin,
            &self.merchant,
            self.id,
            &self.amount,
        )
    }

    /// Whether the reply holds this exchange's confirmation.
    fn is_confirmed_by(&self, reply: &Value) -> bool {
        let exchange: ExchangePub = get(reply, "exchange_pub");
        exchange.verify(&self.confirmation(), &get(reply, "exchange_sig"))
    }
}

#[test]
fn refunds_at_the_exchange() {
    let (mut confirmed, mut refused) = (0, 0);
    for (name, bytes) in fixtures("refund-", ".json") {
        if name == "refund-signature-vectors-c.json" {
            continue;
        }
        let recording: Value = serde_json::from_slice(&bytes).unwrap();
        let inputs = &recording["inputs"];
        let refund = Refund::of(inputs, get(inputs, "coin_pub"));
        let signature: EddsaSignature = get(inputs, "merchant_sig");
        let good = get::<bool>(inputs, "merchant_sig_valid");
        assert_eq!(
            hex(&refund.request()),
            get::<String>(inputs, "merchant_signed_message_hex"),
            "{name}"
        );
        assert_eq!(
            refund.merchant.verify(&refund.request(), &signature),
            good,
            "{name}"
        );
        assert_eq!(good, name != "refund-403-bad-sig.json");

        let key = EddsaPrivateKey::from_base32(&get::<String>(inputs, "merchant_priv")).unwrap();
        assert_eq!(key.merchant_pub(), refund.merchant, "{name}");
        assert_eq!(key.sign(&refund.request()) == signature, good, "{name}");

        let reply = &recording["reply"];
        if get::<u16>(reply, "status") == 200 {
            let confirmation = &recording["exchange_confirmation"];
            assert_eq!(
                hex(&refund.confirmation()),
                get::<String>(confirmation, "signed_message_hex"),
                "{name}"
            );
            assert!(refund.is_confirmed_by(&reply["body"]), "{name}");
            let other = Refund {
                id: refund.id + 1,
                ..refund
            };
            assert!(!other.is_confirmed_by(&reply["body"]), "{name}: of another id");
            confirmed += 1;
        } else {
            refused += 1;
        }
    }
    assert_eq!((confirmed, refused), (7, 12));
}

#[test]
fn refunds_in_coin_histories() {
    // A refusal shows the coin's history; its refunds are shown without the fee that the merchant's signature
    // includes.
    let mut checked = 0;
    for (name, bytes) in fixtures("refund-", ".json") {
        let recording: Value = serde_json::from_slice(&bytes).unwrap();
        let history = recording["reply"]["body"]["history"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for mut entry in history.into_iter().filter(|entry| entry["type"] == "REFUND") {
            let signed = get::<Amount>(&entry, "amount")
                .checked_add(get(&entry, "refund_fee"))
                .unwrap();
            entry["refund_amount"] = signed.to_string().into();
            let refund = Refund::of(&entry, get(&recording["inputs"], "coin_pub"));
            assert!(
                refund
                    .merchant
                    .verify(&refund.request(), &get(&entry, "merchant_sig")),
                "{name}"
            );
            checked += 1;
        }
    }
    assert_eq!(checked, 3);
}

#[test]
fn refund_signatures_of_the_c_library() {
    let vectors = fixture("refund-signature-vectors-c.json");
    for vector in vectors.as_array().unwrap() {
        let mut fields = vector.clone();
        // Written as a text, as it may be beyond what JSON readers keep.
        fields["rtransaction_id"] = get::<String>(vector, "rtransaction_id")
            .parse::<u64>()
            .unwrap()
            .into();
        let refund = Refund::of(&fields, get(vector, "coin_pub"));
        let key = EddsaPrivateKey::from_base32(&get::<String>(vector, "merchant_priv")).unwrap();
        assert_eq!(key.merchant_pub(), refund.merchant);
        assert_eq!(
            hex(&refund.request()),
            get::<String>(vector, "signed_message_hex")
        );
        assert_eq!(
            key.sign(&refund.request()).to_string(),
            get::<String>(vector, "merchant_sig")
        );
    }
    assert_eq!(vectors.as_array().unwrap().len(), 5);
}

#[test]
fn signing_keys_are_the_masters() {
    for name in ["keys.body.json", "keys.verified.json"] {
        let keys = fixture(name);
        let master: MasterPub = get(&keys, "master_public_key");
        let signkeys = keys["signkeys"].as_array().unwrap();
        assert_eq!(signkeys.len(), 1, "{name}");
        for signkey in signkeys {
            let time = |name| get::<TalerTimestamp>(signkey, name).0;
            let (start, expire, end) = (time("stamp_start"), time("stamp_expire"), time("stamp_end"));
            let key = get(signkey, "key");
            let validity = message::signing_key_validity(start, expire, end, &key);
            if let Some(expected) = signkey["signed_message_hex"].as_str() {
                assert_eq!(hex(&validity), expected);
            }
            let signature = get(signkey, "master_sig");
            assert!(master.verify(&validity, &signature), "{name}");
            assert!(
                !master.verify(&message::signing_key_validity(start, end, end, &key), &signature),
                "{name}"
            );
            assert!(
                !MasterPub::from_bytes(*key.as_bytes()).verify(&validity, &signature),
                "{name}"
            );
        }
    }
}

#[test]
fn contract_hashes_of_c_library_and_wallet() {
    let mut refused = Vec::new();
    let vectors = fixture("contract-hash-vectors.json");
    for vector in vectors.as_array().unwrap() {
        let name: String = get(vector, "name");
        let terms: Value = serde_json::from_str(&get::<String>(vector, "json_text")).unwrap();
        let (c, wallet) = (
            get::<String>(vector, "hash_c"),
            get::<String>(vector, "hash_wallet"),
        );
        if let Ok(hash) = contract_hash(&terms) {
            assert_eq!(hash.to_string(), c, "{name}");
            assert_eq!(hash.to_string(), wallet, "{name}");
        } else {
            // Exactly those that the two programs do not hash alike, and that the wallet does not take.
            assert!(
                c != wallet && !get::<bool>(vector, "wallet_well_formed"),
                "{name}"
            );
            refused.push(name);
        }
    }
    assert_eq!(refused, ["unicode-keys", "ints", "float"]);
    assert_eq!(vectors.as_array().unwrap().len(), 12);
}

#[test]
fn contract_terms_of_the_recordings() {
    let mut checked = 0;
    for (name, bytes) in fixtures("deposit-", ".json")
        .into_iter()
        .chain(fixtures("refund-", ".json"))
    {
        let recording: Value = serde_json::from_slice(&bytes).unwrap();
        let deposit = if name.starts_with("refund-") {
            &recording["deposit"]
        } else {
            &recording
        };
        let Some(terms) = deposit.get("contract_terms") else {
            assert_eq!(name, "refund-signature-vectors-c.json");
            continue;
        };
        assert_eq!(
            contract_hash(terms).unwrap(),
            get(deposit, "h_contract_terms"),
            "{name}"
        );
        if let Some(canonical) = deposit.get("contract_terms_canonical") {
            assert_eq!(
                json::canonical(terms),
                canonical.as_str().unwrap().as_bytes(),
                "{name}"
            );
        }
        let read = ContractTerms::read(terms, None).unwrap();
        assert_eq!(read.merchant_pub, get(deposit, "merchant_pub"), "{name}");
        assert_eq!(
            read.exchanges[0].master_pub,
            get(&recording, "exchange_master_pub"),
            "{name}"
        );
        assert_eq!(
            read.exchanges[0].url,
            get::<String>(&recording, "exchange_base_url"),
            "{name}"
        );
        assert!(
            read.timestamp <= read.refund_deadline && read.refund_deadline <= read.wire_transfer_deadline
        );
        checked += 1;
    }
    assert_eq!(checked, 6 + 19);
}

#[test]
fn wallet_flows() {
    let (mut hashes_used, mut requests, mut confirmed) = (0, 0, 0);
    for (name, bytes) in fixtures("wallet-", ".jsonl") {
        let lines = str::from_utf8(&bytes).unwrap().lines();
        let messages: Vec<Value> = lines
            .map(|line| json::parse_strict(line.as_bytes()).unwrap())
            .collect();
        // What the wallet was given, hashed by us; everything after it refers to that hash as the wallet
        // computed it.
        let mut claimed: HashMap<String, HashCode> = HashMap::new();
        for message in &messages {
            let (request, reply) = (&message["request"], &message["reply"]);
            let target = message
                .get("path")
                .or(message.get("url"))
                .unwrap()
                .as_str()
                .unwrap();
            if target.ends_with("/claim") {
                let terms = &reply["contract_terms"];
                let order_id = ContractTerms::read(terms, None).unwrap().order_id;
                assert!(target.contains(&order_id), "{name}");
                claimed.insert(order_id, contract_hash(terms).unwrap());
            } else if message["dir"] == "client->merchant" {
                let in_query = target
                    .split_once("h_contract=")
                    .map(|(_, hash)| Value::from(hash));
                if let Some(hash) = in_query.as_ref().or(request.get("h_contract")) {
                    let order_id = target.split(['/', '?']).nth(2).unwrap();
                    assert_eq!(
                        HashCode::deserialize(hash).unwrap(),
                        claimed[order_id],
                        "{name} {target}"
                    );
                    hashes_used += 1;
                }
            } else {
                let hash: HashCode = get(request, "h_contract_terms");
                assert!(
                    claimed.values().any(|claimed| *claimed == hash),
                    "{name} {target}"
                );
                hashes_used += 1;
            }
            if target.ends_with("/refund") && message["dir"] == "merchant->exchange" {
                let coin = target.rsplit('/').nth(1).unwrap().parse().unwrap();
                let refund = Refund::of(request, coin);
                assert!(
                    refund
                        .merchant
                        .verify(&refund.request(), &get(request, "merchant_sig")),
                    "{name}"
                );
                requests += 1;
                if get::<u16>(message, "status") == 200 {
                    assert!(refund.is_confirmed_by(reply), "{name}");
                    confirmed += 1;
                }
            }
        }
    }
    assert_eq!((hashes_used, requests, confirmed), (63, 17, 9));
}

#[test]
fn uris_that_the_wallet_took() {
    let base = "http://127.0.0.1:9966/".parse().unwrap();
    let mut checked = 0;
    for (name, bytes) in fixtures("wallet-", ".jsonl") {
        for line in str::from_utf8(&bytes).unwrap().lines() {
            let message: Value = serde_json::from_str(line).unwrap();
            let reply = &message["reply"];
            let order_id = || {
                message["path"]
                    .as_str()
                    .unwrap()
                    .split(['/', '?'])
                    .nth(3)
                    .unwrap()
                    .to_owned()
            };
            if let Some(recorded) = reply["taler_refund_uri"].as_str() {
                assert_eq!(uri::refund_uri(&base, &order_id()), recorded, "{name}");
                checked += 1;
            }
            if let Some(recorded) = reply["taler_pay_uri"].as_str() {
                // The stand-in merchant added a claim token.
                let (without_token, _) = recorded.split_once('?').unwrap();
                assert_eq!(uri::pay_uri(&base, &order_id()), without_token, "{name}");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 17);
}

#[test]
fn numbers_beyond_json_are_refused_not_rounded() {
    let [(_, bytes)] = &fixtures("refund-rtid-2to63", ".json")[..] else {
        panic!("no fixture")
    };
    assert_eq!(json::parse_strict(bytes), Err(json::JsonError::IntegerRange));
}
