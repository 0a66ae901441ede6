//! Dispute files: one zip that tells the whole story of one order and that an outsider can check without the ledger.
//! `docs/disputes.md` says what stands in it and what it proves.

mod drawing;
mod page;
pub mod report;

pub use page::page;
