//! Accounts of instances: that each is the one whose hash it bears, and which of them were open when an order named one.

use std::collections::HashMap;

use quittance_events::facts::{AccountAdded, AccountClosed};
use quittance_events::{AttachmentName, Facts, InstanceId};
use quittance_taler::payto::PaytoUri;
use quittance_taler::{HashCode, Micros, WireSalt, json};
use serde::Deserialize;

use crate::findings::{Draft, Findings};
use crate::parts::Decision;
use crate::rules;
use crate::tokens::UNDER_WAY_S;

/// What stands behind an `account_added`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attached {
    payto_uri: PaytoUri,
    salt: WireSalt,
}

/// How an account stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    Closed(Micros),
}

/// Accounts as far as the ledger has told by now.
#[derive(Default)]
pub(crate) struct Accounts(HashMap<(InstanceId, HashCode), Standing>);

impl Accounts {
    /// Whether an order of the instance that is made at this time may name the account: the service chooses one when the
    /// request comes, and the account may be closed before the order is recorded.
    pub(crate) fn was_open(&self, instance: &InstanceId, h_wire: &HashCode, at: Micros) -> bool {
        match self.0.get(&(instance.clone(), *h_wire)) {
            Some(Standing::Open) => true,
            Some(Standing::Closed(since)) => at <= since.plus_s(UNDER_WAY_S),
            None => false,
        }
    }

    /// Takes up what a decision says of accounts; of other kinds nothing.
    pub(crate) fn take(&mut self, decision: &Decision, findings: &mut Findings) {
        let Some(instance) = decision.event.instance.clone() else {
            return;
        };
        let wrong = match &decision.event.facts {
            Facts::AccountAdded(f) => {
                let was_open = self.0.insert((instance, f.h_wire), Standing::Open) == Some(Standing::Open);
                let wrong = was_open.then(|| "the account is open already".to_owned());
                wrong.or_else(|| another(f, decision.bytes(AttachmentName::Account)?))
            }
            Facts::AccountClosed(AccountClosed { h_wire, .. }) => {
                let closed = Standing::Closed(decision.event.at_us);
                let was_open = self.0.insert((instance, *h_wire), closed) == Some(Standing::Open);
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
