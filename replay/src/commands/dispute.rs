//! The commands that make and check dispute files, and the accountant's list, on the command line. Says what they came
//! to and holds no logic of its own. Exit codes: 0 done and sound, 1 done and something does not hold, 2 nothing done.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use chrono::NaiveDate;
use clap::Args;
use quittance_replay::dispute::{
    AccountsOptions, ExportError, ExportOptions, Redaction, accounts, export, print_bundle, verify_bundle,
};
use quittance_replay::{Unusable, VerifyOptions};
use quittance_taler::MasterPub;
use quittance_tlog::VerifierKey;

/// Makes a dispute file of one order, or the accountant's list of a span of days.
#[derive(Args)]
pub(crate) struct Export {
    /// The ledger file, or a copy of it.
    ledger: PathBuf,
    /// The order's id: makes a dispute file.
    #[arg(
        long,
        required_unless_present = "csv",
        conflicts_with = "csv",
        requires = "out"
    )]
    order: Option<String>,
    /// The merchant instance.
    #[arg(long, default_value = "default")]
    instance: String,
    /// The anchor, copied before the ledger.
    #[arg(long)]
    anchor: Option<PathBuf>,
    /// The event key as the operator published it (VKEY: name+id+key).
    #[arg(long, value_name = "VKEY")]
    ledger_key: Option<VerifierKey>,
    /// Master key of an exchange whose confirmations may count; may be given several times.
    #[arg(long, value_name = "MASTERPUB")]
    exchange_key: Vec<MasterPub>,
    /// Leaves an attachment out of the dispute file; may be given several times.
    #[arg(long, value_name = "SEQ:NAME", requires = "order")]
    redact: Vec<Redaction>,
    /// Makes the accountant's list of refunds and aborts as CSV, of all instances.
    #[arg(long, requires = "from", requires = "to")]
    csv: bool,
    /// The first day of the list, YYYY-MM-DD, in UTC.
    #[arg(long, value_name = "DATE", requires = "csv")]
    from: Option<NaiveDate>,
    /// The last day of the list, itself included.
    #[arg(long, value_name = "DATE", requires = "csv")]
    to: Option<NaiveDate>,
    /// The file to make; never overwritten. Of a list, standard output where it is not given.
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Checks a dispute file without its ledger. Exits 0 sound, 1 findings, 2 unusable.
#[derive(Args)]
pub(crate) struct VerifyBundle {
    /// The dispute file.
    file: PathBuf,
    /// The event key as the operator published it (VKEY: name+id+key).
    #[arg(long, value_name = "VKEY")]
    ledger_key: Option<VerifierKey>,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
}

/// What a command prints on standard output, and its exit code.
type Done = (Vec<u8>, ExitCode);

impl Export {
    pub(crate) fn run(self) -> Result<Done, ExportError> {
        let verify = VerifyOptions {
            ledger: self.ledger,
            anchor: self.anchor,
            ledger_key: self.ledger_key,
            predecessor: None,
            exchange_keys: self.exchange_key,
            ..VerifyOptions::default()
        };
        match (self.order, self.from, self.to) {
            (Some(order), ..) => dispute_file(&ExportOptions {
                verify,
                instance: self.instance,
                order,
                redact: self.redact,
                out: self.out.unwrap_or_default(),
            }),
            (None, Some(from), Some(to)) => list(&AccountsOptions { verify, from, to }, self.out),
            // The parser demands either.
            (None, ..) => Ok((Vec::new(), ExitCode::from(2))),
        }
    }
}

fn dispute_file(options: &ExportOptions) -> Result<Done, ExportError> {
    let made = export(options)?;
    let mut lines = vec![
        format!(
            "{}: {} events, {} bytes",
            options.out.display(),
            made.events,
            made.bytes
        ),
        made.audit.clone(),
    ];
    if made.unproven > 0 {
        lines.push(format!(
            "{} events are newer than the ledger's last checkpoint and have no proof yet",
            made.unproven
        ));
    }
    if made.findings > 0 {
        lines.push(format!(
            "{} findings stand in the file's own events",
            made.findings
        ));
    }
    let text = lines.join("\n") + "\n";
    let sound = made.sound && made.findings == 0;
    Ok((text.into_bytes(), ExitCode::from(u8::from(!sound))))
}

fn list(options: &AccountsOptions, out: Option<PathBuf>) -> Result<Done, ExportError> {
    let made = accounts(options)?;
    let code = ExitCode::from(u8::from(made.findings > 0));
    if made.findings > 0 {
        let mut err = std::io::stderr().lock();
        // Nobody reads it where there is no standard error; the exit code says it too.
        let _ = writeln!(
            err,
            "the audit of this ledger has {} findings: the list is only what the ledger claims",
            made.findings
        );
    }
    match out {
        None => Ok((made.csv, code)),
        Some(path) => {
            quittance_replay::dispute::write_new(&path, &made.csv)?;
            Ok((
                format!("{}: {} lines\n", path.display(), made.lines).into_bytes(),
                code,
            ))
        }
    }
}

impl VerifyBundle {
    pub(crate) fn run(self) -> Result<Done, Unusable> {
        let report = verify_bundle(&self.file, self.ledger_key.as_ref())?;
        let text = if self.json {
            let json = serde_json::to_string_pretty(&report).expect("a report is plain data");
            format!("{json}\n")
        } else {
            print_bundle(&report)
        };
        Ok((text.into_bytes(), ExitCode::from(u8::from(!report.is_sound()))))
    }
}
