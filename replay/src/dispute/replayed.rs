//! The events of a dispute file, judged by the very rules that a whole ledger is judged by. What only a whole ledger
//! can show (gaps, the chain over events that are not in the file, indexes) is not judged here.

use std::collections::{BTreeMap, BTreeSet};

use quittance_events::{Event, Facts, OrderKey, RefundId};
use quittance_taler::{CoinPub, Micros};
use quittance_tlog::VerifierKey;

use crate::fold::OrderFold;
use crate::keys::LedgerKeys;
use crate::log::Log;
use crate::parts::Decision;
use crate::report::{Checked, Finding, Note};
use crate::verify::Audit;
use crate::{Unusable, VerifyOptions};

use super::contents::Contents;

/// What replaying came to.
pub(crate) struct Replayed {
    pub(crate) key: OrderKey,
    pub(crate) origin: String,
    /// The first event key, whichever one the reader brought.
    pub(crate) first_key: VerifierKey,
    /// The reader's, where it was in force at any time, or else the first.
    pub(crate) event_key: VerifierKey,
    pub(crate) keys: LedgerKeys,
    pub(crate) findings: Vec<Finding>,
    pub(crate) findings_unlisted: u64,
    pub(crate) notes: Vec<Note>,
    pub(crate) checked: Checked,
    /// In order; parts joined.
    pub(crate) decisions: Vec<Decision>,
    pub(crate) fold: OrderFold,
    /// When an exchange decided about a permission: the event and its time.
    pub(crate) decided: BTreeMap<(CoinPub, RefundId), (u64, Micros)>,
}

/// Why there is no story to tell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untold {
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("the first event is no ledger_opened that names keys")]
    NoGenesis,
    #[error("event {0} cannot be read")]
    Unreadable(u64),
    #[error("there is no order in it")]
    NoOrder,
    #[error("event {0} is of another order")]
    Foreign(u64),
    #[error("the order's events do not begin with its order_recorded")]
    Unborn,
}

/// Replays. `pinned`: the event key as the reader got it from elsewhere.
pub(crate) fn replay(contents: &Contents, pinned: Option<&VerifierKey>) -> Result<Replayed, Untold> {
    let options = VerifyOptions {
        ledger_key: pinned.cloned(),
        ..VerifyOptions::default()
    };
    let mut audit = Audit::new(&options);
    let mut log = Log::new(&options, std::iter::empty());
    log.excerpt = Some(contents.redacted().collect::<BTreeSet<_>>());
    let mut decisions: Vec<Decision> = Vec::new();
    let mut decided = BTreeMap::new();
    let mut key: Option<OrderKey> = None;
    for stored in contents.stored() {
        let seq = u64::try_from(stored.seq).unwrap_or(0);
        let taken = log.take(stored, &mut audit.findings, &mut audit.checked)?;
        let Ok(decision) = taken else {
            return Err(Untold::Unreadable(seq));
        };
        if let Some(of) = decision.event.order_key()
            && key.get_or_insert_with(|| of.clone()) != &of
        {
            return Err(Untold::Foreign(seq));
        }
        if let Facts::AttachmentErased(f) = &decision.event.facts {
            let target = (f.seq.get() < decision.first())
                .then(|| contents.events.get(&f.seq.get()))
                .flatten()
                .and_then(|item| Event::parse(&item.sealed).ok());
            log.erasures
                .told(target.as_ref(), &decision, f, &mut audit.findings);
        }
        let pushed = audit.joiner.push(decision);
        for ready in pushed.ready.clone() {
            decisions.push(ready);
        }
        audit.judge(pushed, &log);
        note_decided(&audit, key.as_ref(), decisions.last(), &mut decided);
    }
    let rest = audit.joiner.end();
    decisions.extend(rest.ready.clone());
    audit.judge(rest, &log);
    audit.settle_owing(None);
    log.pin(&options, &mut audit.findings);
    log.erasures.untold(&mut audit.findings);
    let key = key.ok_or(Untold::NoOrder)?;
    let fold = audit
        .orders
        .remove(&key)
        .and_then(|slot| slot.fold)
        .ok_or(Untold::Unborn)?;
    let (first_key, event_key) = (log.keys.event_vkeys().next(), log.event_vkey(&options));
    let (Some(origin), Some(first_key), Some(event_key)) = (log.origin.clone(), first_key, event_key) else {
        return Err(Untold::NoGenesis);
    };
    let (findings, findings_unlisted, notes) = audit.findings.finish();
    Ok(Replayed {
        key,
        origin,
        first_key,
        event_key,
        keys: log.keys,
        findings,
        findings_unlisted,
        notes,
        checked: audit.checked,
        decisions,
        fold,
        decided,
    })
}

/// The first reply that decides a permission is the one that counts.
fn note_decided(
    audit: &Audit,
    key: Option<&OrderKey>,
    last: Option<&Decision>,
    decided: &mut BTreeMap<(CoinPub, RefundId), (u64, Micros)>,
) {
    let Some(decision) = last else { return };
    let Facts::ExchangeReplied(f) = &decision.event.facts else {
        return;
    };
    let fold = key.and_then(|key| audit.orders.get(key)?.fold.as_ref());
    if fold.is_some_and(|fold| {
        fold.standing(&f.coin_pub, f.rtransaction_id)
            .is_some_and(crate::fold::Standing::is_decided)
    }) {
        decided
            .entry((f.coin_pub, f.rtransaction_id))
            .or_insert((decision.first(), decision.event.at_us));
    }
}

impl Replayed {
    /// Whether a rule of this sort is broken at this event.
    pub(crate) fn is_found(&self, seq: u64, rule: &str) -> bool {
        fn among(findings: &[Finding], seq: u64, rule: &str) -> bool {
            findings.iter().any(|finding| {
                (finding.seq == Some(seq) && finding.rule.starts_with(rule))
                    || among(&finding.consequences, seq, rule)
            })
        }
        among(&self.findings, seq, rule)
    }
}
