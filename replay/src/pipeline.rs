//! Reads a ledger on one thread, prepares its events on all cores, and hands them over in their order. What is under
//! way at any time is bounded, so that a ledger of any size takes the memory of a few chunks.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use quittance_events::copy::{Copy, CopyError, StoredAttachment, StoredEvent};
use quittance_events::seal::{EventChecker, EventPub};

use crate::prepare::{self, Prepared};

/// Events in a chunk: enough that handing it over costs nothing beside its signatures.
const CHUNK_EVENTS: usize = 128;
/// Likewise where signatures are checked at once, which pays off with long lists.
const CHUNK_EVENTS_FAST: usize = 1024;
/// Bytes in a chunk: bounds memory where requests and replies are long, or the events of a damaged ledger.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks under way for each core: one in work, one waiting for it, one done.
const CHUNKS_PER_CORE: usize = 3;

/// A row in stored order.
pub(crate) enum Item {
    Event(Box<Prepared>),
    /// An attachment of no event.
    Orphan(StoredAttachment),
}

/// The event key that signatures are checked with beforehand. Only a guess: whoever judges an event asks for the
/// key in force there, and a wrong guess costs time and nothing else.
pub(crate) struct KeyGuess(Mutex<Option<EventPub>>);

impl KeyGuess {
    pub(crate) fn new(key: Option<EventPub>) -> KeyGuess {
        KeyGuess(Mutex::new(key))
    }

    pub(crate) fn set(&self, key: Option<EventPub>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }

    fn get(&self) -> Option<EventPub> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Rows = Vec<Result<StoredEvent, StoredAttachment>>;

/// A chunk to prepare, and where to put it.
struct Job {
    rows: Rows,
    done: SyncSender<Vec<Item>>,
}

/// Stops the reader.
enum Stop {
    Damaged(CopyError),
    /// Nobody wants more.
    Enough,
}

impl From<CopyError> for Stop {
    fn from(error: CopyError) -> Stop {
        Stop::Damaged(error)
    }
}

/// Cuts the rows into chunks and sends each both to the workers and, in order, to the judge.
struct Cutter {
    rows: Rows,
    events_max: usize,
    bytes: usize,
    jobs: SyncSender<Job>,
    in_order: SyncSender<Result<Receiver<Vec<Item>>, CopyError>>,
}

impl Cutter {
    fn take(&mut self, row: Result<StoredEvent, StoredAttachment>) -> Result<(), Stop> {
        let size = |attachment: &StoredAttachment| attachment.bytes.as_ref().map_or(0, Vec::len);
        self.bytes += match &row {
            Ok(event) => {
                let attachments: usize = event.attachments.iter().map(size).sum();
                event.sealed.len() + event.signature.len() + attachments
            }
            Err(orphan) => size(orphan),
        };
        self.rows.push(row);
        if self.rows.len() >= self.events_max || self.bytes >= CHUNK_BYTES {
            return self.send();
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Stop> {
        self.bytes = 0;
        let (done, chunk) = sync_channel(1);
        let job = Job {
            rows: std::mem::take(&mut self.rows),
            done,
        };
        // The place in the order first: it is what bounds the chunks under way.
        self.in_order.send(Ok(chunk)).map_err(|_| Stop::Enough)?;
        self.jobs.send(job).map_err(|_| Stop::Enough)
    }
}

/// Walks all events of a ledger; `each` judges a chunk in stored order, on the caller's thread.
///
/// # Errors
/// The file is damaged, or `each` stops the walk.
pub(crate) fn walk<E: From<CopyError>>(
    reader: Copy,
    key: &KeyGuess,
    fast: bool,
    mut each: impl FnMut(Vec<Item>) -> Result<(), E>,
) -> Result<(), E> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (jobs, waiting) = sync_channel(cores);
    // Owned by the workers alone: should they end, the reader does too.
    let waiting = Arc::new(Mutex::new(waiting));
    let (in_order, chunks) = sync_channel(cores * CHUNKS_PER_CORE);
    let mut cutter = Cutter {
        rows: Vec::new(),
        events_max: if fast { CHUNK_EVENTS_FAST } else { CHUNK_EVENTS },
        bytes: 0,
        jobs,
        in_order,
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            let walked = reader.walk(|row| cutter.take(row)).and_then(|()| cutter.send());
            if let Err(Stop::Damaged(error)) = walked {
                // What was read before the damage is judged before it is told. Who does not listen any more needs
                // neither.
                if cutter.send().is_ok() {
                    let _ = cutter.in_order.send(Err(error));
                }
            }
        });
        let waiting = waiting;
        for _ in 0..cores {
            let waiting = Arc::clone(&waiting);
            scope.spawn(move || {
                while let Some(job) = next(&waiting) {
                    // Nobody may want it any more.
                    let _ = job.done.send(prepare_all(job.rows, key.get(), fast));
                }
            });
        }
        drop(waiting);
        for chunk in chunks {
            let items = chunk?.recv().expect("a chunk that has a place is worked on");
            each(items)?;
        }
        Ok(())
    })
}

fn next(waiting: &Mutex<Receiver<Job>>) -> Option<Job> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn prepare_all(rows: Rows, key: Option<EventPub>, fast: bool) -> Vec<Item> {
    let mut items: Vec<Item> = rows
        .into_iter()
        .map(|row| match row {
            Ok(stored) => Item::Event(Box::new(Prepared::new(stored))),
            Err(orphan) => Item::Orphan(orphan),
        })
        .collect();
    if let Some(key) = key {
        let mut events: Vec<&mut Prepared> = items
            .iter_mut()
            .filter_map(|item| match item {
                Item::Event(event) => Some(&mut **event),
                Item::Orphan(_) => None,
            })
            .collect();
        let key = EventChecker::new(key);
        if fast {
            prepare::check_at_once(&mut events, &key);
        } else {
            prepare::check_each(&mut events, &key);
        }
    }
    items
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn long_events_make_short_chunks() {
        let (jobs, waiting) = sync_channel(1);
        let (in_order, _chunks) = sync_channel(1);
        let mut cutter = Cutter {
            rows: Vec::new(),
            events_max: CHUNK_EVENTS,
            bytes: 0,
            jobs,
            in_order,
        };
        for seq in 1..=2 {
            assert!(waiting.try_recv().is_err());
            let event = StoredEvent {
                seq,
                sealed: vec![b' '; CHUNK_BYTES / 4],
                signature: vec![0; CHUNK_BYTES / 4],
                attachments: Vec::new(),
            };
            assert!(cutter.take(Ok(event)).is_ok());
        }
        assert_eq!(waiting.try_recv().unwrap().rows.len(), 2);
    }
}
