//! `POST private/orders`: a shop offers something. `GET private/orders`: the instance's orders. Specification: Taler's
//! merchant API of that name.

use quittance_events::{Folded, OrderId, OrderKey};
use quittance_taler::order::{Offer, OrderRequest};
use quittance_taler::{ClaimToken, ErrorCode};
use schemars::JsonSchema;
use serde::Serialize;
use warp::reply::Response;

use super::{Call, claim, reply, shape};
use crate::decide::sale::{create, refused};
use crate::refusal::{Refusal, RequestError};
use crate::selling::{Selling, claim_token, new_order_id, new_salt};

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NewOrder")]
pub(super) struct Made {
    #[schemars(with = "String")]
    order_id: OrderId,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Bytes16>")]
    token: Option<ClaimToken>,
}

pub(super) fn read(body: &[u8]) -> Result<OrderRequest, Refusal> {
    OrderRequest::read(body).map_err(|error| refused(&error))
}

pub(super) async fn post(call: &Call) -> Result<Response, RequestError> {
    let service = &call.service;
    let request = read(&call.body)?;
    let selling = Selling::of(service, call.instance(), request.payment_target.as_deref()).await?;
    let own_id = request.own_id().map_err(|error| refused(&error))?;
    let id = own_id.unwrap_or_else(|| new_order_id((service.clock)()));
    let malformed = |error| {
        let refusal = Refusal::new(ErrorCode::MerchantPrivatePostOrdersProposalParseError);
        refusal.detail(format!("order_id {error}"))
    };
    let key = OrderKey {
        instance: call.instance.clone(),
        order: id
            .parse()
            .map_err(|e: quittance_events::ids::IdError| malformed(e))?,
    };
    let decide = |folded: Option<&Folded>, at: quittance_taler::Micros| {
        let Selling { seller, defaults, .. } = &selling;
        let offer = || Offer::new(&request, seller, defaults, at.floor_s(), &id, new_salt);
        create(folded, offer, selling.h_wire, request.create_token, call.by())
    };
    let recorded = service.decide_and_record_sale(&key, decide).await;
    if let Err(error) = recorded
        && !made_before(call, &key, &request, &selling, &error).await?
    {
        return Err(error);
    }
    let token = request
        .create_token
        .then(|| claim_token(&call.instance().merchant, &key));
    let made = Made {
        order_id: key.order,
        token,
    };
    Ok(reply::secret_json(&made))
}

/// Whether an order was refused because the same request had made it before.
async fn made_before(
    call: &Call,
    key: &OrderKey,
    request: &OrderRequest,
    selling: &Selling,
    error: &RequestError,
) -> Result<bool, RequestError> {
    let exists = ErrorCode::MerchantPrivatePostOrdersAlreadyExists;
    if !matches!(error, RequestError::Refused(refusal) if refusal.code == exists) {
        return Ok(false);
    }
    let folded = call.service.folded(key).await?;
    let Some(made) = folded.as_ref().filter(|folded| !folded.is_deleted()) else {
        return Ok(false);
    };
    let Some(made) = made.offer() else {
        return Ok(false);
    };
    if made.created.claim_token != request.create_token {
        return Ok(false);
    }
    let offered = claim::offered(&call.service, made).await?;
    Ok(offered.is_some_and(|offered| request.asks_for(&offered, &selling.seller, &selling.defaults)))
}
