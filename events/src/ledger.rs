//! The ledger as a service uses it: opened from a file that `init` made, appended to through the writer thread,
//! read through a bounded cache. Opening replays nothing: it reads the end of the chain, the few ledger-wide
//! events and the open permissions, whatever the number of events.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use lru::LruCache;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use quittance_taler::{CoinPub, Digest32, Micros};
use quittance_tlog::checkpoint::Checkpoint;
use quittance_tlog::note::{KeyName, NoteSigner, VerifierKey};

use crate::anchor::{self, AnchorError, Lock, LockError};
use crate::book::Book;
use crate::cache::{Shared, bounded, lock};
use crate::event::{Event, EventError, Facts};
use crate::ids::{OrderKey, RefundId, Seq};
use crate::limits::{
    CHECKPOINT_INTERVAL, QUEUE_MAX, READERS_MAX, RECEIPTS_CACHED_MAX, TILE_ROOTS_CACHED_MAX,
};
use crate::order::{Order, RecordedAnswer};
use crate::receipt::Receipt;
use crate::schema;
use crate::seal::{EventKey, EventPub};
use crate::store::{self, Head, StoreError};
use crate::tiles;
use crate::writer::{Append, AppendError, Appended, Waiting, Writer};

/// Where a ledger lives.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The SQLite file.
    pub ledger: PathBuf,
    /// The anchor, in another folder than the ledger so that one restored backup does not take both back.
    pub anchor: PathBuf,
}

/// The two keys of a ledger.
pub struct Keys {
    /// Signs events and receipts.
    pub event: EventKey,
    /// Signs checkpoints; named after the ledger's origin.
    pub checkpoint: NoteSigner,
}

/// Why a ledger was not opened or made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such file: `serve` never makes one.
    #[error("there is no ledger at {0}; `quittance init` makes one")]
    Missing(PathBuf),
    /// `init` never touches an existing file.
    #[error("{0} exists already; a ledger is made once and never over another")]
    Exists(PathBuf),
    /// A file, but not a ledger of this layout.
    #[error(
        "{path} is not a ledger of layout {}: application id {application_id:#x}, version {user_version}",
        schema::USER_VERSION
    )]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// As found.
        application_id: i64,
        /// As found.
        user_version: i64,
    },
    /// Another process writes it.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The keys are not those of the genesis.
    #[error("the {0} key is not the one that the ledger's first event names")]
    ForeignKey(&'static str),
    /// The origin is not that of the genesis.
    #[error("the configuration's ORIGIN is {configured}, the ledger's is {recorded}")]
    ForeignOrigin {
        /// As configured.
        configured: String,
        /// As in the genesis.
        recorded: String,
    },
    /// A name that no ledger can have.
    #[error("the origin: {0}")]
    Origin(String),
    /// The ledger lacks what the anchor says was there.
    #[error("the ledger is behind its anchor: {0}")]
    BehindAnchor(String),
    /// The anchor.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// The file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file.
    #[error("the ledger file: {0}")]
    Io(#[from] std::io::Error),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> OpenError {
        OpenError::Store(error.into())
    }
}

impl From<schema::ConnectError> for OpenError {
    fn from(error: schema::ConnectError) -> OpenError {
        OpenError::Store(error.into())
    }
}

/// An open ledger. Cheap to share behind an `Arc`.
pub struct Ledger {
    shared: Arc<Shared>,
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    receipts: Mutex<LruCache<Seq, Arc<str>>>,
    pub(crate) tile_roots: tiles::Roots,
    places: Arc<Semaphore>,
    queue: Mutex<Option<mpsc::Sender<Waiting>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held while the writer lives: a ledger that is closed may be opened by another, whoever still has this one.
    lock: Mutex<Option<Lock>>,
}

/// The VKEY under which a key of this ledger is told to auditors.
///
/// # Errors
/// The origin is no key name.
pub fn vkey(origin: &str, key: &Digest32) -> Result<VerifierKey, OpenError> {
    let name = KeyName::new(origin).map_err(|e| OpenError::Origin(e.to_string()))?;
    VerifierKey::new(name, *key.as_bytes()).map_err(|e| OpenError::Origin(e.to_string()))
}

impl Ledger {
    /// Opens a ledger for writing. `holder` is what a second process is told about this one.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is changed.
    pub fn open(paths: &Paths, keys: Keys, holder: &str) -> Result<Ledger, OpenError> {
        if !paths.ledger.exists() {
            return Err(OpenError::Missing(paths.ledger.clone()));
        }
        let lock_file = anchor::lock(&paths.ledger, holder)?;
        // Asked before anything that writes: settings as a ledger's would change what is none.
        let (application_id, user_version) = schema::identity(&schema::open_reader(&paths.ledger)?)?;
        if (application_id, user_version) != (schema::APPLICATION_ID, schema::USER_VERSION) {
            let path = paths.ledger.clone();
            return Err(OpenError::NotALedger {
                path,
                application_id,
                user_version,
            });
        }
        let mut conn = schema::open_writer(&paths.ledger)?;
        let head = store::read_head(&conn)?;
        let mut book = Book::default();
        let events = store::read_ledger_events(&conn)?;
        for event in &events {
            book.apply(event);
        }
        let origin = check_genesis(&events, &keys)?;
        let anchored = check_anchor(&conn, paths, &keys.checkpoint.verifier(), &head)?;
        let checkpointed = match store::latest_checkpoint(&conn)? {
            Some(note) => open_checkpoint(&note, &keys.checkpoint.verifier())?.size,
            None => 0,
        };
        tiles::make_up(&mut conn, head.size)?;
        let shared = Arc::new(Shared::new(origin.into(), keys.event, book, head.greatest_at));
        let writer = Writer {
            conn,
            shared: Arc::clone(&shared),
            checkpoint_key: keys.checkpoint,
            head,
            anchor_path: paths.anchor.clone(),
            anchored,
            checkpointed: Seq::new(checkpointed).map_err(|e| StoreError::Damaged(e.to_string()))?,
            last_checkpoint: Instant::now()
                .checked_sub(CHECKPOINT_INTERVAL)
                .unwrap_or_else(Instant::now),
        };
        let (sender, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("ledger-writer".into())
            .spawn(move || writer.run(&queue))?;
        Ok(Ledger {
            shared,
            path: paths.ledger.clone(),
            readers: Mutex::new(Vec::new()),
            receipts: Mutex::new(bounded(RECEIPTS_CACHED_MAX)),
            tile_roots: Mutex::new(bounded(TILE_ROOTS_CACHED_MAX)),
            places: Arc::new(Semaphore::new(QUEUE_MAX)),
            queue: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(thread)),
            lock: Mutex::new(Some(lock_file)),
        })
    }

    /// Records events. When this returns `Ok`, they are on disk.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing of the append is recorded then.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| AppendError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { append, reply, place };
        lock(&self.queue)
            .as_ref()
            .ok_or(AppendError::Closed)?
            .send(waiting)
            .map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// The order, if it is folded in memory.
    #[must_use]
    pub fn cached_order(&self, key: &OrderKey) -> Option<Arc<Order>> {
        self.shared.cached(key)
    }

    /// The order, folded from the file where it is not in memory. Blocks on the disk then.
    ///
    /// # Errors
    /// The file cannot be read or its events do not add up.
    pub fn order(&self, key: &OrderKey) -> Result<Option<Arc<Order>>, StoreError> {
        self.shared
            .order(key, || self.read(|conn| store::read_order(conn, key)))
    }

    /// Permissions that may have been sent and are not decided, for the background to take up.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open_permissions(&self) -> Result<Vec<(OrderKey, CoinPub, RefundId)>, StoreError> {
        self.read(store::read_open_permissions)
    }

    /// The ledger-wide projection.
    #[must_use]
    pub fn book(&self) -> Arc<Book> {
        self.shared.book()
    }

    /// The greatest time of any event since the last clock correction.
    #[must_use]
    pub fn greatest_at(&self) -> Micros {
        self.shared.greatest_at()
    }

    /// The ledger's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// The key that checks events and receipts.
    #[must_use]
    pub fn event_key(&self) -> EventPub {
        self.shared.event_key.public()
    }

    /// The receipt of a recorded answer, made once and then reused.
    #[must_use]
    pub fn receipt(&self, answer: &RecordedAnswer) -> Arc<str> {
        if let Some(receipt) = lock(&self.receipts).get(&answer.seq) {
            return Arc::clone(receipt);
        }
        let receipt: Arc<str> = Receipt::sign(self.origin(), &self.shared.event_key, answer)
            .to_string()
            .into();
        lock(&self.receipts).put(answer.seq, Arc::clone(&receipt));
        receipt
    }

    /// Ends the writer after all that waits: last checkpoint signed, anchor moved, WAL truncated, lock let go. Later
    /// appends get [`AppendError::Closed`]. Blocks.
    pub fn close(&self) {
        lock(&self.readers).clear();
        drop(lock(&self.queue).take());
        if let Some(thread) = lock(&self.writer).take()
            && thread.join().is_err()
        {
            tracing::error!("the ledger writer ended in a panic");
        }
        drop(lock(&self.lock).take());
    }

    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let pooled = lock(&self.readers).pop();
        let conn = match pooled {
            Some(conn) => conn,
            None => schema::open_reader(&self.path)?,
        };
        let result = read(&conn);
        let mut readers = lock(&self.readers);
        // A connection that failed may be the cause; a fresh one tells.
        if result.is_ok() && readers.len() < READERS_MAX {
            readers.push(conn);
        }
        result
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}

fn check_genesis(events: &[Event], keys: &Keys) -> Result<String, OpenError> {
    let Some(Event {
        facts: Facts::LedgerOpened(genesis),
        ..
    }) = events.first()
    else {
        return Err(StoreError::Damaged("the first event is not ledger_opened".into()).into());
    };
    if genesis.event_key != keys.event.public().key() {
        return Err(OpenError::ForeignKey("event"));
    }
    if genesis.checkpoint_key.as_bytes() != keys.checkpoint.verifier().public_key() {
        return Err(OpenError::ForeignKey("checkpoint"));
    }
    let configured = keys.checkpoint.name().to_string();
    if genesis.origin != configured {
        return Err(OpenError::ForeignOrigin {
            configured,
            recorded: genesis.origin.clone(),
        });
    }
    if let Some(raised) = events
        .iter()
        .find(|event| matches!(event.facts, Facts::FormatRaised(_)))
    {
        return Err(
            StoreError::Damaged(EventError::UnknownKind(raised.facts.kind().into()).to_string()).into(),
        );
    }
    Ok(configured)
}

fn open_checkpoint(note: &str, key: &VerifierKey) -> Result<Checkpoint, OpenError> {
    Checkpoint::open(note, key).map_err(|e| StoreError::Damaged(format!("a checkpoint: {e}")).into())
}

/// Refuses a ledger that lacks what the anchor says was there; gives the anchor's text.
fn check_anchor(
    conn: &Connection,
    paths: &Paths,
    key: &VerifierKey,
    head: &Head,
) -> Result<String, OpenError> {
    let behind = |what: String| Err(OpenError::BehindAnchor(what));
    let Some(text) = anchor::read(&paths.anchor)? else {
        return behind(format!(
            "there is no anchor at {}, so a cut could not be seen",
            paths.anchor.display()
        ));
    };
    let anchored = match Checkpoint::open(&text, key) {
        Ok(anchored) => anchored,
        Err(e) => return behind(format!("the anchor is not a checkpoint of this ledger ({e})")),
    };
    if anchored.size > head.size.get() {
        return behind(format!(
            "it holds {} events, the anchor speaks of {}",
            head.size, anchored.size
        ));
    }
    // Each anchor was stored as a checkpoint first, so the roots can be compared without the events.
    let Some(stored) = store::checkpoint_at(conn, anchored.size)? else {
        return behind(format!(
            "it has no checkpoint at {} events as the anchor has",
            anchored.size
        ));
    };
    if open_checkpoint(&stored, key)?.root != anchored.root {
        return behind(format!(
            "its first {} events are not those that the anchor speaks of",
            anchored.size
        ));
    }
    Ok(text)
}
