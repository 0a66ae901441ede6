//! The auditor's tool: replays a copy of a ledger and says, rule by rule, whether what was recorded and served
//! follows from the events before it. It opens no socket, needs no secret and never writes beside the evidence.
//! What was served is recomputed by code that shares nothing with the service's projection. Rules:
//! `docs/auditing.md`.

use std::path::PathBuf;

use quittance_events::receipt::Receipt;
use quittance_taler::MasterPub;
use quittance_tlog::{CosignerKey, VerifierKey};

mod aborts;
mod accounts;
mod answers;
mod approvals;
mod as_of;
mod bodies;
mod book;
mod carried;
mod case;
mod check_receipt;
mod cosigned;
mod deposits;
mod diff;
pub mod dispute;
mod erased;
mod exchange;
mod findings;
mod fold;
mod index;
mod instances;
mod judge;
mod keys;
mod log;
mod notes;
mod open;
mod orders;
mod owed;
mod parts;
mod pipeline;
mod prepare;
mod print;
mod receipts;
pub mod report;
pub mod rules;
mod selling;
mod sold;
mod story;
mod takeover;
mod tiles;
mod tokens;
mod verify;
mod webhooks;

pub use as_of::{AsOf, AsOfError};
pub use check_receipt::{ReceiptReport, check_receipt, print_receipt};
pub use diff::{Difference, Side, SideCheckpoint, SideEvent, diff, print_difference};
pub use open::{Opened, Unusable, open};
pub use print::print_report;
pub use receipts::read_receipt;
pub use report::{Checked, Finding, Money, Note, Report, Witness};
pub use rules::Grade;
pub use story::show;
pub use verify::{verify, verify_watched};

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
    /// Keys of witnesses, as the auditor got them from elsewhere.
    pub witnesses: Vec<CosignerKey>,
    /// A checkpoint that an earlier audit kept: the ledger must extend it.
    pub since: Option<PathBuf>,
    /// Look at a past state instead of the end.
    pub as_of: Option<AsOf>,
    /// Receipts that wallets kept.
    pub receipts: Vec<Receipt>,
    /// Check event signatures in lists, which is faster and refuses the same.
    pub fast: bool,
    /// Weight of the orders' states that are kept in memory, in units of about half a KiB; a usual bound where
    /// absent. Changes memory and time, never the report.
    pub states_kept: Option<usize>,
}
