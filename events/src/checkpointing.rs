//! The writer's checkpoints: signed over all that is committed, stored, and the anchor moved up to them. What fails is
//! tried again; whether it works is told to whoever asks for the ledger's condition. It decides nothing about money.

use std::sync::Arc;
use std::time::Instant;

use rusqlite::TransactionBehavior;

use quittance_tlog::checkpoint::Checkpoint;
use quittance_tlog::note::{Note, NoteSigner};

use crate::condition::Condition;
use crate::store::{self, Head};
use crate::writer::Writer;

impl Writer {
    /// A commit that changes nothing, and the checkpoint if one is missing: whether they work again.
    pub(crate) fn probe(&mut self) {
        let shared = Arc::clone(&self.shared);
        shared.condition.begin();
        let committed = self.commit_nothing();
        shared.condition.end();
        shared.condition.committed(committed.is_ok());
        match committed {
            Ok(()) if self.is_checkpointed() => {}
            Ok(()) => self.checkpoint(),
            Err(error) => tracing::warn!(%error, "the ledger still cannot be written"),
        }
    }

    fn commit_nothing(&mut self) -> rusqlite::Result<()> {
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        store::rewrite_head(&tx, &self.head)?;
        tx.commit()
    }

    /// Whether a stored checkpoint covers all that is committed and the anchor is that checkpoint.
    pub(crate) fn is_checkpointed(&self) -> bool {
        self.checkpointed == self.head.size && self.anchor.is(&self.checkpoint)
    }

    /// Signs a checkpoint of all that is committed, and moves the anchor up to it. First the ledger, then the
    /// anchor: the other way round, a crash between them would make a sound ledger look cut off. What fails is tried
    /// again an interval later, whether events come or not.
    pub(crate) fn checkpoint(&mut self) {
        let shared = Arc::clone(&self.shared);
        shared.condition.begin();
        self.sign_and_anchor(&shared.condition);
        shared.condition.end();
    }

    fn sign_and_anchor(&mut self, condition: &Condition) {
        self.last_checkpoint = Instant::now();
        if self.checkpointed < self.head.size {
            let book = self.shared.book();
            let signers = self
                .shared
                .ring
                .checkpoint_signers(&book.keys, self.head.greatest_at);
            let note = sign_checkpoint(&signers, &self.shared.origin, &self.head);
            let stored = store::insert_checkpoint(&self.conn, self.head.size, &note);
            condition.committed(stored.is_ok());
            if let Err(error) = stored {
                self.shared.stats.checkpoint_failed();
                if self.is_new_trouble(&error) {
                    tracing::error!(%error, "the checkpoint was not stored; trying again every second");
                }
                return;
            }
            self.checkpointed = self.head.size;
            self.shared.stats.checkpointed(self.checkpointed);
            self.checkpoint = note;
            self.shared.stats.checkpointed(self.checkpointed);
        }
        if self.anchor.is(&self.checkpoint) {
            return;
        }
        let moved = self.anchor.replace(&self.checkpoint);
        condition.anchored(moved.is_ok());
        match moved {
            Ok(()) => {
                self.shared.stats.anchored(self.checkpointed);
                if self.trouble.take().is_some() {
                    tracing::info!(size = %self.checkpointed, "checkpoint and anchor are up to date again");
                }
            }
            // The ledger itself is sound; a cut would go unseen from the last anchor on, so the operator must know.
            Err(error) => {
                self.shared.stats.anchor_failed();
                if self.is_new_trouble(&error) {
                    tracing::error!(%error, size = %self.checkpointed, "the anchor was not moved; trying again every second");
                }
            }
        }
    }

    /// A failure that repeats every second is told once.
    fn is_new_trouble(&mut self, error: &dyn std::fmt::Display) -> bool {
        let trouble = Some(error.to_string());
        let is_new = self.trouble != trouble;
        self.trouble = trouble;
        is_new
    }
}

/// A checkpoint of the head, signed by these keys.
pub(crate) fn sign_checkpoint(signers: &[&NoteSigner], origin: &str, head: &Head) -> String {
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size: head.size.get(),
        root: head.frontier.root(),
    };
    Note::signed(&checkpoint.to_text(), signers)
        .expect("the ledger was opened with its checkpoint key, under a name that is an origin")
        .to_string()
}
