//! The ledger as a service uses it: opened from a file that `init` made, appended to through the writer thread,
//! read through a bounded cache. Opening replays nothing: it reads the end of the chain, the few ledger-wide
//! events and the open permissions, whatever the number of events.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use lru::LruCache;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use quittance_taler::{CoinPub, Digest32, Micros};
use quittance_tlog::note::{KeyName, NoteSigner, VerifierKey};

use crate::anchor::{AnchorError, Lock, LockError};
use crate::append::{Append, AppendError, Appended};
use crate::book::Book;
use crate::cache::{Shared, bounded, lock};
use crate::condition::Trouble;
use crate::cosignature::{self, Cosignature};
use crate::event::{AttachmentName, FORMAT_VERSION};
use crate::facts::KeyRole;
use crate::ids::{OrderKey, RefundId, Seq};
use crate::keys::KeyRing;
use crate::limits::{QUEUE_MAX, READERS_MAX, RECEIPTS_CACHED_MAX, TILE_ROOTS_CACHED_MAX};
use crate::opening::{BOTH_KEYS, begin};
use crate::order::{Order, RecordedAnswer};
use crate::receipt::Receipt;
use crate::sale::Folded;
use crate::schema;
use crate::seal::{EventKey, EventPub};
use crate::stats::Snapshot;
use crate::store::{self, StoreError};
use crate::tiles;
use crate::writer::{Job, Waiting};

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
    /// The keys are not those in force.
    #[error("the {0} key in force, which the ledger's events name, is not among those given")]
    ForeignKey(&'static str),
    /// The ledger's events are of a format that this program does not know.
    #[error("the ledger is of event format {0}, this program knows {FORMAT_VERSION}: use a newer one")]
    NewerFormat(u64),
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
    queue: Mutex<Option<mpsc::Sender<Job>>>,
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
    pub fn open(paths: &Paths, keys: impl Into<KeyRing>, holder: &str) -> Result<Ledger, OpenError> {
        let (writer, lock_file) = begin(paths, keys.into(), BOTH_KEYS, holder)?;
        let shared = Arc::clone(&writer.shared);
        let (sender, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("ledger-writer".into())
            .spawn(move || writer.run(&queue))?;
        Ok(Ledger::over(paths, shared, sender, Some(thread), lock_file))
    }

    /// The ledger around a writer that takes its jobs from the other end of `sender`.
    pub(crate) fn over(
        paths: &Paths,
        shared: Arc<Shared>,
        sender: mpsc::Sender<Job>,
        thread: Option<JoinHandle<()>>,
        lock_file: Lock,
    ) -> Ledger {
        Ledger {
            shared,
            path: paths.ledger.clone(),
            readers: Mutex::new(Vec::new()),
            receipts: Mutex::new(bounded(RECEIPTS_CACHED_MAX)),
            tile_roots: Mutex::new(bounded(TILE_ROOTS_CACHED_MAX)),
            places: Arc::new(Semaphore::new(QUEUE_MAX)),
            queue: Mutex::new(Some(sender)),
            writer: Mutex::new(thread),
            lock: Mutex::new(Some(lock_file)),
        }
    }

    /// Whether its writer waits to be stepped.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn is_stepped(&self) -> bool {
        lock(&self.writer).is_none() && lock(&self.queue).is_some()
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
            .send(Job::Append(waiting))
            .map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// What an order's events add up to, if that is in memory.
    #[must_use]
    pub fn cached(&self, key: &OrderKey) -> Option<Folded> {
        self.shared.cached(key)
    }

    pub(crate) fn peeked(&self, key: &OrderKey) -> Option<Folded> {
        self.shared.peeked(key)
    }

    /// What an order's events add up to, folded from the file where it is not in memory. Blocks on the disk then.
    ///
    /// # Errors
    /// The file cannot be read or its events do not add up.
    pub fn folded(&self, key: &OrderKey) -> Result<Option<Folded>, StoreError> {
        self.shared.folded(key, || {
            self.read(|conn| store::read_order(conn, key, &self.book()))
        })
    }

    /// The order, where it has a contract; as [`Ledger::folded`].
    ///
    /// # Errors
    /// As there.
    pub fn order(&self, key: &OrderKey) -> Result<Option<Arc<Order>>, StoreError> {
        let folded = self.folded(key)?;
        Ok(folded.and_then(|folded| folded.order().cloned()))
    }

    /// The bytes of an event's attachment, `None` where it has none of that name or they are erased. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn attachment(&self, seq: Seq, name: AttachmentName) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|conn| store::read_attachment(conn, seq, name))
    }

    /// An order's contract terms as they are now, though members were forgotten since the order was read; `None` where
    /// they are erased. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read or the order's events do not add up.
    pub fn contract(&self, order: &Order) -> Result<Option<Vec<u8>>, StoreError> {
        let before = self.attachment(order.terms_at, AttachmentName::Terms)?;
        if before.is_some() {
            return Ok(before);
        }
        // What is in memory may be a moment behind the file.
        self.read(|conn| match store::read_order(conn, &order.key, &self.book())? {
            Some(Folded::Recorded(now)) => store::read_attachment(conn, now.terms_at, AttachmentName::Terms),
            _ => Ok(None),
        })
    }

    /// Permissions that may have been sent and are not decided, for the background to take up.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open_permissions(&self) -> Result<Vec<(OrderKey, CoinPub, RefundId)>, StoreError> {
        self.read(store::read_open_permissions)
    }

    /// Keeps a cosignature that was verified. When this returns `Ok`, it is on disk.
    ///
    /// # Errors
    /// The file cannot be written, or the ledger is closed.
    pub async fn keep_cosignature(&self, cosignature: Cosignature) -> Result<(), AppendError> {
        let (reply, answer) = oneshot::channel();
        lock(&self.queue)
            .as_ref()
            .ok_or(AppendError::Closed)?
            .send(Job::Cosignature(cosignature, reply))
            .map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// Whether events can be recorded and the anchor follows. Costs nothing while all is well; after something failed it
    /// is tried anew, at most once a second however many ask, and those in between are told the last outcome. Waits
    /// for as long as the disk does: who must answer in time sets a limit.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check(&self) -> Result<(), Trouble> {
        if !self.is_writing() {
            return Err(Trouble::WriterGone);
        }
        let condition = &self.shared.condition;
        let Some(trouble) = condition.trouble() else {
            return Ok(());
        };
        // A writer that hangs takes no probe.
        if trouble == Trouble::Stalled || !condition.take_probe() {
            return Err(trouble);
        }
        let (done, probed) = oneshot::channel();
        let sent = match lock(&self.queue).as_ref() {
            Some(queue) => queue.send(Job::Probe(done)).is_ok(),
            None => false,
        };
        if !sent || probed.await.is_err() {
            return Err(Trouble::WriterGone);
        }
        condition.trouble().map_or(Ok(()), Err)
    }

    fn is_writing(&self) -> bool {
        let alive = |thread: &JoinHandle<()>| !thread.is_finished();
        lock(&self.writer).as_ref().is_some_and(alive)
    }

    /// The size that a witness's key cosigned last, [`Seq::NONE`] where it has cosigned none. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_cosigned(&self, vkey: &str) -> Result<Seq, StoreError> {
        self.read(|conn| cosignature::last_of(conn, vkey))
    }

    /// The latest stored checkpoint with the cosignatures that came for it, as outsiders get it; `None` before the
    /// first. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn cosigned_checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.read(|conn| {
            let Some(mut note) = store::latest_checkpoint(conn)? else {
                return Ok(None);
            };
            for line in cosignature::lines_of(conn, store::checkpointed_size(conn)?)? {
                note.push_str(&line);
                note.push('\n');
            }
            Ok(Some(note))
        })
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

    /// The key in force that checks events and receipts.
    ///
    /// # Panics
    /// Never: a ledger without a first event is not opened.
    #[must_use]
    pub fn event_key(&self) -> EventPub {
        let book = self.book();
        let now = book.keys.now(KeyRole::Event);
        EventPub::new(now.expect("the first event names one").key)
    }

    /// The receipt of a recorded answer, made once and then reused. None where the event key that was in force at the
    /// answer is no longer held: a receipt by another proves nothing.
    #[must_use]
    pub fn receipt(&self, answer: &RecordedAnswer) -> Option<Arc<str>> {
        if let Some(receipt) = lock(&self.receipts).get(&answer.seq) {
            return Some(Arc::clone(receipt));
        }
        let key = self.shared.ring.event_key_at(&self.book().keys, answer.seq)?;
        let receipt: Arc<str> = Receipt::sign(self.origin(), key, answer).to_string().into();
        lock(&self.receipts).put(answer.seq, Arc::clone(&receipt));
        Some(receipt)
    }

    /// What the writer has counted since the ledger was opened.
    #[must_use]
    pub fn stats(&self) -> Snapshot {
        let waiting = QUEUE_MAX.saturating_sub(self.places.available_permits());
        let trouble = if self.is_writing() {
            self.shared.condition.trouble()
        } else {
            Some(Trouble::WriterGone)
        };
        self.shared.stats.read(waiting, trouble)
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
