//! Orders that are sold here: made, claimed, watched and taken back through HTTP.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod deleted;
mod forgotten;
mod listed;
mod looked_at;
mod made;
mod recorded;
mod tokens;
mod watched;
