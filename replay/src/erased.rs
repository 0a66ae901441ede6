//! Erased attachments: that bytes are gone exactly where an event says so, and an event says so only of bytes that are
//! gone. What is told of comes later in the ledger than what is gone, so that the two are compared at the end.

use std::collections::{BTreeMap, BTreeSet};

use quittance_events::facts::AttachmentErased;
use quittance_events::{AttachmentName, Event, OrderKey};
use quittance_taler::Amount;

use crate::case::named_amounts;
use crate::findings::{Draft, Findings};
use crate::parts::Decision;
use crate::rules;

/// Whose bytes are gone.
struct Gone {
    order: Option<OrderKey>,
    amounts: Vec<Amount>,
}

/// What is gone, and what is said to be.
#[derive(Default)]
pub(crate) struct Erasures {
    gone: BTreeMap<(u64, AttachmentName), Gone>,
    told: BTreeSet<(u64, AttachmentName)>,
}

impl Erasures {
    /// An attachment without salt and bytes.
    pub(crate) fn found(&mut self, seq: u64, name: AttachmentName, event: &Event) {
        let (order, amounts) = (event.order_key(), named_amounts(&event.facts));
        self.gone.insert((seq, name), Gone { order, amounts });
    }

    /// An event says that an attachment is erased. `target`: the earlier event that it names, where there is one that
    /// can be read.
    pub(crate) fn told(
        &mut self,
        target: Option<&Event>,
        decision: &Decision,
        f: &AttachmentErased,
        findings: &mut Findings,
    ) {
        let (seq, own) = (f.seq.get(), decision.event.order_key());
        let is_new = self.told.insert((seq, f.name));
        let wrong = match target {
            Some(event) if event.attachments.contains_key(&f.name) => {
                if event.order_key() != own || event.instance != decision.event.instance {
                    Some("it belongs to another order, or to none")
                } else if !is_new {
                    Some("it was told before")
                } else if !self.gone.contains_key(&(seq, f.name)) {
                    Some("its salt and bytes are still there")
                } else {
                    None
                }
            }
            _ => Some("no earlier event has it"),
        };
        let Some(wrong) = wrong else { return };
        let text = format!(
            "attachment {} of event {seq} is said to be erased: {wrong}",
            f.name.as_str()
        );
        let amounts = target
            .map(|event| named_amounts(&event.facts))
            .unwrap_or_default();
        let draft = Draft::new(&rules::LOG_ERASED, decision.first(), text)
            .of(own.as_ref())
            .stake(amounts);
        let cause = decision
            .root
            .or_else(|| findings.place_at(seq))
            .or(findings.all_orders);
        findings.add(draft, cause);
    }

    /// After the walk: bytes that are gone without a word.
    pub(crate) fn untold(&self, findings: &mut Findings) {
        for ((seq, name), gone) in &self.gone {
            if self.told.contains(&(*seq, *name)) {
                continue;
            }
            let text = format!("{} is erased, and no event says so", name.as_str());
            let draft = Draft::new(&rules::LOG_ATTACHMENTS, *seq, text)
                .of(gone.order.as_ref())
                .stake(gone.amounts.iter().copied());
            // Where events are missing, the one that says so may be among them.
            let cause = findings.place_at(*seq).or(findings.all_orders);
            findings.add(draft, cause);
        }
    }
}
