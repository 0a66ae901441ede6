//! `GET health`: whether this service can do what it is for, which is to record. For monitors and proxies, so public
//! and cheap; it tells nothing of an order. No specification: Taler's merchant API has no such endpoint.

use quittance_events::condition::Trouble;
use quittance_taler::ErrorCode;
use schemars::JsonSchema;
use serde::Serialize;
use warp::http::StatusCode;
use warp::reply::Response;

use super::{ledger, reply};
use crate::limits::HEALTH_TIME;
use crate::refusal::{Refusal, RequestError};
use crate::service::Service;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
pub(super) struct Reply {
    #[schemars(extend("const" = "ok"))]
    status: &'static str,
}

/// Why the service cannot do what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unable {
    Ledger(Trouble),
    /// It settles and answers what is open, and takes on nothing new.
    DiskNearlyFull,
}

impl Unable {
    fn word(self) -> &'static str {
        match self {
            Unable::Ledger(trouble) => trouble.word(),
            Unable::DiskNearlyFull => "disk_nearly_full",
        }
    }
}

pub(super) async fn get(service: &Service) -> Result<Response, RequestError> {
    check(service).await.map_err(|unable| {
        Refusal::new(ErrorCode::GenericDbStoreFailed)
            .status(503)
            .member("status", "unable")
            .member("reason", unable.word())
    })?;
    let mut response = reply::json(StatusCode::OK, &Reply { status: "ok" });
    ledger::cache(&mut response, ledger::CACHE_NOT);
    Ok(response)
}

async fn check(service: &Service) -> Result<(), Unable> {
    // A probe that does not come back is a disk that hangs.
    let checked = tokio::time::timeout(HEALTH_TIME, service.ledger.check()).await;
    checked.unwrap_or(Err(Trouble::Stalled)).map_err(Unable::Ledger)?;
    if service.disk.is_low() {
        return Err(Unable::DiskNearlyFull);
    }
    Ok(())
}
