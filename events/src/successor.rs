//! Writes a ledger that takes over from another: its genesis, which names the predecessor, and what it carries in. Like
//! the rest of this crate it records what it is told; what is carried in, the service decides.
//!
//! The file is built beside its place and gets its name at the very end, so that a name stands for a whole successor or
//! for none, wherever a crash comes. Commits are bounded; `at_us` of all events is that of the genesis.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use quittance_taler::{Digest32, Micros};
use quittance_tlog::checkpoint::check_origin;
use quittance_tlog::tree::Frontier;

use crate::anchor;
use crate::backup::{beside, new_file, publish};
use crate::checkpointing::sign_checkpoint;
use crate::create::Beginnings;
use crate::event::{Event, FIRST_VERSION, NewEvent, ROTATION_VERSION};
use crate::facts::{FormatRaised, LedgerOpened, Predecessor};
use crate::ids::{InstanceId, OrderId, OrderKey, Seq};
use crate::ledger::{Keys, OpenError, Paths};
use crate::limits::BATCH_MAX;
use crate::parts::into_parts;
use crate::sale::Folded;
use crate::schema;
use crate::seal::{attachment_digest, leaf_hash, no_digest};
use crate::store::{self, Head, SealedEvent, StoreError};
use crate::tiles;
use crate::writer::{fold, salted, seal, sign_all};

/// A successor being written. Dropped before [`Successor::finish`], it takes its file away again.
pub struct Successor<'a> {
    paths: &'a Paths,
    keys: &'a Keys,
    conn: Connection,
    file: Unfinished,
    origin: Arc<str>,
    at: Micros,
    head: Head,
    waiting: Vec<SealedEvent>,
    /// The event format of the next event.
    version: u64,
    /// The order whose events are being added: what cannot be folded could not be served.
    order: Option<(OrderKey, Option<Folded>)>,
}

/// A file that has no name yet.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            // Gone already, or a leftover that the next try names: there is nothing to tell here.
            let _ = std::fs::remove_file(beside(&self.0, suffix));
        }
    }
}

impl<'a> Successor<'a> {
    /// Begins a successor with its genesis.
    ///
    /// # Errors
    /// The ledger, its anchor or the file of an earlier try exists, or the file system or SQLite failed.
    pub fn begin(
        paths: &'a Paths,
        keys: &'a Keys,
        at: Micros,
        predecessor: Predecessor,
        beginnings: &Beginnings,
    ) -> Result<Successor<'a>, OpenError> {
        let origin = keys.checkpoint.name().to_string();
        check_origin(&origin).map_err(|e| OpenError::Origin(e.to_string()))?;
        if anchor::read(&paths.anchor)?.is_some() {
            return Err(OpenError::Exists(paths.anchor.clone()));
        }
        if paths.ledger.symlink_metadata().is_ok() {
            return Err(OpenError::Exists(paths.ledger.clone()));
        }
        let temporary = beside(&paths.ledger, ".new");
        new_file(&temporary).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => OpenError::Exists(temporary.clone()),
            _ => e.into(),
        })?;
        let file = Unfinished(temporary);
        let conn = schema::open_writer(&file.0)?;
        conn.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
        conn.pragma_update(None, "user_version", schema::USER_VERSION)?;
        conn.execute_batch(schema::SCHEMA)?;
        let genesis = LedgerOpened {
            origin: origin.clone(),
            event_key: keys.event.public().key(),
            checkpoint_key: Digest32::from_bytes(*keys.checkpoint.verifier().public_key()),
            recovery_key: beginnings.recovery_key,
            predecessor: Some(predecessor),
        };
        let mut successor = Successor {
            paths,
            keys,
            conn,
            file,
            origin: origin.into(),
            at,
            head: Head {
                size: Seq::NONE,
                digest: no_digest(),
                frontier: Frontier::default(),
                greatest_at: at,
            },
            waiting: Vec::new(),
            version: FIRST_VERSION,
            order: None,
        };
        successor.push(None, None, NewEvent::bare(genesis))?;
        if beginnings.recovery_key.is_some() {
            successor.raise_to(ROTATION_VERSION)?;
        }
        Ok(successor)
    }

    /// Adds an instance's event, or an order's. All of an order's events come one after the other.
    ///
    /// # Errors
    /// An order's event does not fit those before it, an event is too large, or the file system or SQLite failed.
    pub fn add(
        &mut self,
        instance: &InstanceId,
        order: Option<&OrderId>,
        event: NewEvent,
    ) -> Result<(), OpenError> {
        self.push(Some(instance), order, event)
    }

    fn raise_to(&mut self, needed: u64) -> Result<(), OpenError> {
        for version in self.version + 1..=needed {
            self.push(None, None, NewEvent::bare(FormatRaised { version }))?;
            self.version = version;
        }
        Ok(())
    }

    fn push(
        &mut self,
        instance: Option<&InstanceId>,
        order: Option<&OrderId>,
        NewEvent { facts, attachments }: NewEvent,
    ) -> Result<(), OpenError> {
        self.raise_to(facts.needed_version())?;
        let key = instance.zip(order).map(|(instance, order)| OrderKey {
            instance: instance.clone(),
            order: order.clone(),
        });
        for (index, facts) in into_parts(facts).into_iter().enumerate() {
            let attachments = if index == 0 {
                salted(&attachments)
            } else {
                Vec::new()
            };
            let event = Event {
                at_us: self.at,
                attachments: attachments
                    .iter()
                    .map(|(name, salt, bytes)| (*name, attachment_digest(salt, bytes)))
                    .collect::<BTreeMap<_, _>>(),
                facts,
                instance: instance.cloned(),
                ledger: Arc::clone(&self.origin),
                order: order.cloned(),
                prev: self.head.digest,
                seq: self.head.size.next(),
                version: self.version,
            };
            let one = seal(event, attachments).map_err(|e| StoreError::Damaged(e.to_string()))?;
            self.head.size = one.event.seq;
            self.head.digest = one.digest;
            if let Some(key) = &key {
                let mut folded = match self.order.take() {
                    Some((held, folded)) if held == *key => folded,
                    _ => None,
                };
                fold(&mut folded, &one).map_err(StoreError::from)?;
                self.order = Some((key.clone(), folded));
            }
            self.waiting.push(one);
        }
        if self.waiting.len() >= BATCH_MAX {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), OpenError> {
        let keys = self.keys;
        sign_all(|_| Some(&keys.event), &mut self.waiting).expect("one key is in force all the time");
        let before = self.head.frontier.size();
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for one in self.waiting.drain(..) {
            store::insert_event(&tx, &one)?;
            self.head.frontier.push(leaf_hash(&one.sealed, &one.signature));
        }
        tiles::fill(&tx, before, self.head.frontier.size())?;
        store::write_head(&tx, &self.head)?;
        tx.commit()?;
        Ok(())
    }

    /// Signs the first checkpoint, writes the anchor, and gives the file its name. It is whole and on disk when this
    /// returns.
    ///
    /// # Errors
    /// The ledger or its anchor has come into being meanwhile, or the file system or SQLite failed.
    pub fn finish(mut self) -> Result<(), OpenError> {
        self.commit()?;
        let note = sign_checkpoint(&[&self.keys.checkpoint], &self.origin, &self.head);
        store::insert_checkpoint(&self.conn, self.head.size, &note)?;
        self.conn.pragma_update(None, "wal_checkpoint", "TRUNCATE")?;
        self.conn.close().map_err(|(_, error)| error)?;
        // The anchor first: a crash before the ledger has its name leaves no ledger that looks whole.
        anchor::replace(&self.paths.anchor, None, &note)?;
        publish(&self.file.0, &self.paths.ledger).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => OpenError::Exists(self.paths.ledger.clone()),
            _ => e.into(),
        })
    }
}
