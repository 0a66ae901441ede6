//! What those see who watch the service: metrics that move as they should and name nobody, log lines that hold no
//! secret, and documents that know every metric and every line.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/program.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;

mod documents;
mod logs;
mod metrics;
mod panics;
mod scraped;
