//! Decides whether contract terms become an order. Specification: the intake, `docs/protocol-choices.md`.

use quittance_events::facts::{NamedExchange, OrderRecorded};
use quittance_events::{AttachmentName, Folded, NewEvent, TokenId};
use quittance_taler::{ContractTerms, Currency, ErrorCode, HashCode, MerchantPub};

use crate::refusal::Refusal;

/// A contract that a shop tells of. No `Debug`: contracts must not come into a log by mistake.
#[derive(Clone)]
pub struct OrderRequest {
    /// As read from the terms.
    pub terms: ContractTerms,
    /// Hash of the terms.
    pub h_contract: HashCode,
    /// The terms as canonical JSON.
    pub canonical: Vec<u8>,
}

/// Records the order, once. Equal terms again change nothing.
///
/// # Errors
/// The terms are another merchant's, another currency's, or not those recorded before; or the order is sold here.
pub fn decide(
    folded: Option<&Folded>,
    request: &OrderRequest,
    merchant_pub: &MerchantPub,
    currency: Currency,
    by: &TokenId,
) -> Result<Vec<NewEvent>, Refusal> {
    let terms = &request.terms;
    if terms.merchant_pub != *merchant_pub {
        return Err(
            Refusal::new(ErrorCode::MerchantPrivatePostOrdersProposalParseError)
                .detail("merchant_pub is not this instance's key"),
        );
    }
    if terms.amount.currency() != currency {
        return Err(Refusal::new(ErrorCode::MerchantGenericCurrencyMismatch)
            .detail(format!("this instance sells in {currency}")));
    }
    if folded.is_some_and(|folded| folded.offer().is_some()) {
        return Err(Refusal::new(ErrorCode::MerchantPrivatePostOrdersAlreadyExists)
            .detail("an order of this id was made here"));
    }
    if let Some(order) = folded.and_then(Folded::order) {
        if order.terms.h_contract == request.h_contract && order.terms.choice_index == terms.choice_index {
            return Ok(Vec::new());
        }
        return Err(Refusal::new(ErrorCode::MerchantPrivatePostOrdersAlreadyExists)
            .detail("the order is recorded with other contract terms"));
    }
    let facts = OrderRecorded {
        h_contract: request.h_contract,
        amount: terms.amount,
        timestamp_s: terms.timestamp,
        refund_deadline_s: terms.refund_deadline,
        wire_deadline_s: terms.wire_transfer_deadline,
        merchant_pub: terms.merchant_pub,
        exchanges: terms
            .exchanges
            .iter()
            .map(|exchange| NamedExchange {
                url: exchange.url.clone(),
                master_pub: exchange.master_pub,
            })
            .collect(),
        choice_index: terms.choice_index,
        by: Some(by.clone()),
    };
    Ok(vec![NewEvent::with(
        facts,
        AttachmentName::Terms,
        request.canonical.clone(),
    )])
}
