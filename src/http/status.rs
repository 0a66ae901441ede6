//! `GET orders/$ORDER_ID?h_contract=`: whether a wallet should come for refunds. Specification: Taler's merchant API
//! of that name, without long-polling.

use std::sync::Arc;

use quittance_events::{Folded, answer};
use quittance_taler::{ErrorCode, HashCode, uri};
use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::{Call, reply};
use crate::refusal::{Refusal, RequestError};

pub(super) async fn get(call: &Call) -> Result<Response, RequestError> {
    let h_contract = h_contract(&call.query)?;
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;
    let order = call.service.order(key).await?;
    let order = order.ok_or_else(|| Refusal::new(ErrorCode::MerchantGenericOrderUnknown))?;
    match h_contract {
        None => return Err(Refusal::new(ErrorCode::MerchantGetOrdersIdInvalidToken).into()),
        Some(hash) if hash != order.terms.h_contract => {
            return Err(Refusal::new(ErrorCode::MerchantGetOrdersIdInvalidContractHash).into());
        }
        Some(_) => {}
    }
    if order.payment.is_none() {
        let taler_pay_uri = uri::pay_uri(&call.instance().base_url, key.order.as_str());
        return Ok(reply::json(
            StatusCode::PAYMENT_REQUIRED,
            &json!({ "taler_pay_uri": taler_pay_uri }),
        ));
    }
    let now = call.service.now(Some(&Folded::Recorded(Arc::clone(&order))));
    Ok(reply::json(StatusCode::OK, &answer::status(&order, now)?))
}

pub(super) fn h_contract(query: &str) -> Result<Option<HashCode>, Refusal> {
    let mut given = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "h_contract");
    let malformed = |_| Refusal::new(ErrorCode::GenericParameterMalformed).detail("h_contract is no hash");
    given
        .next()
        .map(|(_, text)| text.parse().map_err(malformed))
        .transpose()
}
