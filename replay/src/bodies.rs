//! Builds the bodies that wallets were served, from the specification of the merchant API and the event format
//! alone. The service has its own builder; that the two agree on every recorded digest is what an audit shows.

use quittance_events::facts::{EntryType, Failure, Undeposited, Verdict};
use quittance_taler::CoinPub;
use serde_json::{Map, Value, json};

use crate::fold::{HandedOn, OrderFold, Refund, Said, Standing, amount_of};

/// The text of the 410, part of event format 1.
const GONE_HINT: &str = "The wire deadline has passed: it is too late to grant a refund.";
const AFTER_WIRE_DEADLINE: u64 = 2169;

const KEYS_FAILURE: u64 = 2010;
const EXCHANGE_TIMEOUT: u64 = 2011;
const CONNECT_FAILURE: u64 = 2012;
const REPLY_MALFORMED: u64 = 2013;
const UNEXPECTED_STATUS: u64 = 2014;
const ALREADY_PAID: u64 = 1503;
const DEPOSIT_NOT_FOUND: u64 = 1502;

/// An entry of an answer.
pub(crate) struct Entry {
    pub(crate) kind: EntryType,
    pub(crate) status: Option<u16>,
    pub(crate) members: Map<String, Value>,
    /// The reply that it would hand on is gone.
    pub(crate) is_gone: bool,
}

impl Entry {
    fn failure(status: u16, code: u64) -> Entry {
        let members = object(json!({"type": "failure", "exchange_status": status, "exchange_code": code}));
        Entry {
            kind: EntryType::Failure,
            status: Some(status),
            members,
            is_gone: false,
        }
    }

    fn undeposited() -> Entry {
        let members = object(json!({"type": "undeposited"}));
        Entry {
            kind: EntryType::Undeposited,
            status: None,
            members,
            is_gone: false,
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// A permission that may have been sent.
fn sent(standing: &Standing) -> Entry {
    match &standing.said {
        Said::Nothing | Said::Unreached(Failure::Timeout) => Entry::failure(504, EXCHANGE_TIMEOUT),
        Said::Unreached(Failure::Connect | Failure::Closed) => Entry::failure(502, CONNECT_FAILURE),
        Said::Confirmed(key, signature) => Entry {
            kind: EntryType::Success,
            status: Some(200),
            members: object(json!({
                "type": "success",
                "exchange_status": 200,
                "exchange_pub": key,
                "exchange_sig": signature,
            })),
            is_gone: false,
        },
        Said::Replied {
            http_status,
            error_code,
            verdict,
            handed_on,
        } => {
            let (status, code) = match (verdict, error_code) {
                (Verdict::Refused, Some(code)) => (*http_status, *code),
                (Verdict::Later, code) => {
                    let status = if *http_status >= 500 { *http_status } else { 503 };
                    (status, code.unwrap_or(UNEXPECTED_STATUS))
                }
                _ => (502, REPLY_MALFORMED),
            };
            let mut entry = Entry::failure(status, code);
            match handed_on {
                HandedOn::Object(reply) => {
                    entry.members.insert("exchange_reply".into(), reply.clone());
                }
                HandedOn::Nothing => {}
                HandedOn::Gone => entry.is_gone = true,
            }
            entry
        }
    }
}

/// A refund's entry, `past` the wire deadline or before it.
pub(crate) fn refund_entry(refund: &Refund, past: bool) -> Entry {
    let mut entry = match (refund.requested, past) {
        (true, _) => sent(&refund.standing),
        (false, false) => Entry::failure(502, KEYS_FAILURE),
        (false, true) => Entry::failure(410, ALREADY_PAID),
    };
    let execution = refund
        .execution_s
        .seconds()
        .map_or_else(|| json!("never"), |second| json!(second));
    entry.members.extend(object(json!({
        "rtransaction_id": refund.id.get(),
        "coin_pub": refund.coin,
        "refund_amount": refund.amount,
        "execution_time": {"t_s": execution},
    })));
    entry
}

/// An aborted coin's entry.
pub(crate) fn abort_entry(order: &OrderFold, coin: &CoinPub, mode: Undeposited) -> Entry {
    match (order.aborted.get(coin), mode) {
        (Some(aborted), _) if aborted.amount.is_some() && !aborted.standing.has_no_deposit() => {
            sent(&aborted.standing)
        }
        (_, Undeposited::Typed) => Entry::undeposited(),
        (_, Undeposited::Failure) => Entry::failure(404, DEPOSIT_NOT_FOUND),
    }
}

/// Whether the exchange has decided about the coin, or nothing was there to decide.
pub(crate) fn is_conclusive(order: &OrderFold, coin: &CoinPub) -> bool {
    order
        .aborted
        .get(coin)
        .is_none_or(|aborted| aborted.amount.is_none() || aborted.standing.is_decided())
}

/// A body's bytes: RFC 8785. Nothing where they cannot be known.
fn bytes(body: &Value, gone: bool) -> Option<Vec<u8>> {
    (!gone)
        .then(|| serde_json_canonicalizer::to_vec(body).expect("texts, integers, lists and objects are JSON"))
}

/// The body of a refund's 200.
pub(crate) fn refund_body(order: &OrderFold, entries: Vec<Entry>) -> Option<Vec<u8>> {
    let gone = entries.iter().any(|entry| entry.is_gone);
    let refunds: Vec<Value> = entries
        .into_iter()
        .map(|entry| Value::Object(entry.members))
        .collect();
    let body = json!({
        "merchant_pub": order.terms.merchant_pub,
        "refund_amount": amount_of(order.currency(), order.refunded_units()),
        "refunds": refunds,
    });
    bytes(&body, gone)
}

/// The body of a refund's 410.
pub(crate) fn gone_body() -> Option<Vec<u8>> {
    bytes(&json!({"code": AFTER_WIRE_DEADLINE, "hint": GONE_HINT}), false)
}

/// The body of an abort's 200.
pub(crate) fn abort_body(entries: Vec<Entry>) -> Option<Vec<u8>> {
    let gone = entries.iter().any(|entry| entry.is_gone);
    let refunds: Vec<Value> = entries
        .into_iter()
        .map(|entry| Value::Object(entry.members))
        .collect();
    bytes(&json!({"refunds": refunds}), gone)
}
