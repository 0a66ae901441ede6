//! Deliberate faults. A test switches one on to show that the simulator's oracles see it; nothing else ever compiles
//! this (feature `broken`). Each fault is a line or two at the place where it could have been made in earnest.

use std::cell::Cell;

use quittance_taler::{Micros, Timestamp};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A permission is sent for the first time though the wire deadline has passed.
    Late,
    /// After a failed attempt the permission is signed and sent anew under another id.
    SecondId,
    /// The coin's earlier refunds do not count against its deposit.
    Uncapped,
    /// Rows of an answer carry the time of the answer and not that of their approval.
    Redated,
    /// Clients are told before their events are on disk.
    ToldFirst,
    /// A connection that breaks is taken for an answer: the background does not ask again.
    NotRetried,
}

thread_local! {
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Breaks whatever this thread does from now on; a simulation is one thread.
pub fn set(fault: Option<Fault>) {
    FAULT.set(fault);
}

/// [`Fault::Redated`].
pub(crate) fn redated(execution_s: Timestamp, now: Micros) -> Timestamp {
    if is(Fault::Redated) {
        now.floor_s()
    } else {
        execution_s
    }
}

/// Whether this is broken.
#[must_use]
pub fn is(fault: Fault) -> bool {
    FAULT.get() == Some(fault)
}
