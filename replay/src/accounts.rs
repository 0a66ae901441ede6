//! Accounts of instances: that each is the one whose hash it bears, and which of them were open when an order named one.

use std::collections::HashMap;

use quittance_events::facts::{AccountAdded, AccountClosed};
use quittance_events::{AttachmentName, Facts, InstanceId};
use quittance_taler::payto::PaytoUri;
use quittance_taler::{HashCode, WireSalt, json};
use serde::Deserialize;

use crate::findings::{Draft, Findings};
use crate::parts::Decision;
use crate::rules;

/// What stands behind an `account_added`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attached {
    payto_uri: PaytoUri,
    salt: WireSalt,
}

/// Accounts as far as the ledger has told by now, open or not.
#[derive(Default)]
pub(crate) struct Accounts(HashMap<(InstanceId, HashCode), bool>);

impl Accounts {
    /// Whether new orders of the instance may name the account.
    pub(crate) fn is_open(&self, instance: &InstanceId, h_wire: &HashCode) -> bool {
        let known = self.0.get(&(instance.clone(), *h_wire));
        known.is_some_and(|open| *open)
    }

    /// Takes up what a decision says of accounts; of other kinds nothing.
    pub(crate) fn take(&mut self, decision: &Decision, findings: &mut Findings) {
        let Some(instance) = decision.event.instance.clone() else {
            return;
        };
        let wrong = match &decision.event.facts {
            Facts::AccountAdded(f) => {
                let was_open = self.0.insert((instance, f.h_wire), true) == Some(true);
                let wrong = was_open.then(|| "the account is open already".to_owned());
                wrong.or_else(|| another(f, decision.bytes(AttachmentName::Account)?))
            }
            Facts::AccountClosed(AccountClosed { h_wire, .. }) => {
                let was_open = self.0.insert((instance, *h_wire), false) == Some(true);
                (!was_open).then(|| "it closes an account that was not open".to_owned())
            }
            _ => None,
        };
        let Some(wrong) = wrong else { return };
        let cause = decision.root.or(findings.all_orders);
        findings.add(Draft::new(&rules::ACCOUNT_KNOWN, decision.first(), wrong), cause);
    }
}

/// Why the bytes are not those of the account.
fn another(f: &AccountAdded, bytes: &[u8]) -> Option<String> {
    let read = json::parse_strict(bytes)
        .map_err(|e| e.to_string())
        .and_then(|value| {
            if json::canonical(&value) != bytes {
                return Err("it is not canonical JSON".to_owned());
            }
            Attached::deserialize(value).map_err(|e| e.to_string())
        });
    let attached = match read {
        Ok(attached) => attached,
        Err(e) => return Some(format!("the account cannot be read: {e}")),
    };
    if attached.payto_uri.h_wire(&attached.salt) != f.h_wire {
        return Some("its h_wire is not the hash of payto URI and salt".to_owned());
    }
    (attached.payto_uri.method() != f.wire_method)
        .then(|| "its wire method is not that of the payto URI".to_owned())
}
