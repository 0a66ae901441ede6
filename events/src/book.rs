//! What the ledger says outside of any order: instances, keys, format, clock corrections. Small, folded
//! once at the start from its own index and kept up by the writer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use quittance_taler::{ExchangePub, HashCode, MasterPub, Micros};

use crate::event::{Event, FIRST_VERSION, Facts};
use crate::facts::{AccountAdded, InstanceAdded, SignKey, TokenAdded};
use crate::ids::{InstanceId, Seq, TokenId};
use crate::keys::KeyHistory;

/// How far a signing key's life is stretched at both ends when a confirmation is judged: clocks differ.
pub const KEY_TOLERANCE_S: u64 = 3600;

/// The ledger-wide projection.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// Open instances.
    pub instances: BTreeMap<InstanceId, InstanceAdded>,
    /// Every signing key ever seen, by exchange.
    signkeys: HashMap<MasterPub, Vec<SignKey>>,
    /// The latest list of signing keys, by exchange.
    latest: HashMap<MasterPub, Vec<SignKey>>,
    /// The last clock correction: times before it are compared with nothing after it.
    pub clock_epoch: Seq,
    /// How often events were lost on the way to this ledger.
    pub generation: u64,
    /// The ledger's own keys.
    pub keys: KeyHistory,
    /// The events that raised the format, each by one version.
    raised: Vec<Seq>,
    /// Every account that instances ever had, in the order in which they got them.
    accounts: BTreeMap<InstanceId, Vec<Account>>,
    /// Recorded tokens of each instance, and of the whole service where no instance is named.
    tokens: BTreeMap<Option<InstanceId>, RecordedTokens>,
}

/// An account that exchanges wire to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its `account_added`, whose attachment `account` has payto URI and salt.
    pub seq: Seq,
    /// What it says.
    pub added: AccountAdded,
    /// Whether new orders may name it.
    pub open: bool,
}

/// What the ledger says of somebody's tokens. Where it says nothing, none was recorded yet.
#[derive(Debug, Clone, Default)]
pub struct RecordedTokens {
    /// Those that were not revoked, expired or not.
    pub live: BTreeMap<TokenId, TokenAdded>,
    /// Those that were, and were not added again.
    pub revoked: BTreeSet<TokenId>,
}

impl Book {
    /// Folds an event; those of orders change nothing here.
    pub fn apply(&mut self, event: &Event) {
        self.keys.apply(event);
        match (&event.facts, &event.instance) {
            (Facts::InstanceAdded(f), Some(id)) => {
                self.instances.insert(id.clone(), f.clone());
            }
            (Facts::InstanceClosed(_), Some(id)) => {
                self.instances.remove(id);
            }
            (Facts::ExchangeKeysSeen(f), _) => {
                let known = self.signkeys.entry(f.master_pub).or_default();
                for key in &f.signkeys {
                    if !known.contains(key) {
                        known.push(key.clone());
                    }
                }
                self.latest.insert(f.master_pub, f.signkeys.clone());
            }
            (Facts::ClockCorrected(_), _) => self.clock_epoch = event.seq,
            (Facts::LedgerOpened(f), _) => self.generation = f.generation(),
            (Facts::FormatRaised(_), _) => self.raised.push(event.seq),
            (Facts::TokenAdded(f), instance) => {
                let tokens = self.tokens.entry(instance.clone()).or_default();
                tokens.revoked.remove(&f.token);
                tokens.live.insert(f.token.clone(), f.clone());
            }
            (Facts::TokenRevoked(f), instance) => {
                let tokens = self.tokens.entry(instance.clone()).or_default();
                tokens.live.remove(&f.token);
                tokens.revoked.insert(f.token.clone());
            }
            (Facts::AccountAdded(f), Some(id)) => {
                let accounts = self.accounts.entry(id.clone()).or_default();
                accounts.push(Account {
                    seq: event.seq,
                    added: f.clone(),
                    open: true,
                });
            }
            (Facts::AccountClosed(f), Some(id)) => {
                let accounts = self.accounts.entry(id.clone()).or_default();
                for account in accounts
                    .iter_mut()
                    .filter(|account| account.added.h_wire == f.h_wire)
                {
                    account.open = false;
                }
            }
            _ => {}
        }
    }

    /// Every account that the instance ever had, in the order in which it got them.
    #[must_use]
    pub fn accounts(&self, instance: &InstanceId) -> &[Account] {
        self.accounts.get(instance).map_or(&[], Vec::as_slice)
    }

    /// The account of the instance that this hash names, whether new orders may name it or not.
    #[must_use]
    pub fn account(&self, instance: &InstanceId, h_wire: &HashCode) -> Option<&Account> {
        self.accounts(instance)
            .iter()
            .rfind(|account| account.added.h_wire == *h_wire)
    }

    /// The format version of the event at this place.
    #[must_use]
    pub fn version_at(&self, seq: Seq) -> u64 {
        (FIRST_VERSION..)
            .zip(&self.raised)
            .take_while(|(_, raised)| **raised < seq)
            .last()
            .map_or(FIRST_VERSION, |(before, _)| before + 1)
    }

    /// The recorded tokens of an instance, or of the whole service; nothing where none was recorded yet.
    #[must_use]
    pub fn tokens(&self, instance: Option<&InstanceId>) -> Option<&RecordedTokens> {
        self.tokens.get(&instance.cloned())
    }

    /// The exchange's signing keys as last seen.
    #[must_use]
    pub fn latest_signkeys(&self, exchange: &MasterPub) -> Option<&[SignKey]> {
        self.latest.get(exchange).map(Vec::as_slice)
    }

    /// Whether the ledger has this signing key of the exchange, valid at any time.
    #[must_use]
    pub fn knows_signkey(&self, exchange: &MasterPub, key: &ExchangePub) -> bool {
        self.signkeys
            .get(exchange)
            .is_some_and(|known| known.iter().any(|k| k.key == *key))
    }

    /// Whether the exchange's master key signed `key` for a life that holds `at`, give or take an hour.
    #[must_use]
    pub fn signkey_valid(&self, exchange: &MasterPub, key: &ExchangePub, at: Micros) -> bool {
        self.signkeys
            .get(exchange)
            .is_some_and(|known| known.iter().any(|k| k.key == *key && k.is_valid_at(at)))
    }
}

impl SignKey {
    /// start - 1 h <= at < expire + 1 h.
    #[must_use]
    pub fn is_valid_at(&self, at: Micros) -> bool {
        at.plus_s(KEY_TOLERANCE_S).is_past(self.start_s)
            && !at.minus_s(KEY_TOLERANCE_S).is_past(self.expire_s)
    }
}
