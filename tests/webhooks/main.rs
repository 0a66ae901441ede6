//! Webhooks: a shop's own server is told of payments and refunds, as often as it takes and no longer than three days.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/authority.rs"]
mod authority;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;

mod api;
mod delivery;
mod server;
mod tls;
