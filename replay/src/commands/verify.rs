//! `verify`: every rule, with a progress bar where somebody watches.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use quittance_replay::{AsOf, VerifyOptions, print_report, read_receipt, verify, verify_watched};
use quittance_taler::MasterPub;
use quittance_tlog::{CosignerKey, VerifierKey};

use super::{Told, exit_code, json};

/// Holds a ledger against every rule. Exits 0 sound, 1 findings, 2 unusable.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The ledger file, or a copy of it.
    ledger: PathBuf,
    /// The anchor, copied before the ledger.
    #[arg(long)]
    anchor: Option<PathBuf>,
    /// The event key as the operator published it (VKEY: name+id+key).
    #[arg(long, value_name = "VKEY")]
    ledger_key: Option<VerifierKey>,
    /// Master key of an exchange whose confirmations may count; may be given several times.
    #[arg(long, value_name = "MASTERPUB")]
    exchange_key: Vec<MasterPub>,
    /// The ledger that this one continues, or a copy of it: what was carried in is compared with it.
    #[arg(long, value_name = "LEDGER")]
    predecessor: Option<PathBuf>,
    /// Key of a witness whose cosignatures count (VKEY); may be given several times.
    #[arg(long, value_name = "VKEY")]
    witness: Vec<CosignerKey>,
    /// A checkpoint that an earlier audit kept: the ledger must extend it.
    #[arg(long, value_name = "CHECKPOINT-FILE")]
    since: Option<PathBuf>,
    /// Look at a past state: after event SEQ, or at TIME (2026-11-21T12:00:00Z, or seconds since 1970).
    #[arg(long, value_name = "SEQ|TIME")]
    as_of: Option<AsOf>,
    /// A receipt that a wallet kept, as text or in a file; may be given several times.
    #[arg(long, value_name = "FILE")]
    receipt: Vec<String>,
    /// Check event signatures in lists: faster, and refuses the same.
    #[arg(long)]
    fast: bool,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Told {
        let receipts = self.receipt.iter().map(|given| read_receipt(given));
        let options = VerifyOptions {
            ledger: self.ledger,
            anchor: self.anchor,
            ledger_key: self.ledger_key,
            predecessor: self.predecessor,
            exchange_keys: self.exchange_key,
            witnesses: self.witness,
            since: self.since,
            as_of: self.as_of,
            receipts: receipts.collect::<Result<_, _>>()?,
            fast: self.fast,
            states_kept: None,
        };
        let report = if std::io::stderr().is_terminal() {
            let bar = bar();
            let report = verify_watched(&options, |done, of| {
                bar.set_length(of);
                bar.set_position(done);
            });
            bar.finish_and_clear();
            report?
        } else {
            verify(&options)?
        };
        let text = if self.json {
            json(&report)
        } else {
            print_report(&report)
        };
        Ok((text, exit_code(!report.is_sound())))
    }
}

/// On standard error, so that a report can be sent elsewhere.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} events, {eta} left")
        .expect("the template is a constant of this program");
    ProgressBar::new(0).with_style(style)
}
