//! `diff`: two copies of one ledger.

use std::path::PathBuf;

use clap::Args;
use quittance_replay::{diff, print_difference};

use super::{Told, exit_code, json};

/// Compares two copies. Exits 0 where one extends the other, 1 where they part, 2 unusable.
#[derive(Args)]
pub(crate) struct Arguments {
    /// One copy.
    a: PathBuf,
    /// Another.
    b: PathBuf,
    /// The outcome as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Told {
        let difference = diff(&self.a, &self.b)?;
        let text = if self.json {
            json(&difference)
        } else {
            print_difference(&difference)
        };
        Ok((text, exit_code(difference.is_contradiction())))
    }
}
