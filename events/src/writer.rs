//! The writer: one thread that owns the write connection. It checks that each append was decided on its order's
//! latest state, gives it its place, seals it, and commits once for all that wait; only then it wakes them. It
//! decides nothing about money and reads no wall clock: the time of a decision comes with its events.
//!
//! A commit that fails takes its whole batch with it: every waiting caller is told, nothing of it is in the
//! projections, and the next batch begins from the last committed state.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use quittance_taler::{Digest32, EddsaSignature, Micros};

use crate::anchor::Kept;
use crate::append::{Append, AppendError, Appended, Stream};
use crate::book::Book;
use crate::cache::Shared;
use crate::cosignature::{self, Cosignature};
use crate::event::{AttachmentName, Event, Facts, NewEvent};
use crate::facts::FormatRaised;
use crate::ids::{InstanceId, OrderKey, Seq};
use crate::keys::KeyRing;
use crate::limits::{BATCH_MAX, CHECKPOINT_INTERVAL, CLOCK_BACK_MAX_S, PARALLEL_SIGN_MIN, WAL_RETRY};
use crate::parts::into_parts;
use crate::sale::Folded;
use crate::seal::{
    EventKey, LEAF_MAX, SALT_LEN, SIGNATURE_LEN, Salt, attachment_digest, event_digest, leaf_hash,
};
use crate::store::{self, Head, SealedEvent, StoreError};
use crate::tiles;
use crate::wal::Wal;

/// An append and who waits for it.
pub(crate) struct Waiting {
    pub(crate) append: Append,
    pub(crate) reply: oneshot::Sender<Result<Appended, AppendError>>,
    /// A place in the queue, given back when the append is dealt with.
    pub(crate) place: OwnedSemaphorePermit,
}

/// What the writer is asked for.
pub(crate) enum Job {
    Append(Waiting),
    Cosignature(Cosignature, oneshot::Sender<Result<(), AppendError>>),
    /// Try whether the disk is well again; the outcome stands in the shared condition when this is answered.
    Probe(oneshot::Sender<()>),
}

pub(crate) struct Writer {
    pub(crate) conn: Connection,
    pub(crate) shared: Arc<Shared>,
    pub(crate) head: Head,
    pub(crate) anchor: Kept,
    /// The last stored checkpoint, and how many events it covers.
    pub(crate) checkpoint: String,
    pub(crate) checkpointed: Seq,
    pub(crate) last_checkpoint: Instant,
    /// What last kept a checkpoint from being stored or the anchor from being moved.
    pub(crate) trouble: Option<String>,
    /// What the WAL may still have beside events.
    pub(crate) wal: Wal,
    /// The simulated disk refuses the next commits.
    #[cfg(feature = "simulation")]
    pub(crate) fails: bool,
}

/// Events of a batch, sealed but for their signatures, with the state they lead to.
struct Batch {
    head: Head,
    events: Vec<SealedEvent>,
    orders: HashMap<OrderKey, Option<Folded>>,
    book: Arc<Book>,
}

/// Gives the events of one append their places, on a copy of the batch's state.
struct Placing<'a> {
    origin: &'a Arc<str>,
    at: Micros,
    head: Head,
    book: Arc<Book>,
    sealed: Vec<SealedEvent>,
}

impl Placing<'_> {
    /// Places an event, after those that raise the format where its kind is the first that needs it.
    fn place(
        &mut self,
        instance: Option<InstanceId>,
        key: Option<&OrderKey>,
        facts: Facts,
        attachments: &[(AttachmentName, Vec<u8>)],
    ) -> Result<&SealedEvent, AppendError> {
        for version in self.book.version_at(self.head.size.next()) + 1..=facts.needed_version() {
            self.place(None, None, FormatRaised { version }.into(), &[])?;
        }
        if let Facts::ClockCorrected(correction) = &facts {
            self.head.greatest_at = correction.to_us;
        }
        let attachments = salted(attachments);
        let seq = self.head.size.next();
        let event = Event {
            at_us: self.at,
            attachments: attachments
                .iter()
                .map(|(name, salt, bytes)| (*name, attachment_digest(salt, bytes)))
                .collect(),
            facts,
            instance,
            ledger: Arc::clone(self.origin),
            order: key.map(|key| key.order.clone()),
            prev: self.head.digest,
            seq,
            version: self.book.version_at(seq),
        };
        let one = seal(event, attachments)?;
        self.head.size = one.event.seq;
        self.head.digest = one.digest;
        self.head.greatest_at = self.head.greatest_at.max(self.at);
        if key.is_none() {
            Arc::make_mut(&mut self.book).apply(&one.event);
        }
        self.sealed.push(one);
        Ok(self.sealed.last().expect("it was just put there"))
    }
}

impl Writer {
    /// Serves appends until every sender is gone, then signs the last checkpoint and truncates the WAL.
    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        loop {
            let due = self.last_checkpoint + CHECKPOINT_INTERVAL;
            let checkpoint = (!self.is_checkpointed()).then(|| due.saturating_duration_since(Instant::now()));
            let truncation = (self.wal != Wal::Clean).then_some(WAL_RETRY);
            let first = match checkpoint.into_iter().chain(truncation).min() {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => queue.recv_timeout(wait),
            };
            match first {
                Ok(first) => {
                    let mut batch = Vec::new();
                    for job in std::iter::once(first).chain(queue.try_iter().take(BATCH_MAX - 1)) {
                        match job {
                            Job::Append(waiting) => batch.push(waiting),
                            Job::Cosignature(cosignature, reply) => {
                                let stored = cosignature::insert(&self.conn, &cosignature);
                                // Nobody waits for it any more: it is stored all the same.
                                let _ = reply.send(stored.map_err(|e| AppendError::Storage(e.to_string())));
                            }
                            Job::Probe(done) => {
                                self.probe();
                                // Who asked may have given up; the condition says it to the next.
                                let _ = done.send(());
                            }
                        }
                    }
                    if !batch.is_empty() {
                        self.commit(batch);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.clear_wal(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !self.is_checkpointed() && self.last_checkpoint.elapsed() >= CHECKPOINT_INTERVAL {
                self.checkpoint();
            }
        }
        self.end();
    }

    /// Signs the last checkpoint and truncates the WAL.
    pub(crate) fn end(&mut self) {
        if !self.is_checkpointed() {
            self.checkpoint();
        }
        if let Err(error) = self.conn.pragma_update(None, "wal_checkpoint", "TRUNCATE") {
            tracing::warn!(%error, "the WAL was not truncated at the end; the next start takes it up");
        }
    }

    /// Records one append at once: for commands that nothing else runs beside.
    pub(crate) fn record(&mut self, append: Append) -> Result<Appended, AppendError> {
        let mut batch = self.batch();
        let appended = self.take_up(&mut batch, append)?;
        self.store(&mut batch)?;
        self.publish(batch);
        Ok(appended)
    }

    /// The keys, for the one command that takes new ones in.
    ///
    /// # Panics
    /// The writer is shared with a running ledger.
    pub(crate) fn ring_mut(&mut self) -> &mut KeyRing {
        let shared = Arc::get_mut(&mut self.shared);
        &mut shared.expect("nothing shares a writer that is not running").ring
    }

    fn batch(&self) -> Batch {
        Batch {
            head: self.head.clone(),
            events: Vec::new(),
            orders: HashMap::new(),
            book: self.shared.book(),
        }
    }

    /// Makes a stored batch the state that others see.
    fn publish(&mut self, batch: Batch) {
        self.head = batch.head;
        self.shared.stats.grown(self.head.size);
        self.shared
            .publish(batch.orders, batch.book, self.head.greatest_at);
    }

    pub(crate) fn commit(&mut self, waiting: Vec<Waiting>) {
        let mut batch = self.batch();
        let mut done = Vec::with_capacity(waiting.len());
        for Waiting { append, reply, place } in waiting {
            let result = self.take_up(&mut batch, append);
            if let Err(error) = &result {
                self.shared.stats.refused(error);
            }
            done.push((result, reply, place));
        }
        #[cfg(feature = "broken")]
        if crate::broken::is(crate::broken::Fault::ToldFirst) {
            for (result, reply, _) in done.drain(..) {
                let _ = reply.send(result);
            }
        }
        let committed = if batch.events.is_empty() {
            Ok(())
        } else {
            self.shared.condition.begin();
            let stored = self.store(&mut batch);
            self.shared.condition.end();
            self.shared.condition.committed(stored.is_ok());
            stored
        };
        match committed {
            Ok(()) => {
                self.publish(batch);
                // Before anybody is told that it is gone.
                self.clear_wal();
                for (result, reply, _) in done {
                    // A caller who went away has lost nothing: the events are recorded.
                    let _ = reply.send(result);
                }
            }
            Err(error) => {
                self.shared.stats.commit_failed();
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
                None => self
                    .shared
                    .folded(key, || store::read_order(&self.conn, key, &batch.book))?,
            },
        };
        // Times of before a clock correction are compared with nothing.
        let last_at = order
            .as_ref()
            .map(Folded::last)
            .filter(|(last, _)| *last > batch.book.clock_epoch)
            .map(|(_, at)| at);
        if let (Some(last_at), Stream::Told(_)) = (last_at, &stream) {
            at = at.max(last_at);
        }
        let is_correction = events
            .iter()
            .any(|event| matches!(event.facts, Facts::ClockCorrected(_)));
        if !is_correction && at.plus_s(CLOCK_BACK_MAX_S) < batch.head.greatest_at {
            let behind_s = (batch.head.greatest_at.get() - at.get()).div_ceil(1_000_000);
            return Err(AppendError::ClockBehind { behind_s });
        }
        if let Stream::Order(_, decided_on) = stream {
            let current = order.as_ref().map_or(Seq::NONE, Folded::moved);
            if current != decided_on {
                return Err(AppendError::Moved);
            }
            // An answer by somebody else moves no order, but time within an order never runs backwards.
            if last_at.is_some_and(|last_at| at < last_at) {
                return Err(AppendError::Moved);
            }
        }
        if let (Some(Folded::Recorded(order)), [event]) = (&order, events.as_slice()) {
            if let Some(answer) = event
                .facts
                .answer_body()
                .and_then(|body| order.recorded_answer(&body))
            {
                let answer = Some(answer.clone());
                return Ok(Appended {
                    seqs: Vec::new(),
                    folded: Some(Folded::Recorded(Arc::clone(order))),
                    answer,
                });
            }
            if let Facts::RefundDelivered(delivered) = &event.facts
                && !order.awaits_delivery(delivered.answer)
            {
                return Ok(Appended {
                    seqs: Vec::new(),
                    folded: Some(Folded::Recorded(Arc::clone(order))),
                    answer: None,
                });
            }
        }

        let mut placing = Placing {
            origin: &self.shared.origin,
            at,
            head: batch.head.clone(),
            book: Arc::clone(&batch.book),
            sealed: Vec::new(),
        };
        let mut answer_body = None;
        let mut moved = order.as_ref().map_or(Seq::NONE, Folded::moved);
        for NewEvent { facts, attachments } in events {
            for (index, mut facts) in into_parts(facts).into_iter().enumerate() {
                facts.set_as_of(moved);
                answer_body = facts.answer_body().or(answer_body);
                let behind = if index == 0 { attachments.as_slice() } else { &[] };
                let one = placing.place(instance.clone(), key.as_ref(), facts, behind)?;
                if one.event.facts.moves_order() {
                    moved = one.event.seq;
                }
                if key.is_some() {
                    fold(&mut order, one).map_err(|e| AppendError::Unfit(e.to_string()))?;
                }
            }
        }
        let Placing {
            head, book, sealed, ..
        } = placing;
        let seqs = sealed.iter().map(|one| one.event.seq).collect();
        batch.head = head;
        batch.book = book;
        batch.events.extend(sealed);
        if let Some(key) = key {
            batch.orders.insert(key, order.clone());
        }
        let answer = match (&order, answer_body) {
            (Some(Folded::Recorded(order)), Some(body)) => order.recorded_answer(&body).cloned(),
            _ => None,
        };
        Ok(Appended {
            seqs,
            folded: order,
            answer,
        })
    }

    /// Signs and stores a batch in one transaction.
    fn store(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        let began = Instant::now();
        let (ring, history) = (&self.shared.ring, &batch.book.keys);
        sign_all(|seq| ring.event_key_at(history, seq), &mut batch.events).map_err(|seq| {
            StoreError::Damaged(format!("the event key in force at event {seq} is not held"))
        })?;
        let before = batch.head.frontier.size();
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
        tiles::fill(&tx, before, batch.head.frontier.size())?;
        store::write_head(&tx, &batch.head)?;
        #[cfg(feature = "simulation")]
        if self.fails {
            return Err(StoreError::Damaged("the simulated disk failed".into()));
        }
        tx.commit()?;
        self.shared.stats.committed(batch.events.len(), began.elapsed());
        let is_erasure = |sealed: &SealedEvent| matches!(sealed.event.facts, Facts::AttachmentErased(_));
        if batch.events.iter().any(is_erasure) {
            self.wal = Wal::MayHoldErased;
        }
        Ok(())
    }
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

pub(crate) fn fold(order: &mut Option<Folded>, one: &SealedEvent) -> Result<(), crate::order::FoldError> {
    match order {
        None => *order = Some(Folded::begin(&one.event)?),
        Some(order) => {
            let reply = one
                .attachments
                .iter()
                .find(|(name, ..)| *name == AttachmentName::Reply);
            let reply = reply.map(|(_, _, bytes)| bytes.as_slice());
            order.apply(&one.event, &one.digest, reply)?;
        }
    }
    Ok(())
}

/// Signs a batch, each event by the key in force at it. `prev` covers sealed bytes alone, so the signatures do not
/// wait for each other. Gives the event whose key is not held.
pub(crate) fn sign_all<'k>(
    key_at: impl Fn(Seq) -> Option<&'k EventKey> + Sync,
    events: &mut [SealedEvent],
) -> Result<(), Seq> {
    let sign_each = |events: &mut [SealedEvent]| {
        for one in events {
            let seq = one.event.seq;
            one.signature = key_at(seq).ok_or(seq)?.sign_event(&one.sealed);
        }
        Ok(())
    };
    if events.len() < PARALLEL_SIGN_MIN {
        return sign_each(events);
    }
    let (left, right) = events.split_at_mut(events.len() / 2);
    std::thread::scope(|scope| {
        let left = scope.spawn(|| sign_each(left));
        let right = sign_each(right);
        left.join().expect("signing does not panic").and(right)
    })
}
