//! A ledger's keys give way to new ones: the event or the checkpoint key, authorised by the event key in force or by
//! the recovery key that the first event names. Makes no key and writes no key file: whoever calls has the new keys on
//! disk before, so that no crash leaves a ledger whose key nobody has. Nothing runs beside it: it holds the lock.

use quittance_taler::{Digest32, EddsaSignature, Micros};
use quittance_tlog::note::NoteSigner;

use crate::anchor::Lock;
use crate::append::{Append, AppendError, Stream};
use crate::event::{NewEvent, ROTATION_VERSION};
use crate::facts::{Authority, KeyRole, LedgerKeyRotated};
use crate::ids::Seq;
use crate::keys::{KeyHistory, KeyRing};
use crate::ledger::{OpenError, Paths};
use crate::opening::{BOTH_KEYS, begin};
use crate::seal::{EventKey, rotation_message};
use crate::writer::Writer;

/// Why no key was rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The ledger was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The event was not recorded.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The recovery key is another than the first event's.
    #[error("this is not the recovery key that the ledger's first event names")]
    ForeignRecoveryKey,
    /// The first event names none.
    #[error("the ledger's first event names no recovery key; `init --recovery-key` would have")]
    NoRecoveryKey,
    /// The event key is lost and the ledger's format has no rotations yet.
    #[error(
        "the ledger is still of event format 1, and only its event key can seal the event that raises it to 2"
    )]
    NotRaised,
    /// A key that is in force already, or was.
    #[error("the new {0} key is one that the ledger has had already")]
    Used(&'static str),
}

/// New keys, each where its role is rotated.
#[derive(Default)]
pub struct NewKeys {
    /// For events and receipts.
    pub event: Option<EventKey>,
    /// For checkpoints.
    pub checkpoint: Option<NoteSigner>,
}

/// A ledger that is open for nothing but a rotation.
pub struct Rotator {
    writer: Writer,
    _lock: Lock,
}

impl Rotator {
    /// Opens the ledger, to rotate the keys of these roles. A checkpoint key that is rotated need not be in the ring,
    /// nor an event key with the recovery key at hand: they may be lost.
    ///
    /// # Errors
    /// See [`RotateError`]; nothing is changed.
    pub fn open(
        paths: &Paths,
        ring: KeyRing,
        roles: &[KeyRole],
        recovery: Option<&EventKey>,
        holder: &str,
    ) -> Result<Rotator, RotateError> {
        let may_be_lost = |role| roles.contains(&role) && (role == KeyRole::Checkpoint || recovery.is_some());
        let needed: Vec<KeyRole> = BOTH_KEYS
            .iter()
            .copied()
            .filter(|role| !may_be_lost(*role))
            .collect();
        let (writer, lock) = begin(paths, ring, &needed, holder)?;
        let rotator = Rotator { writer, _lock: lock };
        match (recovery, rotator.history().recovery) {
            (Some(key), Some(named)) if key.public().key() != named => Err(RotateError::ForeignRecoveryKey),
            (Some(_), None) => Err(RotateError::NoRecoveryKey),
            _ => Ok(rotator),
        }
    }

    /// The ledger's keys by now.
    #[must_use]
    pub fn history(&self) -> KeyHistory {
        self.writer.shared.book().keys.clone()
    }

    /// Puts the new keys into force, in one commit, and signs a checkpoint. `recovery` authorises where it is given,
    /// otherwise the event key in force. Gives the keys' history afterwards.
    ///
    /// # Errors
    /// See [`RotateError`]; nothing is changed then.
    pub fn rotate(
        mut self,
        new: NewKeys,
        recovery: Option<&EventKey>,
        at: Micros,
    ) -> Result<KeyHistory, RotateError> {
        let book = self.writer.shared.book();
        let (history, size) = (&book.keys, self.writer.head.size);
        let held = self.writer.shared.ring.event_key_at(history, size);
        let ring = &self.writer.shared.ring;
        let signers = ring.checkpoint_signers(history, at);
        // What is recorded is sealed by the event key in force and ends in a checkpoint.
        if held.is_none() && new.event.is_none() {
            return Err(OpenError::ForeignKey("event").into());
        }
        if signers.is_empty() && new.checkpoint.is_none() {
            return Err(OpenError::ForeignKey("checkpoint").into());
        }
        // The event that raises the format stands before these.
        let mut seq = match (book.version_at(size.next()) >= ROTATION_VERSION, held) {
            (true, _) => size.next(),
            (false, Some(_)) => size.next().next(),
            (false, None) => return Err(RotateError::NotRaised),
        };
        let used = |role, key: &Digest32| history.of(role).iter().any(|held| held.key == *key);
        let authority = recovery.or(held);
        let mut events = Vec::new();
        if let Some(key) = &new.event {
            let public = key.public().key();
            if used(KeyRole::Event, &public) {
                return Err(RotateError::Used("event"));
            }
            let possession = |message: &str| key.sign(message.as_bytes());
            events.push(self.event(
                seq,
                KeyRole::Event,
                public,
                authority,
                recovery.is_some(),
                possession,
            ));
            seq = seq.next();
        }
        if let Some(key) = &new.checkpoint {
            let public = Digest32::from_bytes(*key.verifier().public_key());
            if used(KeyRole::Checkpoint, &public) {
                return Err(RotateError::Used("checkpoint"));
            }
            // By then the new event key is in force.
            let authority = recovery.or(new.event.as_ref()).or(held);
            let possession = |message: &str| {
                let signature = key.sign(message);
                let bytes = signature.signature().try_into();
                EddsaSignature::from_bytes(bytes.expect("an Ed25519 signature has 64 bytes"))
            };
            events.push(self.event(
                seq,
                KeyRole::Checkpoint,
                public,
                authority,
                recovery.is_some(),
                possession,
            ));
        }
        let ring = self.writer.ring_mut();
        ring.event.extend(new.event);
        ring.checkpoint.extend(new.checkpoint);
        self.writer.record(Append {
            stream: Stream::Ledger(None),
            at,
            events,
        })?;
        self.writer.end();
        Ok(self.history())
    }

    fn event(
        &self,
        seq: Seq,
        role: KeyRole,
        new_key: Digest32,
        authority: Option<&EventKey>,
        by_recovery: bool,
        possession: impl FnOnce(&str) -> EddsaSignature,
    ) -> NewEvent {
        let message = rotation_message(&self.writer.shared.origin, seq, role, &new_key);
        let authority = authority.expect("without the event key there is the recovery key");
        NewEvent::bare(LedgerKeyRotated {
            role,
            new_key,
            authorised_by: if by_recovery {
                Authority::RecoveryKey
            } else {
                Authority::EventKey
            },
            authorisation: authority.sign(message.as_bytes()),
            possession: possession(&message),
        })
    }
}
