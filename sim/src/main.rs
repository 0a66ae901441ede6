//! `quittance-sim`: runs seeds on all cores, and prints the steps of those that fail.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use quittance_sim::{Figures, Options, Outcome, STEPS, run};

/// Runs the service through crashes, faults and races that a seed decides, and checks what must hold.
#[derive(Parser)]
struct Arguments {
    /// One seed; its steps are printed whether it fails or not.
    #[arg(long, conflicts_with = "seeds", required_unless_present = "seeds")]
    seed: Option<u64>,
    /// Seeds from A up to, not including, B.
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Option<Range<u64>>,
    /// Steps of a run before all is made well.
    #[arg(long, default_value_t = STEPS)]
    steps: u64,
    /// Audit the ledger after every step.
    #[arg(long)]
    every_step: bool,
    /// Runs at once; as many as there are cores where absent.
    #[arg(long)]
    jobs: Option<usize>,
}

fn range(text: &str) -> Result<Range<u64>> {
    let (from, to) = text.split_once("..").context("seeds are A..B")?;
    let range = from.parse()?..to.parse()?;
    anyhow::ensure!(!range.is_empty(), "there is no seed in {text}");
    Ok(range)
}

fn print(outcome: &Outcome) {
    for step in &outcome.steps {
        println!("{step}");
    }
    match &outcome.finding {
        None => println!("seed {}: nothing found", outcome.seed),
        Some(finding) => println!("seed {}: FOUND {finding}", outcome.seed),
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let options = Options {
        steps: arguments.steps,
        every_step: arguments.every_step,
        ..Options::default()
    };
    if let Some(seed) = arguments.seed {
        let outcome = run(seed, &options)?;
        print(&outcome);
        return Ok(code(outcome.finding.is_none()));
    }
    let seeds = arguments.seeds.context("a seed or seeds")?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let began = Instant::now();
    let (next, done) = (
        AtomicU64::new(seeds.start),
        Mutex::new((0u64, 0u64, Figures::default())),
    );
    let worker = || -> Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(());
            }
            let outcome = run(seed, &options).with_context(|| format!("seed {seed}"))?;
            let mut done = done.lock().expect("no thread panics while it counts");
            done.0 += 1;
            done.2 = done.2.plus(outcome.figures);
            if outcome.finding.is_some() {
                done.1 += 1;
                print(&outcome);
            }
        }
    };
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..arguments.jobs.unwrap_or(cores).max(1))
            .map(|_| scope.spawn(worker))
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a run panicked"))??;
        }
        Ok(())
    })?;
    let (runs, found, figures) = done.into_inner().expect("no thread panics while it counts");
    println!(
        "{runs} seeds in {:.1?}: {found} with findings. {figures:?}",
        began.elapsed()
    );
    Ok(code(found == 0))
}

fn code(well: bool) -> ExitCode {
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
