//! `POST private/orders/$ORDER_ID/refund`: the merchant grants a refund. Specification: Taler's merchant API of that
//! name. The amount is the order's new total.

use quittance_events::RefundId;
use quittance_taler::{Amount, ErrorCode, HashCode, uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::http::StatusCode;
use warp::reply::Response;

use super::{Call, parse, reply, shape};
use crate::decide::approval::{ApprovalRequest, decide};
use crate::refusal::{Refusal, RequestError};

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ApprovalRequest")]
pub(super) struct Request {
    #[schemars(with = "shape::Amount")]
    refund: Amount,
    reason: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApprovalReply")]
pub(super) struct Reply {
    taler_refund_uri: String,
    #[schemars(with = "shape::Bytes64")]
    h_contract: HashCode,
}

pub(super) fn read(body: &[u8]) -> Result<ApprovalRequest, Refusal> {
    let Request { refund, reason } = parse(body)?;
    Ok(ApprovalRequest { refund, reason })
}

pub(super) async fn post(call: &Call) -> Result<Response, RequestError> {
    let request = read(&call.body)?;
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;
    let instance = call.instance();
    let first_id = RefundId::first_of(call.service.ledger.book().generation);
    let merchant = (instance.merchant.as_ref(), first_id);
    let decide = |order: Option<&_>, now| decide(order, &request, merchant, call.by(), now);
    let order = call
        .service
        .decide_and_record(key, decide)
        .await?
        .ok_or(RequestError::Contended)?;
    let body = Reply {
        taler_refund_uri: uri::refund_uri(&instance.base_url, key.order.as_str()),
        h_contract: order.terms.h_contract,
    };
    Ok(reply::json(StatusCode::OK, &body))
}
