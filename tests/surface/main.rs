//! What shows on the outside: every endpoint's answers to good and bad requests, the command line, and the rule that
//! nobody leads the service to an address that it was not configured with.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod approval;
mod bad_input;
mod cli;
mod follower;
mod intake;
mod life;
mod no_foreign_address;
mod openapi;
mod packed;
mod refunds;
mod snapshots;
mod tools;
