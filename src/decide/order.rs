//! Decides whether contract terms become an order. Specification: the intake, `docs/protocol-choices.md`.

use quittance_events::facts::{NamedExchange, OrderRecorded};
use quittance_events::{AttachmentName, Folded, NewEvent, OrderId, TokenId};
use quittance_taler::forget::check_digests;
use quittance_taler::{ContractTerms, Currency, ErrorCode, HashCode, MerchantPub, contract_hash, json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::shape;
use crate::refusal::Refusal;

// A contract as it is told. As received: what is hashed is read apart from the rest, and strictly.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "RecordOrder")]
pub(crate) struct ToldOrder<'a> {
    #[serde(borrow)]
    #[schemars(with = "shape::ContractTerms")]
    pub(crate) contract_terms: &'a RawValue,
    pub(crate) choice_index: Option<u64>,
}

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

impl OrderRequest {
    /// Reads what was told; gives the order's id, too.
    ///
    /// # Errors
    /// The terms cannot be hashed, are none, or give the order a name that none can have.
    pub(crate) fn read(told: &ToldOrder<'_>) -> Result<(OrderId, OrderRequest), Refusal> {
        let refuse = |detail: String| {
            Refusal::new(ErrorCode::MerchantPrivatePostOrdersProposalParseError).detail(detail)
        };
        let terms =
            json::parse_strict(told.contract_terms.get().as_bytes()).map_err(|e| refuse(e.to_string()))?;
        let h_contract = contract_hash(&terms).map_err(|e| refuse(e.to_string()))?;
        // Nobody would have signed what such terms say.
        check_digests(&terms).map_err(|e| refuse(e.to_string()))?;
        let canonical = json::canonical(&terms);
        let terms = ContractTerms::read(&terms, told.choice_index).map_err(|e| refuse(e.to_string()))?;
        let order: OrderId = terms
            .order_id
            .parse()
            .map_err(|e: quittance_events::ids::IdError| refuse(e.to_string()))?;
        if matches!(order.as_str(), "." | "..") {
            // Every URL library takes these for steps in a path: no wallet could ever ask for the order.
            return Err(refuse("an order cannot be called `.` or `..`".to_owned()));
        }
        let request = OrderRequest {
            terms,
            h_contract,
            canonical,
        };
        Ok((order, request))
    }
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
