//! An exchange for demos and tests: real keys, real signatures, and faults on demand.
//!
//! It answers `GET /keys`, `GET /wire`, `POST /batch-deposit` and `POST /coins/$COIN_PUB/refund` as taler-exchange
//! 0.9.1 (protocol 14:0:2) was recorded to answer, or as one of protocol 23:0:6 does, and nothing else of an
//! exchange: coins are had for the asking ([`Sandbox::withdraw`]), no money moves, and besides deposits by wallets
//! it books what a test says was deposited. Its keys follow from a small seed, its books live in memory, and whoever
//! reaches its port commands it. It is not a place for anything of value.
//!
//! [`Purse`] is the wallet to it: it keeps coins, picks some for a contract, signs, and makes the bodies of a wallet's
//! requests.
//!
//! Over HTTP a test or a human commands it by these:
//!
//! | request | what it does |
//! |---|---|
//! | `POST /sandbox/deposits` | `{"deposits":[...]}`, see [`Deposit`]: books all of them or, with an error, those before the first bad one |
//! | `POST /sandbox/faults` | sets a [`Fault`]: `kind` in snake case, `times`, `delay_ms`, `path`, `coin_pub`, `status`, `code` |
//! | `GET /sandbox/books` | all deposits and refunds |
//! | `POST /sandbox/aggregate` | pays out, see [`Aggregate`]; answers `{"aggregated":n}` |
//! | `POST /sandbox/rotate` | goes over to a new signing key; answers `{"key":...}` |
//! | `POST /sandbox/renew` | makes coins of new denominations from now on |
//! | `POST /sandbox/protocol` | `{"protocol":14}` or 23, see [`Protocol`]: what it speaks from now on |

mod batch;
mod books;
mod denominations;
mod direct;
mod faults;
mod keys;
mod purse;
mod server;
pub mod witness;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use quittance_taler::{Amount, Currency, ExchangePub, MasterPub, Micros};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use books::{Aggregate, Deposit, DepositError, GrantedRefund};
pub use direct::{Direct, DirectReply};
pub use faults::{Fault, FaultError, FaultKind, FaultPath, MAX_DELAY, MAX_PENDING_FAULTS};
pub use keys::{Protocol, ProtocolUnknown};
pub use purse::{Coin, Payment, Purse, PurseError, Spent, WithdrawError};
use server::Shared;
pub use server::{Broken, MAX_BODY_BYTES, MAX_RECORDED_BYTES, MAX_RECORDED_REQUESTS};

/// Tells the time; a test may hand in its own.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// The machine's clock.
///
/// # Panics
/// The clock itself, when the machine's time is before 1970 or beyond 2255.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("the machine's clock is not before 1970");
        let micros =
            u64::try_from(since.as_micros()).expect("the machine's clock is not half a million years on");
        Micros::new(micros).expect("the machine's clock is before the year 2255")
    })
}

/// What a sandbox is made with.
#[derive(Clone)]
pub struct SandboxConfig {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The one currency of all amounts.
    pub currency: Currency,
    /// All keys follow from it.
    pub seed: u64,
    /// The time of signing keys, deposits and aggregation.
    pub clock: Clock,
}

impl fmt::Debug for SandboxConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxConfig")
            .field("bind", &self.bind)
            .field("currency", &self.currency)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// A request as it arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedRequest {
    /// GET, POST ...
    pub method: String,
    /// The path without query.
    pub path: String,
    /// The body, decoded from its transfer coding.
    pub body: Vec<u8>,
}

/// A running exchange. Dropping it stops it too, a moment later.
#[derive(Debug)]
pub struct Sandbox {
    shared: Arc<Shared>,
    stop: oneshot::Sender<Infallible>,
    accepting: JoinHandle<()>,
}

impl Sandbox {
    /// Starts listening and serving in the background of the current tokio runtime.
    pub async fn start(config: SandboxConfig) -> io::Result<Sandbox> {
        let listener = TcpListener::bind(config.bind).await?;
        let shared = Arc::new(Shared::new(&config, listener.local_addr()?));
        let (stop, stopped) = oneshot::channel();
        let accepting = tokio::spawn(server::accept(listener, Arc::clone(&shared), stopped));
        Ok(Sandbox {
            shared,
            stop,
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr()
    }

    /// Its address for clients: `http://HOST:PORT/`.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.shared.base_url()
    }

    /// What the exchange *is*, as contract terms name it.
    #[must_use]
    pub fn master_pub(&self) -> MasterPub {
        self.shared.state().keys.master_pub()
    }

    /// Every request that arrived whole, those of `/sandbox/` too, oldest first: the last
    /// [`MAX_RECORDED_REQUESTS`] of them, less if their bodies exceed [`MAX_RECORDED_BYTES`].
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.state().requests()
    }

    /// Every refund granted, in the order of granting. None is in it twice.
    #[must_use]
    pub fn refunds(&self) -> Vec<GrantedRefund> {
        self.shared.state().books.granted().to_vec()
    }

    /// Every deposit, by wallets or by word, in no order.
    #[must_use]
    pub fn deposits(&self) -> Vec<Deposit> {
        self.shared.state().books.deposits()
    }

    /// Books a deposit; the same facts again change nothing.
    pub fn deposit(&self, deposit: Deposit) -> Result<(), DepositError> {
        let now = self.shared.now();
        self.shared.state().books.deposit(deposit, now)
    }

    /// Makes coins of together this value, as few as can be, and puts them into a purse. Coins bear the fees that
    /// `/keys` tells; nothing is charged for making them.
    pub fn withdraw(&self, amount: Amount) -> Result<Purse, WithdrawError> {
        self.shared.withdraw(amount)
    }

    /// Speaks that protocol from now on. Coins in purses are told with [`Purse::speak`].
    pub fn speak(&self, protocol: Protocol) {
        self.shared.state().keys.protocol = protocol;
    }

    /// Makes coins of new denominations from now on; `/keys` lists the older ones too, and their coins are good.
    pub fn renew_denominations(&self) {
        let now = self.shared.now();
        self.shared.state().keys.renew_denominations(now);
    }

    /// Sets a fault for requests to come.
    pub fn fault(&self, fault: Fault) -> Result<(), FaultError> {
        self.shared.state().faults.add(fault)
    }

    /// Pays out the deposits whose refund deadline has passed. Returns how many.
    #[expect(clippy::must_use_candidate, reason = "called for what it does")]
    pub fn aggregate(&self, which: Aggregate) -> usize {
        let now = self.shared.now();
        self.shared.state().books.aggregate(which, now)
    }

    /// Signs with a new key from now on; `/keys` lists the older ones too.
    #[expect(clippy::must_use_candidate, reason = "called for what it does")]
    pub fn rotate_signing_key(&self) -> ExchangePub {
        let now = self.shared.now();
        self.shared.state().keys.rotate(now)
    }

    /// Closes the port and all connections, whatever is under way on them.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(failed) = self.accepting.await
            && failed.is_panic()
        {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
}
