//! The event format: one canonical spelling for every event, and nothing else is taken for one.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod arbitrary;
mod canonical;
