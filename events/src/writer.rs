//! The writer: one thread that owns the write connection. It checks that each append was decided on its order's
//! latest state, gives it its place, seals it, and commits once for all that wait; only then it wakes them. It
//! decides nothing about money and reads no wall clock: the time of a decision comes with its events.
//!
//! A commit that fails takes its whole batch with it: every waiting caller is told, nothing of it is in the
//! projections, and the next batch begins from the last committed state.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use quittance_taler::{Digest32, EddsaSignature, Micros};
use quittance_tlog::checkpoint::Checkpoint;
use quittance_tlog::note::NoteSigner;

use crate::anchor;
use crate::cache::Shared;
use crate::event::{AttachmentName, Event, Facts, NewEvent};
use crate::ids::{InstanceId, OrderKey, Seq};
use crate::limits::{BATCH_MAX, CHECKPOINT_INTERVAL, CLOCK_BACK_MAX_S, PARALLEL_SIGN_MIN};
use crate::order::{Order, RecordedAnswer};
use crate::parts::into_parts;
use crate::seal::{
    EventKey, LEAF_MAX, SALT_LEN, SIGNATURE_LEN, Salt, attachment_digest, event_digest, leaf_hash,
};
use crate::store::{self, Head, SealedEvent, StoreError};

/// Whose events an append holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    /// The ledger's own, or an instance's.
    Ledger(Option<InstanceId>),
    /// An order's, decided on its state as of this event ([`Seq::NONE`]: the order does not exist yet).
    Order(OrderKey, Seq),
    /// An order's, whatever its state: for what is told and not decided. Its time is moved up to the order's.
    Told(OrderKey),
}

/// Events to be recorded together, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Whose.
    pub stream: Stream,
    /// The time that they were decided on.
    pub at: Micros,
    /// They, in order.
    pub events: Vec<NewEvent>,
}

/// What an append came to.
#[derive(Debug, Clone)]
pub struct Appended {
    /// Sequences of the events written, none where all of it was recorded already.
    pub seqs: Vec<Seq>,
    /// The order afterwards.
    pub order: Option<Arc<Order>>,
    /// The answer among the events, now or already recorded.
    pub answer: Option<RecordedAnswer>,
}

/// Why an append was refused. Nothing of it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The order has moved on since the decision: decide again.
    #[error("the order has moved on")]
    Moved,
    /// The clock stands too far back; the operator must say so with `clock-correct`.
    #[error("the clock is {behind_s} s behind the ledger: run `quittance clock-correct`")]
    ClockBehind {
        /// By how much.
        behind_s: u64,
    },
    /// An event too large for a leaf.
    #[error("a {kind} event of {bytes} bytes; {LEAF_MAX} is the most")]
    TooLarge {
        /// Its kind.
        kind: &'static str,
        /// Leaf bytes.
        bytes: usize,
    },
    /// The events do not fit the order.
    #[error("{0}")]
    Unfit(String),
    /// The ledger file could not be read or written.
    #[error("the ledger could not be written: {0}")]
    Storage(String),
    /// The ledger is closed.
    #[error("the ledger is closed")]
    Closed,
}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> AppendError {
        AppendError::Storage(error.to_string())
    }
}

/// An append and who waits for it.
pub(crate) struct Waiting {
    pub(crate) append: Append,
    pub(crate) reply: oneshot::Sender<Result<Appended, AppendError>>,
    /// A place in the queue, given back when the append is dealt with.
    pub(crate) place: OwnedSemaphorePermit,
}

pub(crate) struct Writer {
    pub(crate) conn: Connection,
    pub(crate) shared: Arc<Shared>,
    pub(crate) checkpoint_key: NoteSigner,
    pub(crate) head: Head,
    pub(crate) anchor_path: PathBuf,
    /// What the anchor holds, as this process knows it.
    pub(crate) anchored: String,
    pub(crate) checkpointed: Seq,
    pub(crate) last_checkpoint: Instant,
}

/// Events of a batch, sealed but for their signatures, with the state they lead to.
struct Batch {
    head: Head,
    events: Vec<SealedEvent>,
    orders: HashMap<OrderKey, Option<Arc<Order>>>,
    book: Arc<crate::book::Book>,
}

impl Writer {
    /// Serves appends until every sender is gone, then signs the last checkpoint and truncates the WAL.
    pub(crate) fn run(mut self, queue: &Receiver<Waiting>) {
        loop {
            let due = self.last_checkpoint + CHECKPOINT_INTERVAL;
            let first = if self.checkpointed == self.head.size {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                queue.recv_timeout(due.saturating_duration_since(Instant::now()))
            };
            match first {
                Ok(first) => {
                    let mut batch = vec![first];
                    while batch.len() < BATCH_MAX {
                        match queue.try_recv() {
                            Ok(next) => batch.push(next),
                            Err(_) => break,
                        }
                    }
                    self.commit(batch);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.checkpointed < self.head.size && self.last_checkpoint.elapsed() >= CHECKPOINT_INTERVAL {
                self.checkpoint();
            }
        }
        if self.checkpointed < self.head.size {
            self.checkpoint();
        }
        if let Err(error) = self.conn.pragma_update(None, "wal_checkpoint", "TRUNCATE") {
            tracing::warn!(%error, "the WAL was not truncated at the end; the next start takes it up");
        }
    }

    fn commit(&mut self, waiting: Vec<Waiting>) {
        let mut batch = Batch {
            head: self.head.clone(),
            events: Vec::new(),
            orders: HashMap::new(),
            book: self.shared.book(),
        };
        let mut done = Vec::with_capacity(waiting.len());
        for Waiting { append, reply, place } in waiting {
            done.push((self.take_up(&mut batch, append), reply, place));
        }
        let committed = if batch.events.is_empty() {
            Ok(())
        } else {
            self.store(&mut batch)
        };
        match committed {
            Ok(()) => {
                self.head = batch.head;
                self.shared
                    .publish(batch.orders, batch.book, self.head.greatest_at);
                for (result, reply, _) in done {
                    // A caller who went away has lost nothing: the events are recorded.
                    let _ = reply.send(result);
                }
            }
            Err(error) => {
                tracing::error!(%error, "a commit failed");
                for (result, reply, _) in done {
                    let _ = reply.send(result.and(Err(AppendError::Storage(error.to_string()))));
                }
            }
        }
    }

    /// Checks one append, gives its events their places and folds them. On error the batch is as before.
    #[expect(
        clippy::too_many_lines,
        reason = "checks, places and folds of one append are read in one go"
    )]
    fn take_up(&self, batch: &mut Batch, append: Append) -> Result<Appended, AppendError> {
        let Append {
            stream,
            mut at,
            events,
        } = append;
        let (instance, key) = match &stream {
            Stream::Ledger(instance) => (instance.clone(), None),
            Stream::Order(key, _) | Stream::Told(key) => (Some(key.instance.clone()), Some(key.clone())),
        };
        let mut order = match &key {
            None => None,
            Some(key) => match batch.orders.get(key) {
                Some(order) => order.clone(),
                None => self.shared.order(key, || store::read_order(&self.conn, key))?,
            },
        };
        let within_epoch = |order: &Order| order.last > batch.book.clock_epoch;
        if let (Some(order), true) = (&order, matches!(stream, Stream::Told(_)))
            && within_epoch(order)
        {
            at = at.max(order.last_at);
        }
        let is_correction = events
            .iter()
            .any(|event| matches!(event.facts, Facts::ClockCorrected(_)));
        if !is_correction && at.plus_s(CLOCK_BACK_MAX_S) < batch.head.greatest_at {
            let behind_s = (batch.head.greatest_at.get() - at.get()).div_ceil(1_000_000);
            return Err(AppendError::ClockBehind { behind_s });
        }
        if let Stream::Order(_, decided_on) = stream {
            let current = order.as_ref().map_or(Seq::NONE, |order| order.moved);
            if current != decided_on {
                return Err(AppendError::Moved);
            }
            // An answer by somebody else moves no order, but time within an order never runs backwards.
            if order
                .as_ref()
                .is_some_and(|order| at < order.last_at && within_epoch(order))
            {
                return Err(AppendError::Moved);
            }
        }
        if let (Some(order), [event]) = (&order, events.as_slice()) {
            if let Some(answer) = event
                .facts
                .answer_body()
                .and_then(|body| order.recorded_answer(&body))
            {
                let answer = Some(answer.clone());
                return Ok(Appended {
                    seqs: Vec::new(),
                    order: Some(Arc::clone(order)),
                    answer,
                });
            }
            if let Facts::RefundDelivered(delivered) = &event.facts
                && !order.awaits_delivery(delivered.answer)
            {
                return Ok(Appended {
                    seqs: Vec::new(),
                    order: Some(Arc::clone(order)),
                    answer: None,
                });
            }
        }

        let mut head = batch.head.clone();
        let mut book = Arc::clone(&batch.book);
        let mut sealed = Vec::new();
        let mut answer_body = None;
        let mut moved = order.as_ref().map_or(Seq::NONE, |order| order.moved);
        for NewEvent { facts, attachments } in events {
            for (index, mut facts) in into_parts(facts).into_iter().enumerate() {
                facts.set_as_of(moved);
                answer_body = facts.answer_body().or(answer_body);
                if let Facts::ClockCorrected(correction) = &facts {
                    head.greatest_at = correction.to_us;
                }
                let attachments = if index == 0 {
                    salted(&attachments)
                } else {
                    Vec::new()
                };
                let event = Event {
                    at_us: at,
                    attachments: attachments
                        .iter()
                        .map(|(name, salt, bytes)| (*name, attachment_digest(salt, bytes)))
                        .collect(),
                    facts,
                    instance: instance.clone(),
                    ledger: Arc::clone(&self.shared.origin),
                    order: key.as_ref().map(|key| key.order.clone()),
                    prev: head.digest,
                    seq: head.size.next(),
                };
                let one = seal(event, attachments)?;
                head.size = one.event.seq;
                head.digest = one.digest;
                head.greatest_at = head.greatest_at.max(at);
                if one.event.facts.moves_order() {
                    moved = one.event.seq;
                }
                match &key {
                    Some(_) => fold(&mut order, &one).map_err(|e| AppendError::Unfit(e.to_string()))?,
                    None => Arc::make_mut(&mut book).apply(&one.event),
                }
                sealed.push(one);
            }
        }
        let seqs = sealed.iter().map(|one| one.event.seq).collect();
        batch.head = head;
        batch.book = book;
        batch.events.extend(sealed);
        if let Some(key) = key {
            batch.orders.insert(key, order.clone());
        }
        let answer = match (&order, answer_body) {
            (Some(order), Some(body)) => order.recorded_answer(&body).cloned(),
            _ => None,
        };
        Ok(Appended { seqs, order, answer })
    }

    /// Signs and stores a batch in one transaction.
    fn store(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        sign_all(&self.shared.event_key, &mut batch.events);
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for sealed in &batch.events {
            store::insert_event(&tx, sealed)?;
            batch
                .head
                .frontier
                .push(leaf_hash(&sealed.sealed, &sealed.signature));
        }
        store::write_head(&tx, &batch.head)?;
        tx.commit()?;
        Ok(())
    }

    /// Signs a checkpoint of all that is committed, and moves the anchor up to it. First the ledger, then the
    /// anchor: the other way round, a crash between them would make a sound ledger look cut off.
    fn checkpoint(&mut self) {
        self.last_checkpoint = Instant::now();
        let note = sign_checkpoint(&self.checkpoint_key, &self.shared.origin, &self.head);
        let stored = store::insert_checkpoint(&self.conn, self.head.size, &note);
        if let Err(error) = stored {
            tracing::error!(%error, "the checkpoint was not stored; trying again with the next");
            return;
        }
        self.checkpointed = self.head.size;
        match anchor::replace(&self.anchor_path, Some(&self.anchored), &note) {
            Ok(()) => self.anchored = note,
            // The ledger itself is sound; a cut would go unseen from the last anchor on, so the operator must know.
            Err(error) => tracing::error!(%error, size = %self.head.size, "the anchor was not moved"),
        }
    }
}

/// A signed checkpoint of the head.
pub(crate) fn sign_checkpoint(key: &NoteSigner, origin: &str, head: &Head) -> String {
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size: head.size.get(),
        root: head.frontier.root(),
    };
    checkpoint
        .sign(key)
        .expect("the ledger was opened under the name of this key")
        .to_string()
}

pub(crate) fn salted(attachments: &[(AttachmentName, Vec<u8>)]) -> Vec<(AttachmentName, Salt, Vec<u8>)> {
    attachments
        .iter()
        .map(|(name, bytes)| {
            let mut salt = [0; SALT_LEN];
            getrandom::fill(&mut salt).expect("the system has randomness");
            (*name, salt, bytes.clone())
        })
        .collect()
}

/// Seals an event but for its signature, which a batch makes all at once.
pub(crate) fn seal(
    event: Event,
    attachments: Vec<(AttachmentName, Salt, Vec<u8>)>,
) -> Result<SealedEvent, AppendError> {
    let sealed = event.canonical();
    let bytes = sealed.len() + SIGNATURE_LEN;
    if bytes > LEAF_MAX {
        return Err(AppendError::TooLarge {
            kind: event.facts.kind(),
            bytes,
        });
    }
    let digest: Digest32 = event_digest(&sealed);
    Ok(SealedEvent {
        event,
        sealed,
        digest,
        signature: EddsaSignature::from_bytes([0; SIGNATURE_LEN]),
        attachments,
    })
}

pub(crate) fn fold(order: &mut Option<Arc<Order>>, one: &SealedEvent) -> Result<(), crate::order::FoldError> {
    match order {
        None => *order = Some(Arc::new(Order::begin(&one.event)?)),
        Some(order) => {
            let reply = one
                .attachments
                .iter()
                .find(|(name, ..)| *name == AttachmentName::Reply);
            let reply = reply.map(|(_, _, bytes)| bytes.as_slice());
            Arc::make_mut(order).apply(&one.event, &one.digest, reply)?;
        }
    }
    Ok(())
}

/// Signs a batch. `prev` covers sealed bytes alone, so the signatures do not wait for each other.
pub(crate) fn sign_all(key: &EventKey, events: &mut [SealedEvent]) {
    fn sign_each(key: &EventKey, events: &mut [SealedEvent]) {
        for one in events {
            one.signature = key.sign_event(&one.sealed);
        }
    }
    if events.len() < PARALLEL_SIGN_MIN {
        return sign_each(key, events);
    }
    let (left, right) = events.split_at_mut(events.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| sign_each(key, left));
        sign_each(key, right);
    });
}
