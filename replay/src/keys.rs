//! The ledger's own keys as its events name them: which one is in force at which event, and whether each rotation was
//! let in by a key that may, and made by somebody who holds the new one.

use quittance_events::Event;
use quittance_events::facts::{Authority, KeyRole, LedgerKeyRotated, LedgerOpened};
use quittance_events::seal::{EventPub, rotation_message};
use quittance_taler::Digest32;
use quittance_tlog::{KeyName, VerifierKey};

/// The VKEY of a key under the ledger's name.
pub(crate) fn vkey(origin: &str, key: &Digest32) -> Option<VerifierKey> {
    VerifierKey::new(KeyName::new(origin).ok()?, *key.as_bytes()).ok()
}

/// The ledger's keys by now.
#[derive(Default)]
pub(crate) struct LedgerKeys {
    origin: Option<String>,
    /// In force for the next event, and every one that ever was.
    event: Vec<EventPub>,
    /// From which size on, and the key.
    checkpoint: Vec<(u64, VerifierKey)>,
    recovery: Option<EventPub>,
}

impl LedgerKeys {
    /// Before the first event: what the auditor was given, until an event that can be read says otherwise.
    pub(crate) fn pinned(key: Option<&VerifierKey>) -> LedgerKeys {
        LedgerKeys {
            event: key
                .map(|key| EventPub::new(Digest32::from_bytes(*key.public_key())))
                .into_iter()
                .collect(),
            ..LedgerKeys::default()
        }
    }

    /// The first event names the keys. Says whether all of them are keys.
    pub(crate) fn begin(&mut self, genesis: &LedgerOpened) -> bool {
        let origin = &genesis.origin;
        self.event = vec![EventPub::new(genesis.event_key)];
        self.checkpoint = vkey(origin, &genesis.checkpoint_key)
            .map(|key| (1, key))
            .into_iter()
            .collect();
        self.recovery = genesis.recovery_key.map(EventPub::new);
        let recovery_is_key = genesis
            .recovery_key
            .is_none_or(|key| vkey(origin, &key).is_some());
        let are_keys =
            vkey(origin, &genesis.event_key).is_some() && !self.checkpoint.is_empty() && recovery_is_key;
        self.origin = Some(genesis.origin.clone());
        are_keys
    }

    /// The key that has to have sealed this event: a rotation of the event key is sealed by the new one already.
    pub(crate) fn seals(&self, event: Option<&Event>) -> Option<EventPub> {
        match event.map(|event| &event.facts) {
            Some(quittance_events::Facts::LedgerKeyRotated(f)) if f.role == KeyRole::Event => {
                Some(EventPub::new(f.new_key))
            }
            _ => self.event.last().copied(),
        }
    }

    /// Takes a rotation in. Says what is wrong with it; what follows is judged under the new key all the same.
    pub(crate) fn rotate(&mut self, seq: u64, f: &LedgerKeyRotated) -> Option<&'static str> {
        let origin = self.origin.clone().unwrap_or_default();
        let at = quittance_events::Seq::new(seq).unwrap_or(quittance_events::Seq::NONE);
        let message = rotation_message(&origin, at, f.role, &f.new_key);
        let authority = match f.authorised_by {
            Authority::EventKey => self.event.last().copied(),
            Authority::RecoveryKey => self.recovery,
        };
        let new = vkey(&origin, &f.new_key);
        let was_there = match f.role {
            KeyRole::Event => self.event.contains(&EventPub::new(f.new_key)),
            KeyRole::Checkpoint => self.checkpoint.iter().any(|(_, key)| Some(key) == new.as_ref()),
        };
        let wrong = match authority {
            _ if new.is_none() => Some("the new key is none"),
            None => Some("no event names the key that is said to authorise it"),
            Some(key) if !key.verify(message.as_bytes(), &f.authorisation) => {
                Some("the key that is said to authorise it did not")
            }
            Some(_) if !EventPub::new(f.new_key).verify(message.as_bytes(), &f.possession) => {
                Some("the new key did not sign it: nobody showed that he holds it")
            }
            Some(_) if was_there => Some("the new key was in force before"),
            Some(_) => None,
        };
        match (f.role, new) {
            (KeyRole::Event, _) => self.event.push(EventPub::new(f.new_key)),
            (KeyRole::Checkpoint, Some(key)) => self.checkpoint.push((seq, key)),
            (KeyRole::Checkpoint, None) => {}
        }
        wrong
    }

    /// Every event key that was ever in force, the first one first.
    pub(crate) fn event_vkeys(&self) -> impl Iterator<Item = VerifierKey> {
        let origin = self.origin.as_deref();
        self.event.iter().filter_map(move |key| vkey(origin?, &key.key()))
    }

    /// The key that has to have signed a checkpoint of this size.
    pub(crate) fn checkpoint_at(&self, size: u64) -> Option<&VerifierKey> {
        let first = self.checkpoint.first();
        let held = self.checkpoint.iter().rev().find(|(from, _)| *from <= size);
        held.or(first).map(|(_, key)| key)
    }
}
