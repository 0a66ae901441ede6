//! Opening: what a ledger must be to be opened, who may hold it, and that nothing is replayed.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod refusals;
mod replays;
