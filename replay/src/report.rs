//! The report: what was checked, what was found, as data. It claims no more than what was recomputed.

use std::collections::BTreeMap;

use quittance_taler::{Amount, Currency};
use serde::{Serialize, Serializer};

use crate::rules::Grade;

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's id.
    pub rule: &'static str,
    /// How grave it is.
    pub grade: Grade,
    /// The first event at which it does not hold; of a checkpoint or anchor, the last event that it covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Whose order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Which order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// What is wrong, in words.
    pub text: String,
    /// What follows from the events before; empty where nothing can be said.
    pub expected: String,
    /// What the ledger has.
    pub found: String,
    /// Money at stake, one amount a currency, reckoned as the rule says.
    pub at_stake: Vec<Amount>,
    /// Findings that this one explains.
    pub consequences: Vec<Finding>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub consequences_unlisted: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Something that an auditor should know and that breaks no rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// At which event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Whose order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Which order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// In words.
    pub text: String,
}

/// What a witness last said of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// Its key.
    pub vkey: String,
    /// Whether the auditor brought the key; otherwise it is the ledger's own word that there is such a witness.
    pub pinned: bool,
    /// Events that the last checkpoint covers that it cosigned; 0: none.
    pub size: u64,
    /// When it says that it did, in seconds since 1970.
    pub time_s: u64,
}

/// How much was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Events read, hashed and chained.
    pub events: u64,
    /// Event signatures verified.
    pub signatures: u64,
    /// Attachments whose bytes have the digest that their event names.
    pub attachments: u64,
    /// Attachments without bytes.
    pub erased: u64,
    /// Checkpoints whose signature and root hold.
    pub checkpoints: u64,
    /// Orders replayed.
    pub orders: u64,
    /// Approvals, their signatures included.
    pub approvals: u64,
    /// Accepted aborts and extensions.
    pub aborts: u64,
    /// Exchange replies judged anew.
    pub exchange_replies: u64,
    /// Genuine receipts whose answers the ledger has.
    pub receipts: u64,
    /// Answers rebuilt and compared, byte for byte by digest.
    pub answers: u64,
    /// Answers of which the body could not be rebuilt because a reply is erased.
    pub answers_not_checkable: u64,
}

/// A sum of money in units of 10^-8: a ledger's sums may be beyond Taler's greatest amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(pub u128);

impl Sum {
    pub(crate) fn add(&mut self, amount: Amount) {
        self.0 = self.0.saturating_add(amount.units());
    }

    pub(crate) fn text(self) -> String {
        let text = format!("{}.{:08}", self.0 / 100_000_000, self.0 % 100_000_000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text())
    }
}

/// A currency's figures, as plain decimal numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Money {
    /// Sum of all deposits that the ledger records.
    pub deposited: Sum,
    /// Sum of all approved refunds, those taken over included.
    pub approved: Sum,
    /// Of these, confirmed by an exchange with a signature that verifies.
    pub confirmed: Sum,
    /// Sum of all deposits that aborts give back.
    pub aborted: Sum,
    /// Of these, confirmed likewise.
    pub aborted_confirmed: Sum,
}

/// What `verify` came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file.
    pub ledger: String,
    /// The ledger's name as its first event gives it.
    pub origin: Option<String>,
    /// The event key that the signatures were checked with, as VKEY.
    pub event_key: Option<String>,
    /// Whether that key was given by the auditor; otherwise it is the ledger's own word.
    pub key_pinned: bool,
    /// Events that the anchor covers, where one was given and holds.
    pub anchored: Option<u64>,
    /// Witnesses that cosigned checkpoints of this ledger, and those that the auditor brought.
    pub witnesses: Vec<Witness>,
    /// Events that the checkpoint of an earlier audit covers, where one was given and the ledger extends it.
    pub since: Option<u64>,
    /// The last event of the past state that was looked at; nothing where it was all of the ledger.
    pub as_of: Option<u64>,
    /// Event signatures were checked in lists; each is as good as if it had been checked alone.
    pub fast: bool,
    /// How much was checked.
    pub checked: Checked,
    /// Figures by currency.
    pub money: BTreeMap<String, Money>,
    /// What an auditor should know.
    pub notes: Vec<Note>,
    /// What does not hold.
    pub findings: Vec<Finding>,
    /// Root findings beyond those listed.
    pub findings_unlisted: u64,
}

impl Report {
    /// Whether every rule holds.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

pub(crate) fn money_of(money: &mut BTreeMap<String, Money>, currency: Currency) -> &mut Money {
    money.entry(currency.to_string()).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_plain_decimals() {
        for (units, text) in [
            (0, "0"),
            (1, "0.00000001"),
            (1_050_000_000, "10.5"),
            (10_000_000_000, "100"),
        ] {
            assert_eq!(Sum(units).text(), text);
        }
    }
}
