//! The one place where errors become HTTP: Taler's error body, `code`, `hint`, `detail` and, where the exchange is
//! at fault, what it said. Internal causes go to the log and never to a client.

use quittance_events::AppendError;
use quittance_taler::ErrorCode;
use serde_json::{Map, Value};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::observe::Code;
use super::reply;
use crate::limits::RETRY_AFTER_S;
use crate::refusal::{Refusal, RequestError};

/// The body of a refusal.
pub(super) fn body(refusal: &Refusal) -> Vec<u8> {
    let mut body = Map::new();
    body.insert("code".into(), refusal.code.code().into());
    body.insert("hint".into(), refusal.code.hint().into());
    if let Some(detail) = &refusal.detail {
        body.insert("detail".into(), detail.as_str().into());
    }
    body.extend(refusal.members.clone());
    serde_json::to_vec(&Value::Object(body)).expect("an error body is plain JSON")
}

/// The reply to a refusal.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let status = refusal.http_status.unwrap_or_else(|| refusal.code.http_status());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = reply::with_body(status, body(refusal), reply::JSON);
    response.extensions_mut().insert(Code(refusal.code.code()));
    if status == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, RETRY_AFTER_S.into());
    }
    response
}

/// 405, naming what would do.
pub(super) fn wrong_method(allowed: &[&str]) -> Response {
    let mut response = refused(&Refusal::new(ErrorCode::GenericMethodInvalid));
    let allowed = HeaderValue::from_str(&allowed.join(", ")).expect("methods are plain words");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// The reply to any error. `storage_code` is what the endpoint calls a ledger that fails.
pub(super) fn response(error: &RequestError, storage_code: ErrorCode) -> Response {
    let refusal = match error {
        RequestError::Refused(refusal) => return refused(refusal),
        RequestError::Append(AppendError::TooLarge { .. }) => {
            Refusal::new(ErrorCode::GenericUploadExceedsLimit).detail("more than one event can hold")
        }
        RequestError::Append(AppendError::ClockBehind { .. }) => Refusal::new(storage_code)
            .detail("the clock stands behind the ledger; the operator must correct it"),
        RequestError::DiskLow => Refusal::new(storage_code)
            .detail("the disk is nearly full: nothing new is taken on until the operator makes room"),
        RequestError::Append(_)
        | RequestError::Read(_)
        | RequestError::KeyFile(_)
        | RequestError::Contended => Refusal::new(storage_code),
        RequestError::Amount(_) | RequestError::Task => {
            Refusal::new(ErrorCode::GenericInternalInvariantFailure)
        }
    };
    let code = refusal.code.code();
    if matches!(error, RequestError::Append(AppendError::TooLarge { .. })) {
        // The client's to mend, so nobody has to act.
        tracing::warn!(%error, code, "an event would have been too large");
    } else {
        tracing::error!(%error, code, "a request failed");
    }
    refused(&refusal.status(match error {
        RequestError::Append(AppendError::TooLarge { .. }) => 413,
        _ => 500,
    }))
}
