//! The ledger's own keys as its events name them: which one is in force at which event, and whether each rotation was
//! let in by a key that may, and made by somebody who holds the new one.

use quittance_events::copy::{Copy, CopyError};
use quittance_events::facts::{Authority, KeyRole, LedgerKeyRotated, LedgerOpened};
use quittance_events::seal::{EventPub, rotation_message};
use quittance_events::{Event, Facts};
use quittance_taler::Digest32;
use quittance_tlog::{KeyName, VerifierKey};

/// What every rotation's bytes hold.
const ROTATION: &[u8] = br#""kind":"ledger_key_rotated""#;

/// The VKEY of a key under the ledger's name.
pub(crate) fn vkey(origin: &str, key: &Digest32) -> Option<VerifierKey> {
    VerifierKey::new(KeyName::new(origin).ok()?, *key.as_bytes()).ok()
}

/// The ledger's keys by now.
#[derive(Default)]
pub(crate) struct LedgerKeys {
    origin: Option<String>,
    /// Every event key that ever was in force, and from which event on; the last one is for the next event.
    event: Vec<(u64, EventPub)>,
    /// From which size on, and the key.
    checkpoint: Vec<(u64, VerifierKey)>,
    recovery: Option<EventPub>,
}

impl LedgerKeys {
    /// Before the first event: what the auditor was given, until an event that can be read says otherwise.
    pub(crate) fn pinned(key: Option<&VerifierKey>) -> LedgerKeys {
        LedgerKeys {
            event: key
                .map(|key| (1, EventPub::new(Digest32::from_bytes(*key.public_key()))))
                .into_iter()
                .collect(),
            ..LedgerKeys::default()
        }
    }

    /// One event key that is taken for the ledger's, under the ledger's name; nothing else.
    pub(crate) fn named(key: &VerifierKey) -> LedgerKeys {
        LedgerKeys {
            origin: Some(key.name().as_str().to_owned()),
            ..LedgerKeys::pinned(Some(key))
        }
    }

    /// The first event names the keys. Says whether all of them are keys.
    pub(crate) fn begin(&mut self, genesis: &LedgerOpened) -> bool {
        let origin = &genesis.origin;
        self.event = vec![(1, EventPub::new(genesis.event_key))];
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
            Some(Facts::LedgerKeyRotated(f)) if f.role == KeyRole::Event => Some(EventPub::new(f.new_key)),
            _ => self.event.last().map(|(_, key)| *key),
        }
    }

    /// Takes a rotation in. Says what is wrong with it; what follows is judged under the new key all the same.
    pub(crate) fn rotate(&mut self, seq: u64, f: &LedgerKeyRotated) -> Option<&'static str> {
        let origin = self.origin.clone().unwrap_or_default();
        let at = quittance_events::Seq::new(seq).unwrap_or(quittance_events::Seq::NONE);
        let message = rotation_message(&origin, at, f.role, &f.new_key);
        let authority = match f.authorised_by {
            Authority::EventKey => self.event.last().map(|(_, key)| *key),
            Authority::RecoveryKey => self.recovery,
        };
        let new = vkey(&origin, &f.new_key);
        let was_there = match f.role {
            KeyRole::Event => self.event.iter().any(|(_, key)| *key == EventPub::new(f.new_key)),
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
            (KeyRole::Event, _) => self.event.push((seq, EventPub::new(f.new_key))),
            (KeyRole::Checkpoint, Some(key)) => self.checkpoint.push((seq, key)),
            (KeyRole::Checkpoint, None) => {}
        }
        wrong
    }

    /// Every event key that was ever in force, the first one first.
    pub(crate) fn event_vkeys(&self) -> impl Iterator<Item = VerifierKey> {
        let origin = self.origin.as_deref();
        self.event
            .iter()
            .filter_map(move |(_, key)| vkey(origin?, &key.key()))
    }

    /// The key that has to have signed a checkpoint of this size.
    pub(crate) fn checkpoint_at(&self, size: u64) -> Option<&VerifierKey> {
        let first = self.checkpoint.first();
        let held = self.checkpoint.iter().rev().find(|(from, _)| *from <= size);
        held.or(first).map(|(_, key)| key)
    }

    /// The ledger's name.
    pub(crate) fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// The key that has to have sealed the event of this number.
    pub(crate) fn event_at(&self, seq: u64) -> Option<EventPub> {
        let held = self.event.iter().rev().find(|(from, _)| *from <= seq);
        held.map(|(_, key)| *key)
    }

    /// The keys under which there can be a receipt of the event of this number: those that were not over before it. A
    /// later key may have signed it, as a receipt is made anew where a wallet asks again.
    pub(crate) fn receipting(&self, seq: u64) -> impl Iterator<Item = EventPub> {
        let ends = self.event.iter().skip(1).map(|(from, _)| *from).chain([u64::MAX]);
        let lasting = self.event.iter().zip(ends).filter(move |(_, end)| *end > seq);
        lasting.map(|((_, key), _)| *key)
    }

    /// Reads the keys alone, without judging anything else: those of the first event and of all rotations that were
    /// let in, up to the first that was not.
    ///
    /// # Errors
    /// The file is damaged.
    pub(crate) fn read(copy: &Copy) -> Result<LedgerKeys, CopyError> {
        let mut keys = LedgerKeys::default();
        let mut is_over = false;
        copy.walk_sealed(|seq, sealed| {
            let seq = u64::try_from(seq).unwrap_or(0);
            let tells_of_keys = seq == 1 || sealed.windows(ROTATION.len()).any(|part| part == ROTATION);
            if is_over || !tells_of_keys {
                return;
            }
            match Event::parse(sealed).map(|event| event.facts) {
                Ok(Facts::LedgerOpened(genesis)) if seq == 1 => {
                    keys.begin(&genesis);
                }
                Ok(Facts::LedgerKeyRotated(f)) => {
                    let before = (keys.event.len(), keys.checkpoint.len());
                    if keys.rotate(seq, &f).is_some() {
                        is_over = true;
                        keys.event.truncate(before.0);
                        keys.checkpoint.truncate(before.1);
                    }
                }
                _ => {}
            }
        })?;
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_one_key_and_its_receipt_may_have_a_later_one() {
        let key = |n| EventPub::new(Digest32::from_bytes([n; 32]));
        let keys = LedgerKeys {
            event: vec![(1, key(1)), (10, key(2)), (20, key(3))],
            ..LedgerKeys::default()
        };
        for (seq, seals, may_receipt) in [
            (1, 1, &[1, 2, 3][..]),
            (9, 1, &[1, 2, 3]),
            (10, 2, &[2, 3]),
            (20, 3, &[3]),
            (99, 3, &[3]),
        ] {
            assert_eq!(keys.event_at(seq), Some(key(seals)), "{seq}");
            let receipting: Vec<EventPub> = keys.receipting(seq).collect();
            assert_eq!(
                receipting,
                may_receipt.iter().map(|n| key(*n)).collect::<Vec<_>>(),
                "{seq}"
            );
        }
    }
}
