//! The world around one ledger: its files, the clock, the exchanges, and the service's process while it lives. A
//! process is one runtime with a clock of its own that stands still; it ends in order or by a crash, and the next one
//! opens the files as they were on the disk at that moment.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use quittance::clock::Clock;
use quittance::commands::{self, NewInstance};
use quittance::config::Config;
use quittance::service::Service;
use quittance::simulation::{Told, Wire, request, settle_due, start};
use quittance_events::InstanceId;
use quittance_events::simulation::{Fate, Stepper};
use quittance_sandbox::{Direct, SandboxConfig};
use quittance_taler::{EddsaPrivateKey, MerchantPub, Micros, base32};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::network::{Network, ServiceSide};

/// 2026-11-21 02:00:00 UTC.
const START_S: u64 = 1_795_226_400;
const US: u64 = 1_000_000;
const EXCHANGES: u16 = 2;
const PAYTO: &str = "payto://x-taler-bank/bank.example/shop?receiver-name=Shop";
const TOKEN: &str = "secret-token:a-token-of-the-simulated-shop";

/// Memory, where the system has it as a folder: a simulated disk is stopped by the run and not by the machine.
const MEMORY: &str = "/dev/shm";

/// Where ledgers of simulations lie.
pub(crate) fn scratch() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("quittance-sim-");
    if Path::new(MEMORY).is_dir() {
        builder.tempdir_in(MEMORY)
    } else {
        builder.tempdir()
    }
}

/// At which point the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Between two commits; what waits is lost.
    Now,
    /// In the middle of a commit: part of it is in the WAL.
    Torn,
    /// After a commit, before anybody is told.
    Untold,
    /// After a checkpoint is stored, before the anchor is moved, with half an anchor beside it.
    Unanchored,
}

struct Process {
    runtime: Runtime,
    service: Arc<Service>,
    stepper: Stepper,
}

pub(crate) struct World {
    /// Holds the files below.
    folder: TempDir,
    pub(crate) config: Config,
    pub(crate) vkey: String,
    pub(crate) merchant_pub: MerchantPub,
    /// What the machine's clock says, which is what the service goes by.
    clock: Arc<AtomicU64>,
    /// What time it is. The exchanges know.
    truth: Arc<AtomicU64>,
    pub(crate) network: Arc<Network>,
    process: Option<Process>,
}

fn clock_of(clock: &Arc<AtomicU64>) -> Clock {
    let clock = Arc::clone(clock);
    Arc::new(move || {
        Micros::new(clock.load(Ordering::SeqCst)).expect("a simulated clock stays in this century")
    })
}

fn private_file(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

impl World {
    /// A ledger with one instance, two exchanges, and a service that runs.
    pub(crate) fn new() -> Result<World> {
        let clock = Arc::new(AtomicU64::new(START_S * US));
        let truth = Arc::new(AtomicU64::new(START_S * US));
        let exchange = |number: u16| {
            Direct::new(&SandboxConfig {
                bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081 + number)),
                currency: "KUDOS".parse().expect("a currency"),
                seed: 11 + u64::from(number),
                clock: clock_of(&truth),
            })
        };
        let exchanges: Vec<Direct> = (0..EXCHANGES).map(exchange).collect();
        let folder = scratch()?;
        let root = folder.path();
        let sections: Vec<String> = (0u16..)
            .zip(&exchanges)
            .map(|(number, exchange)| {
                format!(
                    "[merchant-exchange-{number}]\nEXCHANGE_BASE_URL = {}\nMASTER_KEY = {}\nCURRENCY = KUDOS\n",
                    exchange.base_url(),
                    exchange.master_pub()
                )
            })
            .collect();
        let sections = sections.concat();
        let text = format!(
            "[taler]\nCURRENCY = KUDOS\n[merchant]\nSERVE = tcp\nBIND_TO = 127.0.0.1\nPORT = 0\nBASE_URL = https://shop.example/\n\
             {sections}[quittance]\nLEDGER = live/ledger.sqlite3\nANCHOR = anchor/ledger.anchor\nKEYS = keys/\n\
             ORIGIN = shop.example/simulated\n"
        );
        let file = root.join("quittance.conf");
        fs::write(&file, text)?;
        let config = Config::load(&file)?;
        let vkey = commands::init(&config, &clock_of(&clock))?;
        let merchant = EddsaPrivateKey::from_bytes([7; 32]);
        let (key_file, token_file) = (root.join("merchant.key"), root.join("token"));
        private_file(&key_file, &base32::encode(&[7; 32]))?;
        private_file(&token_file, TOKEN)?;
        let instance = NewInstance {
            id: InstanceId::root(),
            name: None,
            merchant_key: Some(key_file),
            token_file: Some(token_file),
        };
        commands::add_instance(&config, &clock_of(&clock), &instance)?;
        commands::add_account(&config, &clock_of(&clock), &InstanceId::root(), &PAYTO.parse()?)?;
        let network = Arc::new(Network::new(exchanges, clock_of(&truth)));
        let mut world = World {
            merchant_pub: merchant.merchant_pub(),
            folder,
            config,
            vkey,
            clock,
            truth,
            network,
            process: None,
        };
        world.start()?;
        Ok(world)
    }

    /// Starts the service on the files as they are.
    pub(crate) fn start(&mut self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        let wire: Arc<dyn Wire> = Arc::new(ServiceSide(Arc::clone(&self.network)));
        let clock = clock_of(&self.clock);
        let started = runtime.block_on(start(&self.config, &clock, &wire));
        let (service, stepper) = started.context("the service does not start")?;
        self.process = Some(Process {
            runtime,
            service,
            stepper,
        });
        Ok(())
    }

    fn process(&self) -> &Process {
        self.process
            .as_ref()
            .expect("the service runs between any two steps")
    }

    fn process_mut(&mut self) -> &mut Process {
        self.process
            .as_mut()
            .expect("the service runs between any two steps")
    }

    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.process().service
    }

    pub(crate) fn stepper(&mut self) -> &mut Stepper {
        &mut self.process_mut().stepper
    }

    pub(crate) fn now(&self) -> Micros {
        clock_of(&self.clock)()
    }

    fn tick(&self, ms: u64) {
        for clock in [&self.clock, &self.truth] {
            clock.fetch_add(ms * 1000, Ordering::SeqCst);
        }
    }

    /// What time it is, whatever the machine's clock says.
    pub(crate) fn truth(&self) -> Micros {
        clock_of(&self.truth)()
    }

    /// Lets every task go on until each waits for a commit, a reply or time. A millisecond passes.
    pub(crate) fn idle(&self) {
        self.tick(1);
        // The runtime's clock moves only when nothing else can be done, so that this sleep ends last.
        self.process()
            .runtime
            .block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    }

    /// Time passes for clock and timers alike.
    pub(crate) fn pass(&self, ms: u64) {
        self.tick(ms);
        self.process()
            .runtime
            .block_on(tokio::time::advance(Duration::from_millis(ms)));
    }

    /// The machine's clock is set; no time passes.
    pub(crate) fn set_clock(&self, to: Micros) {
        self.clock.store(to.get(), Ordering::SeqCst);
    }

    pub(crate) fn block_on<T>(&self, task: JoinHandle<T>) -> std::result::Result<T, tokio::task::JoinError> {
        self.process().runtime.block_on(task)
    }

    pub(crate) fn settle_due(&self) {
        let process = self.process();
        let _inside = process.runtime.enter();
        settle_due(&process.service);
    }

    /// A request comes in: with the shop's token, or without one.
    pub(crate) fn request(&self, private: bool, path: String, body: Vec<u8>) -> JoinHandle<Told> {
        let process = self.process();
        let token = private.then(|| TOKEN.to_owned());
        let service = Arc::clone(&process.service);
        process.runtime.spawn(request(service, "POST", path, token, body))
    }

    /// A reply's last byte goes out.
    pub(crate) fn delivered(&self, told: &mut Told) {
        let _inside = self.process().runtime.enter();
        told.delivered();
    }

    /// The process ends at once; the next one finds the files as they were then.
    pub(crate) fn crash(&mut self, how: Crash, cut: u64) -> Result<()> {
        let wal = beside(&self.config.ledger, "-wal");
        let length = |path: &Path| fs::metadata(path).map_or(0, |data| data.len());
        let before = length(&wal);
        match how {
            Crash::Now => {}
            Crash::Torn | Crash::Untold => self.stepper().commit(usize::MAX, Fate::Untold),
            Crash::Unanchored => self.stepper().checkpoint_without_anchor(),
        }
        let after = length(&wal);
        let saved = self.folder.path().join("saved");
        fs::create_dir(&saved)?;
        for path in [&self.config.ledger, &wal] {
            if path.exists() {
                fs::copy(
                    path,
                    saved.join(path.file_name().expect("a ledger's file has a name")),
                )?;
            }
        }
        if let (Crash::Torn, Some(grown @ 1..)) = (how, after.checked_sub(before)) {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(saved.join(wal.file_name().expect("a WAL has a name")))?;
            file.set_len(before + cut % grown)?;
        }
        if how == Crash::Unanchored {
            fs::write(beside(&self.config.anchor, ".new"), b"shop.example/simul")?;
        }
        let anchor = fs::read(&self.config.anchor)?;
        self.drop_process();
        let live = self
            .config
            .ledger
            .parent()
            .expect("a ledger lies in a folder")
            .to_owned();
        fs::remove_dir_all(&live)?;
        fs::rename(&saved, &live)?;
        anyhow::ensure!(
            anchor == fs::read(&self.config.anchor)?,
            "a process that was killed moved the anchor"
        );
        self.start()
    }

    fn drop_process(&mut self) {
        if let Some(process) = self.process.take() {
            // First the tasks: what they hold tells nobody anything any more.
            drop(process.runtime);
            drop(process.service);
            drop(process.stepper);
        }
    }

    /// The service stops in order.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stepper.commit(usize::MAX, Fate::Told);
            drop(process.runtime);
            process.stepper.end();
            process.service.ledger.close();
        }
    }

    /// The operator stops the service, says that the clock was wrong, and starts it again.
    pub(crate) fn correct_clock(&mut self) -> Result<()> {
        self.stop();
        commands::correct_clock(&self.config, &clock_of(&self.clock), "simulated")?;
        self.start()
    }

    /// Refunds that the exchanges granted.
    pub(crate) fn granted(&self) -> usize {
        let exchanges = self.network.exchanges.iter();
        exchanges.map(|exchange| exchange.refunds().len()).sum()
    }

    /// Whether the clock stands so far back that nothing may be recorded.
    pub(crate) fn is_behind(&self) -> bool {
        let greatest = self.service().ledger.greatest_at();
        self.now().plus_s(quittance_events::limits::CLOCK_BACK_MAX_S) < greatest
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.drop_process();
    }
}

pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
