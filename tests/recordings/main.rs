//! Quittance against recordings of a real exchange (taler-exchange 0.9.1) and a real wallet (wallet-core of December
//! 2022): the requests that it sends must be those that the exchange understood, and its answers those that the
//! wallet can live with.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::struct_field_names, reason = "the members' names are Taler's")]

#[path = "../support/mod.rs"]
mod support;

mod fixtures;
mod flows;
mod paid;
mod refusals;
mod replayed;
mod sold;
mod stand_in;
mod wallet;
