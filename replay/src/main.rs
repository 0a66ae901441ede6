//! `quittance-replay`: the auditor's tool on the command line. Exit codes: 0 sound, 1 findings, 2 unusable.

mod commands;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;

/// Events are parsed on one thread and dropped on another, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Replays a copy of a Quittance ledger. Opens no socket, needs no secret, writes nothing beside the evidence.
#[derive(Parser)]
#[command(name = "quittance-replay", version)]
struct Arguments {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    match Arguments::parse().command.run() {
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
        Err(unusable) => {
            eprintln!("{unusable}");
            ExitCode::from(2)
        }
    }
}
