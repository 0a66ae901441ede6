//! The events of a dispute file, judged by the very rules that a whole ledger is judged by. What only a whole ledger
//! can show (gaps, the chain over events that are not in the file, indexes) is not judged here.

use std::collections::{BTreeMap, BTreeSet};

use quittance_events::{Event, Facts, OrderKey, RefundId};
use quittance_taler::{CoinPub, Micros};
use quittance_tlog::VerifierKey;

use crate::accounts::Accounts;
use crate::case::{Case, SigningKeys, named_amounts};
use crate::exchange;
use crate::findings::{Draft, Findings, Mark, Marks};
use crate::fold::OrderFold;
use crate::instances::Instances;
use crate::judge::{Ledger, judge};
use crate::keys::LedgerKeys;
use crate::log::Log;
use crate::owed;
use crate::parts::{Decision, Joiner, Pushed};
use crate::prepare::Prepared;
use crate::report::{Checked, Finding, Money, Note};
use crate::rules;
use crate::{Unusable, VerifyOptions};

use super::contents::Contents;

/// One order under judgement, without the ledger around it.
#[derive(Default)]
struct Excerpt {
    findings: Findings,
    checked: Checked,
    money: BTreeMap<String, Money>,
    signing_keys: SigningKeys,
    accounts: Accounts,
    instances: Instances,
    joiner: Joiner,
    fold: Option<Box<OrderFold>>,
    marks: Marks,
    told_unborn: bool,
}

impl Excerpt {
    fn judge(&mut self, pushed: Pushed, log: &Log) {
        for (seq, what) in pushed.wrong {
            let ready = pushed.ready.first();
            let key = ready.and_then(|decision| decision.event.order_key());
            let amounts = ready.map(|decision| named_amounts(&decision.event.facts));
            let draft = Draft::new(&rules::LOG_PARTS, seq, what)
                .of(key.as_ref())
                .stake(amounts.unwrap_or_default());
            let cause = self.marks.cause(&[]).or(self.findings.all_orders);
            let root = self.findings.add(draft, cause);
            self.marks.set(Mark::Whole, root);
        }
        for decision in pushed.ready {
            let Some(key) = decision.event.order_key() else {
                self.settle_owing(None);
                if let Facts::ExchangeKeysSeen(f) = &decision.event.facts {
                    exchange::keys_seen(f, &decision, &mut self.signing_keys, &mut self.findings);
                }
                self.accounts.take(&decision, &mut self.findings);
                self.instances.take(&decision, &mut self.findings);
                continue;
            };
            self.settle_owing(Some(&decision));
            let ledger = Ledger {
                epoch: log.epoch,
                generation: log.generation(),
                taking_over: log.taking_over,
            };
            let mut case = Case {
                decision: &decision,
                key: &key,
                findings: &mut self.findings,
                marks: &mut self.marks,
                checked: &mut self.checked,
                money: &mut self.money,
                signing_keys: &self.signing_keys,
                exchange_keys: &[],
                accounts: &self.accounts,
                instances: &self.instances,
                is_again: false,
            };
            judge(&mut self.fold, &mut self.told_unborn, ledger, &mut case);
        }
    }

    /// What a commit that is over left owing.
    fn settle_owing(&mut self, next: Option<&Decision>) {
        let Some(fold) = &mut self.fold else { return };
        let left = match next {
            Some(next) => owed::left_before(fold, next),
            None => owed::left(fold),
        };
        owed::tell(&fold.key, left, &mut self.marks, &mut self.findings);
    }
}

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
    #[error("the order's events do not begin with its order_recorded or order_created")]
    Unborn,
    #[error("no wallet has claimed the order: there is no contract that anybody could dispute")]
    Unclaimed,
}

/// Replays. `pinned`: the event key as the reader got it from elsewhere.
pub(crate) fn replay(contents: &Contents, pinned: Option<&VerifierKey>) -> Result<Replayed, Untold> {
    let options = VerifyOptions {
        ledger_key: pinned.cloned(),
        ..VerifyOptions::default()
    };
    let mut audit = Excerpt::default();
    let mut log = Log::new(&options, std::iter::empty());
    log.excerpt = Some(contents.redacted().collect::<BTreeSet<_>>());
    let mut decisions: Vec<Decision> = Vec::new();
    let mut decided = BTreeMap::new();
    let mut key: Option<OrderKey> = None;
    for stored in contents.stored() {
        let seq = u64::try_from(stored.seq).unwrap_or(0);
        let taken = log.take(Prepared::new(stored), &mut audit.findings, &mut audit.checked)?;
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
        note_decided(audit.fold.as_deref(), decisions.last(), &mut decided);
    }
    let rest = audit.joiner.end();
    decisions.extend(rest.ready.clone());
    audit.judge(rest, &log);
    audit.settle_owing(None);
    log.pin(&options, &mut audit.findings);
    log.erasures.untold(&mut audit.findings);
    let key = key.ok_or(Untold::NoOrder)?;
    let fold = *audit.fold.take().ok_or(Untold::Unborn)?;
    if fold.is_offer() {
        return Err(Untold::Unclaimed);
    }
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
    fold: Option<&OrderFold>,
    last: Option<&Decision>,
    decided: &mut BTreeMap<(CoinPub, RefundId), (u64, Micros)>,
) {
    let Some(decision) = last else { return };
    let Facts::ExchangeReplied(f) = &decision.event.facts else {
        return;
    };
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
    /// Whether a successor repeats it from the ledger before it.
    pub(crate) fn is_taken_over(&self, event: &Event) -> bool {
        self.decisions.first().is_some_and(|first| {
            let is_successor =
                matches!(&first.event.facts, Facts::LedgerOpened(f) if f.predecessor.is_some());
            is_successor && first.event.at_us == event.at_us
        })
    }

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
