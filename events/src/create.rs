//! Makes ledger files: a new ledger with its genesis, or one from a given list of events. The second is how tests
//! make ledgers that an operator with the keys could have forged; nothing here checks what the events say.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use rusqlite::TransactionBehavior;

use quittance_taler::{Digest32, Micros};
use quittance_tlog::checkpoint::check_origin;
use quittance_tlog::tree::Frontier;

use crate::anchor;
use crate::checkpointing::sign_checkpoint;
use crate::event::{Event, FIRST_VERSION, Facts, NewEvent, ROTATION_VERSION};
use crate::facts::{FormatRaised, KeyRole, LedgerOpened};
use crate::ids::Seq;
use crate::ledger::{Keys, OpenError, Paths};
use crate::schema;
use crate::seal::{EventKey, attachment_digest, leaf_hash, no_digest};
use crate::store::{self, Head, StoreError};
use crate::tiles;
use crate::writer::{salted, seal, sign_all};

/// What the first event of a new ledger says beyond its name and keys.
#[derive(Debug, Clone, Default)]
pub struct Beginnings {
    /// May authorise new keys when the event key is lost. The ledger then begins with the format that has rotations:
    /// without its event key nobody could raise it later.
    pub recovery_key: Option<Digest32>,
}

/// Makes a ledger with its genesis, first checkpoint and anchor. The file is complete before this returns.
///
/// # Errors
/// The ledger or its anchor exists, or the file system or SQLite failed.
pub fn init(paths: &Paths, keys: &Keys, at: Micros) -> Result<(), OpenError> {
    init_with(paths, keys, at, &Beginnings::default())
}

/// As [`init`], of a ledger that says more of itself.
///
/// # Errors
/// As [`init`].
pub fn init_with(paths: &Paths, keys: &Keys, at: Micros, beginnings: &Beginnings) -> Result<(), OpenError> {
    let genesis = LedgerOpened {
        origin: keys.checkpoint.name().to_string(),
        event_key: keys.event.public().key(),
        checkpoint_key: Digest32::from_bytes(*keys.checkpoint.verifier().public_key()),
        recovery_key: beginnings.recovery_key,
        predecessor: None,
    };
    let raised = genesis.recovery_key.map(|_| FormatRaised {
        version: ROTATION_VERSION,
    });
    let ledger: Arc<str> = genesis.origin.as_str().into();
    let facts = [Some(genesis.into()), raised.map(Facts::from)];
    let events = facts.into_iter().flatten().map(|facts| {
        let event = Event {
            at_us: at,
            attachments: BTreeMap::new(),
            facts,
            instance: None,
            ledger: Arc::clone(&ledger),
            order: None,
            prev: no_digest(),
            seq: Seq::FIRST,
            version: FIRST_VERSION,
        };
        let new = NewEvent::bare(event.facts.clone());
        (event, new)
    });
    create(paths, keys, events.collect())
}

/// Makes a ledger of these events, sealed with these keys: sequence numbers, `prev` and attachment digests are set
/// anew, times, names, versions and facts are taken as they are. Each event comes with what [`NewEvent`] holds of it,
/// whose facts are ignored.
///
/// # Errors
/// As [`init`].
pub fn create(paths: &Paths, keys: &Keys, events: Vec<(Event, NewEvent)>) -> Result<(), OpenError> {
    create_rotated(paths, keys, &[], events)
}

/// As [`create`], of events that rotate the event key: each is sealed by the key of `later` that they put into force,
/// and by the one before where it is not there.
///
/// # Errors
/// As [`init`].
pub fn create_rotated(
    paths: &Paths,
    keys: &Keys,
    later: &[&EventKey],
    events: Vec<(Event, NewEvent)>,
) -> Result<(), OpenError> {
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
        if let Facts::ClockCorrected(correction) = &event.facts {
            head.greatest_at = correction.to_us;
        }
        head.greatest_at = head.greatest_at.max(event.at_us);
        let one = seal(event, attachments).map_err(|e| StoreError::Damaged(e.to_string()))?;
        head.size = one.event.seq;
        head.digest = one.digest;
        sealed.push(one);
    }
    let rotations: Vec<(Seq, &EventKey)> = sealed
        .iter()
        .filter_map(|one| match &one.event.facts {
            Facts::LedgerKeyRotated(f) if f.role == KeyRole::Event => {
                let key = later.iter().find(|key| key.public().key() == f.new_key)?;
                Some((one.event.seq, *key))
            }
            _ => None,
        })
        .collect();
    let key_at = |seq| {
        let rotated = rotations.iter().rev().find(|(from, _)| *from <= seq);
        Some(rotated.map_or(&keys.event, |(_, key)| *key))
    };
    sign_all(key_at, &mut sealed).expect("the first key seals where no other is in force");
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
    let note = sign_checkpoint(&[&keys.checkpoint], &origin, &head);
    store::insert_checkpoint(&tx, head.size, &note)?;
    tx.commit()?;
    conn.pragma_update(None, "wal_checkpoint", "TRUNCATE")?;
    anchor::replace(&paths.anchor, None, &note)?;
    Ok(())
}
