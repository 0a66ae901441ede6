//! `PATCH private/orders/$ORDER_ID/forget`: a shop has members of a contract forgotten. Specification: Taler's merchant
//! API of that name.

use std::sync::atomic::{AtomicBool, Ordering};

use quittance_events::{AttachmentName, Order};
use quittance_taler::ErrorCode;
use quittance_taler::forget::ForgetPath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use warp::http::StatusCode;
use warp::reply::Response;

use super::{Call, parse, reply};
use crate::decide::forget;
use crate::paying::too_slow;
use crate::refusal::{Refusal, RequestError};

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ForgetRequest")]
pub(super) struct Request {
    /// Such as `$.delivery_location` or `$.products[*].description`.
    fields: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Forgotten")]
pub(super) struct Reply {}

pub(super) fn read(body: &[u8]) -> Result<Vec<ForgetPath>, Refusal> {
    let Request { fields } = parse(body)?;
    forget::read(&fields)
}

pub(super) async fn patch(call: &Call) -> Result<Response, RequestError> {
    let service = &call.service;
    let until = Instant::now() + service.times.request;
    let paths = read(&call.body)?;
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;
    // A payment under way goes by the terms as they are. Nothing but forgetting changes them, so that they stay as they
    // are read here until this is over.
    let turn = timeout_at(until, service.paying.turn(key)).await;
    let _turn = turn.map_err(|_| too_slow().status(408))?;
    let order = service.order(key).await?;
    let order = order.ok_or_else(|| Refusal::new(ErrorCode::MerchantGenericOrderUnknown))?;
    let terms = service.terms(order.terms_at).await?;
    let mut there = Vec::new();
    for seq in forget::terms_of(&order) {
        if service.attachment(seq, AttachmentName::Terms).await?.is_some() {
            there.push(seq);
        }
    }
    let changed = AtomicBool::new(false);
    let decide = |order: Option<&Order>, _| {
        let events = forget::decide(order, &paths, terms.as_ref(), &there, call.by())?;
        changed.store(!events.is_empty(), Ordering::Relaxed);
        Ok(events)
    };
    service.decide_and_record(key, decide).await?;
    Ok(if changed.into_inner() {
        reply::json(StatusCode::OK, &Reply {})
    } else {
        reply::no_content()
    })
}
