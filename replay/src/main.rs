//! `quittance-replay`: the auditor's tool on the command line. Exit codes: 0 sound, 1 findings, 2 unusable.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dispute_cli::{Export, VerifyBundle};
use quittance_replay::{VerifyOptions, print_report, show, verify};
use quittance_taler::MasterPub;
use quittance_tlog::VerifierKey;

mod dispute_cli;

/// Replays a copy of a Quittance ledger. Opens no socket, needs no secret, writes nothing beside the evidence.
#[derive(Parser)]
#[command(name = "quittance-replay", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Holds a ledger against every rule. Exits 0 sound, 1 findings, 2 unusable.
    Verify {
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
        /// The report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tells an order's story in order of time. Exits 2 where there is no such order.
    Show {
        /// The ledger file, or a copy of it.
        ledger: PathBuf,
        /// The order's id.
        #[arg(long)]
        order: String,
        /// The merchant instance.
        #[arg(long, default_value = "default")]
        instance: String,
    },
    /// Makes a dispute file of one order, or the accountant's list. Exits 1 where the ledger has findings.
    Export(Export),
    /// Checks a dispute file without its ledger. Exits 0 sound, 1 findings, 2 unusable.
    VerifyBundle(VerifyBundle),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok((text, code)) => {
            // A reader that went away, as `| head` does, changes nothing about the verdict.
            match io::stdout().write_all(&text) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    eprintln!("the report could not be written: {error}");
                    ExitCode::from(2)
                }
                _ => code,
            }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<(Vec<u8>, ExitCode), Box<dyn std::error::Error>> {
    match command {
        Command::Verify {
            ledger,
            anchor,
            ledger_key,
            exchange_key,
            predecessor,
            json,
        } => {
            let report = verify(&VerifyOptions {
                ledger,
                anchor,
                ledger_key,
                predecessor,
                exchange_keys: exchange_key,
            })?;
            let text = if json {
                let json = serde_json::to_string_pretty(&report).expect("a report is plain data");
                format!("{json}\n")
            } else {
                print_report(&report)
            };
            Ok((text.into_bytes(), ExitCode::from(u8::from(!report.is_sound()))))
        }
        Command::Show {
            ledger,
            order,
            instance,
        } => Ok((show(&ledger, &instance, &order)?.into_bytes(), ExitCode::SUCCESS)),
        Command::Export(export) => Ok(export.run()?),
        Command::VerifyBundle(verify) => Ok(verify.run()?),
    }
}
