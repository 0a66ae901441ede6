//! Decides what becomes of a contract of which a shop wants members forgotten: what is left of its terms is recorded,
//! and all terms before are erased in the same commit. What the service itself reads of a contract stays. Specification:
//! Taler's merchant API, `PATCH private/orders/$ORDER_ID/forget`, and `docs/protocol-choices.md`.

use quittance_events::facts::{AttachmentErased, TermsForgotten};
use quittance_events::{AttachmentName, NewEvent, Order, Seq, TokenId};
use quittance_taler::forget::{ForgetError, ForgetPath, forget};
use quittance_taler::payment::PaymentTerms;
use quittance_taler::{ContractTerms, ErrorCode, json};
use serde_json::Value;

use crate::limits::FORGET_FIELDS_MAX;
use crate::refusal::Refusal;

/// Why the bytes are gone, as the ledger has it.
const REASON: &[u8] = b"forgotten by the shop";

fn not_forgettable(detail: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::MerchantPrivatePatchOrdersIdForgetPathNotForgettable).detail(detail)
}

/// Reads the paths of what is to be forgotten.
///
/// # Errors
/// One is malformed, or there are too many.
pub fn read(fields: &[String]) -> Result<Vec<ForgetPath>, Refusal> {
    let malformed = || Refusal::new(ErrorCode::MerchantPrivatePatchOrdersIdForgetPathSyntaxIncorrect);
    if fields.len() > FORGET_FIELDS_MAX {
        return Err(malformed().detail(format!("more than {FORGET_FIELDS_MAX} fields at once")));
    }
    let paths = fields.iter().map(|field| field.parse());
    paths
        .collect::<Result<_, ForgetError>>()
        .map_err(|error| malformed().detail(error))
}

/// Attachments with terms of an order that may not be erased yet: those of the offer, and those that are in force.
#[must_use]
pub fn terms_of(order: &Order) -> Vec<Seq> {
    let offered = order.sale.as_ref().map(|sale| sale.offer.seq);
    offered.into_iter().chain([order.terms_at]).collect()
}

/// Whether all that is read of the contract later on reads the same.
fn is_kept(order: &Order, terms: &Value, left: &Value) -> bool {
    let read = |terms| ContractTerms::read(terms, order.terms.choice_index);
    let asked = |terms| PaymentTerms::read(terms);
    let is_read = match (read(terms), read(left)) {
        (Ok(before), Ok(after)) => before == after,
        _ => false,
    };
    // Nobody pays here what was told, and it need not say what a payment asks for.
    let is_asked = order.sale.is_none()
        || match (asked(terms), asked(left)) {
            (Ok(before), Ok(after)) => before == after,
            _ => false,
        };
    is_read && is_asked && terms.get("nonce") == left.get("nonce")
}

/// Forgets members of the order's terms, which are `terms`; `there` are the attachments of [`terms_of`] that are not
/// erased. No events where nothing changes.
///
/// # Errors
/// There is no such order, or something cannot be forgotten.
pub fn decide(
    order: Option<&Order>,
    paths: &[ForgetPath],
    terms: Option<&Value>,
    there: &[Seq],
    by: &TokenId,
) -> Result<Vec<NewEvent>, Refusal> {
    let order = order.ok_or_else(|| Refusal::new(ErrorCode::MerchantGenericOrderUnknown))?;
    // Of erased terms nothing is left to be forgotten.
    let Some(terms) = terms else {
        return Ok(Vec::new());
    };
    let Some(left) = forget(terms, paths).map_err(not_forgettable)? else {
        return Ok(Vec::new());
    };
    if !is_kept(order, terms, &left) {
        return Err(not_forgettable(
            "payments and refunds need a member that would be forgotten",
        ));
    }
    let forgotten = TermsForgotten { by: by.clone() };
    let erased = there.iter().map(|seq| {
        let facts = AttachmentErased {
            seq: *seq,
            name: AttachmentName::Terms,
        };
        NewEvent::with(facts, AttachmentName::Reason, REASON.to_vec())
    });
    let forgotten = NewEvent::with(forgotten, AttachmentName::Terms, json::canonical(&left));
    Ok(std::iter::once(forgotten).chain(erased).collect())
}
