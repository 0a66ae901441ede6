//! Decides what becomes of an order that is sold here before anybody pays: made, claimed, taken back. Specification:
//! Taler's merchant API, `private/orders` and `orders/$ORDER_ID/claim`, and `docs/protocol-choices.md`.

use quittance_events::facts::{NamedExchange, OrderClaimed, OrderCreated, OrderDeleted, OrderRecorded};
use quittance_events::sale::Batch;
use quittance_events::{AttachmentName, Folded, NewEvent, TokenId};
use quittance_taler::order::{ClaimRequest, Offer, OrderError};
use quittance_taler::{
    ClaimToken, ContractTerms, EddsaPrivateKey, ErrorCode, HashCode, Micros, json, message,
};

use crate::refusal::Refusal;

/// Why no order is made, in Taler's words.
#[must_use]
pub fn refused(error: &OrderError) -> Refusal {
    let code = match error {
        OrderError::Json(_) => ErrorCode::GenericJsonInvalid,
        OrderError::Member(..) | OrderError::Reserved(_) | OrderError::Terms(_) => {
            ErrorCode::MerchantPrivatePostOrdersProposalParseError
        }
        OrderError::Unsupported(_) => ErrorCode::GenericFeatureNotImplemented,
        OrderError::Currency(..) => ErrorCode::MerchantGenericCurrencyMismatch,
        OrderError::RefundAfterWire => ErrorCode::MerchantPrivatePostOrdersRefundAfterWireDeadline,
        OrderError::WireNever => ErrorCode::MerchantPrivatePostOrdersWireDeadlineIsNever,
        OrderError::DeliveryPast => ErrorCode::MerchantPrivatePostOrdersDeliveryDateInPast,
        OrderError::PayPast => ErrorCode::MerchantPrivatePostOrdersPayDeadlineInPast,
        OrderError::RefundPast => ErrorCode::MerchantPrivatePostOrdersRefundDeadlineInPast,
        OrderError::NoExchange(_) => ErrorCode::MerchantPrivatePostOrdersNoExchangesForWireMethod,
    };
    Refusal::new(code).detail(error)
}

/// An order of that name is there, or was.
#[must_use]
pub fn exists() -> Refusal {
    Refusal::new(ErrorCode::MerchantPrivatePostOrdersAlreadyExists)
        .detail("an order of this id was made with another request, or taken back")
}

fn named(terms: &ContractTerms) -> Vec<NamedExchange> {
    let exchanges = terms.exchanges.iter();
    exchanges
        .map(|exchange| NamedExchange {
            url: exchange.url.clone(),
            master_pub: exchange.master_pub,
        })
        .collect()
}

/// Makes an order of what is offered now.
///
/// # Errors
/// There is one of that name, or nothing can be offered.
pub fn create(
    folded: Option<&Folded>,
    offer: impl FnOnce() -> Result<Offer, OrderError>,
    h_wire: HashCode,
    claim_token: bool,
    by: &TokenId,
) -> Result<Vec<NewEvent>, Refusal> {
    if folded.is_some() {
        return Err(exists());
    }
    let offer = offer().map_err(|error| refused(&error))?;
    let terms = offer.contract();
    let facts = OrderCreated {
        amount: terms.amount,
        timestamp_s: terms.timestamp,
        pay_deadline_s: offer.pay_deadline(),
        refund_deadline_s: terms.refund_deadline,
        wire_deadline_s: terms.wire_transfer_deadline,
        merchant_pub: terms.merchant_pub,
        exchanges: named(terms),
        h_wire,
        claim_token,
        by: by.clone(),
    };
    let canonical = json::canonical(&offer.terms());
    Ok(vec![NewEvent::with(facts, AttachmentName::Terms, canonical)])
}

/// Gives the order to the wallet with this nonce, once: then it has a contract. The same wallet again changes nothing.
/// `offer` are the terms that were made with the order, `token` is the order's.
///
/// # Errors
/// There is no such order to this token, another wallet has it, or it is too late to pay.
pub fn claim(
    folded: Option<&Folded>,
    request: &ClaimRequest,
    offer: Option<&Offer>,
    token: &ClaimToken,
    merchant: &EddsaPrivateKey,
    now: Micros,
) -> Result<Vec<NewEvent>, Refusal> {
    let unknown = || Refusal::new(ErrorCode::MerchantPostOrdersIdClaimNotFound);
    let folded = folded.filter(|folded| !folded.is_deleted()).ok_or_else(unknown)?;
    // Orders that the intake told of were claimed elsewhere.
    let offered = folded.offer().ok_or_else(unknown)?;
    let shown = request.token.as_ref();
    if offered.created.claim_token && !shown.is_some_and(|shown| shown.matches(token)) {
        return Err(unknown());
    }
    if let Some(order) = folded.order() {
        let claim = order.sale.as_ref().and_then(|sale| sale.claim.as_ref());
        return match claim {
            Some(claim) if claim.nonce == request.nonce => Ok(Vec::new()),
            _ => Err(Refusal::new(ErrorCode::MerchantPostOrdersIdClaimAlreadyClaimed)),
        };
    }
    if now.is_past(offered.created.pay_deadline_s) {
        return Err(Refusal::new(ErrorCode::MerchantPostOrdersIdPayOfferExpired));
    }
    let (terms, h_contract) = offer.ok_or_else(unknown)?.claimed_by(&request.nonce);
    let created = &offered.created;
    let recorded = OrderRecorded {
        h_contract,
        amount: created.amount,
        timestamp_s: created.timestamp_s,
        refund_deadline_s: created.refund_deadline_s,
        wire_deadline_s: created.wire_deadline_s,
        merchant_pub: created.merchant_pub,
        exchanges: created.exchanges.clone(),
        choice_index: None,
        by: None,
    };
    let claimed = OrderClaimed {
        nonce: request.nonce,
        contract_sig: merchant.sign(&message::contract(&h_contract)),
    };
    Ok(vec![
        NewEvent::with(recorded, AttachmentName::Terms, json::canonical(&terms)),
        NewEvent::bare(claimed),
    ])
}

/// Takes an order back. One that a wallet has claimed may still be paid until its pay deadline, unless `force` says that
/// this does not matter; never one with money in it, or with coins that an exchange may have taken.
///
/// # Errors
/// There is no such order, or it is paid or may be.
pub fn delete(
    folded: Option<&Folded>,
    force: bool,
    now: Micros,
    by: &TokenId,
) -> Result<Vec<NewEvent>, Refusal> {
    let unknown = || Refusal::new(ErrorCode::MerchantGenericOrderUnknown);
    let folded = folded.filter(|folded| !folded.is_deleted()).ok_or_else(unknown)?;
    let awaiting = |why| Err(Refusal::new(ErrorCode::MerchantPrivateDeleteOrdersAwaitingPayment).detail(why));
    if let Some(order) = folded.order() {
        if order.payment.is_some() {
            return Err(Refusal::new(ErrorCode::MerchantPrivateDeleteOrdersAlreadyPaid));
        }
        let Some(sale) = &order.sale else {
            return awaiting("the order was told: only the backend that sells it knows whether it may go");
        };
        if !order.deposits.is_empty() || !order.aborts.is_empty() {
            return awaiting("coins were deposited for the order, or given up");
        }
        if sale.batches.iter().any(Batch::is_in_question) {
            return awaiting("an exchange may have taken coins for the order");
        }
        if !force && !now.is_past(sale.offer.created.pay_deadline_s) {
            return awaiting("a wallet has claimed the order and may pay it until its pay deadline");
        }
    }
    Ok(vec![NewEvent::bare(OrderDeleted { by: by.clone() })])
}
