//! Why a request is not granted, in Taler's words. Handlers return these; `http/error.rs` is the one place that
//! turns them into a response.

use std::fmt::Display;

use quittance_events::store::StoreError;
use quittance_events::{AppendError, NewEvent};
use quittance_taler::{AmountError, ErrorCode};
use serde_json::{Map, Value};

use crate::admission::Overload;
use crate::instance::KeyFileError;

/// A request that is wrong, too late or not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Taler's code.
    pub code: ErrorCode,
    /// Status, where it is not the code's usual one.
    pub http_status: Option<u16>,
    /// For the reader of the error: what exactly, and what would do.
    pub detail: Option<String>,
    /// Further members of the body, such as the exchange's own status and reply.
    pub members: Map<String, Value>,
    /// What is recorded all the same: a refused abort, or the deposits of a payment that is not enough.
    pub events: Vec<NewEvent>,
}

impl Refusal {
    /// A refusal with this code and its usual status.
    #[must_use]
    pub fn new(code: ErrorCode) -> Refusal {
        Refusal {
            code,
            http_status: None,
            detail: None,
            members: Map::new(),
            events: Vec::new(),
        }
    }

    /// With another status than the code's usual one.
    #[must_use]
    pub fn status(self, http_status: u16) -> Refusal {
        Refusal {
            http_status: Some(http_status),
            ..self
        }
    }

    /// With a word on what exactly is wrong.
    #[must_use]
    pub fn detail(self, detail: impl Display) -> Refusal {
        Refusal {
            detail: Some(detail.to_string()),
            ..self
        }
    }

    /// With another member in the body.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Refusal {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// With events that are recorded all the same.
    #[must_use]
    pub fn recording(self, events: Vec<NewEvent>) -> Refusal {
        Refusal { events, ..self }
    }
}

impl From<Overload> for Refusal {
    fn from(overload: Overload) -> Refusal {
        Refusal::new(ErrorCode::GenericOsResourceAllocationFailure)
            .status(503)
            .detail(overload.detail())
    }
}

/// Why a request was not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The client's to mend, or to accept.
    #[error("refused with {}", .0.code.name())]
    Refused(Box<Refusal>),
    /// The ledger could not take the events.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The ledger could not be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// It would take on something new, and the disk's reserve is not for that.
    #[error("the disk is nearly full")]
    DiskLow,
    /// A file of the key folder could not be read or written.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The order kept moving on.
    #[error("the order kept moving on")]
    Contended,
    /// The ledger's own amounts do not add up.
    #[error("amounts of the ledger do not add up: {0}")]
    Amount(#[from] AmountError),
    /// A task ended in a panic; the message is in the log.
    #[error("the request's task failed")]
    Task,
}

impl From<Refusal> for RequestError {
    fn from(refusal: Refusal) -> RequestError {
        RequestError::Refused(Box::new(refusal))
    }
}

impl From<Overload> for RequestError {
    fn from(overload: Overload) -> RequestError {
        Refusal::from(overload).into()
    }
}
