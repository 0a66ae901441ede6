//! `POST orders/$ORDER_ID/claim`: a wallet takes an order for itself and gets its contract. Specification: Taler's
//! merchant API of that name.

use std::sync::Arc;

use quittance_events::Folded;
use quittance_taler::order::{ClaimRequest, Offer};
use quittance_taler::{ClaimNonce, ClaimToken, EddsaSignature, ErrorCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use warp::http::StatusCode;
use warp::reply::Response;

use super::{Call, reply, shape};
use crate::decide::sale::claim;
use crate::refusal::{Refusal, RequestError};
use crate::selling::claim_token;
use crate::service::Service;

/// As `ClaimRequest` is read.
#[derive(JsonSchema)]
#[schemars(rename = "ClaimRequest")]
#[expect(dead_code, reason = "the shape of what is read elsewhere")]
pub(super) struct Request {
    #[schemars(with = "shape::Bytes32")]
    nonce: ClaimNonce,
    #[schemars(with = "Option<shape::Bytes16>")]
    token: Option<ClaimToken>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Claimed")]
pub(super) struct Reply {
    #[schemars(with = "shape::ContractTerms")]
    contract_terms: Value,
    #[schemars(with = "shape::Bytes64")]
    sig: EddsaSignature,
}

pub(super) fn read(body: &[u8]) -> Result<ClaimRequest, Refusal> {
    ClaimRequest::read(body).map_err(|e| Refusal::new(ErrorCode::GenericJsonInvalid).detail(e))
}

/// The terms that an order was offered with; `None` where they are erased.
pub(super) async fn offered(
    service: &Service,
    offer: &quittance_events::sale::Offer,
) -> Result<Option<Offer>, RequestError> {
    let terms = service.terms(offer.seq).await?;
    Ok(terms.and_then(|terms| Offer::from_terms(&terms).ok()))
}

pub(super) async fn post(call: &Call) -> Result<Response, RequestError> {
    let service = &call.service;
    let request = read(&call.body)?;
    let unknown = || Refusal::new(ErrorCode::MerchantPostOrdersIdClaimNotFound);
    let key = call.order(ErrorCode::MerchantPostOrdersIdClaimNotFound)?;
    let merchant = &call.instance().merchant;
    // What was offered stays as it is, so it may be read before the decision.
    let folded = service.folded(key).await?;
    let offer = match &folded {
        Some(Folded::Offered(offer)) => offered(service, offer).await?,
        _ => None,
    };
    let token = claim_token(merchant, key);
    let decide = |folded: Option<&Folded>, at| claim(folded, &request, offer.as_ref(), &token, merchant, at);
    let folded = service.decide_and_record_sale(key, decide).await?;
    let order = folded
        .as_ref()
        .and_then(Folded::order)
        .ok_or(RequestError::Contended)?;
    let claim = order.sale.as_ref().and_then(|sale| sale.claim.as_ref());
    let sig = claim.ok_or(RequestError::Contended)?.contract_sig;
    let contract_terms = match offer {
        Some(offer) => offer.claimed_by(&request.nonce).0,
        // It was claimed before; members may be forgotten since.
        None => {
            let folded = Folded::Recorded(Arc::clone(order));
            service.terms_now(&folded).await?.ok_or_else(unknown)?
        }
    };
    Ok(reply::json(StatusCode::OK, &Reply { contract_terms, sig }))
}
