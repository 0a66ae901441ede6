//! The running service: ledger, exchanges, background and server put together from a configuration, and taken
//! apart again in order. Commands, demo and tests start it the same way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use quittance_events::backup::BackupError;
use quittance_events::erase::EraseError;
use quittance_events::facts::TokenScope;
use quittance_events::ledger::{OpenError, Paths};
use quittance_events::rotate::RotateError;
use quittance_events::{InstanceId, Ledger};
use quittance_tlog::note::KeyName;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::access::Access;
use crate::account::Accounts;
use crate::admission::{Admission, Bounds};
use crate::clock::{self, Clock, Steady};
use crate::config::{Config, ConfigError};
use crate::disk::{Disk, free_at};
use crate::exchange::{ClientError, Exchanges, Times};
use crate::http::{door, scrape};
use crate::instance::{Instance, KeyFileError, KeyFolder, instance_url, read_token};
use crate::limits::DRAIN_TIME;
use crate::managed::Instances;
use crate::metrics::Metrics;
use crate::open::Settler;
use crate::paying::Paying;
use crate::refusal::RequestError;
use crate::service::Service;
use crate::sessions::{self, Sessions};
use crate::settle::{read_open, run_background};
use crate::takeover::TakeoverError;
use crate::token::{Token, TokenError};
use crate::token_file::ChangeError;
use crate::waiters::Waiters;
use crate::webhook::deliver::{self, Webhooks};
use crate::{logs, witness};

/// Why the service did not start, or a command failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A token file.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Tokens were not changed.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The key of an instance is not the one in the ledger.
    #[error("instance {0}: its key file is not the key that the ledger has for it")]
    ForeignInstanceKey(InstanceId),
    /// An instance that cannot be opened or closed.
    #[error("{0}")]
    Instance(String),
    /// Nothing was erased.
    #[error(transparent)]
    Erase(#[from] EraseError),
    /// No key was rotated.
    #[error(transparent)]
    Rotate(#[from] RotateError),
    /// No client for an exchange.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The ledger did not take an event, or could not be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// No backup was made.
    #[error("no backup was made: {0}")]
    Backup(#[from] BackupError),
    /// No ledger was continued.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// The socket.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// A file or folder.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
}

impl StartError {
    /// The exit code of `quittance`: 1 failed, 2 configuration, 3 ledger behind its anchor.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Config(_) | StartError::Client(ClientError::RootsFile { .. }) => 2,
            StartError::Takeover(error) if error.is_configuration() => 2,
            StartError::Ledger(OpenError::BehindAnchor(_))
            | StartError::Erase(EraseError::Open(OpenError::BehindAnchor(_)))
            | StartError::Rotate(RotateError::Open(OpenError::BehindAnchor(_))) => 3,
            _ => 1,
        }
    }
}

/// Where the configuration puts the ledger.
#[must_use]
pub fn paths(config: &Config) -> Paths {
    Paths {
        ledger: config.ledger.clone(),
        anchor: config.anchor.clone(),
    }
}

/// The origin as a key name.
///
/// # Errors
/// It is none; the configuration has checked most of it already.
pub fn origin(config: &Config) -> Result<KeyName, StartError> {
    KeyName::new(config.origin.clone()).map_err(|e| OpenError::Origin(e.to_string()).into())
}

/// Opens the ledger that the configuration names, for the command that calls itself `holder`.
///
/// # Errors
/// See [`OpenError`] and [`KeyFileError`].
pub fn open_ledger(config: &Config, holder: &str) -> Result<Ledger, StartError> {
    // First the ledger's existence: a missing one is told better than its missing keys.
    if !config.ledger.exists() {
        return Err(OpenError::Missing(config.ledger.clone()).into());
    }
    let folder = KeyFolder(config.keys.clone());
    let ring = folder.read_ring(&origin(config)?, &[])?;
    let ledger = Ledger::open(&paths(config), ring, holder)?;
    folder.settle(&ledger.book().keys)?;
    Ok(ledger)
}

/// As [`open_ledger`] for `serve`, with a writer that works when it is told to.
#[cfg(feature = "simulation")]
pub(crate) fn open_stepped(
    config: &Config,
) -> Result<(Ledger, quittance_events::simulation::Stepper), StartError> {
    let folder = KeyFolder(config.keys.clone());
    let ring = folder.read_ring(&origin(config)?, &[])?;
    let (ledger, stepper) = Ledger::open_stepped(&paths(config), ring, "serve")?;
    folder.settle(&ledger.book().keys)?;
    Ok((ledger, stepper))
}

/// A running service.
pub struct App {
    /// What the handlers share.
    pub service: Arc<Service>,
    addr: SocketAddr,
    metrics_addr: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    /// Background, witnesses and server.
    tasks: Vec<JoinHandle<()>>,
}

impl App {
    /// Starts the service; when this returns it listens.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: &Config, clock: Clock, times: Times) -> Result<App, StartError> {
        App::start_within(config, (clock, clock::steady()), times, Bounds::default()).await
    }

    /// As [`App::start`], with other bounds at the door.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_within(
        config: &Config,
        clocks: (Clock, Steady),
        times: Times,
        bounds: Bounds,
    ) -> Result<App, StartError> {
        let ledger = Arc::new(open_ledger(config, "serve")?);
        let service = service(config, ledger, clocks, times, bounds, |exchanges| exchanges).await?;
        let listener =
            door::listen(config.serve.tcp, &bounds).map_err(|e| StartError::Listen(config.serve.tcp, e))?;
        let addr = listener
            .local_addr()
            .map_err(|e| StartError::Listen(config.serve.tcp, e))?;
        let for_metrics = match config.metrics_bind {
            Some(bind) => Some(listen(bind).await?),
            None => None,
        };
        let open = service.take_up_open_permissions()?;
        tracing::info!(
            %addr, instances = service.instances.len(), exchanges = config.exchanges.len(), open, "serving"
        );
        if service.instances.is_empty() {
            tracing::warn!("no instance is open: `quittance instance add` opens one");
        }
        if config.exchanges.is_empty() {
            tracing::warn!(
                "no exchange of {} is configured: no deposit can be told",
                config.currency
            );
        }
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(door::serve(listener, Arc::clone(&service), stopped.clone()));
        let Service { ledger, metrics, .. } = service.as_ref();
        let mut tasks = witness::start(&config.witnesses, ledger, metrics, times.witness, &stopped)?;
        let metrics_addr = for_metrics.as_ref().map(|(_, addr)| *addr);
        if let Some((listener, addr)) = for_metrics {
            tracing::info!(%addr, "serving metrics");
            let mut until = stopped.clone();
            tasks.push(tokio::spawn(scrape::serve(
                listener,
                Arc::clone(&service),
                async move {
                    // An error means that the App is gone, which ends the service as well.
                    let _ = until.changed().await;
                },
            )));
            tasks.push(tokio::spawn(read_open(Arc::clone(&service), stopped.clone())));
        }
        tasks.push(tokio::spawn(sessions::recall(
            Arc::clone(&service),
            stopped.clone(),
        )));
        tasks.push(tokio::spawn(deliver::run(Arc::clone(&service), stopped.clone())));
        tasks.push(tokio::spawn(run_background(Arc::clone(&service), stopped)));
        tasks.push(server);
        Ok(App {
            service,
            addr,
            metrics_addr,
            stop,
            tasks,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it serves metrics, if it does.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// Stops taking connections, lets requests and payments finish, signs the last checkpoint.
    pub async fn stop(self) {
        let until = Instant::now() + DRAIN_TIME;
        self.stop.send_replace(true);
        self.service.waiters.close();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(error = logs::ended(&error), "a part of the service had failed");
            }
        }
        let service = self.service;
        // A payment may outlive its request: what its exchange says of the coins is still recorded.
        if timeout_at(until, service.paying.ended()).await.is_err() {
            tracing::warn!(
                "a payment is still under way; whether its coins are deposited is asked again later"
            );
        }
        let closed = tokio::task::spawn_blocking(move || service.ledger.close()).await;
        if let Err(error) = closed {
            tracing::error!(error = logs::ended(&error), "the ledger was not closed in order");
        }
        tracing::info!("stopped");
    }
}

/// What the handlers share, from a configuration; `over` may have the exchanges called in another way.
pub(crate) async fn service(
    config: &Config,
    ledger: Arc<Ledger>,
    (clock, steady): (Clock, Steady),
    times: Times,
    bounds: Bounds,
    over: impl FnOnce(Exchanges) -> Exchanges,
) -> Result<Arc<Service>, StartError> {
    let folder = KeyFolder(config.keys.clone());
    folder.check_modes()?;
    let instances = instances(config, &folder, &ledger)?;
    let metrics = Metrics::new(
        config.metrics_bind.is_some(),
        &config.exchanges,
        &config.witnesses,
    );
    let metrics = Arc::new(metrics);
    let exchanges = Exchanges::new(
        &config.exchanges,
        Arc::clone(&ledger),
        Arc::clone(&clock),
        times,
        Arc::clone(&metrics),
    )?;
    let configured = [
        ("admin", TokenScope::All, &config.admin_token_file),
        ("auditor", TokenScope::Audit, &config.auditor_token_file),
    ];
    let configured = configured
        .into_iter()
        .filter_map(|(id, scope, file)| Some(configured_token(id, scope, file.as_deref()?)));
    let webhooks = Webhooks::open(folder.clone(), instances.keys())?;
    let access = Access::open(
        folder.clone(),
        Arc::clone(&ledger),
        Arc::clone(&clock),
        configured.collect::<Result<_, _>>()?,
        instances.keys().cloned(),
    );
    let access = access.await?;
    let paying = Paying::new(steady);
    Ok(Arc::new(Service {
        ledger,
        instances: Instances::new(instances, folder, config.base_url.clone()),
        exchanges: Arc::new(over(exchanges)),
        clock,
        settler: Settler::default(),
        admission: Admission::new(bounds, config.trusted_proxies.clone()),
        disk: Disk::new(config.disk_reserve, free_at(&config.ledger)),
        times,
        undeposited: config.undeposited,
        currency: config.currency,
        exchange_list: config.exchanges.clone(),
        base_url: config.base_url.clone(),
        access,
        webhooks,
        sessions: Sessions::default(),
        accounts: Accounts::default(),
        waiters: Waiters::default(),
        paying,
        metrics,
    }))
}

async fn listen(bind: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let fail = |error| StartError::Listen(bind, error);
    let listener = TcpListener::bind(bind).await.map_err(fail)?;
    let addr = listener.local_addr().map_err(fail)?;
    Ok((listener, addr))
}

/// The token of a file that the configuration names.
fn configured_token(id: &str, scope: TokenScope, file: &Path) -> Result<Token, StartError> {
    let id = id.parse().expect("a plain word is a token id");
    let mut token = Token::keep_as(id, &read_token(file)?)?;
    token.grant.scope = scope;
    Ok(token)
}

/// The open instances with their keys.
pub(crate) fn instances(
    config: &Config,
    folder: &KeyFolder,
    ledger: &Ledger,
) -> Result<BTreeMap<InstanceId, Arc<Instance>>, StartError> {
    let mut instances = BTreeMap::new();
    for (id, recorded) in &ledger.book().instances {
        let (merchant, file) = folder.read_instance(id)?;
        if merchant.merchant_pub() != recorded.merchant_pub {
            return Err(StartError::ForeignInstanceKey(id.clone()));
        }
        let instance = Instance {
            id: id.clone(),
            merchant: Arc::new(merchant),
            base_url: base_url(config, id),
            name: file.name,
            settings: file.settings,
        };
        instances.insert(id.clone(), Arc::new(instance));
    }
    Ok(instances)
}

/// Where wallets reach an instance.
#[must_use]
pub fn base_url(config: &Config, id: &InstanceId) -> Url {
    instance_url(&config.base_url, id)
}
