//! `show`: an order's story.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use quittance_replay::{AsOf, show};

use super::Told;

/// Tells an order's story in order of time. Exits 2 where there is no such order.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The ledger file, or a copy of it.
    ledger: PathBuf,
    /// The order's id.
    #[arg(long)]
    order: String,
    /// The merchant instance.
    #[arg(long, default_value = "default")]
    instance: String,
    /// Only what the ledger held after event SEQ, or at TIME (2026-11-21T12:00:00Z, or seconds since 1970).
    #[arg(long, value_name = "SEQ|TIME")]
    as_of: Option<AsOf>,
}

impl Arguments {
    pub(crate) fn run(self) -> Told {
        let story = show(&self.ledger, &self.instance, &self.order, self.as_of)?;
        Ok((story, ExitCode::SUCCESS))
    }
}
