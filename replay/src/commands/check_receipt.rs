//! `check-receipt`: one receipt against a ledger.

use std::path::PathBuf;

use clap::Args;
use quittance_replay::{Unusable, check_receipt, print_receipt, read_receipt};
use quittance_tlog::VerifierKey;

use super::{Told, exit_code, json};

/// Looks for the answer that a receipt proves. Exits 0 found and equal, 1 the ledger lacks it or says otherwise, 2
/// no receipt of this ledger's key.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The ledger file, or a copy of it.
    ledger: PathBuf,
    /// The header `Quittance-Receipt`, or a file that holds it.
    receipt: String,
    /// The body that was served with it.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The event key as the operator published it (VKEY: name+id+key).
    #[arg(long, value_name = "VKEY")]
    ledger_key: Option<VerifierKey>,
    /// The outcome as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Told {
        let receipt = read_receipt(&self.receipt)?;
        let body = self
            .body
            .map(|path| {
                std::fs::read(&path).map_err(|e| Unusable::Unreadable {
                    path: path.display().to_string(),
                    why: e.to_string(),
                })
            })
            .transpose()?;
        let report = check_receipt(&self.ledger, &receipt, body.as_deref(), self.ledger_key.as_ref())?;
        let text = if self.json {
            json(&report)
        } else {
            print_receipt(&report)
        };
        Ok((text, exit_code(report.finding.is_some())))
    }
}
