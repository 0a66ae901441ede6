//! Quittance: an audit-first ledger service for GNU Taler merchants. It sells: orders, claims, payments; and it serves
//! wallets' aborts and refunds and the merchant's approvals behind them. It answers from nothing but signed, recorded
//! events.
//!
//! The way of a request: parse (`http`), decide (`decide`), record (`service`, the events crate), settle with the
//! exchange (`settle`, `paying`, `exchange`), record, answer. `docs/architecture.md` has the map.

pub mod access;
pub mod account;
pub mod admission;
pub mod app;
mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod decide;
pub mod demo;
pub mod disk;
pub mod exchange;
pub mod http;
pub mod import;
pub mod instance;
pub mod keyring;
pub mod limits;
pub mod logs;
pub mod managed;
pub mod metrics;
pub mod open;
pub mod open_files;
mod page;
pub mod paying;
pub mod refusal;
pub mod selling;
pub mod service;
pub mod sessions;
pub mod settings;
pub mod settle;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod takeover;
pub mod token;
pub mod token_commands;
pub mod token_file;
pub mod waiters;
pub mod webhook;
pub mod witness;
