//! Judges a decision in its order: which rules look at which kind, and what the order's state is afterwards. The
//! same code folds a state anew that was dropped to save memory; it tells nothing then.

use std::collections::BTreeMap;

use quittance_events::copy::{Copy, CopyError};
use quittance_events::{AttachmentName, Event, Facts, OrderKey};
use quittance_taler::MasterPub;

use crate::accounts::Accounts;
use crate::case::{Case, SigningKeys, named_amounts};
use crate::findings::{Findings, Mark, Marks};
use crate::fold::OrderFold;
use crate::instances::{self, Instances};
use crate::parts::{Attachment, Decision, Joiner};
use crate::prepare;
use crate::report::Checked;
use crate::{aborts, answers, approvals, deposits, exchange, orders, owed, rules, selling, webhooks};

/// What the rules of an order need to know of the ledger.
#[derive(Clone, Copy)]
pub(crate) struct Ledger {
    /// The last clock correction.
    pub(crate) epoch: u64,
    /// How often events were lost on the way to this ledger.
    pub(crate) generation: u64,
    /// What is recorded here was recorded in the ledger before this one.
    pub(crate) taking_over: bool,
}

/// Judges a decision; `fold` is the order's state before and after, none before the order is recorded.
pub(crate) fn judge(
    fold: &mut Option<Box<OrderFold>>,
    told_unborn: &mut bool,
    ledger: Ledger,
    case: &mut Case,
) {
    let decision = case.decision;
    let (first, last, at) = (decision.first(), decision.last, decision.event.at_us);
    let facts = &decision.event.facts;
    let Some(order) = fold else {
        if let Facts::OrderRecorded(terms) = facts {
            if !case.is_again {
                orders::recorded(terms, case);
                instances::judge(&terms.merchant_pub, terms.amount, ledger, case);
            }
            let key = case.key.clone();
            *fold = Some(Box::new(OrderFold::new(key, terms.clone(), first, at)));
        } else if let Facts::OrderCreated(f) = facts {
            let sale = selling::created(f, ledger, case);
            let key = case.key.clone();
            *fold = Some(Box::new(OrderFold::offered(key, sale, first, at)));
        } else if !*told_unborn {
            *told_unborn = true;
            let draft = case
                .draft(
                    &rules::ORDER_BEGIN,
                    format!("a {} before the order is recorded", facts.kind()),
                )
                .stake(named_amounts(facts));
            case.find(draft, &[], &[Mark::Whole]);
        }
        return;
    };
    // A clock correction starts the comparison anew.
    if at < order.last_at && order.last > ledger.epoch {
        let draft = case
            .draft(
                &rules::LOG_TIME,
                "it lies before the event before it of the same order",
            )
            .differs(format!("at least {}", order.last_at.get()), at.get())
            .stake(named_amounts(facts));
        case.find(draft, &[], &[]);
    }
    if let Some((rule, text)) = selling::misplaced(order, facts) {
        let draft = case.draft(rule, text).stake(named_amounts(facts));
        case.find(draft, &[Mark::Terms], &[]);
    }
    let by = match facts {
        Facts::PaymentCompleted(f) => f.by.as_ref(),
        Facts::AbortExtended(f) => f.by.as_ref(),
        _ => None,
    };
    if let (Some(by), true) = (by, order.sale.is_some()) {
        let text = format!("it names the token {by}, and what is sold here no token pays or gives back");
        let draft = case.draft(&rules::TOKEN_KNOWN, text).stake(named_amounts(facts));
        case.find(draft, &[], &[]);
    }
    by_kind(order, facts, ledger, case);
    webhooks::note_cause(order, facts, first);
    order.advance(first, last, at, facts.moves_order());
}

/// The rules of an event's kind.
fn by_kind(order: &mut OrderFold, facts: &Facts, ledger: Ledger, case: &mut Case) {
    match facts {
        Facts::OrderRecorded(terms) if order.is_offer() => selling::recorded(order, terms, case),
        // Without a contract there is nothing that these could be held against.
        _ if order.is_offer() && !matches!(facts, Facts::OrderDeleted(_) | Facts::AttachmentErased(_)) => {}
        Facts::OrderRecorded(terms) => {
            let draft = case
                .draft(&rules::ORDER_BEGIN, "the order is recorded already")
                .stake([terms.amount]);
            case.find(draft, &[], &[]);
        }
        Facts::OrderCreated(f) => {
            let draft = case
                .draft(&rules::ORDER_BEGIN, "an offer of an order that there is")
                .stake([f.amount]);
            case.find(draft, &[], &[]);
        }
        Facts::OrderClaimed(f) => selling::claimed(order, f, case),
        Facts::OrderDeleted(_) => selling::deleted(order, case),
        Facts::TermsForgotten(_) => selling::forgotten(order, case),
        Facts::SessionPaid(_) => selling::session(order, case),
        Facts::DepositRequested(f) => deposits::requested(order, f, ledger, case),
        Facts::DepositReplied(f) => deposits::replied(order, f, case),
        Facts::DepositUnreached(f) => deposits::unreached(order, f, case),
        Facts::DepositRecorded(f) => orders::deposited(order, f, ledger, case),
        Facts::PaymentCompleted(f) => orders::paid(order, f, ledger, case),
        Facts::RefundCarriedIn(f) => approvals::carried_in(order, f, ledger, case),
        Facts::RefundApproved(f) => approvals::approved(order, f, ledger.generation, case),
        Facts::RefundRequested(f) => approvals::requested(order, f, case),
        Facts::AbortRequested(f) => aborts::requested(order, f, ledger, case),
        Facts::AbortExtended(f) => aborts::extended(order, f, ledger, case),
        Facts::AbortRefused(f) => aborts::refused(order, f, case),
        Facts::ExchangeReplied(f) => exchange::replied(order, f, case),
        Facts::ExchangeUnreached(f) => exchange::unreached(order, f, case),
        Facts::RefundAnswered(f) => answers::refund(order, f, case),
        Facts::AbortAnswered(f) => answers::abort(order, f, case),
        Facts::RefundDelivered(f) => answers::delivered(order, f, case),
        Facts::AttachmentErased(f) => order.erased(f.seq.get(), f.name),
        Facts::WebhookDelivered(f) => webhooks::delivered(order, f, case),
        Facts::WebhookGivenUp(f) => webhooks::given_up(order, f, case),
        // Of no order: the form of the event is told of by the log's rules.
        Facts::LedgerOpened(_)
        | Facts::InstanceAdded(_)
        | Facts::InstanceClosed(_)
        | Facts::ExchangeKeysSeen(_)
        | Facts::ClockCorrected(_)
        | Facts::LedgerKeyRotated(_)
        | Facts::TokenAdded(_)
        | Facts::TokenRevoked(_)
        | Facts::FormatRaised(_)
        | Facts::AccountAdded(_)
        | Facts::AccountClosed(_) => {}
    }
}

/// What a state that is folded anew must not touch: findings and counts were told when it was folded first.
pub(crate) struct Again<'a> {
    pub(crate) key: &'a OrderKey,
    pub(crate) signing_keys: &'a SigningKeys,
    pub(crate) exchange_keys: &'a [MasterPub],
    pub(crate) accounts: &'a Accounts,
    pub(crate) instances: &'a Instances,
    pub(crate) ledger: Ledger,
}

impl Again<'_> {
    /// Reads the order's events once more, and folds them.
    ///
    /// # Errors
    /// An event that was read before cannot be read any more.
    pub(crate) fn fold(&self, copy: &Copy, seqs: &[i64]) -> Result<Option<Box<OrderFold>>, CopyError> {
        let mut fold = None;
        let mut findings = Findings::default();
        let mut checked = Checked::default();
        let mut joiner = Joiner::default();
        for seq in seqs {
            let pushed = match read(copy, *seq)? {
                Some(decision) => joiner.push(decision),
                None => joiner.end(),
            };
            for decision in pushed.ready {
                self.judge(&mut fold, &decision, &mut findings, &mut checked);
            }
        }
        for decision in joiner.end().ready {
            self.judge(&mut fold, &decision, &mut findings, &mut checked);
        }
        Ok(fold)
    }

    fn judge(
        &self,
        fold: &mut Option<Box<OrderFold>>,
        decision: &Decision,
        findings: &mut Findings,
        checked: &mut Checked,
    ) {
        if let Some(order) = fold {
            let _told_before = owed::left_before(order, decision);
        }
        let mut case = Case {
            decision,
            key: self.key,
            findings,
            marks: &mut Marks::default(),
            checked,
            money: &mut BTreeMap::new(),
            signing_keys: self.signing_keys,
            exchange_keys: self.exchange_keys,
            accounts: self.accounts,
            instances: self.instances,
            is_again: true,
        };
        judge(fold, &mut true, self.ledger, &mut case);
    }
}

/// An event that was judged before, for its order's state alone; nothing where its bytes are none. Of attachments only
/// an exchange's reply, contract terms and a wallet's request for deposits make a state; no kind has two of them.
fn read(copy: &Copy, seq: i64) -> Result<Option<Decision>, CopyError> {
    let bare = copy
        .events_after(seq - 1, 1)?
        .pop()
        .filter(|stored| stored.seq == seq);
    let Some(bare) = bare else {
        return Err(CopyError::Damaged(format!("event {seq} is gone")));
    };
    let Ok(event) = Event::parse(&bare.sealed) else {
        return Ok(None);
    };
    let is_payment = matches!(event.facts, Facts::DepositRequested(_));
    let makes_state = |name: &&AttachmentName| match name {
        AttachmentName::Reply | AttachmentName::Terms => true,
        AttachmentName::Body => is_payment,
        _ => false,
    };
    let mut attachments = BTreeMap::new();
    if let Some(name) = event.attachments.keys().find(makes_state) {
        let stored = copy
            .event(seq)?
            .map_or_else(Vec::new, |stored| stored.attachments);
        let stored = stored.into_iter().find(|row| row.name == name.as_str());
        let held = match stored.map(prepare::hashed) {
            Some((row, hashed)) if hashed.as_ref() == event.attachments.get(name) => {
                let longest = prepare::longest(*name).unwrap_or(usize::MAX);
                let usable = row.bytes.filter(|bytes| bytes.len() <= longest);
                usable.map(Attachment::Bytes)
            }
            _ => None,
        };
        attachments.insert(*name, held.unwrap_or(Attachment::Gone));
    }
    Ok(Some(Decision {
        row: seq,
        last: event.seq.get(),
        event,
        attachments,
        root: None,
    }))
}
