//! A successor against the ledger that it says it continues: that the predecessor is the one named, that what was in
//! flight there stands here as it stood there, and that ids leap where something was lost. Reckons by itself what must
//! be carried in, and shares nothing with the code that carries it. Format: `docs/event-format.md`, "Successors".
//!
//! Whether the predecessor itself holds is for its own verification to say.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use quittance_events::copy::{Copy, CopyError, StoredEvent};
use quittance_events::facts::{AbortCoinState, Predecessor, Verdict};
use quittance_events::seal::{SALT_LEN, attachment_digest};
use quittance_events::{Event, Facts, OrderKey, RefundId};
use quittance_taler::{Amount, CoinPub, Digest32, EddsaSignature, Micros, Timestamp};
use quittance_tlog::{Frontier, leaf_hash};

use crate::Unusable;
use crate::case::named_amounts;
use crate::findings::{Draft, Findings};
use crate::fold::amount_of;
use crate::open::{self, Opened};
use crate::rules::{self, Rule};

/// A refund, but for its name.
type Terms = (Amount, Timestamp, EddsaSignature);
/// Names a refund of an order.
type Name = (CoinPub, RefundId);

/// What is repeated of an event: facts, and of each attachment a digest without salt.
struct Repeated {
    seq: u64,
    facts: Facts,
    attachments: BTreeMap<String, Option<Digest32>>,
}

impl Repeated {
    fn of(event: Event, stored: &StoredEvent) -> Repeated {
        let digest = |bytes: &Option<Vec<u8>>| {
            bytes
                .as_ref()
                .map(|bytes| attachment_digest(&[0; SALT_LEN], bytes))
        };
        let attachments = stored.attachments.iter();
        Repeated {
            seq: event.seq.get(),
            facts: event.facts,
            attachments: attachments.map(|a| (a.name.clone(), digest(&a.bytes))).collect(),
        }
    }

    fn is(&self, other: &Repeated) -> bool {
        // Of bytes that are erased on one side nothing can be said.
        let same = |(mine, other): (&Option<Digest32>, &Option<Digest32>)| {
            mine.is_none() || other.is_none() || mine == other
        };
        self.facts == other.facts
            && self.attachments.keys().eq(other.attachments.keys())
            && self
                .attachments
                .values()
                .zip(other.attachments.values())
                .all(same)
    }
}

/// An order, as one of the two ledgers has it.
#[derive(Default)]
struct Order {
    /// What is not a refund, in order.
    events: Vec<Repeated>,
    /// In order.
    refunds: Vec<(Name, Terms)>,
    /// The event of the first refund.
    refunds_at: Option<u64>,
    /// Permissions that may have been sent, and their amounts.
    sent: HashMap<Name, Amount>,
    /// What exchanges decided first.
    decided: HashMap<Name, Verdict>,
    wire_deadline_s: Option<Timestamp>,
}

impl Order {
    /// Takes in an event of the predecessor.
    fn take(&mut self, event: Event, stored: &StoredEvent) {
        match &event.facts {
            Facts::OrderRecorded(f) => self.wire_deadline_s = Some(f.wire_deadline_s),
            Facts::RefundCarriedIn(f) => {
                for row in &f.rows {
                    let name = (row.coin_pub, row.rtransaction_id);
                    self.refunds
                        .push((name, (row.amount, row.execution_s, row.merchant_sig)));
                    self.sent.insert(name, row.amount);
                }
            }
            Facts::RefundApproved(f) => {
                self.refunds.extend(f.rows.iter().map(|row| {
                    let name = (row.coin_pub, row.rtransaction_id);
                    (name, (row.amount, f.execution_s, row.merchant_sig))
                }));
            }
            Facts::RefundRequested(f) => {
                for row in &f.rows {
                    let name = (row.coin_pub, row.rtransaction_id);
                    let amount = self.refunds.iter().find(|(known, _)| *known == name);
                    self.sent.extend(amount.map(|(name, terms)| (*name, terms.0)));
                }
            }
            Facts::AbortRequested(f) => {
                let deposited = f
                    .coins
                    .iter()
                    .filter(|coin| coin.state == AbortCoinState::Deposited);
                let amounts =
                    deposited.filter_map(|coin| Some(((coin.coin_pub, RefundId::ABORT), coin.amount?)));
                self.sent.extend(amounts);
            }
            Facts::AbortExtended(f) => {
                let coins = f.coins.iter();
                self.sent
                    .extend(coins.map(|coin| ((coin.coin_pub, RefundId::ABORT), coin.amount)));
            }
            Facts::ExchangeReplied(f) if f.verdict.is_conclusive() => {
                self.decided
                    .entry((f.coin_pub, f.rtransaction_id))
                    .or_insert(f.verdict);
            }
            _ => {}
        }
        let is_repeated = match &event.facts {
            Facts::OrderRecorded(_)
            | Facts::DepositRecorded(_)
            | Facts::PaymentCompleted(_)
            | Facts::AbortRequested(_)
            | Facts::AbortExtended(_) => true,
            Facts::ExchangeReplied(f) => {
                let name = (f.coin_pub, f.rtransaction_id);
                f.rtransaction_id == RefundId::ABORT
                    && f.verdict == Verdict::Refused
                    && self.decided.get(&name) == Some(&Verdict::Refused)
            }
            _ => false,
        };
        if is_repeated {
            self.events.push(Repeated::of(event, stored));
        }
    }

    /// Takes in an event of the successor's takeover.
    fn take_over(&mut self, event: Event, stored: &StoredEvent) {
        let Facts::RefundCarriedIn(f) = &event.facts else {
            self.events.push(Repeated::of(event, stored));
            return;
        };
        self.refunds_at.get_or_insert(event.seq.get());
        self.refunds.extend(f.rows.iter().map(|row| {
            let name = (row.coin_pub, row.rtransaction_id);
            (name, (row.amount, row.execution_s, row.merchant_sig))
        }));
    }

    /// Amounts that may have been sent and that no exchange has decided.
    fn undecided(&self) -> impl Iterator<Item = Amount> {
        self.sent
            .iter()
            .filter(|(name, _)| !self.decided.contains_key(*name))
            .map(|(_, amount)| *amount)
    }

    /// Whether a successor must have it, whatever was lost.
    fn in_flight(&self, at: Micros) -> bool {
        self.wire_deadline_s.is_some_and(|deadline| !at.is_past(deadline))
            || self.undecided().next().is_some()
    }

    /// All amounts that its refunds and aborts name.
    fn named(&self) -> Vec<Amount> {
        let aborts = self
            .events
            .iter()
            .filter(|event| matches!(event.facts, Facts::AbortRequested(_) | Facts::AbortExtended(_)));
        let refunds = self.refunds.iter().map(|(_, terms)| terms.0);
        refunds
            .chain(aborts.flat_map(|event| named_amounts(&event.facts)))
            .collect()
    }
}

type Orders = BTreeMap<OrderKey, Order>;

/// The predecessor as its file has it.
struct Old {
    origin: Option<String>,
    generation: u64,
    /// Events in the file.
    count: u64,
    /// Root at the size that is named; nothing where the file holds fewer events.
    root: Option<Digest32>,
    /// As of that size.
    orders: Orders,
}

impl Old {
    fn read(copy: &Copy, size: u64) -> Result<Old, CopyError> {
        let mut frontier = Frontier::default();
        let mut old = Old {
            origin: None,
            generation: 0,
            count: 0,
            root: None,
            orders: Orders::new(),
        };
        copy.walk::<CopyError>(|item| {
            let Ok(stored) = item else { return Ok(()) };
            old.count += 1;
            if old.count > size {
                return Ok(());
            }
            frontier.push(leaf_hash(&[stored.sealed.as_slice(), &stored.signature].concat()));
            if old.count == size {
                old.root = Some(Digest32::from_bytes(frontier.root().0));
            }
            // What cannot be read is a finding of the predecessor's own verification.
            let Ok(event) = Event::parse(&stored.sealed) else {
                return Ok(());
            };
            match (&event.facts, event.order_key()) {
                (Facts::LedgerOpened(genesis), _) if old.count == 1 => {
                    old.generation = genesis
                        .predecessor
                        .as_ref()
                        .and_then(|p| p.generation)
                        .unwrap_or(0);
                    old.origin = Some(genesis.origin.clone());
                }
                (_, Some(key)) => old.orders.entry(key).or_default().take(event, &stored),
                _ => {}
            }
            Ok(())
        })?;
        Ok(old)
    }
}

/// Ends the walk over the successor where its takeover ends.
enum Stop {
    Over,
    Damaged(CopyError),
}

impl From<CopyError> for Stop {
    fn from(error: CopyError) -> Stop {
        Stop::Damaged(error)
    }
}

/// Orders as the takeover recorded them, and its time: the events after the genesis that bear its time, up to the first
/// instance that is opened.
fn taken_over(copy: &Copy) -> Result<(Orders, Option<Micros>), CopyError> {
    let (mut orders, mut at) = (Orders::new(), None);
    let walked = copy.walk::<Stop>(|item| {
        let Ok(stored) = item else { return Ok(()) };
        let Ok(event) = Event::parse(&stored.sealed) else {
            return Ok(());
        };
        if event.at_us != *at.get_or_insert(event.at_us) || matches!(event.facts, Facts::InstanceAdded(_)) {
            return Err(Stop::Over);
        }
        if let Some(key) = event.order_key() {
            orders.entry(key).or_default().take_over(event, &stored);
        }
        Ok(())
    });
    match walked {
        Err(Stop::Damaged(error)) => Err(error),
        Ok(()) | Err(Stop::Over) => Ok((orders, at)),
    }
}

/// Compares a ledger with the predecessor that its first event names, as far as one is given.
pub(crate) fn check(
    copy: &Copy,
    named: Option<&Predecessor>,
    given: Option<&Path>,
    findings: &mut Findings,
) -> Result<(), Unusable> {
    let (named, path) = match (named, given) {
        (None, None) => return Ok(()),
        (None, Some(_)) => {
            let text = "the first event names no predecessor, and one was given";
            tell(findings, Draft::new(&rules::TAKEOVER_PREDECESSOR, 1, text));
            return Ok(());
        }
        (Some(named), None) => {
            findings.note(
                Some(1),
                None,
                format!(
                    "it continues {} after {} events; the predecessor was not looked at: `--predecessor` compares them",
                    named.origin, named.size
                ),
            );
            return Ok(());
        }
        (Some(named), Some(path)) => (named, path),
    };
    let unreadable = |findings: &mut Findings, why: &str| {
        let text = format!("the predecessor that was given cannot be read: {why}");
        tell(findings, Draft::new(&rules::TAKEOVER_PREDECESSOR, 1, text));
    };
    let old = match open::open(path)? {
        Opened::Damaged(why) => {
            unreadable(findings, &why);
            return Ok(());
        }
        Opened::Readable { copy: old, .. } => Old::read(&old, named.size),
    };
    let old = match old {
        Ok(old) => old,
        Err(error) => {
            unreadable(findings, &error.to_string());
            return Ok(());
        }
    };
    if !is_named(named, &old, findings) {
        return Ok(());
    }
    generation(named, &old, findings);
    match taken_over(copy) {
        Ok((orders, Some(at))) => compare(&old, &orders, at, findings),
        // That the ledger itself cannot be read is told by then.
        Ok((_, None)) | Err(_) => {}
    }
    Ok(())
}

/// Whether the predecessor is the one that is named. Where it is not, there is nothing to compare.
fn is_named(named: &Predecessor, old: &Old, findings: &mut Findings) -> bool {
    let (what, expected, found) = if old.origin.as_deref() != Some(named.origin.as_str()) {
        let found = old.origin.clone().unwrap_or_default();
        (
            "the predecessor that was given has another name",
            named.origin.clone(),
            found,
        )
    } else if old.count < named.size {
        let (expected, found) = (named.size.to_string(), old.count.to_string());
        (
            "the predecessor that was given holds fewer events",
            expected,
            found,
        )
    } else if old.root != Some(named.root) {
        let found = old.root.map_or_else(String::new, |root| root.to_string());
        (
            "the predecessor that was given holds other events",
            named.root.to_string(),
            found,
        )
    } else {
        let text = format!(
            "it continues {} after {} events, and was compared with them; whether those hold, their own verification says",
            named.origin, named.size
        );
        findings.note(Some(1), None, text);
        return true;
    };
    let draft = Draft::new(&rules::TAKEOVER_PREDECESSOR, 1, what);
    tell(findings, draft.differs(expected, found));
    false
}

fn generation(named: &Predecessor, old: &Old, findings: &mut Findings) {
    let generation = named.generation.unwrap_or(0);
    let behind = old.count - named.size;
    let rule = &rules::TAKEOVER_GENERATION;
    if behind > 0 {
        let text = format!("{behind} events of the predecessor that was given were not taken over");
        findings.note(Some(1), None, text);
    }
    let draft = if generation != old.generation && Some(generation) != old.generation.checked_add(1) {
        let text = "the generation is neither the predecessor's nor the next";
        let expected = format!("{} or {}", old.generation, old.generation.saturating_add(1));
        Draft::new(rule, 1, text).differs(expected, generation)
    } else if behind > 0 && generation == old.generation {
        let text = "events of the predecessor were not taken over, and the generation is not raised: their ids may be used again";
        Draft::new(rule, 1, text).differs(old.generation.saturating_add(1), generation)
    } else {
        return;
    };
    tell(findings, draft);
}

fn tell(findings: &mut Findings, draft: Draft) {
    // What rests on events in doubt follows from them.
    let cause = findings.place_at(1).or(findings.all_orders);
    findings.add(draft, cause);
}

fn compare(old: &Old, new: &Orders, at: Micros, findings: &mut Findings) {
    for (key, order) in new {
        match old.orders.get(key) {
            Some(was) => {
                contract(key, was, order, findings);
                refunds(key, was, order, findings);
            }
            None => {
                let seq = order.events.first().map(|event| event.seq).or(order.refunds_at);
                let draft = at_order(
                    &rules::TAKEOVER_ORDERS,
                    key,
                    seq,
                    "the predecessor has no such order",
                );
                tell(findings, draft.stake(order.named()));
            }
        }
    }
    let missing = old
        .orders
        .iter()
        .filter(|(key, was)| !new.contains_key(*key) && was.in_flight(at));
    for (key, was) in missing {
        let text = "the order was in flight, and is not carried in";
        let draft = at_order(&rules::TAKEOVER_ORDERS, key, None, text);
        tell(findings, draft.stake(was.undecided()));
    }
}

fn at_order(rule: &'static Rule, key: &OrderKey, seq: Option<u64>, text: impl Into<String>) -> Draft {
    let draft = match seq {
        Some(seq) => Draft::new(rule, seq, text),
        None => Draft::of_file(rule, text),
    };
    draft.of(Some(key))
}

/// Contract, deposits, aborts and payment, event by event.
fn contract(key: &OrderKey, was: &Order, is: &Order, findings: &mut Findings) {
    let longer = was.events.len().max(is.events.len());
    let differing = (0..longer).find(|&place| match (was.events.get(place), is.events.get(place)) {
        (Some(was), Some(is)) => !is.is(was),
        _ => true,
    });
    let Some(place) = differing else { return };
    let (was, found) = (was.events.get(place), is.events.get(place));
    let describe = |event: Option<&Repeated>| {
        event.map_or_else(
            || "none".to_owned(),
            |event| format!("{} {}", event.facts.kind(), shown(event)),
        )
    };
    let seq = found.or(is.events.last()).map(|event| event.seq);
    let text = "what is carried in of the order is not what the predecessor has";
    let draft = at_order(&rules::TAKEOVER_CONTRACT, key, seq, text)
        .differs(describe(was), describe(found))
        .stake(
            found
                .or(was)
                .map(|event| named_amounts(&event.facts))
                .unwrap_or_default(),
        );
    tell(findings, draft);
}

/// An event's amounts in words; of others their number in the ledger.
fn shown(event: &Repeated) -> String {
    let amounts: Vec<String> = named_amounts(&event.facts)
        .iter()
        .map(ToString::to_string)
        .collect();
    if amounts.is_empty() {
        format!("(event {} of its ledger)", event.seq)
    } else {
        format!("of {} (event {} of its ledger)", amounts.join(", "), event.seq)
    }
}

/// Refunds, row by row.
fn refunds(key: &OrderKey, was: &Order, is: &Order, findings: &mut Findings) {
    if was.refunds == is.refunds {
        return;
    }
    let (before, after): (BTreeMap<Name, Terms>, BTreeMap<Name, Terms>) = (
        was.refunds.iter().copied().collect(),
        is.refunds.iter().copied().collect(),
    );
    let mut stake = Vec::new();
    let mut told = Vec::new();
    for (name, (amount, ..)) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
        told.push(format!("coin {}, id {} is missing", name.0, name.1));
        stake.push(*amount);
    }
    for (name, terms) in &after {
        let what = match before.get(name) {
            Some(known) if known == terms => continue,
            Some(known) if known.0 != terms.0 && known.0.currency() == terms.0.currency() => {
                stake.push(amount_of(
                    terms.0.currency(),
                    known.0.units().abs_diff(terms.0.units()),
                ));
                "has another amount"
            }
            Some(_) => {
                stake.push(terms.0);
                "differs"
            }
            None => {
                stake.push(terms.0);
                "is not the predecessor's"
            }
        };
        told.push(format!("coin {}, id {} {what}", name.0, name.1));
    }
    if told.is_empty() {
        told.push("they stand in another order, or one stands twice".to_owned());
    }
    let seq = is.refunds_at.or_else(|| is.events.last().map(|event| event.seq));
    let text = format!(
        "refunds are carried in otherwise than the predecessor has them: {}",
        told.join("; ")
    );
    let draft = at_order(&rules::TAKEOVER_REFUNDS, key, seq, text).differs(
        format!("{} refunds", was.refunds.len()),
        format!("{} refunds", is.refunds.len()),
    );
    tell(findings, draft.stake(stake));
}
