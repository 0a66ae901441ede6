//! Makes ledger files: a new ledger with its genesis, or one from a given list of events. The second is how tests
//! make ledgers that an operator with the keys could have forged; nothing here checks what the events say.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use rusqlite::TransactionBehavior;

use quittance_taler::{Digest32, Micros};
use quittance_tlog::checkpoint::check_origin;
use quittance_tlog::tree::Frontier;

use crate::anchor;
use crate::event::{Event, NewEvent};
use crate::facts::LedgerOpened;
use crate::ids::Seq;
use crate::ledger::{Keys, OpenError, Paths};
use crate::schema;
use crate::seal::{attachment_digest, leaf_hash, no_digest};
use crate::store::{self, Head, StoreError};
use crate::tiles;
use crate::writer::{salted, seal, sign_all, sign_checkpoint};

/// Makes a ledger with its genesis, first checkpoint and anchor. The file is complete before this returns.
///
/// # Errors
/// The ledger or its anchor exists, or the file system or SQLite failed.
pub fn init(paths: &Paths, keys: &Keys, at: Micros) -> Result<(), OpenError> {
    let genesis = LedgerOpened {
        origin: keys.checkpoint.name().to_string(),
        event_key: keys.event.public().key(),
        checkpoint_key: Digest32::from_bytes(*keys.checkpoint.verifier().public_key()),
        recovery_key: None,
        predecessor: None,
    };
    let event = Event {
        at_us: at,
        attachments: BTreeMap::new(),
        facts: genesis.clone().into(),
        instance: None,
        ledger: genesis.origin.as_str().into(),
        order: None,
        prev: no_digest(),
        seq: Seq::FIRST,
    };
    create(paths, keys, vec![(event, NewEvent::bare(genesis))])
}

/// Makes a ledger of these events, sealed with these keys: sequence numbers, `prev` and attachment digests are set
/// anew, times, names and facts are taken as they are. Each event comes with what [`NewEvent`] holds of it, whose
/// facts are ignored.
///
/// # Errors
/// As [`init`].
pub fn create(paths: &Paths, keys: &Keys, events: Vec<(Event, NewEvent)>) -> Result<(), OpenError> {
    let origin = keys.checkpoint.name().to_string();
    check_origin(&origin).map_err(|e| OpenError::Origin(e.to_string()))?;
    if anchor::read(&paths.anchor)?.is_some() {
        return Err(OpenError::Exists(paths.anchor.clone()));
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&paths.ledger);
    file.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => OpenError::Exists(paths.ledger.clone()),
        _ => e.into(),
    })?;
    let Some((first, _)) = events.first() else {
        return Err(StoreError::Damaged("a ledger begins with its genesis".into()).into());
    };
    let (frontier, greatest_at) = (Frontier::default(), first.at_us);
    let mut head = Head {
        size: Seq::NONE,
        digest: no_digest(),
        frontier,
        greatest_at,
    };
    let mut sealed = Vec::with_capacity(events.len());
    for (mut event, NewEvent { attachments, .. }) in events {
        let attachments = salted(&attachments);
        event.attachments = attachments
            .iter()
            .map(|(name, salt, bytes)| (*name, attachment_digest(salt, bytes)))
            .collect();
        event.seq = head.size.next();
        event.prev = head.digest;
        if let crate::Facts::ClockCorrected(correction) = &event.facts {
            head.greatest_at = correction.to_us;
        }
        head.greatest_at = head.greatest_at.max(event.at_us);
        let one = seal(event, attachments).map_err(|e| StoreError::Damaged(e.to_string()))?;
        head.size = one.event.seq;
        head.digest = one.digest;
        sealed.push(one);
    }
    sign_all(&keys.event, &mut sealed);
    let mut conn = schema::open_writer(&paths.ledger)?;
    conn.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    conn.pragma_update(None, "user_version", schema::USER_VERSION)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(schema::SCHEMA)?;
    for one in &sealed {
        store::insert_event(&tx, one)?;
        head.frontier.push(leaf_hash(&one.sealed, &one.signature));
    }
    tiles::fill(&tx, 0, head.frontier.size())?;
    store::write_head(&tx, &head)?;
    let note = sign_checkpoint(&keys.checkpoint, &origin, &head);
    store::insert_checkpoint(&tx, head.size, &note)?;
    tx.commit()?;
    conn.pragma_update(None, "wal_checkpoint", "TRUNCATE")?;
    anchor::replace(&paths.anchor, None, &note)?;
    Ok(())
}
