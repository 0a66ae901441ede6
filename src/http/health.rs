//! `GET health`: whether this service can do what it is for, which is to record. For monitors and proxies, so public
//! and cheap; it tells nothing of an order. No specification: Taler's merchant API has no such endpoint.

use quittance_events::Ledger;
use quittance_events::condition::Trouble;
use quittance_taler::ErrorCode;
use schemars::JsonSchema;
use serde::Serialize;
use warp::http::StatusCode;
use warp::reply::Response;

use super::{ledger, reply};
use crate::limits::HEALTH_TIME;
use crate::refusal::{Refusal, RequestError};

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
pub(super) struct Reply {
    #[schemars(extend("const" = "ok"))]
    status: &'static str,
}

pub(super) async fn get(ledger: &Ledger) -> Result<Response, RequestError> {
    // A probe that does not come back is a disk that hangs.
    let checked = tokio::time::timeout(HEALTH_TIME, ledger.check()).await;
    match checked.unwrap_or(Err(Trouble::Stalled)) {
        Ok(()) => {
            let mut response = reply::json(StatusCode::OK, &Reply { status: "ok" });
            ledger::cache(&mut response, ledger::CACHE_NOT);
            Ok(response)
        }
        Err(trouble) => Err(unable(trouble.word()).into()),
    }
}

fn unable(reason: &str) -> Refusal {
    Refusal::new(ErrorCode::GenericDbStoreFailed)
        .status(503)
        .member("status", "unable")
        .member("reason", reason)
}
