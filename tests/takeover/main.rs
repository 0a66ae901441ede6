//! What outlives a ledger: backups of one that is being served, and the successor that takes over from it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod cli;
mod life;
mod sold;
mod successor;
