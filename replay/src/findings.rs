//! Collects findings. A finding that an earlier one explains is listed beneath it: one broken event breaks its
//! successor's chain, every later checkpoint and what is said of its order, and an auditor wants the cause first.
//! What explains what is told by marks that a finding leaves on the things it casts doubt on.

use std::collections::BTreeMap;

use quittance_events::{OrderKey, RefundId};
use quittance_taler::{Amount, CoinPub};

use crate::report::{Finding, Note};
use crate::rules::Rule;

/// Root findings that a report lists. A ruined file has more than anybody reads; the rest is counted.
const ROOTS_MAX: usize = 1_000;
/// Consequences listed beneath one root; the rest is counted.
const CONSEQUENCES_MAX: usize = 50;

/// Names a root finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root(usize);

/// A finding about to be told.
pub(crate) struct Draft {
    pub(crate) rule: &'static Rule,
    seq: Option<u64>,
    order: Option<OrderKey>,
    text: String,
    expected: String,
    found: String,
    at_stake: Vec<Amount>,
}

impl Draft {
    pub(crate) fn new(rule: &'static Rule, seq: u64, text: impl Into<String>) -> Draft {
        let none = String::new;
        Draft {
            rule,
            seq: Some(seq),
            order: None,
            text: text.into(),
            expected: none(),
            found: none(),
            at_stake: vec![],
        }
    }

    /// Not about an event.
    pub(crate) fn of_file(rule: &'static Rule, text: impl Into<String>) -> Draft {
        Draft {
            seq: None,
            ..Draft::new(rule, 0, text)
        }
    }

    pub(crate) fn of(mut self, order: Option<&OrderKey>) -> Draft {
        self.order = order.cloned();
        self
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over numbers, amounts and texts alike"
    )]
    pub(crate) fn differs(mut self, expected: impl ToString, found: impl ToString) -> Draft {
        self.expected = expected.to_string();
        self.found = found.to_string();
        self
    }

    /// Nothing is at stake where the amounts are zero.
    pub(crate) fn stake(mut self, amounts: impl IntoIterator<Item = Amount>) -> Draft {
        for amount in amounts.into_iter().filter(|amount| !amount.is_zero()) {
            match self
                .at_stake
                .iter_mut()
                .find(|held| held.currency() == amount.currency())
            {
                // Beyond Taler's greatest amount the sum stays where it is: as much as anybody can lose.
                Some(held) => *held = held.checked_add(amount).unwrap_or(*held),
                None => self.at_stake.push(amount),
            }
        }
        self
    }
}

/// What a finding in an order casts doubt on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// All of the order: one of its events is not what was recorded.
    Whole,
    Terms,
    Payment,
    Total,
    Coin(CoinPub),
    Permission(CoinPub, RefundId),
}

/// The marks on one order.
#[derive(Debug, Default)]
pub(crate) struct Marks(Vec<(Mark, Root)>);

impl Marks {
    pub(crate) fn set(&mut self, mark: Mark, root: Root) {
        if !self.0.iter().any(|(held, _)| *held == mark) {
            self.0.push((mark, root));
        }
    }

    pub(crate) fn cause(&self, depends: &[Mark]) -> Option<Root> {
        self.0
            .iter()
            .find(|(mark, _)| *mark == Mark::Whole || depends.contains(mark))
            .map(|(_, root)| *root)
    }
}

/// All findings and notes so far.
#[derive(Default)]
pub(crate) struct Findings {
    roots: Vec<Finding>,
    unlisted: u64,
    pub(crate) notes: Vec<Note>,
    /// Places in the chain at which the recorded bytes are not those that were sealed.
    places: BTreeMap<u64, Root>,
    /// Everything after a place of doubt that cannot be pinned down to one order.
    pub(crate) all_orders: Option<Root>,
}

impl Findings {
    /// Tells a finding, beneath its cause where it has one.
    pub(crate) fn add(&mut self, draft: Draft, cause: Option<Root>) -> Root {
        let Draft {
            rule,
            seq,
            order,
            text,
            expected,
            found,
            at_stake,
        } = draft;
        let finding = Finding {
            rule: rule.id,
            grade: rule.grade,
            seq,
            instance: order.as_ref().map(|key| key.instance.to_string()),
            order: order.map(|key| key.order.to_string()),
            text,
            expected,
            found,
            at_stake,
            consequences: Vec::new(),
            consequences_unlisted: 0,
        };
        if let Some(Root(index)) = cause {
            let root = &mut self.roots[index];
            if root.consequences.len() < CONSEQUENCES_MAX {
                root.consequences.push(finding);
            } else {
                root.consequences_unlisted += 1;
            }
            return Root(index);
        }
        if self.roots.len() == ROOTS_MAX {
            self.unlisted += 1;
            return Root(ROOTS_MAX - 1);
        }
        self.roots.push(finding);
        Root(self.roots.len() - 1)
    }

    /// Marks a place in the chain.
    pub(crate) fn mark_place(&mut self, seq: u64, root: Root) {
        // The first finding about a place explains the others.
        self.places.entry(seq).or_insert(root);
    }

    /// The first marked place up to `seq`.
    pub(crate) fn place_up_to(&self, seq: u64) -> Option<Root> {
        let first = self.places.first_key_value();
        first.filter(|(place, _)| **place <= seq).map(|(_, root)| *root)
    }

    /// What is marked at exactly this place.
    pub(crate) fn place_at(&self, seq: u64) -> Option<Root> {
        self.places.get(&seq).copied()
    }

    pub(crate) fn note(&mut self, seq: Option<u64>, order: Option<&OrderKey>, text: impl Into<String>) {
        self.notes.push(Note {
            seq,
            instance: order.map(|key| key.instance.to_string()),
            order: order.map(|key| key.order.to_string()),
            text: text.into(),
        });
    }

    /// The findings in order of their events, and how many are not listed.
    pub(crate) fn finish(mut self) -> (Vec<Finding>, u64, Vec<Note>) {
        self.roots.sort_by_key(|finding| finding.seq);
        (self.roots, self.unlisted, self.notes)
    }
}
