//! State: the cache, the indexes and the fold say the same, however often the ledger was closed in between.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod cache;
mod fold;
mod following;
mod story;
