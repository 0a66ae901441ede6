//! What the rules of an order see of one decision, and how they tell what is wrong with it.

use std::collections::{BTreeMap, HashMap};

use quittance_events::facts::SignKey;
use quittance_events::{Facts, OrderKey};
use quittance_taler::{Amount, ExchangePub, MasterPub, Micros, message};

use crate::accounts::Accounts;
use crate::findings::{Draft, Findings, Mark, Marks, Root};
use crate::instances::Instances;
use crate::parts::Decision;
use crate::report::{Checked, Money, money_of};
use crate::rules::Rule;

/// How far a signing key's life is stretched at both ends: clocks differ.
const KEY_TOLERANCE_S: u64 = 3600;

/// Signing keys that their exchange's master key really signed, as far as the ledger has told by now.
#[derive(Default)]
pub(crate) struct SigningKeys {
    /// With the sequence of the event that told of it.
    known: HashMap<MasterPub, Vec<(u64, SignKey)>>,
    /// Keys that were told of and that no master key signed: what rests on them follows from that.
    unsigned: HashMap<ExchangePub, Root>,
}

impl SigningKeys {
    /// Takes a key in if the master key signed it.
    pub(crate) fn learn(&mut self, seq: u64, master: MasterPub, key: &SignKey) -> bool {
        let message = message::signing_key_validity(key.start_s, key.expire_s, key.end_s, &key.key);
        if !master.verify(&message, &key.master_sig) {
            return false;
        }
        let known = self.known.entry(master).or_default();
        if !known.iter().any(|(_, held)| held == key) {
            known.push((seq, key.clone()));
        }
        true
    }

    pub(crate) fn refuse(&mut self, key: ExchangePub, root: Root) {
        self.unsigned.entry(key).or_insert(root);
    }

    /// The finding about a key that no master key signed.
    pub(crate) fn refusal(&self, key: &ExchangePub) -> Option<Root> {
        self.unsigned.get(key).copied()
    }

    /// start - 1 h <= at < expire + 1 h, of a key that was told of before the event `seq`.
    pub(crate) fn valid_at(&self, master: &MasterPub, key: &ExchangePub, seq: u64, at: Micros) -> bool {
        self.known.get(master).is_some_and(|keys| {
            keys.iter().any(|(told, k)| {
                *told < seq
                    && k.key == *key
                    && at.plus_s(KEY_TOLERANCE_S).is_past(k.start_s)
                    && !at.minus_s(KEY_TOLERANCE_S).is_past(k.expire_s)
            })
        })
    }
}

/// One decision under judgement.
pub(crate) struct Case<'a> {
    pub(crate) decision: &'a Decision,
    pub(crate) key: &'a OrderKey,
    pub(crate) findings: &'a mut Findings,
    pub(crate) marks: &'a mut Marks,
    pub(crate) checked: &'a mut Checked,
    pub(crate) money: &'a mut BTreeMap<String, Money>,
    pub(crate) signing_keys: &'a SigningKeys,
    pub(crate) exchange_keys: &'a [MasterPub],
    pub(crate) accounts: &'a Accounts,
    pub(crate) instances: &'a Instances,
    /// The decision was judged before: only what it makes of the order's state is wanted.
    pub(crate) is_again: bool,
}

impl Case<'_> {
    pub(crate) fn at(&self) -> Micros {
        self.decision.event.at_us
    }

    pub(crate) fn draft(&self, rule: &'static Rule, text: impl Into<String>) -> Draft {
        Draft::new(rule, self.decision.first(), text).of(Some(self.key))
    }

    /// Tells what is wrong: beneath what is wrong with the event's own bytes, or with what it depends on. Whatever
    /// depends on `marks` afterwards follows from it.
    pub(crate) fn find(&mut self, draft: Draft, depends: &[Mark], marks: &[Mark]) -> Root {
        self.find_caused(None, draft, depends, marks)
    }

    /// Likewise, with a cause outside of the order where there is one.
    pub(crate) fn find_caused(
        &mut self,
        cause: Option<Root>,
        draft: Draft,
        depends: &[Mark],
        marks: &[Mark],
    ) -> Root {
        let cause = self
            .decision
            .root
            .or(cause)
            .or_else(|| self.marks.cause(depends))
            .or(self.findings.all_orders);
        let root = self.findings.add(draft, cause);
        for mark in marks {
            self.marks.set(*mark, root);
        }
        root
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.findings
            .note(Some(self.decision.first()), Some(self.key), text);
    }

    pub(crate) fn money(&mut self, amount: Amount) -> &mut Money {
        money_of(self.money, amount.currency())
    }
}

/// The amounts that an event names, each once: what is at stake where the event itself is in doubt.
pub(crate) fn named_amounts(facts: &Facts) -> Vec<Amount> {
    match facts {
        Facts::OrderRecorded(f) => vec![f.amount],
        Facts::OrderCreated(f) => vec![f.amount],
        Facts::DepositRequested(f) => f.coins.iter().map(|coin| coin.amount_with_fee).collect(),
        Facts::DepositRecorded(f) => vec![f.amount_with_fee],
        Facts::PaymentCompleted(f) => vec![f.paid],
        Facts::RefundCarriedIn(f) => f.rows.iter().map(|row| row.amount).collect(),
        Facts::RefundApproved(f) => f.rows.iter().map(|row| row.amount).collect(),
        Facts::AbortRequested(f) => f.coins.iter().filter_map(|coin| coin.amount).collect(),
        Facts::AbortExtended(f) => f.coins.iter().map(|coin| coin.amount).collect(),
        Facts::RefundAnswered(f) => f.refund_amount.into_iter().collect(),
        _ => Vec::new(),
    }
}
