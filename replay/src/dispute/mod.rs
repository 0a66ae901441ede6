//! Dispute files: one zip that tells the whole story of one order and that an outsider can check without the ledger.
//! `docs/disputes.md` says what stands in it and what it proves.

mod accounts;
mod check;
mod compose;
mod container;
mod contents;
mod csv_list;
mod drawing;
mod export;
pub mod limits;
mod money;
mod page;
mod permissions;
mod readme;
mod replayed;
pub mod report;
mod timeline;

pub use accounts::{Accounts, AccountsOptions, accounts};
pub use check::{BundleReport, check, print_bundle, verify_bundle};
pub use export::{ExportError, ExportOptions, Exported, Redaction, export, write_new};
pub use page::page;
