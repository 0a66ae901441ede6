//! The life of a ledger beyond its first key and its first bytes: keys that rotate, attachments that are erased, and
//! the format that both raise.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod erasing;
mod rotating;
mod versions;
