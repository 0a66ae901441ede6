//! A successor against the ledger that it says it continues: that the predecessor is the one named, that what was in
//! flight there stands here as it stood there, and that ids leap where something was lost. Reckons by itself what must
//! be carried in, and shares nothing with the code that carries it. Format: `docs/event-format.md`, "Successors".
//!
//! Whether the predecessor itself holds is for its own verification to say.

use std::collections::BTreeMap;
use std::path::Path;

use quittance_events::OrderKey;
use quittance_events::copy::Copy;
use quittance_events::facts::Predecessor;
use quittance_taler::Micros;

use crate::Unusable;
use crate::carried::{Name, Old, Order, Orders, Repeated, Terms, taken_over};
use crate::case::named_amounts;
use crate::findings::{Draft, Findings};
use crate::fold::amount_of;
use crate::open::{self, Opened};
use crate::rules::{self, Rule};

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
    let (orders, at) = match taken_over(copy) {
        Ok((orders, Some(at))) => (orders, at),
        Ok((_, None)) => (Orders::new(), Micros::from_s(0).expect("zero is a time")),
        Err(error) => {
            let draft = Draft::of_file(&rules::LOG_FILE, error.to_string());
            tell(findings, draft);
            return Ok(());
        }
    };
    let old = match open::open(path)? {
        Opened::Damaged(why) => {
            unreadable(findings, &why);
            return Ok(());
        }
        Opened::Readable { copy: old, .. } => Old::read(&old, named.size, &orders),
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
    compare(&old, &orders, at, findings);
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
