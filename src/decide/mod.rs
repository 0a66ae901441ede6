//! Decisions: pure functions of (order state, request, time). They contact nobody, record nothing and read no
//! clock; what they return is recorded by the caller on the state that they were made on, or made again.

pub mod abort;
pub mod approval;
pub mod coins;
pub mod deposits;
pub mod erasure;
pub mod forget;
pub mod order;
pub mod pay;
pub mod refund;
pub mod sale;
mod spread;
pub mod takeover;
#[cfg(test)]
mod tests;

use quittance_events::RefundId;
use quittance_taler::{Amount, CoinPub, EddsaPrivateKey, EddsaSignature, HashCode, message};

/// The merchant's signature that permits the exchange to refund. Deterministic, so a decision stays pure.
#[must_use]
pub fn permit(
    merchant: &EddsaPrivateKey,
    h_contract: &HashCode,
    coin: &CoinPub,
    id: RefundId,
    amount: &Amount,
) -> EddsaSignature {
    merchant.sign(&message::refund_request(h_contract, coin, id.get(), amount))
}
