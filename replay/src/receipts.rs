//! Receipts that wallets kept, against the ledger. A receipt is genuine by its signature alone; a ledger that does
//! not have its answer, or has another, was cut or rewritten after the wallet was answered.

use std::path::Path;

use quittance_events::receipt::{HEADER, Receipt};
use quittance_events::{Event, OrderKey};
use quittance_taler::{Amount, Digest32, json};
use serde::Deserialize;

use crate::Unusable;
use crate::case::named_amounts;
use crate::findings::Draft;
use crate::keys::LedgerKeys;
use crate::open::read_text;
use crate::rules;

/// Longest file that is read as a receipt: an origin has at most 200 bytes, digests and signature 207.
const RECEIPT_MAX: u64 = 4_096;

/// Reads a receipt: the header's text, with or without its name, or a file that holds it.
///
/// # Errors
/// It is neither a receipt nor a file with one.
pub fn read_receipt(given: &str) -> Result<Receipt, Unusable> {
    let path = Path::new(given);
    let text = if path.is_file() {
        read_text(path, RECEIPT_MAX)?
    } else {
        given.to_owned()
    };
    let text = text.trim();
    // Names of headers know no case.
    let words = match text.split_once(':') {
        Some((name, words)) if name.eq_ignore_ascii_case(HEADER) => words.trim(),
        _ => text,
    };
    words
        .parse()
        .map_err(|error| Unusable::NoReceipt(format!("{given}: {error}")))
}

/// What a ledger has in the place that a receipt names.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    event: Digest32,
    body: Option<Digest32>,
    kind: &'static str,
    order: Option<OrderKey>,
    amounts: Vec<Amount>,
}

impl Found {
    pub(crate) fn new(digest: Digest32, event: Option<&Event>) -> Found {
        Found {
            event: digest,
            body: event.and_then(|event| event.facts.answer_body()),
            kind: event.map_or("event that cannot be read", |event| event.facts.kind()),
            order: event.and_then(Event::order_key),
            amounts: event.map_or_else(Vec::new, |event| named_amounts(&event.facts)),
        }
    }
}

/// Whether a receipt is this ledger's.
pub(crate) fn is_of(receipt: &Receipt, keys: &LedgerKeys) -> bool {
    keys.origin().is_none_or(|origin| origin == receipt.origin)
        && keys.receipting(receipt.seq.get()).any(|key| receipt.verify(&key))
}

/// Compares a genuine receipt with the ledger. `told`: the money that its body tells of, where the body is at hand.
pub(crate) fn compare(receipt: &Receipt, found: Option<&Found>, told: Option<&[Amount]>) -> Option<Draft> {
    let seq = receipt.seq.get();
    let draft = |text: String, expected: String, was: String| {
        let amounts = told.or(found.map(|found| found.amounts.as_slice()));
        Draft::new(&rules::LOG_RECEIPT, seq, text)
            .of(found.and_then(|found| found.order.as_ref()))
            .differs(expected, was)
            .stake(amounts.unwrap_or_default().iter().copied())
    };
    let Some(found) = found else {
        let text = "a wallet holds the receipt of an answer that the ledger does not have";
        return Some(draft(
            text.into(),
            format!("event {}", receipt.event),
            "none".into(),
        ));
    };
    if found.event != receipt.event {
        let text = format!(
            "a wallet holds the receipt of another event than the {} that the ledger has here",
            found.kind
        );
        return Some(draft(
            text,
            format!("event {}", receipt.event),
            format!("event {}", found.event),
        ));
    }
    if found.body != Some(receipt.body) {
        let was = found
            .body
            .map_or_else(|| found.kind.to_owned(), |body| format!("body {body}"));
        let text = "a wallet holds the receipt of another body than the one that is recorded";
        return Some(draft(text.into(), format!("body {}", receipt.body), was));
    }
    None
}

/// The sum that a body tells of.
#[derive(Deserialize)]
struct Body {
    refund_amount: Option<Amount>,
}

/// What money a body tells of; none where it names no sum.
pub(crate) fn told_in(body: &[u8]) -> Vec<Amount> {
    let read = json::read_object::<Body>(body);
    read.ok()
        .and_then(|body| body.refund_amount)
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_body_tells_its_sum() {
        let told = told_in(br#"{"refund_amount":"KUDOS:2","refunds":[]}"#);
        assert_eq!(told, ["KUDOS:2".parse().unwrap()]);
        for other in [&b"{}"[..], b"", b"no json", br#"{"refund_amount":2}"#] {
            assert!(told_in(other).is_empty());
        }
    }

    #[test]
    fn what_is_no_receipt_is_refused() {
        for text in ["", "a b c", "Quittance-Receipt: x", "/nowhere/at/all"] {
            assert!(
                matches!(read_receipt(text), Err(Unusable::NoReceipt(_))),
                "{text}"
            );
        }
    }
}
