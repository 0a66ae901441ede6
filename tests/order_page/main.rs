//! The page of an order: which one a browser gets in which state and language, and what it lets nobody do.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod pages;
