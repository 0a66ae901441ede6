//! `POST /batch-deposit`: reads the request and checks it in the order that taler-exchange 0.9.1 and its successors
//! of 2024 do, up to where the books are asked. Pure; books nothing.
//!
//! A signature text that cannot be one is a malformed request (22), one that is not the denomination's is 1006.

use std::str::FromStr;

use quittance_taler::denomination::CoinSignature;
use quittance_taler::deposit::{DepositLayout, DepositTerms, DepositedCoin};
use quittance_taler::payto::{self, PaytoError, PaytoUri};
use quittance_taler::time::TalerTimestamp;
use quittance_taler::{Amount, CoinPub, HashCode, Micros, Timestamp, base32};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use crate::books::{DENOMINATION_UNKNOWN, Reply, less, malformed, member};
use crate::denominations::Denomination;
use crate::keys::{Keys, Protocol, SigningKey};

/// The most coins of one batch: TALER_MAX_FRESH_COINS of the C sources.
const MAX_COINS: usize = 256;

// The sentences of 1205 and 1208 are recorded, the others are the registry's.
const PARAMETER_MALFORMED: &str = "The HTTP request was malformed (generic parse error).";
const DENOMINATION_SIGNATURE_INVALID: &str =
    "The signature of the denomination key over the coin is not valid.";
const VALIDITY_IN_FUTURE: &str = "Validity period of the denomination lies in the future.";
const DENOMINATION_EXPIRED: &str =
    "Denomination key of the coin is past its expiration time for the requested operation.";
const AMOUNT_EXCEEDS_VALUE: &str =
    "The specified amount for the coin is higher than the value of the denomination of the coin.";
const COIN_SIGNATURE_INVALID: &str =
    "The signature made by the coin over the deposit permission is not valid.";
const NEGATIVE_AFTER_FEE: &str =
    "The stated value of the coin after the deposit fee is subtracted would be negative.";
const REFUND_AFTER_WIRE: &str = "The stated refund deadline is after the wire deadline.";
const WIRE_DEADLINE_NEVER: &str = "The stated wire deadline is \"never\", which makes no sense.";

/// A batch whose signatures are all good.
pub(crate) struct Batch {
    pub(crate) terms: DepositTerms,
    pub(crate) coins: Vec<BatchCoin>,
}

/// One coin of it.
pub(crate) struct BatchCoin {
    pub(crate) coin: DepositedCoin,
    /// What it was worth when fresh.
    pub(crate) value: Amount,
    pub(crate) refund_fee: Amount,
}

/// The coins that a body names, as far as it does: for faults that wait for one.
pub(crate) fn named_coins(body: &[u8]) -> Vec<CoinPub> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let coins = body["coins"].as_array().into_iter().flatten();
    coins
        .filter_map(|coin| coin["coin_pub"].as_str()?.parse().ok())
        .collect()
}

impl Batch {
    pub(crate) fn read(body: &[u8], keys: &Keys, signer: &SigningKey, now: Micros) -> Result<Batch, Reply> {
        let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
            return Err(Reply::json_invalid());
        };
        let account: String = member(&members, "merchant_payto_uri", 0)?;
        let salt = member(&members, "wire_salt", 1)?;
        let merchant_pub = member(&members, "merchant_pub", 2)?;
        let h_contract = member(&members, "h_contract_terms", 3)?;
        // Newer exchanges read one member more here.
        let (wallet_data_hash, more) = match keys.protocol {
            Protocol::V14 => (None, 0),
            Protocol::V23 => (optional(&members, "wallet_data_hash", 4)?, 1),
        };
        let coins = members.get("coins").and_then(Value::as_array);
        let coins = coins.ok_or_else(|| malformed("coins", 4 + more))?;
        let timestamp = time(&members, "timestamp", 6 + more)?;
        let refund_deadline = match members.get("refund_deadline") {
            None => Timestamp::from_s(0).expect("the epoch"),
            Some(_) => time(&members, "refund_deadline", 7 + more)?,
        };
        let wire_transfer_deadline = time(&members, "wire_transfer_deadline", 8 + more)?;
        check_account(&account, keys.protocol)?;
        if refund_deadline > wire_transfer_deadline {
            return Err(Reply::error(400, 1208, REFUND_AFTER_WIRE));
        }
        if wire_transfer_deadline.is_never() {
            return Err(Reply::error(400, 1209, WIRE_DEADLINE_NEVER));
        }
        if !(1..=MAX_COINS).contains(&coins.len()) {
            return Err(parameter_malformed("coins"));
        }
        let terms = DepositTerms {
            h_contract,
            h_wire: payto::h_wire(&account, &salt),
            merchant_pub,
            timestamp,
            refund_deadline,
            wire_transfer_deadline,
            wallet_data_hash,
        };
        let layout = keys.protocol.deposit_layout();
        let coins = coins
            .iter()
            .map(|coin| read_coin(coin, &terms, layout, keys, signer, now))
            .collect::<Result<_, _>>()?;
        Ok(Batch { terms, coins })
    }
}

fn read_coin(
    coin: &Value,
    terms: &DepositTerms,
    layout: DepositLayout,
    keys: &Keys,
    signer: &SigningKey,
    now: Micros,
) -> Result<BatchCoin, Reply> {
    let members = coin.as_object().ok_or_else(Reply::json_invalid)?;
    let amount_with_fee: Amount = member(members, "contribution", 0)?;
    let h_denom = member(members, "denom_pub_hash", 1)?;
    let ub_sig: CoinSignature = json_member(members, "ub_sig", 2)?;
    let coin_pub = member(members, "coin_pub", 3)?;
    let h_age_commitment = optional(members, "h_age_commitment", 4)?;
    let coin_sig = member(members, "coin_sig", 5)?;

    let Some(denomination) = keys.denominations.of(&h_denom) else {
        return Err(denomination_unknown(signer, &h_denom, now));
    };
    if amount_with_fee.currency() != denomination.value.currency() {
        return Err(malformed("contribution", 0));
    }
    if less(&denomination.value, &amount_with_fee) {
        return Err(Reply::error(400, 1021, AMOUNT_EXCEEDS_VALUE));
    }
    check_time(denomination, signer, now)?;
    if !denomination.made(&coin_pub, h_age_commitment.as_ref(), &ub_sig) {
        return Err(Reply::error(403, 1006, DENOMINATION_SIGNATURE_INVALID));
    }
    let deposit_fee = denomination.fee_deposit;
    if less(&amount_with_fee, &deposit_fee) {
        return Err(Reply::error(400, 1207, NEGATIVE_AFTER_FEE));
    }
    let coin = DepositedCoin {
        coin_pub,
        h_denom,
        h_age_commitment,
        amount_with_fee,
        deposit_fee,
        coin_sig,
    };
    if !terms.is_permitted(&coin, layout) {
        let reply = Reply::error(403, 1205, COIN_SIGNATURE_INVALID);
        return Err(reply.with("detail", json!(abbreviated(&coin_pub))));
    }
    Ok(BatchCoin {
        coin,
        value: denomination.value,
        refund_fee: denomination.fee_refund,
    })
}

/// 404/1005, which the exchange signs.
pub(crate) fn denomination_unknown(signer: &SigningKey, h_denom: &HashCode, now: Micros) -> Reply {
    let body = signer.affirm_denomination_unknown(now.floor_s(), h_denom);
    Reply { status: 404, body }
        .with("code", json!(1005))
        .with("hint", json!(DENOMINATION_UNKNOWN))
}

fn check_time(denomination: &Denomination, signer: &SigningKey, now: Micros) -> Result<(), Reply> {
    let (status, code, hint) = if now.is_past(denomination.expire_deposit) {
        (410, 1009, DENOMINATION_EXPIRED)
    } else if !now.is_past(denomination.start) {
        (412, 1008, VALIDITY_IN_FUTURE)
    } else {
        return Ok(());
    };
    let body = signer.affirm_denomination_expired(now.floor_s(), &denomination.h_denom);
    Err(Reply { status, body }
        .with("code", json!(code))
        .with("hint", json!(hint)))
}

/// 0.9.1 took bank accounts without their owner's name.
fn check_account(account: &str, protocol: Protocol) -> Result<(), Reply> {
    match (PaytoUri::from_str(account), protocol) {
        (Ok(_), _) | (Err(PaytoError::NoReceiver), Protocol::V14) => Ok(()),
        (Err(error), _) => Err(parameter_malformed(&error.to_string())),
    }
}

fn parameter_malformed(detail: &str) -> Reply {
    Reply::error(400, 26, PARAMETER_MALFORMED).with("detail", json!(detail))
}

/// How the C library prints a key in few symbols: the first ones of its hash.
fn abbreviated(coin: &CoinPub) -> String {
    base32::encode(&Sha512::digest(coin.as_bytes()))
        .chars()
        .take(8)
        .collect()
}

fn json_member<T: DeserializeOwned>(members: &Map<String, Value>, name: &str, line: u32) -> Result<T, Reply> {
    let value = members.get(name).cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|_| malformed(name, line))
}

fn time(members: &Map<String, Value>, name: &str, line: u32) -> Result<Timestamp, Reply> {
    json_member(members, name, line).map(|TalerTimestamp(time)| time)
}

fn optional<T: FromStr>(members: &Map<String, Value>, name: &str, line: u32) -> Result<Option<T>, Reply> {
    members
        .contains_key(name)
        .then(|| member(members, name, line))
        .transpose()
}
