//! The writer: what it records, what it refuses, and when it answers.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod checkpoints;
mod commits;
mod parts;
mod tiles;
mod times;
