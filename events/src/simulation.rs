//! A ledger whose writer has no thread. Only the simulator opens one: it says when the writer takes up what waits,
//! how much of it, whether the disk takes it, and whether anybody is told. Checks, sealing and storing are the
//! writer's own code; nothing of it is repeated here. Compiled with the feature `simulation` only.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use crate::anchor::Kept;
use crate::append::{AppendError, Appended};
use crate::ids::Seq;
use crate::keys::KeyRing;
use crate::ledger::{Ledger, OpenError, Paths};
use crate::opening::{BOTH_KEYS, begin};
use crate::writer::{Job, Waiting, Writer};

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is stored and everybody who waits is told.
    Told,
    /// The disk refuses it; everybody is told that.
    Refused,
    /// It is stored, and the process ends before anybody is told.
    Untold,
}

/// The writer of a ledger that was opened with [`Ledger::open_stepped`].
pub struct Stepper {
    writer: Writer,
    queue: mpsc::Receiver<Job>,
    waiting: VecDeque<Job>,
    /// Whoever waits for these is never told; dropped only with everything else, for a drop would tell them.
    untold: Vec<oneshot::Sender<Result<Appended, AppendError>>>,
}

impl Ledger {
    /// As [`Ledger::open`], with a writer that works when it is told to.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_stepped(
        paths: &Paths,
        keys: impl Into<KeyRing>,
        holder: &str,
    ) -> Result<(Ledger, Stepper), OpenError> {
        let (writer, lock_file) = begin(paths, keys.into(), BOTH_KEYS, holder)?;
        let (sender, queue) = mpsc::channel();
        let ledger = Ledger::over(paths, Arc::clone(&writer.shared), sender, None, lock_file);
        let stepper = Stepper {
            writer,
            queue,
            waiting: VecDeque::new(),
            untold: Vec::new(),
        };
        Ok((ledger, stepper))
    }
}

impl Stepper {
    /// How many appends wait.
    pub fn waiting(&mut self) -> usize {
        self.waiting.extend(self.queue.try_iter());
        self.waiting.len()
    }

    /// Takes up the first `max` of what waits, as one commit.
    pub fn commit(&mut self, max: usize, fate: Fate) {
        let count = self.waiting().min(max);
        let mut batch = Vec::new();
        for job in self.waiting.drain(..count) {
            match job {
                Job::Append(mut waiting) => {
                    if fate == Fate::Untold {
                        let nobody = oneshot::channel().0;
                        self.untold.push(std::mem::replace(&mut waiting.reply, nobody));
                    }
                    batch.push(waiting);
                }
                Job::Probe(done) => {
                    // Nobody asks a simulated service how it is; whoever did has his answer.
                    let _ = done.send(());
                }
                Job::Cosignature(_, reply) => {
                    // No witness is simulated; whoever asks for one is told so.
                    let _ = reply.send(Err(AppendError::Closed));
                }
            }
        }
        let batch: Vec<Waiting> = batch;
        if batch.is_empty() {
            return;
        }
        self.writer.fails = fate == Fate::Refused;
        self.writer.commit(batch);
        self.writer.fails = false;
    }

    /// Events that are committed.
    #[must_use]
    pub fn size(&self) -> Seq {
        self.writer.head.size
    }

    /// Signs a checkpoint of what is committed and moves the anchor.
    pub fn checkpoint(&mut self) {
        if !self.writer.is_checkpointed() {
            self.writer.checkpoint();
        }
    }

    /// Signs and stores a checkpoint; the process ends before the anchor is moved.
    pub fn checkpoint_without_anchor(&mut self) {
        // There is no anchor at a path in no folder, so none is replaced.
        self.writer.anchor = Kept::new(PathBuf::from("/nowhere/anchor"), String::new());
        self.checkpoint();
    }

    /// Ends as the writer's thread does when the service stops in order.
    pub fn end(mut self) {
        while self.waiting() > 0 {
            self.commit(usize::MAX, Fate::Told);
        }
        self.writer.end();
    }
}
