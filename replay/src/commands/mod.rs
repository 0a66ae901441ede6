//! The commands of `quittance-replay`, one file each: arguments, and what is printed with which exit code. What they
//! do is the library's.

mod check_receipt;
mod diff;
mod dispute;
mod show;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;
use quittance_replay::Unusable;
use serde::Serialize;

/// Text for standard output, and the exit code.
pub(crate) type Told = Result<(String, ExitCode), Unusable>;

#[derive(Subcommand)]
pub(crate) enum Command {
    Verify(verify::Arguments),
    Show(show::Arguments),
    Diff(diff::Arguments),
    CheckReceipt(check_receipt::Arguments),
    /// Makes a dispute file of one order, or the accountant's list. Exits 1 where the ledger has findings.
    Export(dispute::Export),
    /// Checks a dispute file without its ledger. Exits 0 sound, 1 findings, 2 unusable.
    VerifyBundle(dispute::VerifyBundle),
}

impl Command {
    /// Bytes for standard output, and the exit code.
    ///
    /// # Errors
    /// Nothing could be done.
    pub(crate) fn run(self) -> Result<(Vec<u8>, ExitCode), Box<dyn std::error::Error>> {
        let (text, code) = match self {
            Command::Verify(arguments) => arguments.run(),
            Command::Show(arguments) => arguments.run(),
            Command::Diff(arguments) => arguments.run(),
            Command::CheckReceipt(arguments) => arguments.run(),
            Command::Export(arguments) => return Ok(arguments.run()?),
            Command::VerifyBundle(arguments) => return Ok(arguments.run()?),
        }?;
        Ok((text.into_bytes(), code))
    }
}

/// 0 where nothing was found, 1 where something was.
fn exit_code(found: bool) -> ExitCode {
    ExitCode::from(u8::from(found))
}

fn json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a report is plain data");
    text.push('\n');
    text
}
