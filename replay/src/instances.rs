//! Instances of the ledger: under which merchant key each was opened last. An order bears that key and no other, or
//! its contract, refunds and answers are signed by somebody whom the ledger never named as the merchant.

use std::collections::BTreeMap;

use quittance_events::{Facts, InstanceId};
use quittance_taler::{Amount, MerchantPub};

use crate::case::Case;
use crate::findings::{Draft, Findings, Mark, Root};
use crate::judge::Ledger;
use crate::parts::Decision;
use crate::rules;

struct Known {
    merchant_pub: MerchantPub,
    open: bool,
}

/// Instances as far as the ledger has told by now. One that is closed keeps its key: a request may end after that.
#[derive(Default)]
pub(crate) struct Instances {
    known: BTreeMap<InstanceId, Known>,
    /// The first finding about an event that says something of them: any order may rest on it.
    doubt: Option<Root>,
}

impl Instances {
    /// Takes up what a decision says of instances; of other kinds nothing.
    pub(crate) fn take(&mut self, decision: &Decision, findings: &mut Findings) {
        let Some(instance) = &decision.event.instance else {
            return;
        };
        let is_open = self.known.get(instance).is_some_and(|known| known.open);
        let (wrong, merchant_pub, open) = match &decision.event.facts {
            Facts::InstanceAdded(f) if is_open => {
                let wrong = "the instance is open already".to_owned();
                (Some(wrong), f.merchant_pub, true)
            }
            Facts::InstanceAdded(f) => {
                let mut open = self.known.iter().filter(|(_, known)| known.open);
                let other = open.find(|(_, known)| known.merchant_pub == f.merchant_pub);
                let wrong = other.map(|(id, _)| format!("instance {id} is open under the same merchant key"));
                (wrong, f.merchant_pub, true)
            }
            Facts::InstanceClosed(f) => {
                let wrong = "it closes an instance that was not open".to_owned();
                ((!is_open).then_some(wrong), f.merchant_pub, false)
            }
            _ => return,
        };
        self.doubt = self.doubt.or(decision.root);
        if let Some(wrong) = wrong {
            let draft = Draft::new(&rules::ORDER_INSTANCE, decision.first(), wrong);
            let root = findings.add(draft, self.doubt.or(findings.all_orders));
            self.doubt = self.doubt.or(Some(root));
        }
        match self.known.get_mut(instance) {
            // What was opened last counts, whatever the end says.
            Some(known) if !open => known.open = false,
            _ => {
                let known = Known { merchant_pub, open };
                self.known.insert(instance.clone(), known);
            }
        }
    }
}

/// A new order bears its instance's key.
pub(crate) fn judge(merchant_pub: &MerchantPub, amount: Amount, ledger: Ledger, case: &mut Case) {
    // A successor opens its instances after the orders that it takes over.
    if case.is_again || ledger.taking_over {
        return;
    }
    let known = case.instances.known.get(&case.key.instance);
    if known.is_some_and(|known| known.merchant_pub == *merchant_pub) {
        return;
    }
    let text = match known {
        None => "its instance was never opened",
        Some(_) => "its merchant key is not its instance's",
    };
    let expected = known.map_or_else(String::new, |known| known.merchant_pub.to_string());
    let draft = case
        .draft(&rules::ORDER_INSTANCE, text)
        .differs(expected, merchant_pub)
        .stake([amount]);
    let doubt = case.instances.doubt;
    case.find_caused(doubt, draft, &[Mark::Terms], &[Mark::Terms]);
}
