//! Opening a ledger for writing: the end of its chain, its keys and its anchor are looked at before anything is
//! appended. It replays nothing, and continues no history that the anchor contradicts.

use std::sync::Arc;
use std::time::Instant;

use rusqlite::Connection;

use quittance_tlog::checkpoint::Checkpoint;
use quittance_tlog::note::{KeyName, Note, VerifierKey};

use crate::anchor::{self, Lock};
use crate::book::Book;
use crate::cache::Shared;
use crate::event::{Event, FORMAT_VERSION, Facts};
use crate::facts::KeyRole;
use crate::ids::Seq;
use crate::keys::{KeyHistory, KeyRing};
use crate::ledger::{OpenError, Paths};
use crate::limits::CHECKPOINT_INTERVAL;
use crate::schema;
use crate::store::{self, Head, StoreError};
use crate::wal::Wal;
use crate::writer::Writer;

/// Keys in force without which a ledger is not opened: both, but for a rotation that replaces a lost one.
pub(crate) const BOTH_KEYS: &[KeyRole] = &[KeyRole::Event, KeyRole::Checkpoint];

/// Locks and checks a ledger, and makes a writer for it that is not running yet.
pub(crate) fn begin(
    paths: &Paths,
    ring: KeyRing,
    needed: &[KeyRole],
    holder: &str,
) -> Result<(Writer, Lock), OpenError> {
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
    let conn = schema::open_writer(&paths.ledger)?;
    let head = store::read_head(&conn)?;
    let events = store::read_ledger_events(&conn)?;
    let book = read_book(&events)?;
    check_genesis(&events, &book.keys, &ring, needed)?;
    let (anchored, anchored_size) = check_anchor(&conn, paths, &ring.origin, &book.keys, &head)?;
    // There is one: the anchor is among those stored.
    let checkpoint = store::latest_checkpoint(&conn)?.unwrap_or_else(|| anchored.clone());
    let checkpointed = open_checkpoint(&checkpoint, &ring.origin, &book.keys)?.size;
    let seq = |size| Seq::new(size).map_err(|e| StoreError::Damaged(e.to_string()));
    let checkpointed = seq(checkpointed)?;
    let shared = Arc::new(Shared::new(ring, book, head.greatest_at));
    shared.stats.begin(head.size, checkpointed, seq(anchored_size)?);
    let writer = Writer {
        conn,
        shared,
        head,
        anchor: anchor::Kept::new(paths.anchor.clone(), anchored),
        checkpoint,
        checkpointed,
        last_checkpoint: Instant::now()
            .checked_sub(CHECKPOINT_INTERVAL)
            .unwrap_or_else(Instant::now),
        trouble: None,
        // Whoever wrote before may have been killed in between.
        wal: Wal::MayHoldErased,
        #[cfg(feature = "simulation")]
        fails: false,
    };
    Ok((writer, lock_file))
}

/// Folds the ledger-wide events. Refuses those of another format than their place has.
fn read_book(events: &[Event]) -> Result<Book, OpenError> {
    let mut book = Book::default();
    for event in events {
        store::check_version(event, &book)?;
        if let Facts::FormatRaised(f) = &event.facts {
            if f.version > FORMAT_VERSION {
                return Err(OpenError::NewerFormat(f.version));
            }
            if f.version != book.version_at(event.seq) + 1 {
                let what = format!("event {} raises the format to {}", event.seq, f.version);
                return Err(StoreError::Damaged(what).into());
            }
        }
        book.apply(event);
    }
    Ok(book)
}

fn check_genesis(
    events: &[Event],
    history: &KeyHistory,
    ring: &KeyRing,
    needed: &[KeyRole],
) -> Result<(), OpenError> {
    let Some(Event {
        facts: Facts::LedgerOpened(genesis),
        ..
    }) = events.first()
    else {
        return Err(StoreError::Damaged("the first event is not ledger_opened".into()).into());
    };
    for role in needed {
        let held = history.now(*role).is_some_and(|now| match role {
            KeyRole::Event => ring.event_key(&now.key).is_some(),
            KeyRole::Checkpoint => ring.checkpoint_key(&now.key).is_some(),
        });
        if !held {
            return Err(OpenError::ForeignKey(role.as_str()));
        }
    }
    if genesis.origin != ring.origin.as_str() {
        return Err(OpenError::ForeignOrigin {
            configured: ring.origin.to_string(),
            recorded: genesis.origin.clone(),
        });
    }
    Ok(())
}

/// Opens a checkpoint under the key that was in force at its size.
fn open_checkpoint(note: &str, origin: &KeyName, history: &KeyHistory) -> Result<Checkpoint, OpenError> {
    let open = || {
        let size = Checkpoint::parse_text(Note::parse(note).map_err(|e| e.to_string())?.text())
            .map_err(|e| e.to_string())?
            .size;
        let at = Seq::new(size).map_err(|e| e.to_string())?;
        let key = history
            .at(KeyRole::Checkpoint, at)
            .ok_or("no key was in force then")?;
        let key = VerifierKey::new(origin.clone(), *key.key.as_bytes()).map_err(|e| e.to_string())?;
        Checkpoint::open(note, &key).map_err(|e| e.to_string())
    };
    open().map_err(|e: String| StoreError::Damaged(format!("a checkpoint: {e}")).into())
}

/// Refuses a ledger that lacks what the anchor says was there; gives the anchor's text and size.
fn check_anchor(
    conn: &Connection,
    paths: &Paths,
    origin: &KeyName,
    history: &KeyHistory,
    head: &Head,
) -> Result<(String, u64), OpenError> {
    let behind = |what: String| Err(OpenError::BehindAnchor(what));
    let Some(text) = anchor::read(&paths.anchor)? else {
        return behind(format!(
            "there is no anchor at {}, so a cut could not be seen",
            paths.anchor.display()
        ));
    };
    let anchored = match open_checkpoint(&text, origin, history) {
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
    if open_checkpoint(&stored, origin, history)?.root != anchored.root {
        return behind(format!(
            "its first {} events are not those that the anchor speaks of",
            anchored.size
        ));
    }
    Ok((text, anchored.size))
}
