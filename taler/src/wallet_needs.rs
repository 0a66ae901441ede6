//! What wallets demand of contract terms: those of 2022 and those of today together. A check for tests and for terms
//! that came from elsewhere; says nothing about what merchants need.

use crate::{
    Amount, ClaimNonce, HashCode, MerchantPub, TalerTimestamp, json::Object, order::OfferedExchange,
};
use serde::Deserialize;
use serde_json::Value;

/// Members that some wallet cannot do without. `auditors` only those of 2022 ask for, a `priority` of each exchange
/// only later ones.
const NEEDED: [&str; 16] = [
    "amount",
    "auditors",
    "exchanges",
    "h_wire",
    "max_fee",
    "merchant",
    "merchant_base_url",
    "merchant_pub",
    "nonce",
    "order_id",
    "pay_deadline",
    "refund_deadline",
    "summary",
    "timestamp",
    "wire_method",
    "wire_transfer_deadline",
];

/// The members that a wallet needs and that these terms, claimed and so with a nonce, lack or have in another form.
/// Empty for every offer that was claimed.
#[must_use]
pub fn wallets_lack(terms: &Value) -> Vec<&'static str> {
    let lacking = NEEDED.iter().filter(|name| !is_as_needed(name, &terms[**name]));
    lacking.copied().collect()
}

fn is_as_needed(name: &str, value: &Value) -> bool {
    fn is<'a, T: Deserialize<'a>>(value: &'a Value) -> bool {
        T::deserialize(value).is_ok()
    }
    match name {
        "amount" | "max_fee" => is::<Amount>(value),
        "auditors" => value.is_array(),
        "exchanges" => is::<Vec<Object<OfferedExchange>>>(value),
        "h_wire" => is::<HashCode>(value),
        "merchant" => value["name"].is_string(),
        "merchant_pub" => is::<MerchantPub>(value),
        "nonce" => is::<ClaimNonce>(value),
        "pay_deadline" | "refund_deadline" | "timestamp" | "wire_transfer_deadline" => {
            is::<TalerTimestamp>(value)
        }
        _ => value.is_string(),
    }
}
