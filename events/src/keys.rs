//! A ledger's keys over its life: which key is in force at which event, and the private halves that a process holds.
//! Makes no key, reads no file, and judges no authorisation: `rotate.rs` makes those, the auditor's tool judges them.
//! Format: `docs/event-format.md`.

use quittance_taler::{Digest32, Micros};
use quittance_tlog::note::{KeyName, NoteSigner};

use crate::event::{Event, Facts};
use crate::facts::KeyRole;
use crate::ids::Seq;
use crate::ledger::Keys;
use crate::limits::CHECKPOINT_KEYS_OVERLAP_S;
use crate::seal::EventKey;

/// A key and where it came into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// The event that named it. That event is sealed by it already, and a checkpoint of this size is signed by it.
    pub from: Seq,
    /// When.
    pub since: Micros,
    /// The public half.
    pub key: Digest32,
}

/// The ledger's keys as its events name them.
#[derive(Debug, Clone, Default)]
pub struct KeyHistory {
    /// May authorise a new key when the event key is lost.
    pub recovery: Option<Digest32>,
    event: Vec<InForce>,
    checkpoint: Vec<InForce>,
}

impl KeyHistory {
    /// Takes in the events that name keys; all others change nothing.
    pub(crate) fn apply(&mut self, event: &Event) {
        let from_here = |key| InForce {
            from: event.seq,
            since: event.at_us,
            key,
        };
        match &event.facts {
            Facts::LedgerOpened(f) => {
                self.recovery = f.recovery_key;
                self.event.push(from_here(f.event_key));
                self.checkpoint.push(from_here(f.checkpoint_key));
            }
            Facts::LedgerKeyRotated(f) => match f.role {
                KeyRole::Event => self.event.push(from_here(f.new_key)),
                KeyRole::Checkpoint => self.checkpoint.push(from_here(f.new_key)),
            },
            _ => {}
        }
    }

    /// All keys of this role, in order.
    #[must_use]
    pub fn of(&self, role: KeyRole) -> &[InForce] {
        match role {
            KeyRole::Event => &self.event,
            KeyRole::Checkpoint => &self.checkpoint,
        }
    }

    /// The key in force at this event, or at a checkpoint of this size.
    #[must_use]
    pub fn at(&self, role: KeyRole, seq: Seq) -> Option<&InForce> {
        self.of(role).iter().rev().find(|key| key.from <= seq)
    }

    /// The key in force now. Nothing only where there is no first event.
    #[must_use]
    pub fn now(&self, role: KeyRole) -> Option<&InForce> {
        self.of(role).last()
    }
}

/// The private keys that a process holds of a ledger: those in force, and earlier or later ones as far as they are
/// at hand. Which of them is used is for the ledger's events to say.
pub struct KeyRing {
    /// The ledger's name.
    pub origin: KeyName,
    /// Keys for events and receipts.
    pub event: Vec<EventKey>,
    /// Keys for checkpoints, named after the ledger.
    pub checkpoint: Vec<NoteSigner>,
}

impl From<Keys> for KeyRing {
    fn from(keys: Keys) -> KeyRing {
        KeyRing {
            origin: keys.checkpoint.name().clone(),
            event: vec![keys.event],
            checkpoint: vec![keys.checkpoint],
        }
    }
}

impl KeyRing {
    pub(crate) fn event_key(&self, public: &Digest32) -> Option<&EventKey> {
        self.event.iter().find(|key| key.public().key() == *public)
    }

    pub(crate) fn checkpoint_key(&self, public: &Digest32) -> Option<&NoteSigner> {
        self.checkpoint
            .iter()
            .find(|key| key.verifier().public_key() == public.as_bytes())
    }

    /// The event key in force at this event, where it is held.
    pub(crate) fn event_key_at(&self, history: &KeyHistory, seq: Seq) -> Option<&EventKey> {
        self.event_key(&history.at(KeyRole::Event, seq)?.key)
    }

    /// Who signs a checkpoint: the key in force, and for a while after its rotation the one before, so that those who
    /// pinned it have time to learn of the new one.
    pub(crate) fn checkpoint_signers(&self, history: &KeyHistory, now: Micros) -> Vec<&NoteSigner> {
        let (latest, before) = match history.of(KeyRole::Checkpoint) {
            [.., before, latest] => (Some(latest), Some(before)),
            [latest] => (Some(latest), None),
            [] => (None, None),
        };
        let in_time = latest.is_some_and(|key| now < key.since.plus_s(CHECKPOINT_KEYS_OVERLAP_S));
        let before = before.filter(|_| in_time);
        [latest, before]
            .into_iter()
            .flatten()
            .filter_map(|key| self.checkpoint_key(&key.key))
            .collect()
    }
}
