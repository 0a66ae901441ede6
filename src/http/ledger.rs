//! `GET ledger/checkpoint`, `ledger/tile/…`, `ledger/tile/entries/…`: what outsiders hold the ledger against. The prefix
//! is `ledger`, at the root only: one ledger serves all instances. Specification: c2sp.org/tlog-tiles.
//!
//! Hashes and checkpoints are everybody's and tell nothing of an order; entries are the events themselves, so they need
//! an auditor's token. Nothing is served that could change later: what the latest stored checkpoint does not cover is
//! not there.

use std::sync::Arc;

use quittance_events::Ledger;
use quittance_events::store::StoreError;
use quittance_taler::ErrorCode;
use quittance_tlog::TilePath;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::reply;
use crate::refusal::{Refusal, RequestError};
use crate::service::Service;

/// A new checkpoint comes once a second at most.
const CACHE_CHECKPOINT: &str = "public, max-age=1";
/// A full tile never changes: a year is as long as caches go.
const CACHE_FULL: &str = "public, max-age=31536000, immutable";
/// A narrow tile never changes either, but who follows the log soon asks for a wider one.
const CACHE_PARTIAL: &str = "public, max-age=60, immutable";
/// Events are for who asked, and what is not there yet may be there in a moment.
pub(super) const CACHE_NOT: &str = "no-store";

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

/// What a path below `ledger/` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    Checkpoint,
    Tile(TilePath),
}

impl File {
    /// A tile by what stands behind `ledger/tile/`. It is known in its one form alone.
    pub(super) fn tile(below: &str, rest: &str) -> Option<File> {
        format!("tile/{below}{rest}").parse().ok().map(File::Tile)
    }

    /// In logs and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            File::Checkpoint => "checkpoint",
            File::Tile(TilePath::Hashes(_)) => "tile",
            File::Tile(TilePath::Entries(_)) => "entries",
        }
    }

    fn headers(self) -> (&'static str, &'static str) {
        match self {
            File::Checkpoint => (TEXT, CACHE_CHECKPOINT),
            File::Tile(TilePath::Hashes(tile)) if tile.is_partial() => (BYTES, CACHE_PARTIAL),
            File::Tile(TilePath::Hashes(_)) => (BYTES, CACHE_FULL),
            File::Tile(TilePath::Entries(_)) => (BYTES, CACHE_NOT),
        }
    }

    fn read(self, ledger: &Ledger) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            File::Checkpoint => Ok(ledger.cosigned_checkpoint()?.map(String::into_bytes)),
            File::Tile(TilePath::Hashes(tile)) => ledger.tile(tile),
            File::Tile(TilePath::Entries(bundle)) => ledger.entries(bundle),
        }
    }
}

pub(super) async fn get(service: &Service, file: File) -> Result<Response, RequestError> {
    let ledger = Arc::clone(&service.ledger);
    let read = tokio::task::spawn_blocking(move || file.read(&ledger)).await;
    let bytes = read.map_err(|_| RequestError::Task)??.ok_or_else(|| {
        Refusal::new(ErrorCode::GenericEndpointUnknown).detail("no checkpoint covers this, yet")
    })?;
    let (content_type, time) = file.headers();
    let mut response = reply::with_body(StatusCode::OK, bytes, content_type);
    cache(&mut response, time);
    Ok(response)
}

/// Says how long caches may keep it.
pub(super) fn cache(response: &mut Response, time: &'static str) {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static(time));
}
