//! The command line. Exits 0, 1 failed, 2 usage or configuration, 3 ledger behind its anchor.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use quittance::app::{App, StartError};
use quittance::clock::Clock;
use quittance::commands::{self, NewInstance};
use quittance::config::{Config, LogFormat};
use quittance::exchange::Times;
use quittance::import::watch;
use quittance::keyring::ROLES;
use quittance::takeover::{self, Takeover};
use quittance::token::Grant;
use quittance::token_commands::{self, NewToken};
use quittance::{clock, demo, logs, open_files, token};
use quittance_events::create::Beginnings;
use quittance_events::facts::{KeyRole, TokenScope};
use quittance_events::ledger::vkey;
use quittance_events::{AttachmentName, InstanceId, RefundId, Seq, TokenId};
use quittance_sandbox::{Protocol, Sandbox, SandboxConfig};
use quittance_taler::Digest32;
use quittance_taler::payto::PaytoUri;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
        /// May authorise a new event key when it is lost: what `recovery-key` printed
        #[arg(long, value_name = "PUB", value_parser = public_key)]
        recovery_key: Option<Digest32>,
    },
    /// Serve wallets and the shop
    Serve(ConfigFile),
    /// Open or close a merchant instance
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Open an account that exchanges wire an instance's money to
    #[command(subcommand)]
    Account(AccountCommand),
    /// Make, list and revoke tokens of an instance, served or not
    #[command(subcommand)]
    Token(TokenCommand),
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
    /// Erase an attachment's bytes for a lawful reason; the ledger stays verifiable. Prints the event that says so
    Erase {
        #[command(flatten)]
        config: ConfigFile,
        /// Which: an event's number and the attachment's name, as `quittance-replay show` tells them
        #[arg(long, value_name = "SEQ:NAME", value_parser = attachment)]
        attachment: (Seq, AttachmentName),
        /// Why; recorded as an attachment
        #[arg(long)]
        reason: String,
    },
    /// Put new keys of the ledger into force; prints each as `ROLE VKEY`
    RotateKey {
        #[command(flatten)]
        config: ConfigFile,
        /// Which keys
        #[arg(long, value_enum, default_value_t = Roles::Both)]
        role: Roles,
        /// Authorise with this key instead of the event key, which may be lost
        #[arg(long, value_name = "FILE")]
        recovery_key: Option<PathBuf>,
    },
    /// Make a recovery key, to be kept off this machine; prints its public half for `init --recovery-key`
    RecoveryKey {
        /// Where to write it; never over another file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Record orders, deposits and payments from a file, one order a line, on a ledger that is not served. Exits 1 if it
    /// skipped a line
    Import {
        #[command(flatten)]
        config: ConfigFile,
        /// Record nothing; say what would be
        #[arg(long)]
        dry_run: bool,
        /// A line: {"instance"?, "contract_terms", "choice_index"?, "deposits", "paid", "refunds"?}; `-`: standard input
        #[arg(value_name = "ORDERS")]
        orders: PathBuf,
    },
    /// Show the whole of it on this machine: an order and its payment, refunds, an abort, a failing exchange, an audit
    Demo,
    /// Run an exchange for tests: real keys, coins and signatures, faults on demand, no money
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
        /// The protocol that it speaks: 14 (2022) or 23 (2024)
        #[arg(long, default_value_t = 14)]
        protocol: u64,
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

#[derive(Subcommand)]
enum AccountCommand {
    /// Open an account; prints its hash, `h_wire`. One that is open already stays as it is
    Add {
        #[command(flatten)]
        config: ConfigFile,
        /// Whose
        #[arg(long, default_value = "default")]
        id: InstanceId,
        /// The account, such as payto://iban/DE89370400440532013000?receiver-name=Shop
        #[arg(long, value_name = "URI")]
        payto: PaytoUri,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token; prints it alone on stdout, and its id on stderr
    Add {
        #[command(flatten)]
        of: InstanceOf,
        /// read, refunds, orders, audit (root instance only) or all; or one of Taler's names, also with `:refreshable`
        #[arg(long, value_parser = scope)]
        scope: (TokenScope, bool),
        /// Days that it lives; without it, for ever
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
        lifetime: Option<u32>,
        /// For people
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
    },
    /// List them: serial, id, scope, end of life, description
    List(InstanceOf),
    /// Revoke one
    Revoke {
        #[command(flatten)]
        of: InstanceOf,
        /// Its id, as `token list` tells it
        #[arg(long)]
        id: TokenId,
    },
}

#[derive(clap::Args)]
struct InstanceOf {
    #[command(flatten)]
    config: ConfigFile,
    /// Whose tokens
    #[arg(long, default_value = "default")]
    instance: InstanceId,
}

fn scope(name: &str) -> Result<(TokenScope, bool), String> {
    token::scope(name).ok_or("it is read, refunds, orders, audit or all".to_owned())
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Roles {
    Event,
    Checkpoint,
    Both,
}

impl Roles {
    fn all(self) -> &'static [KeyRole] {
        match self {
            Roles::Event => &[KeyRole::Event],
            Roles::Checkpoint => &[KeyRole::Checkpoint],
            Roles::Both => &ROLES,
        }
    }
}

/// `SEQ:NAME`.
fn attachment(text: &str) -> Result<(Seq, AttachmentName), String> {
    let (seq, name) = text.split_once(':').ok_or("it is SEQ:NAME, such as 17:reason")?;
    let number: u64 = seq.parse().map_err(|_| "SEQ is an event's number".to_owned())?;
    let names = AttachmentName::ALL.map(AttachmentName::as_str).join(", ");
    let name = AttachmentName::from_name(name).ok_or(format!("NAME is one of {names}"))?;
    Ok((Seq::new(number).map_err(|e| e.to_string())?, name))
}

/// A public key in base32 under which a signature proves something.
fn public_key(text: &str) -> Result<Digest32, String> {
    let key: Digest32 = text
        .parse()
        .map_err(|_| "32 bytes in base32, as `recovery-key` prints them".to_owned())?;
    vkey("recovery", &key).map_err(|_| "no usable Ed25519 public key".to_owned())?;
    Ok(key)
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
    // The service itself has its lines as its configuration says; commands speak to whoever typed them.
    if !matches!(arguments.command, Command::Serve(_)) {
        logs::start(LogFormat::Text);
    }
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            let start = error.downcast_ref::<StartError>();
            match start {
                // Its text holds its causes already.
                Some(start) => eprintln!("quittance: {start}"),
                None => eprintln!("quittance: {error:#}"),
            }
            if start.is_some_and(|start| start.exit_code() == 3) {
                eprintln!("{BEHIND_ANCHOR}");
            }
            ExitCode::from(start.map_or(1, StartError::exit_code))
        }
    }
}

const BEHIND_ANCHOR: &str = "
What this means: the anchor is the last checkpoint that this service signed, kept outside the ledger file. The ledger
lacks events that it vouches for, or the anchor itself is missing or another ledger's. Usual causes: LEDGER or ANCHOR
names another file; a disk is not mounted; the ledger was copied without its -wal; an older backup was restored. Wallets
and exchanges have seen what is missing: serving on would sign a second history.

What to do:
1. Copy ledger, -wal, anchor and keys aside. Delete nothing, least of all the anchor.
2. Find the file that holds all events that the anchor speaks of: the old disk, the -wal, a newer backup. Put it in
   place and start again.
3. If it is lost for good: a backup is never served from again. Begin a successor that takes over what it holds:
       quittance init -c NEW --continues OLD --anchor A
   NEW is a configuration with a new ORIGIN and new files, OLD the newest backup of the ledger, A this anchor. Keep OLD
   and A as evidence, and tell your auditor.";

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let clock = clock::system();
    match command {
        Command::Init {
            config,
            before,
            recovery_key,
        } => init(
            &load(&config.config)?,
            &clock,
            before,
            &Beginnings { recovery_key },
        )?,
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
        Command::Account(AccountCommand::Add { config, id, payto }) => {
            println!(
                "{}",
                commands::add_account(&load(&config.config)?, &clock, &id, &payto)?
            );
        }
        Command::Token(command) => tokens(&command, &clock)?,
        Command::ClockCorrect { config, reason } => {
            let (from, to) = commands::correct_clock(&load(&config.config)?, &clock, &reason)?;
            println!(
                "times are compared anew: the last was {} us, now is {} us",
                from.get(),
                to.get()
            );
        }
        Command::Backup { config, out } => back_up(&load(&config.config)?, &out)?,
        Command::Erase {
            config,
            attachment,
            reason,
        } => {
            let erasure = commands::erase(&load(&config.config)?, &clock, attachment, &reason)?;
            println!("erased, as event {erasure} says");
        }
        Command::RotateKey {
            config,
            role,
            recovery_key,
        } => {
            let config = load(&config.config)?;
            for (role, vkey) in commands::rotate_keys(&config, &clock, role.all(), recovery_key.as_deref())? {
                println!("{} {vkey}", role.as_str());
            }
        }
        Command::RecoveryKey { out } => println!("{}", commands::make_recovery_key(&out)?),
        Command::Import {
            config,
            dry_run,
            orders,
        } => {
            let summary = watch::run(&load(&config.config)?, &clock, &orders, dry_run)?;
            println!("{}", watch::text(&summary, dry_run));
            return Ok(ExitCode::from(u8::from(summary.skipped > 0)));
        }
        Command::Demo => runtime()?.block_on(demo::run())?,
        Command::Sandbox {
            bind,
            seed,
            currency,
            protocol,
        } => runtime()?.block_on(sandbox(bind, seed, &currency, protocol.try_into()?))?,
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

fn init(config: &Config, clock: &Clock, before: Before, beginnings: &Beginnings) -> Result<(), StartError> {
    let Before {
        continues: Some(old),
        anchor: Some(anchor),
        old_keys,
        after_loss,
    } = before
    else {
        println!("{}", commands::init_with(config, clock, beginnings)?);
        return Ok(());
    };
    let takeover = Takeover {
        old,
        anchor,
        old_keys,
        after_loss,
    };
    let made = takeover::continue_ledger(config, clock, &takeover, beginnings)?;
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

fn tokens(command: &TokenCommand, clock: &Clock) -> Result<(), StartError> {
    match command {
        TokenCommand::Add {
            of,
            scope: (scope, refreshable),
            lifetime,
            description,
        } => {
            let grant = Grant {
                scope: *scope,
                expire_s: token_commands::end_of_life(clock, *lifetime)?,
                refreshable: *refreshable,
            };
            let new = NewToken {
                instance: of.instance.clone(),
                grant,
                description: description.clone(),
            };
            let (text, token) = token_commands::add_token(&load(&of.config.config)?, clock, &new)?;
            println!("{}", text.as_str());
            eprintln!(
                "token {} of instance {}, scope {}",
                token.id,
                of.instance,
                scope.as_str()
            );
        }
        TokenCommand::List(of) => {
            for token in token_commands::list_tokens(&load(&of.config.config)?, &of.instance)? {
                println!("{}", token_commands::line(&token));
            }
        }
        TokenCommand::Revoke { of, id } => {
            token_commands::revoke_token(&load(&of.config.config)?, &of.instance, id)?;
        }
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
    logs::start(config.log_format);
    runtime()?.block_on(async {
        let mut stop = StopSignals::watch()?;
        open_files::raise();
        let app = App::start(config, clock::system(), Times::default()).await?;
        println!("listening on http://{}/", app.addr());
        stop.wait().await;
        app.stop().await;
        Ok(())
    })
}

async fn sandbox(bind: SocketAddr, seed: u64, currency: &str, protocol: Protocol) -> anyhow::Result<()> {
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
    sandbox.speak(protocol);
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
