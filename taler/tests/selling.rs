//! What selling needs, against recordings of a real exchange (taler-exchange 0.9.1, protocol 14) and of a real
//! wallet of 2022: signatures of offers, payments, deposits and their confirmations, `h_wire`, `/keys`, `/wire`,
//! coins' signatures by their denominations, and contract terms.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use quittance_taler::{
    CoinPub, EddsaPrivateKey, HashCode, MasterPub, MerchantPub, Micros, RelativeTime, TalerTimestamp,
    Timestamp, WireSalt, contract_hash,
    denomination::{CoinSignature, DepositWindow},
    deposit::{DepositLayout, DepositReply, DepositTerms, DepositedCoin},
    exchange_keys::{ExchangeKeys, KeysError, WireFees},
    message,
    order::{ClaimRequest, Offer, OfferedExchange, OrderDefaults, OrderRequest, Seller},
    payment::{PayRequest, PaymentTerms, Sufficiency},
    payto::PaytoUri,
    uri, wallets_lack,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::Digest;
use std::{collections::HashMap, collections::HashSet, fs, path::PathBuf};

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
    let mut wire = fixture("../fixtures-selling/wire.body.json");
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

#[test]
fn a_repeated_batch_is_confirmed_again() {
    let (first, repeat) = (
        fixture("deposit-batch-two-coins.json"),
        fixture("../fixtures-selling/deposit-batch-repeat.json"),
    );
    let keys = keys();
    let request = &repeat["request"]["body"];
    let terms = deposit_terms(request, get(&first, "h_wire"));
    let coins: Vec<_> = coins_of("", request)
        .iter()
        .map(|(coin_pub, coin)| deposited(coin, *coin_pub, &keys))
        .collect();
    let reply = DepositReply::read(repeat["reply"]["body"].to_string().as_bytes()).unwrap();
    assert_eq!(
        terms.confirmed_layout(&coins, &reply),
        Some(DepositLayout::PerCoin)
    );
}

#[test]
fn what_the_exchange_refused_is_refused_here() {
    let keys = keys();
    let account =
        |request: &Value| get::<PaytoUri>(request, "merchant_payto_uri").h_wire(&get(request, "wire_salt"));
    let recording = fixture("../fixtures-selling/deposit-403-bad-coin-sig.json");
    let request = &recording["request"]["body"];
    let (coin_pub, sent) = coins_of("", request).remove(0);
    let coin = deposited(&sent, coin_pub, &keys);
    let terms = deposit_terms(request, account(request));
    assert!(!terms.is_permitted(&coin, DepositLayout::PerCoin));

    // The exchange called this "signature" malformed, and so do we. The coin's permission is good.
    let recording = fixture("../fixtures-selling/deposit-bad-denom-sig.json");
    assert_eq!(get::<String>(&recording["reply"]["body"], "field"), "ub_sig");
    let request = &recording["request"]["body"];
    let (coin_pub, sent) = coins_of("", request).remove(0);
    let coin = deposited(&sent, coin_pub, &keys);
    let terms = deposit_terms(request, account(request));
    assert!(terms.is_permitted(&coin, DepositLayout::PerCoin));
    assert!(CoinSignature::deserialize(&sent["ub_sig"]).is_err());
}

#[test]
fn a_coin_is_of_one_denomination_only() {
    let keys = keys();
    let request = fixture("deposit-batch-two-coins.json")["request"]["body"].clone();
    let coins = coins_of("", &request);
    let signatures: Vec<CoinSignature> = coins.iter().map(|(_, sent)| get(sent, "ub_sig")).collect();
    let age = quittance_taler::Digest32::from_bytes([0; 32]);
    for (index, (coin_pub, sent)) in coins.iter().enumerate() {
        let h_denom: HashCode = get(sent, "denom_pub_hash");
        for denomination in keys.denominations() {
            let its_own = denomination.h_denom == h_denom;
            assert_eq!(denomination.made(coin_pub, None, &signatures[index]), its_own);
            assert!(!denomination.made(coin_pub, Some(&age), &signatures[index]));
            assert!(!denomination.made(coin_pub, None, &signatures[1 - index]));
            assert!(!denomination.made(&coins[1 - index].0, None, &signatures[index]));
        }
    }
    // The same number once more around the modulus is no second signature.
    let key = &keys
        .denomination(&get(&coins[0].1, "denom_pub_hash"))
        .unwrap()
        .key;
    let modulus = num_bigint::BigUint::from_bytes_be(&key.as_bytes()[4..260]);
    let text: String = get(&coins[0].1["ub_sig"], "rsa_signature");
    let number = num_bigint::BigUint::from_bytes_be(&quittance_taler::base32::decode(&text).unwrap());
    let signature = |number: &num_bigint::BigUint| {
        quittance_taler::rsa::RsaSignature::from_bytes(&number.to_bytes_be()).unwrap()
    };
    let hash = HashCode::from_bytes(sha2::Sha512::digest(coins[0].0.as_bytes()).into());
    assert!(key.verify(&hash, &signature(&number)));
    assert!(!key.verify(&hash, &signature(&(&number + &modulus))));
    assert!(!key.verify(&hash, &signature(&(&modulus - &number))));
}

#[test]
fn accounts_of_the_recordings() {
    let mut checked = 0;
    let mut check = |object: &Value, payto: &str| {
        let uri: PaytoUri = get(object, payto);
        let salt: WireSalt = get(object, "wire_salt");
        assert_eq!(uri.h_wire(&salt), get(object, "h_wire"), "{uri}");
        assert_eq!(uri.h_wire(&salt), get(&object["contract_terms"], "h_wire"));
        assert_eq!(
            uri.method(),
            get::<String>(&object["contract_terms"], "wire_method")
        );
        checked += 1;
    };
    for name in DEPOSITS {
        check(&fixture(name), "merchant_payto_uri");
    }
    for entry in fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("refund-") && name != "refund-signature-vectors-c.json" {
            check(&fixture(&name)["deposit"], "merchant_payto_uri");
        }
    }
    assert_eq!(checked, 6 + 19);
    let vectors = fixture("../fixtures-selling/h-wire-vectors-c.json");
    for vector in vectors.as_array().unwrap() {
        let uri: PaytoUri = get(vector, "payto_uri");
        assert_eq!(
            uri.h_wire(&get(vector, "wire_salt")),
            get(vector, "h_wire"),
            "{uri}"
        );
    }
    assert_eq!(vectors.as_array().unwrap().len(), 3);
}

#[test]
fn coins_of_the_refund_recordings() {
    let keys = keys();
    let mut checked = 0;
    for entry in fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with("refund-") || name == "refund-signature-vectors-c.json" {
            continue;
        }
        let deposit = fixture(&name)["deposit"].clone();
        let terms = deposit_terms(&deposit, get(&deposit, "h_wire"));
        for coin in deposit["coins"].as_array().unwrap() {
            let deposited = deposited(coin, get(coin, "coin_pub"), &keys);
            assert!(terms.is_permitted(&deposited, DepositLayout::PerCoin), "{name}");
            checked += 1;
        }
    }
    assert!(checked >= 19, "{checked}");
}

/// The merchant that stood in when the wallet was recorded: its account is what its deposits name.
fn seller((account, salt): &(PaytoUri, WireSalt), terms: &Value) -> Seller {
    let exchanges: Vec<OfferedExchange> = get(terms, "exchanges");
    Seller::new(
        "TESTKUDOS".parse().unwrap(),
        &"http://127.0.0.1:9966/".parse().unwrap(),
        &json!({"name": "mock"}),
        get(terms, "merchant_pub"),
        (account, salt),
        exchanges,
    )
    .unwrap()
}

#[test]
fn orders_become_the_terms_that_the_wallet_took() {
    let defaults = OrderDefaults {
        pay_delay: RelativeTime::from_s(3600).unwrap(),
        refund_delay: RelativeTime::from_s(0).unwrap(),
        wire_delay: RelativeTime::from_s(86_400 - 3600).unwrap(),
        max_fee: "TESTKUDOS:1".parse().unwrap(),
        max_wire_fee: Some("TESTKUDOS:1".parse().unwrap()),
        wire_fee_amortization: Some(1),
    };
    // The merchant made a new salt for its account with each start; deposits tell which.
    let accounts: HashMap<HashCode, (PaytoUri, WireSalt)> = FLOWS
        .into_iter()
        .flat_map(flow)
        .filter(|message| target(message).ends_with("/deposit"))
        .map(|message| {
            let (uri, salt): (PaytoUri, WireSalt) = (
                get(&message["request"], "merchant_payto_uri"),
                get(&message["request"], "wire_salt"),
            );
            (uri.h_wire(&salt), (uri, salt))
        })
        .collect();
    let (mut checked, mut unknown_accounts) = (0, Vec::new());
    for name in FLOWS {
        let messages = flow(name);
        let mut ordered = HashMap::new();
        for message in &messages {
            let (request, reply) = (&message["request"], &message["reply"]);
            if target(message) == "/private/orders" {
                let order = OrderRequest::read(request.to_string().as_bytes()).unwrap();
                assert!(order.create_token);
                ordered.insert(get::<String>(reply, "order_id"), order);
            } else if target(message).ends_with("/claim") {
                let recorded = &reply["contract_terms"];
                let order_id: String = get(recorded, "order_id");
                let claim = ClaimRequest::read(request.to_string().as_bytes()).unwrap();
                assert!(claim.token.is_some());
                // Where no deposit was made, nothing tells the salt: there another account stands in.
                let h_wire: HashCode = get(recorded, "h_wire");
                let account = accounts.get(&h_wire).or(accounts.values().next()).unwrap();
                let offer = Offer::new(
                    &ordered[&order_id],
                    &seller(account, recorded),
                    &defaults,
                    get::<TalerTimestamp>(recorded, "timestamp").0,
                    &order_id,
                    || panic!("nothing is forgettable"),
                )
                .unwrap();
                let (mut terms, mut h_contract) = offer.claimed_by(&claim.nonce);
                assert_eq!(h_contract, contract_hash(&terms).unwrap(), "{name}");
                if !accounts.contains_key(&h_wire) {
                    terms["h_wire"] = json!(h_wire);
                    h_contract = contract_hash(&terms).unwrap();
                    unknown_accounts.push(name);
                }
                assert_eq!(&terms, recorded, "{name}");
                assert_eq!(h_contract, contract_hash(recorded).unwrap(), "{name}");
                assert_eq!(wallets_lack(&terms), [""; 0]);
                assert_eq!(Offer::from_terms(&offer.terms()).unwrap(), offer);
                let merchant: MerchantPub = get(recorded, "merchant_pub");
                assert!(
                    merchant.verify(&message::contract(&h_contract), &get(reply, "sig")),
                    "{name}"
                );
                checked += 1;
            }
        }
    }
    assert_eq!(
        unknown_accounts,
        ["wallet-flow-abortnone.jsonl", "wallet-flow-abortnone1502.jsonl"]
    );
    assert_eq!(checked, 12);
}

#[test]
fn terms_of_all_recordings_have_what_wallets_want() {
    for name in DEPOSITS {
        assert_eq!(wallets_lack(&fixture(name)["contract_terms"]), [""; 0], "{name}");
    }
    let whole = fixture("deposit-single.json")["contract_terms"].clone();
    for name in [
        "auditors",
        "nonce",
        "max_fee",
        "merchant",
        "exchanges",
        "pay_deadline",
    ] {
        let mut terms = whole.clone();
        terms.as_object_mut().unwrap().remove(name);
        assert_eq!(wallets_lack(&terms), [name]);
        terms[name] = json!(1);
        assert_eq!(wallets_lack(&terms), [name]);
    }
}

#[test]
fn uris_that_the_wallet_paid_by() {
    let base = "http://127.0.0.1:9966/".parse().unwrap();
    let mut checked = 0;
    for name in FLOWS {
        let mut tokens = HashMap::new();
        for message in flow(name) {
            let reply = &message["reply"];
            if target(&message) == "/private/orders" {
                tokens.insert(get::<String>(reply, "order_id"), get(reply, "token"));
            } else if let Some(recorded) = reply["taler_pay_uri"].as_str() {
                let order_id = target(&message).split(['/', '?']).nth(3).unwrap();
                let token = Some(&tokens[order_id]);
                assert_eq!(uri::pay_uri_with(&base, order_id, "", token), recorded, "{name}");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 12);
}

/// A recorded flow's terms, by the hash that we compute of them.
fn claimed(messages: &[Value]) -> HashMap<HashCode, Value> {
    messages
        .iter()
        .filter(|message| target(message).ends_with("/claim"))
        .map(|message| message["reply"]["contract_terms"].clone())
        .map(|terms| (contract_hash(&terms).unwrap(), terms))
        .collect()
}

#[test]
fn deposits_of_the_wallets_coins() {
    let keys = keys();
    let (mut permitted, mut confirmed) = (0, 0);
    for name in FLOWS {
        let messages = flow(name);
        let claimed = claimed(&messages);
        for message in messages
            .iter()
            .filter(|message| target(message).ends_with("/deposit"))
        {
            let request = &message["request"];
            let h_wire = get::<PaytoUri>(request, "merchant_payto_uri").h_wire(&get(request, "wire_salt"));
            let terms = PaymentTerms::read(&claimed[&get(request, "h_contract_terms")]).unwrap();
            let deposit = terms.deposit_terms(None);
            assert_eq!(deposit, deposit_terms(request, h_wire), "{name}");
            let (coin_pub, sent) = coins_of(target(message), request).remove(0);
            let coin = deposited(&sent, coin_pub, &keys);
            assert!(deposit.is_permitted(&coin, DepositLayout::PerCoin), "{name}");
            permitted += 1;
            if get::<u16>(message, "status") == 200 {
                let reply = DepositReply::read(message["reply"].to_string().as_bytes()).unwrap();
                assert_eq!(
                    deposit.confirmed_layout(&[coin], &reply),
                    Some(DepositLayout::PerCoin),
                    "{name}"
                );
                confirmed += 1;
            }
        }
    }
    assert_eq!((permitted, confirmed), (18, 16));
}

#[test]
fn payments_of_the_wallet() {
    let keys = keys();
    let (mut payments, mut coins, mut thanks) = (0, 0, 0);
    for name in FLOWS {
        let messages = flow(name);
        let claimed = claimed(&messages);
        for message in messages
            .iter()
            .filter(|message| target(message).ends_with("/pay"))
        {
            let order_id = target(message).split('/').nth(2).unwrap();
            let terms = claimed
                .values()
                .find(|terms| terms["order_id"] == order_id)
                .unwrap();
            let terms = PaymentTerms::read(terms).unwrap();
            let deposit = terms.deposit_terms(None);
            let pay = PayRequest::read(message["request"].to_string().as_bytes()).unwrap();
            assert_eq!(pay.session_id, "");
            let mut deposits = Vec::new();
            for coin in &pay.coins {
                let denomination = keys.denomination(&coin.h_denom).unwrap();
                assert!(denomination.made(&coin.coin_pub, None, &coin.ub_sig), "{name}");
                let deposited = coin.deposited(denomination.fees.deposit);
                assert!(deposit.is_permitted(&deposited, DepositLayout::PerCoin), "{name}");
                assert_eq!(coin.exchange_url, terms.contract.exchanges[0].url);
                deposits.push(deposited);
                coins += 1;
            }
            let wire_fee = "TESTKUDOS:0.01".parse().unwrap();
            let judged = |deposits| terms.price.is_paid_by(deposits, &[wire_fee]).unwrap();
            assert_eq!(judged(&deposits), Sufficiency::Enough, "{name}");
            assert!(
                matches!(judged(&deposits[1..]), Sufficiency::Insufficient(_)),
                "{name}"
            );
            payments += 1;
            if get::<u16>(message, "status") == 200 {
                let thanked = message::payment_ok(&terms.h_contract);
                let merchant = terms.contract.merchant_pub;
                assert!(
                    merchant.verify(&thanked, &get(&message["reply"], "sig")),
                    "{name}"
                );
                thanks += 1;
            }
        }
    }
    assert_eq!((payments, coins, thanks), (14, 26, 8));
}

#[test]
fn batches_are_sent_as_they_were() {
    let keys = keys();
    for name in DEPOSITS.iter().filter(|name| **name != "deposit-single.json") {
        let recording = fixture(name);
        let request = &recording["request"]["body"];
        let coins: Vec<_> = coins_of("", request)
            .iter()
            .map(|(coin_pub, sent)| {
                (
                    deposited(sent, *coin_pub, &keys),
                    get::<CoinSignature>(sent, "ub_sig"),
                )
            })
            .collect();
        let terms = PaymentTerms::read(&recording["contract_terms"])
            .unwrap()
            .deposit_terms(None);
        let (account, salt) = (get(request, "merchant_payto_uri"), get(request, "wire_salt"));
        assert_eq!(
            &terms.batch_request(&account, &salt, &coins, None),
            request,
            "{name}"
        );

        // What only newer exchanges know is added and changes nothing else.
        let signature = get(&recording, "merchant_contract_sig");
        let hash = HashCode::from_bytes([1; 64]);
        let with_data = DepositTerms {
            wallet_data_hash: Some(hash),
            ..terms
        };
        let mut coins = coins;
        coins[0].0.h_age_commitment = Some(quittance_taler::Digest32::from_bytes([2; 32]));
        let mut expected = request.clone();
        expected["merchant_sig"] = json!(signature);
        expected["wallet_data_hash"] = json!(hash);
        expected["coins"][0]["h_age_commitment"] = json!(coins[0].0.h_age_commitment);
        assert_eq!(
            with_data.batch_request(&account, &salt, &coins, Some(&signature)),
            expected
        );
    }
}

/// The recorded exchange speaks the older layout only; the newer one is checked against itself: same fields in the
/// same places, and every field counts.
#[test]
fn the_newer_layout_differs_by_its_additions_alone() {
    let recording = fixture("deposit-batch-two-coins.json");
    let keys = keys();
    let request = &recording["request"]["body"];
    let terms = deposit_terms(request, get(&recording, "h_wire"));
    let coins: Vec<_> = recording["coins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|known| {
            let (coin_pub, sent) = (
                get(known, "coin_pub"),
                json!({"denom_pub_hash": known["denom_pub_hash"], "contribution": known["contribution"], "coin_sig": known["coin_sig"]}),
            );
            let mut coin = deposited(&sent, coin_pub, &keys);
            let (old, new) = (terms.coin_message_2022(&coin), terms.coin_message_2023(&coin));
            assert_eq!((&new[4..392], &new[392..]), (&old[4..], &[0; 64][..]));
            assert_eq!((&old[..4], &new[..4]), (&[0, 0, 1, 136][..], &[0, 0, 1, 200][..]));
            let key = EddsaPrivateKey::from_base32(&get::<String>(known, "coin_priv")).unwrap();
            coin.coin_sig = key.sign(&new);
            assert!(terms.is_permitted(&coin, DepositLayout::PerBatch));
            assert!(!terms.is_permitted(&coin, DepositLayout::PerCoin));
            let with_data = DepositTerms { wallet_data_hash: Some(HashCode::from_bytes([1; 64])), ..terms };
            assert!(!with_data.is_permitted(&coin, DepositLayout::PerBatch));
            coin
        })
        .collect();

    let at = Timestamp::from_s(1_795_225_225).unwrap();
    let message = terms.confirmation_of_batch(at, &coins).unwrap();
    let of_coin = terms.confirmation_of_coin(at, &coins[0]).unwrap();
    assert_eq!(message[..8], [0, 0, 1, 88, 0, 0, 4, 9]);
    assert_eq!(message[8..224], of_coin[8..224]);
    let total: quittance_taler::Amount = "TESTKUDOS:12.28".parse().unwrap();
    assert_eq!(message[224..248], total.to_bytes(), "9.8 and 2.48");
    assert_eq!(message[312..], terms.merchant_pub.as_bytes()[..]);
    let online = EddsaPrivateKey::from_bytes([9; 32]);
    let reply = |signature| {
        let body = json!({
            "exchange_timestamp": {"t_s": 1_795_225_225},
            "exchange_pub": quittance_taler::ExchangePub::from_bytes(online.public_bytes()),
            "exchange_sig": signature,
        });
        DepositReply::read(body.to_string().as_bytes()).unwrap()
    };
    let good = reply(online.sign(&message));
    assert_eq!(
        terms.confirmed_layout(&coins, &good),
        Some(DepositLayout::PerBatch)
    );
    let reversed: Vec<_> = coins.iter().rev().copied().collect();
    assert_eq!(terms.confirmed_layout(&reversed, &good), None);
    assert_eq!(terms.confirmed_layout(&coins[..1], &good), None);
    assert_eq!(terms.confirmed_layout(&[], &good), None);
    // One coin's confirmation of old does not pass for a batch of two.
    assert_eq!(
        terms.confirmed_layout(&coins, &reply(online.sign(&of_coin))),
        None
    );
    assert_eq!(
        terms.confirmed_layout(&coins[..1], &reply(online.sign(&of_coin))),
        Some(DepositLayout::PerCoin)
    );
    for body in [
        json!({}),
        json!({"exchange_timestamp": {"t_s": 1}, "exchange_pub": MASTER}),
        json!({"exchange_timestamp": {"t_s": 1}, "exchange_pub": MASTER, "exchange_sig": good_text(&good), "exchange_sigs": []}),
    ] {
        assert!(DepositReply::read(body.to_string().as_bytes()).is_err(), "{body}");
    }
}

fn good_text(reply: &DepositReply) -> String {
    match &reply.signatures {
        quittance_taler::deposit::DepositSignatures::One(signature) => signature.to_string(),
        quittance_taler::deposit::DepositSignatures::PerCoin(_) => panic!("one signature was read"),
    }
}
