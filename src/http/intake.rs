//! The intake: a shop that keeps its payment backend tells Quittance of its orders, deposits and payments, and of
//! refunds made before it came here. `POST private/ledger/orders` and `POST private/ledger/orders/$ID/deposits`.
//! Specification: `docs/protocol-choices.md`. All of it is idempotent.

use quittance_events::{OrderId, OrderKey};
use quittance_taler::{ErrorCode, HashCode};
use schemars::JsonSchema;
use serde::Serialize;
use warp::http::StatusCode;
use warp::reply::Response;

use super::{Call, parse, reply, shape};
use crate::decide::deposits::{self, DepositsRequest};
use crate::decide::order::{self, OrderRequest};
use crate::refusal::{Refusal, RequestError};

#[derive(Serialize, JsonSchema)]
pub(super) struct OrderReply {
    #[schemars(with = "String")]
    order_id: OrderId,
    #[schemars(with = "shape::Bytes64")]
    h_contract: HashCode,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct DepositsReply {
    /// Of the order now.
    deposits: usize,
    paid: bool,
}

pub(super) fn read_order(body: &[u8]) -> Result<(OrderId, OrderRequest), Refusal> {
    OrderRequest::read(&parse(body)?)
}

pub(super) fn read_deposits(body: &[u8]) -> Result<DepositsRequest, Refusal> {
    parse(body)
}

pub(super) async fn post_order(call: &Call) -> Result<Response, RequestError> {
    let (order, request) = read_order(&call.body)?;
    let key = OrderKey {
        instance: call.instance.clone(),
        order,
    };
    let merchant_pub = call.instance().merchant.merchant_pub();
    let currency = call.service.currency;
    let decide = |order: Option<&_>, _| order::decide(order, &request, &merchant_pub, currency, call.by());
    call.service.decide_and_record_sale(&key, decide).await?;
    Ok(reply::json(
        StatusCode::OK,
        &OrderReply {
            h_contract: request.h_contract,
            order_id: key.order,
        },
    ))
}

pub(super) async fn post_deposits(call: &Call) -> Result<Response, RequestError> {
    let request = read_deposits(&call.body)?;
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;
    let configured = |exchange: &_| call.service.exchanges.is_configured(exchange);
    let merchant = &call.instance().merchant;
    let decide = |order: Option<&_>, _| deposits::decide(order, &request, configured, merchant, call.by());
    let order = call
        .service
        .decide_and_record(key, decide)
        .await?
        .ok_or(RequestError::Contended)?;
    let body = DepositsReply {
        deposits: order.deposits.len(),
        paid: order.payment.is_some(),
    };
    Ok(reply::json(StatusCode::OK, &body))
}
