//! The command line. Exits 0, 1 failed, 2 usage or configuration, 3 ledger behind its anchor.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use quittance::app::{App, StartError};
use quittance::clock::Clock;
use quittance::commands::{self, NewInstance};
use quittance::config::Config;
use quittance::exchange::Times;
use quittance::takeover::{self, Takeover};
use quittance::{clock, demo};
use quittance_events::ledger::OpenError;
use quittance_events::{InstanceId, RefundId};
use quittance_sandbox::{Sandbox, SandboxConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Audit-first ledger service for GNU Taler merchants.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make data folder, keys, ledger and anchor; prints the event key as VKEY
    Init {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        before: Before,
    },
    /// Serve wallets and the shop
    Serve(ConfigFile),
    /// Open or close a merchant instance
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Say that the clock was wrong, so that the ledger takes events again
    ClockCorrect {
        #[command(flatten)]
        config: ConfigFile,
        /// Why; recorded as an attachment
        #[arg(long)]
        reason: String,
    },
    /// Copy the ledger, served or not, to a new file, and its last checkpoint to FILE.checkpoint
    Backup {
        #[command(flatten)]
        config: ConfigFile,
        /// The copy; nothing may be there
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Show the whole of it on this machine: refunds, an abort, a failing exchange, an audit
    Demo,
    /// Run an exchange for tests: real keys and signatures, faults on demand, no money
    Sandbox {
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1:8081")]
        bind: SocketAddr,
        /// Makes all of its keys
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Its currency
        #[arg(long, default_value = "KUDOS")]
        currency: String,
    },
    /// The auditor's check of a ledger, as `quittance-replay verify` makes it; the demo runs it as a process of its own
    #[command(hide = true)]
    DemoVerify {
        ledger: PathBuf,
        anchor: PathBuf,
        ledger_key: String,
    },
}

#[derive(Subcommand)]
enum InstanceCommand {
    /// Open an instance; prints the token alone when it made one
    Add {
        #[command(flatten)]
        config: ConfigFile,
        /// `default` is the root instance
        #[arg(long)]
        id: InstanceId,
        /// For people
        #[arg(long)]
        name: Option<String>,
        /// Take over this merchant key (32 raw bytes or their base32); without it an instance that was open before keeps
        /// its key, a new one gets a new key
        #[arg(long)]
        merchant_key: Option<PathBuf>,
        /// Take this token instead of making one
        #[arg(long)]
        token_file: Option<PathBuf>,
    },
    /// Close an instance
    Close {
        #[command(flatten)]
        config: ConfigFile,
        #[arg(long)]
        id: InstanceId,
    },
}

#[derive(clap::Args)]
struct Before {
    /// The new ledger takes over from this one, or from what a backup of it holds
    #[arg(long, value_name = "LEDGER", requires = "anchor")]
    continues: Option<PathBuf>,
    /// The last anchor of the ledger that is continued: it tells whether events are lost
    #[arg(long, value_name = "FILE", requires = "continues")]
    anchor: Option<PathBuf>,
    /// Copy instance keys and tokens from this key folder
    #[arg(long, value_name = "DIR", requires = "continues")]
    old_keys: Option<PathBuf>,
    /// Events are lost, though the anchor does not show it
    #[arg(long, requires = "continues")]
    after_loss: bool,
}

#[derive(clap::Args)]
struct ConfigFile {
    /// Configuration file
    #[arg(short = 'c', value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            let start = error.downcast_ref::<StartError>();
            match start {
                // Its text holds its causes already.
                Some(start) => eprintln!("quittance: {start}"),
                None => eprintln!("quittance: {error:#}"),
            }
            if let Some(StartError::Ledger(OpenError::BehindAnchor(_))) = start {
                eprintln!("{BEHIND_ANCHOR}");
            }
            ExitCode::from(start.map_or(1, StartError::exit_code))
        }
    }
}

const BEHIND_ANCHOR: &str = "\
The anchor is the last checkpoint that this service signed, kept outside the ledger file. The ledger lacks events
that it vouches for: the file was cut, replaced, or restored from a backup that is older than the anchor. Serving on
would sign a second history. Find the right file; if it is lost, keep both as evidence and do not delete the anchor.";

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let clock = clock::system();
    match command {
        Command::Init { config, before } => init(&load(&config.config)?, &clock, before)?,
        Command::Serve(file) => serve(&load(&file.config)?)?,
        Command::Instance(InstanceCommand::Add {
            config,
            id,
            name,
            merchant_key,
            token_file,
        }) => {
            let new = NewInstance {
                id,
                name,
                merchant_key,
                token_file,
            };
            if let Some(token) = commands::add_instance(&load(&config.config)?, &clock, &new)? {
                println!("{token}");
            }
        }
        Command::Instance(InstanceCommand::Close { config, id }) => {
            commands::close_instance(&load(&config.config)?, &clock, &id)?;
        }
        Command::ClockCorrect { config, reason } => {
            let (from, to) = commands::correct_clock(&load(&config.config)?, &clock, &reason)?;
            println!(
                "times are compared anew: the last was {} us, now is {} us",
                from.get(),
                to.get()
            );
        }
        Command::Backup { config, out } => back_up(&load(&config.config)?, &out)?,
        Command::Demo => runtime()?.block_on(demo::run())?,
        Command::Sandbox { bind, seed, currency } => runtime()?.block_on(sandbox(bind, seed, &currency))?,
        Command::DemoVerify {
            ledger,
            anchor,
            ledger_key,
        } => {
            return Ok(ExitCode::from(demo::verify(&ledger, &anchor, &ledger_key)?));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn init(config: &Config, clock: &Clock, before: Before) -> Result<(), StartError> {
    let Before {
        continues: Some(old),
        anchor: Some(anchor),
        old_keys,
        after_loss,
    } = before
    else {
        println!("{}", commands::init(config, clock)?);
        return Ok(());
    };
    let takeover = Takeover {
        old,
        anchor,
        old_keys,
        after_loss,
    };
    let made = takeover::continue_ledger(config, clock, &takeover)?;
    println!("{}", made.vkey);
    // The key stands alone on stdout, as it does without --continues.
    eprintln!(
        "it continues {} after {} events; {} orders are carried in, {} stay behind",
        made.predecessor.origin, made.predecessor.size, made.orders, made.left
    );
    if made.lost > 0 {
        eprintln!("{} events are lost, as far as the old anchor tells", made.lost);
    }
    if let Some(generation) = made.predecessor.generation {
        eprintln!(
            "generation {generation}: ids of refunds begin at {}",
            RefundId::first_of(generation)
        );
    }
    for order in &made.id_doubts {
        eprintln!(
            "order {order} has refund ids from elsewhere that reach further: the lost events may have used the next ones"
        );
    }
    for instance in &made.instances {
        eprintln!("instance {instance} is open");
    }
    Ok(())
}

fn back_up(config: &Config, out: &Path) -> Result<(), StartError> {
    let made = commands::back_up(config, out)?;
    println!("{}: {} events", out.display(), made.events);
    println!(
        "{}: checkpoint of {} events; {} events lie behind it",
        made.checkpoint.display(),
        made.covered,
        made.events - made.covered
    );
    Ok(())
}

fn load(file: &Path) -> Result<Config, StartError> {
    Ok(Config::load(file)?)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")
}

fn serve(config: &Config) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let mut stop = StopSignals::watch()?;
        let app = App::start(config, clock::system(), Times::default()).await?;
        println!("listening on http://{}/", app.addr());
        stop.wait().await;
        app.stop().await;
        Ok(())
    })
}

async fn sandbox(bind: SocketAddr, seed: u64, currency: &str) -> anyhow::Result<()> {
    let mut stop = StopSignals::watch()?;
    let clock = quittance_sandbox::system_clock();
    let currency = currency.parse().context("--currency")?;
    let sandbox = Sandbox::start(SandboxConfig {
        bind,
        currency,
        seed,
        clock,
    })
    .await?;
    println!("listening on {}", sandbox.base_url());
    println!("MASTER_KEY = {}", sandbox.master_pub());
    stop.wait().await;
    sandbox.stop().await;
    Ok(())
}

/// SIGTERM and Ctrl-C, caught from before the service says that it listens: whoever reads that may stop it at once.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn watch() -> anyhow::Result<StopSignals> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::info!("stopping");
    }
}
