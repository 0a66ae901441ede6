//! What selling needs, against recordings of a real exchange (taler-exchange 0.9.1, protocol 14) and of a real
//! wallet of 2022: signatures of offers, payments, deposits and their confirmations, `h_wire`, `/keys`, `/wire`,
//! coins' signatures by their denominations, and contract terms.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use quittance_taler::{
    Amount, CoinPub, EddsaPrivateKey, EddsaSignature, HashCode, MasterPub, MerchantPub, Micros,
    TalerTimestamp, Timestamp, contract_hash,
    denomination::{CoinSignature, DepositWindow},
    deposit::{DepositLayout, DepositReply, DepositSignatures, DepositTerms, DepositedCoin},
    exchange_keys::{ExchangeKeys, KeysError, WireFees},
    message,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{collections::HashSet, fs, path::PathBuf};

const MASTER: &str = "RJ4MZXQ02K3209TGYEQ51SS9AJFS9YTQR3AHCDBBEHY0GMBGQ2Z0";

fn bytes(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fs::read(folder.join(name)).unwrap()
}

fn fixture(name: &str) -> Value {
    serde_json::from_slice(&bytes(name)).unwrap()
}

fn get<T: DeserializeOwned>(object: &Value, name: &str) -> T {
    T::deserialize(&object[name]).unwrap_or_else(|error| panic!("{name} of {object}: {error}"))
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn keys() -> ExchangeKeys {
    ExchangeKeys::read(&bytes("keys.body.json"), &MASTER.parse().unwrap()).unwrap()
}

const DEPOSITS: [&str; 6] = [
    "deposit-single.json",
    "deposit-batch-two-coins.json",
    "deposit-batch-fresh-plus-overspent.json",
    "deposit-after-failed-batch.json",
    "deposit-double-spend-409.json",
    "deposit-short-deadlines.json",
];

const FLOWS: [&str; 10] = [
    "wallet-flow-abort.jsonl",
    "wallet-flow-abort1502.jsonl",
    "wallet-flow-abortnone.jsonl",
    "wallet-flow-abortnone1502.jsonl",
    "wallet-flow-autorefund.trimmed.jsonl",
    "wallet-flow-doublespend-409.jsonl",
    "wallet-flow-gone.jsonl",
    "wallet-flow-pending.jsonl",
    "wallet-flow-refund.jsonl",
    "wallet-integrationtest.pay-refund.jsonl",
];

fn flow(name: &str) -> Vec<Value> {
    let text = String::from_utf8(bytes(name)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn target(message: &Value) -> &str {
    message
        .get("path")
        .or(message.get("url"))
        .unwrap()
        .as_str()
        .unwrap()
}

/// What a request for a deposit says, of a batch or of one coin, at the hash of the account that it names.
fn deposit_terms(request: &Value, h_wire: HashCode) -> DepositTerms {
    let time = |name| get::<TalerTimestamp>(request, name).0;
    DepositTerms {
        h_contract: get(request, "h_contract_terms"),
        h_wire,
        merchant_pub: get(request, "merchant_pub"),
        timestamp: time("timestamp"),
        refund_deadline: time("refund_deadline"),
        wire_transfer_deadline: time("wire_transfer_deadline"),
        wallet_data_hash: None,
    }
}

/// The coins of a request for a deposit; a deposit of one names it in the URL.
fn coins_of(url: &str, request: &Value) -> Vec<(CoinPub, Value)> {
    match request["coins"].as_array() {
        Some(coins) => coins
            .iter()
            .map(|coin| (get(coin, "coin_pub"), coin.clone()))
            .collect(),
        None => vec![(url.rsplit('/').nth(1).unwrap().parse().unwrap(), request.clone())],
    }
}

fn deposited(coin: &Value, coin_pub: CoinPub, keys: &ExchangeKeys) -> DepositedCoin {
    let h_denom = get(coin, "denom_pub_hash");
    DepositedCoin {
        coin_pub,
        h_denom,
        h_age_commitment: None,
        amount_with_fee: get(coin, "contribution"),
        deposit_fee: keys.denomination(&h_denom).unwrap().fees.deposit,
        coin_sig: get(coin, "coin_sig"),
    }
}

#[test]
fn keys_in_both_shapes_are_the_masters() {
    let master: MasterPub = MASTER.parse().unwrap();
    let verified = fixture("keys.verified.json");
    let whole: Value = fixture("keys.body.json");
    let mut flat = whole.clone();
    flat.as_object_mut().unwrap().remove("denominations");
    let mut grouped = whole.clone();
    grouped.as_object_mut().unwrap().remove("denoms");
    for shape in [&whole, &flat, &grouped] {
        let keys = ExchangeKeys::read(shape.to_string().as_bytes(), &master).unwrap();
        assert_eq!(keys.denominations().len(), 7);
        assert_eq!((keys.left_out.unsigned, keys.left_out.not_rsa), (0, 0));
        assert_eq!(keys.version.to_string(), "14:0:2");
        assert_eq!(keys.version.deposit_layout(), DepositLayout::PerCoin);
        for recorded in verified["denoms"].as_array().unwrap() {
            let denomination = keys.denomination(&get(recorded, "h_denom_pub")).unwrap();
            assert_eq!(
                hex(&denomination.validity_message(&master)),
                get::<String>(recorded, "signed_message_hex")
            );
            assert_eq!(denomination.value, get(recorded, "value"));
        }
    }
    // Each group of one names its only denomination's hash.
    let named: HashSet<HashCode> = whole["denominations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| get(group, "hash"))
        .collect();
    assert_eq!(
        named,
        keys()
            .denominations()
            .map(|denomination| denomination.h_denom)
            .collect()
    );
}

#[test]
fn what_the_master_did_not_sign_is_left_out() {
    let master: MasterPub = MASTER.parse().unwrap();
    let read = |keys: &Value| ExchangeKeys::read(keys.to_string().as_bytes(), &master);
    let mut grouped = fixture("keys.body.json");
    grouped.as_object_mut().unwrap().remove("denoms");
    for (name, value) in [
        ("fee_deposit", json!("TESTKUDOS:0.01")),
        ("fee_refund", json!("KUDOS:0.02")),
        ("value", json!("TESTKUDOS:3")),
        ("age_mask", json!(1)),
    ] {
        let mut keys = grouped.clone();
        keys["denominations"][0][name] = value;
        let keys = read(&keys).unwrap();
        assert_eq!(
            (keys.denominations().len(), keys.left_out.unsigned),
            (6, 1),
            "{name}"
        );
    }
    let mut later = grouped.clone();
    later["denominations"][0]["denoms"][0]["stamp_expire_deposit"]["t_s"] = json!(1_889_832_944);
    assert_eq!(read(&later).unwrap().left_out.unsigned, 1);
    let mut schnorr = grouped.clone();
    schnorr["denominations"][0]["cipher"] = json!("CS");
    schnorr["denominations"][0]["denoms"][0]
        .as_object_mut()
        .unwrap()
        .remove("rsa_pub");
    let keys = read(&schnorr).unwrap();
    assert_eq!((keys.denominations().len(), keys.left_out.not_rsa), (6, 1));

    let mut lacking = grouped.clone();
    lacking["denominations"][0]["denoms"][0]
        .as_object_mut()
        .unwrap()
        .remove("rsa_pub");
    assert!(matches!(read(&lacking), Err(KeysError::Denomination(_))));
    let mut old = grouped.clone();
    old["version"] = json!("11:0:0");
    assert!(matches!(read(&old), Err(KeysError::Protocol(_))));
    for version in ["", "14", "14:0", "14:0:15", "14:0:2:0", "+14:0:2", "a:b:c"] {
        old["version"] = json!(version);
        assert!(matches!(read(&old), Err(KeysError::Shape(_))), "{version}");
    }
    let stranger = MasterPub::from_bytes([7; 32]);
    assert!(matches!(
        ExchangeKeys::read(grouped.to_string().as_bytes(), &stranger),
        Err(KeysError::Foreign(_))
    ));
}

#[test]
fn a_denomination_takes_deposits_between_its_times() {
    let keys = keys();
    let denomination = keys.denominations().next().unwrap();
    for (second, window) in [
        (1_795_224_942, DepositWindow::NotYet),
        (1_795_224_943, DepositWindow::Open),
        (1_889_832_942, DepositWindow::Open),
        (1_889_832_943, DepositWindow::Over),
    ] {
        assert_eq!(
            denomination.deposit_window(Micros::from_s(second).unwrap()),
            window,
            "{second}"
        );
    }
}

#[test]
fn wire_fees_are_the_masters() {
    let master: MasterPub = MASTER.parse().unwrap();
    let currency = "TESTKUDOS".parse().unwrap();
    let mut wire = fixture("selling/wire.body.json");
    let fees = WireFees::read_wire(wire.to_string().as_bytes(), &master, currency).unwrap();
    assert_eq!(fees.unsigned, 0);
    let at = |second| {
        fees.at("x-taler-bank", Micros::from_s(second).unwrap())
            .map(|fee| fee.end)
    };
    let end = |second| Some(Timestamp::from_s(second).unwrap());
    assert_eq!(at(1_767_225_599), None);
    assert_eq!(at(1_767_225_600), end(1_798_761_600));
    assert_eq!(at(1_798_761_600), end(1_830_297_600));
    assert_eq!(at(1_893_456_000), None);
    assert_eq!(fees.at("iban", Micros::from_s(1_795_225_000).unwrap()), None);

    wire["fees"]["x-taler-bank"][0]["wire_fee"] = json!("TESTKUDOS:0");
    wire["fees"]["iban"] = wire["fees"]["x-taler-bank"].clone();
    let fees = WireFees::read_wire(wire.to_string().as_bytes(), &master, currency).unwrap();
    assert_eq!(
        fees.unsigned, 5,
        "one was changed, four are signed for another method"
    );
    // Since 2023 the same list stands in /keys.
    let mut keys = fixture("keys.body.json");
    keys["wire_fees"] = wire["fees"].clone();
    let keys = ExchangeKeys::read(keys.to_string().as_bytes(), &master).unwrap();
    assert_eq!(keys.wire_fees, Some(fees));
    assert_eq!(keys.left_out.unsigned, 5);
}

#[test]
fn offers_and_deposits_of_the_exchange_recordings() {
    let keys = keys();
    let (mut coins_seen, mut confirmed) = (0, 0);
    for name in DEPOSITS {
        let recording = fixture(name);
        let merchant: MerchantPub = get(&recording, "merchant_pub");
        let h_contract: HashCode = get(&recording, "h_contract_terms");
        assert!(
            merchant.verify(
                &message::contract(&h_contract),
                &get(&recording, "merchant_contract_sig")
            ),
            "{name}"
        );
        let request = &recording["request"]["body"];
        let terms = deposit_terms(request, get(&recording, "h_wire"));
        let mut coins = Vec::new();
        let sent = coins_of(&get::<String>(&recording["request"], "url"), request);
        for ((coin_pub, sent), known) in sent.iter().zip(recording["coins"].as_array().unwrap()) {
            let coin = deposited(sent, *coin_pub, &keys);
            assert_eq!(coin.deposit_fee, get(known, "deposit_fee"));
            let denomination = keys.denomination(&coin.h_denom).unwrap();
            assert_eq!(denomination.fees.refund, get(known, "refund_fee"));
            assert_eq!(
                hex(&terms.coin_message_2022(&coin)),
                get::<String>(known, "signed_message_hex"),
                "{name}"
            );
            assert!(terms.is_permitted(&coin, DepositLayout::PerCoin), "{name}");
            assert!(!terms.is_permitted(&coin, DepositLayout::PerBatch), "{name}");
            let data = Some(HashCode::from_bytes([0; 64]));
            let with_data = DepositTerms {
                wallet_data_hash: data,
                ..terms
            };
            assert!(!with_data.is_permitted(&coin, DepositLayout::PerCoin), "{name}");
            assert!(
                denomination.made(&coin.coin_pub, None, &get(sent, "ub_sig")),
                "{name}"
            );
            coins_seen += 1;
            coins.push(coin);
        }
        if get::<u16>(&recording["reply"], "status") != 200 {
            continue;
        }
        let reply = DepositReply::read(recording["reply"]["body"].to_string().as_bytes()).unwrap();
        for (coin, known) in coins
            .iter()
            .zip(recording["exchange_confirmations"].as_array().unwrap())
        {
            let message = terms
                .confirmation_of_coin(reply.exchange_timestamp, coin)
                .unwrap();
            assert_eq!(
                hex(&message),
                get::<String>(known, "signed_message_hex"),
                "{name}"
            );
        }
        assert_eq!(
            terms.confirmed_layout(&coins, &reply),
            Some(DepositLayout::PerCoin),
            "{name}"
        );
        assert_eq!(terms.confirmed_layout(&coins[1..], &reply), None, "{name}");
        let mut later = reply.clone();
        later.exchange_timestamp = Timestamp::from_s(1_795_225_226 + 10_000).unwrap();
        assert_eq!(terms.confirmed_layout(&coins, &later), None, "{name}");
        if coins.len() > 1 {
            coins.reverse();
            assert_eq!(terms.confirmed_layout(&coins, &reply), None, "another order");
        }
        confirmed += 1;
    }
    assert_eq!((coins_seen, confirmed), (8, 4));
}
