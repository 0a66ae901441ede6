//! What the ledger is asked to record, and what came of it. The order of events is the writer's; whether they are right
//! is their caller's.

use std::sync::Arc;

use quittance_taler::Micros;

use crate::event::NewEvent;
use crate::ids::{InstanceId, OrderKey, Seq};
use crate::order::{Order, RecordedAnswer};
use crate::sale::Folded;
use crate::seal::LEAF_MAX;
use crate::store::StoreError;

/// Whose events an append holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    /// The ledger's own, or an instance's.
    Ledger(Option<InstanceId>),
    /// An order's, decided on its state as of this event ([`Seq::NONE`]: the order does not exist yet).
    Order(OrderKey, Seq),
    /// An order's, whatever its state: for what is told and not decided. Its time is moved up to the order's.
    Told(OrderKey),
}

/// Events to be recorded together, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Whose.
    pub stream: Stream,
    /// The time that they were decided on.
    pub at: Micros,
    /// They, in order.
    pub events: Vec<NewEvent>,
}

/// What an append came to.
#[derive(Debug, Clone)]
pub struct Appended {
    /// Sequences of the events written, none where all of it was recorded already.
    pub seqs: Vec<Seq>,
    /// The order afterwards.
    pub folded: Option<Folded>,
    /// The answer among the events, now or already recorded.
    pub answer: Option<RecordedAnswer>,
}

impl Appended {
    /// The order afterwards, where it has a contract.
    #[must_use]
    pub fn order(&self) -> Option<Arc<Order>> {
        self.folded.as_ref().and_then(Folded::order).cloned()
    }
}

/// Why an append was refused. Nothing of it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The order has moved on since the decision: decide again.
    #[error("the order has moved on")]
    Moved,
    /// The clock stands too far back; the operator must say so with `clock-correct`.
    #[error("the clock is {behind_s} s behind the ledger: run `quittance clock-correct`")]
    ClockBehind {
        /// By how much.
        behind_s: u64,
    },
    /// An event too large for a leaf.
    #[error("a {kind} event of {bytes} bytes; {LEAF_MAX} is the most")]
    TooLarge {
        /// Its kind.
        kind: &'static str,
        /// Leaf bytes.
        bytes: usize,
    },
    /// The events do not fit the order.
    #[error("{0}")]
    Unfit(String),
    /// The ledger file could not be read or written.
    #[error("the ledger could not be written: {0}")]
    Storage(String),
    /// The ledger is closed.
    #[error("the ledger is closed")]
    Closed,
}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> AppendError {
        AppendError::Storage(error.to_string())
    }
}
