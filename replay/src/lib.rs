//! The auditor's tool: replays a copy of a ledger and says, rule by rule, whether what was recorded and served
//! follows from the events before it. It opens no socket, needs no secret and never writes beside the evidence.
//! What was served is recomputed by code that shares nothing with the service's projection. Rules:
//! `docs/auditing.md`.

use std::path::PathBuf;

use quittance_taler::MasterPub;
use quittance_tlog::VerifierKey;

mod aborts;
mod answers;
mod approvals;
mod bodies;
mod carried;
mod case;
pub mod dispute;
mod erased;
mod exchange;
mod findings;
mod fold;
mod index;
mod keys;
mod log;
mod notes;
mod open;
mod orders;
mod parts;
mod print;
pub mod report;
pub mod rules;
mod story;
mod takeover;
mod tiles;
mod verify;

pub use open::{Opened, Unusable, open};
pub use print::print_report;
pub use report::{Checked, Finding, Money, Note, Report};
pub use rules::Grade;
pub use story::show;
pub use verify::verify;

/// What to verify, and against what.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The ledger file, or a copy of it.
    pub ledger: PathBuf,
    /// The anchor that was copied before the ledger.
    pub anchor: Option<PathBuf>,
    /// The event key as the auditor got it from elsewhere.
    pub ledger_key: Option<VerifierKey>,
    /// The ledger that this one continues, where the two are to be compared.
    pub predecessor: Option<PathBuf>,
    /// Master keys of the exchanges whose confirmations may count; empty: those that the terms name.
    pub exchange_keys: Vec<MasterPub>,
}
