//! What wallets and the merchant see when all goes well: real HTTP, a real ledger file, an exchange with real
//! signatures.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod abort;
