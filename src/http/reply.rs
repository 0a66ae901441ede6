//! Replies: JSON bodies, receipts, and the mark by which the server reports that an answer was delivered.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use quittance_events::facts::RefundDelivered;
use quittance_events::receipt::HEADER;
use quittance_events::{Append, NewEvent, OrderKey, Seq, Stream};
use serde::Serialize;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::door::UnderWay;
use crate::service::{Served, Service};
use crate::waiters::Topic;

pub(super) const JSON: &str = "application/json";

/// Stands on a response whose delivery is to be recorded.
#[derive(Clone)]
pub(super) struct Delivery {
    service: Arc<Service>,
    key: OrderKey,
    answer: Seq,
}

impl Delivery {
    /// The last byte went out without error. Joins the next commit; nobody waits for it.
    pub(super) fn delivered(self, under_way: UnderWay) {
        tokio::spawn(async move {
            let at = self.service.now(self.service.ledger.cached(&self.key).as_ref());
            let append = Append {
                stream: Stream::Told(self.key.clone()),
                at,
                events: vec![NewEvent::bare(RefundDelivered { answer: self.answer })],
            };
            match self.service.ledger.append(append).await {
                Ok(_) => self.service.waiters.tell(&Topic::Order(self.key)),
                // The wallet has its answer; without this it is only asked to come once more.
                Err(error) => {
                    tracing::warn!(order = %self.key, answer = %self.answer, %error, "a delivery was not recorded");
                }
            }
            drop(under_way);
        });
    }
}

/// A body of this type.
pub(super) fn with_body(status: StatusCode, body: Vec<u8>, content_type: &'static str) -> Response {
    let mut response = Response::new(Bytes::from(body).into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON body.
pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let body = serde_json::to_vec(body).expect("a reply is plain JSON");
    with_body(status, body, JSON)
}

/// A JSON body that no cache may keep.
pub(super) fn secret_json<T: Serialize>(body: &T) -> Response {
    let mut response = json(StatusCode::OK, body);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What tells one JSON body from another, for who has asked before.
pub(super) fn tag(body: &[u8]) -> String {
    HEXLOWER.encode(&blake3::hash(body).as_bytes()[..16])
}

/// A JSON body with its tag; without one 304, for who has it already.
pub(super) fn tagged(tag: &str, body: Option<Vec<u8>>) -> Response {
    let mut response = match body {
        Some(body) => with_body(StatusCode::OK, body, JSON),
        None => empty(StatusCode::NOT_MODIFIED),
    };
    let tag = HeaderValue::from_str(&format!("\"{tag}\"")).expect("a tag is hexadecimal");
    response.headers_mut().insert(header::ETAG, tag);
    response
}

/// No body.
pub(super) fn no_content() -> Response {
    empty(StatusCode::NO_CONTENT)
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = status;
    response
}

/// A recorded answer, with its receipt.
pub(super) fn served(service: &Arc<Service>, served: Served) -> Response {
    let receipt = service.ledger.receipt(&served.recorded);
    let status = StatusCode::from_u16(served.answer.http_status).expect("answers are 200 or 410");
    let mut response = with_body(status, served.answer.body, JSON);
    if let Some(receipt) = receipt {
        let receipt = HeaderValue::from_str(&receipt).expect("a receipt is visible ASCII and spaces");
        response.headers_mut().insert(HEADER, receipt);
    }
    response
}

/// A recorded refund answer, whose delivery is recorded in turn.
pub(super) fn served_refund(service: &Arc<Service>, key: &OrderKey, answer: Served) -> Response {
    let seq = answer.recorded.seq;
    let awaits = answer.answer.http_status == 200 && !answer.recorded.is_delivered();
    let mut response = served(service, answer);
    if awaits {
        let delivery = Delivery {
            service: Arc::clone(service),
            key: key.clone(),
            answer: seq,
        };
        response.extensions_mut().insert(delivery);
    }
    response
}
