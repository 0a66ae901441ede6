//! Judges an exchange's reply: what it proves about a permission. Pure. A confirmation counts only with a signature
//! under a key that the exchange's master key signed and that was valid then, because a wallet will rely on it and
//! an auditor will ask for it. Specification: Taler's exchange API, `POST /coins/$COIN_PUB/refund`, message 1038.

use quittance_events::book::Book;
use quittance_events::facts::{ExchangeReplied, Verdict};
use quittance_events::{Order, RefundId};
use quittance_taler::{CoinPub, EddsaSignature, ExchangePub, Micros, message};
use serde::Deserialize;
use serde_json::Value;

use super::Reply;

/// Largest code that is one: within the integers that every JSON reader keeps.
const CODE_MAX: u64 = (1 << 53) - 1;

#[derive(Deserialize)]
struct Confirmation {
    exchange_pub: ExchangePub,
    exchange_sig: EddsaSignature,
}

/// Who signed, and what, where a reply has the form of a confirmation.
#[must_use]
pub fn claimed_proof(reply: &Reply) -> Option<(ExchangePub, EddsaSignature)> {
    if reply.http_status != 200 {
        return None;
    }
    let confirmation: Confirmation = serde_json::from_slice(&reply.body).ok()?;
    Some((confirmation.exchange_pub, confirmation.exchange_sig))
}

/// The `code` of a JSON object, where it is a number that a code can be.
fn error_code(body: &[u8]) -> Option<u64> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.as_object()?
        .get("code")?
        .as_u64()
        .filter(|code| *code <= CODE_MAX)
}

/// What the reply proves about the order's permission, as of `at`.
#[must_use]
pub fn judge(
    order: &Order,
    (coin, id): (CoinPub, RefundId),
    attempt: u64,
    reply: &Reply,
    book: &Book,
    at: Micros,
) -> ExchangeReplied {
    let status = reply.http_status;
    let code = error_code(&reply.body);
    let proof = claimed_proof(reply);
    let verdict = match (status, code) {
        (200, _) if proof.is_some_and(|proof| confirms(order, coin, id, proof, book, at)) => {
            Verdict::Confirmed
        }
        (200, _) => Verdict::Unproven,
        (408 | 425 | 429 | 451 | 500..=599, _) => Verdict::Later,
        (400..=499, Some(_)) => Verdict::Refused,
        _ => Verdict::Malformed,
    };
    ExchangeReplied {
        coin_pub: coin,
        rtransaction_id: id,
        attempt,
        http_status: status,
        error_code: code,
        exchange_pub: proof.map(|(key, _)| key),
        exchange_sig: proof.map(|(_, sig)| sig),
        verdict,
    }
}

fn confirms(
    order: &Order,
    coin: CoinPub,
    id: RefundId,
    (key, sig): (ExchangePub, EddsaSignature),
    book: &Book,
    at: Micros,
) -> bool {
    let amount = match id {
        RefundId::ABORT => order
            .aborted(&coin)
            .and_then(|aborted| aborted.permission)
            .map(|(amount, _)| amount),
        id => order.row(&coin, id).map(|row| row.amount),
    };
    let (Some(amount), Some(deposit)) = (amount, order.deposit(&coin)) else {
        return false;
    };
    let terms = &order.terms;
    let message =
        message::refund_confirmation(&terms.h_contract, &coin, &terms.merchant_pub, id.get(), &amount);
    book.signkey_valid(&deposit.exchange_master_pub, &key, at) && key.verify(&message, &sig)
}
