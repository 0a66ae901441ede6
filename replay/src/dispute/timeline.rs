//! Events in words, and whose word each of them is.

use std::collections::HashMap;

use quittance_events::facts::{Authority, ExchangeKeysSeen, KeyRole, LedgerKeyRotated, Verdict};
use quittance_events::{AttachmentName, Event, Facts, RefundId, seal};
use quittance_taler::{CoinPub, EddsaSignature, message};
use serde_json::Value;

use crate::approvals::merchant_signed;
use crate::keys::vkey;
use crate::story::{Amounts, second, time, told};

use super::contents::{Absence, Contents, Item, attachment_file};
use super::limits::REASON_SHOWN_MAX;
use super::replayed::Replayed;
use super::report::{AttachmentPart, AttachmentState, EventPart, Standing};

/// How to read a standing, for the report.
pub(crate) fn standing_rule() -> Vec<String> {
    [
        "proven: it follows from a signature of another party than the shop, which was verified: an exchange's \
         confirmation, followed from the contract's exchanges over the master key and the signing key to the reply; \
         an exchange's keys, signed by its master key; a coin's permission to deposit it; or from the merchant's own \
         signature where it speaks against the merchant: a contract, a permission to refund.",
        "claimed: only the shop's word. The ledger key signed it, so that the shop cannot take it back; nobody else \
         vouches for it. The time of every event is the shop's word.",
        "erased: the shop's word about bytes that are erased from the ledger, so that nobody can compare them any more.",
    ]
    .map(ToOwned::to_owned)
    .to_vec()
}

/// The order's events, and those of the ledger or the instance that they rest on.
pub(crate) fn events(contents: &Contents, replayed: &Replayed) -> (Vec<EventPart>, Vec<EventPart>) {
    let mut amounts: Amounts = HashMap::new();
    let mut timeline = Vec::new();
    let mut context = Vec::new();
    for (seq, item) in &contents.events {
        // Replaying read them all.
        let Ok(event) = Event::parse(&item.sealed) else {
            continue;
        };
        let is_orders = event.order_key().as_ref() == Some(&replayed.key);
        let (standing, because) = standing(&event, *seq, item, replayed);
        let part = EventPart {
            seq: *seq,
            at: time(event.at_us),
            kind: event.facts.kind().to_owned(),
            sentence: sentence(&event, &mut amounts),
            standing,
            because,
            digest: seal::event_digest(&item.sealed).to_string(),
            facts: fact_lines(&event.facts_value()),
            attachments: attachments(&event, *seq, item),
        };
        if is_orders {
            timeline.push(part);
        } else {
            context.push(part);
        }
    }
    (timeline, context)
}

fn sentence(event: &Event, amounts: &mut Amounts) -> String {
    let text = match &event.facts {
        Facts::LedgerOpened(f) => format!("the ledger {} was opened", f.origin),
        Facts::InstanceAdded(f) => format!(
            "the instance of the merchant {} was opened at {}",
            f.merchant_pub, f.base_url
        ),
        Facts::InstanceClosed(f) => format!("the instance of the merchant {} was closed", f.merchant_pub),
        Facts::ExchangeKeysSeen(f) => {
            format!(
                "the exchange {} told of {} signing keys at {}",
                f.master_pub,
                f.signkeys.len(),
                f.url
            )
        }
        Facts::ClockCorrected(f) => {
            format!(
                "the operator put the clock from {} to {}",
                time(f.from_us),
                time(f.to_us)
            )
        }
        Facts::AccountAdded(f) => format!("the account {} was added to the instance", f.h_wire),
        Facts::AccountClosed(f) => format!("the account {} was closed", f.h_wire),
        Facts::FormatRaised(f) => format!("the event format was raised to version {}", f.version),
        Facts::LedgerKeyRotated(f) => rotated(&event.ledger, f),
        _ => told(event, amounts),
    };
    match event.facts.part() {
        Some(part) => format!("{text} (part {} of {})", part.0, part.1),
        None => text,
    }
}

fn rotated(origin: &str, f: &LedgerKeyRotated) -> String {
    let what = match f.role {
        KeyRole::Event => "signs events from this one on",
        KeyRole::Checkpoint => "signs checkpoints from this size on",
    };
    let by = match f.authorised_by {
        Authority::EventKey => "the event key in force before",
        Authority::RecoveryKey => "the recovery key",
    };
    let new = vkey(origin, &f.new_key).map_or_else(|| f.new_key.to_string(), |key| key.to_string());
    format!("the ledger's key was rotated: {new} {what}, authorised by {by}")
}

fn standing(event: &Event, seq: u64, item: &Item, replayed: &Replayed) -> (Standing, String) {
    let proven = |because: &str| (Standing::Proven, because.to_owned());
    let signed =
        |rows: &mut dyn Iterator<Item = (CoinPub, RefundId, quittance_taler::Amount, EddsaSignature)>| {
            let mut rows = rows.peekable();
            rows.peek().is_some()
                && rows.all(|(coin, id, amount, signature)| {
                    merchant_signed(&replayed.fold, (&coin, id), &amount, &signature)
                })
        };
    // A successor only repeats what the ledger before it had confirmed.
    let is_sold = replayed.fold.sale.is_some() && !replayed.is_taken_over(event);
    let permitted = match &event.facts {
        Facts::ExchangeKeysSeen(f) if master_signed(f) => {
            return proven("the exchange's master key signed these keys");
        }
        Facts::ExchangeReplied(f)
            if f.verdict == Verdict::Confirmed && !replayed.is_found(seq, "exchange.") =>
        {
            return proven("the exchange's signing key confirmed it, and its master key signed that key");
        }
        Facts::DepositReplied(f)
            if f.verdict == Verdict::Confirmed && !replayed.is_found(seq, "deposit.") =>
        {
            return proven(
                "the exchange's signing key confirmed the deposits, and its master key signed that key",
            );
        }
        Facts::DepositRecorded(f)
            if is_sold && f.exchange_sig.is_some() && !replayed.is_found(seq, "deposit.") =>
        {
            return proven(
                "the exchange's signing key confirmed the deposit, and its master key signed that key",
            );
        }
        Facts::DepositRequested(_) if !replayed.is_found(seq, "deposit.signature") => {
            return proven("each coin signed its deposit for this contract");
        }
        Facts::OrderClaimed(_) if !replayed.is_found(seq, "order.claimed") => {
            return proven("the merchant's key signed the contract, against the merchant");
        }
        Facts::RefundApproved(f) => signed(
            &mut f
                .rows
                .iter()
                .map(|r| (r.coin_pub, r.rtransaction_id, r.amount, r.merchant_sig)),
        ),
        Facts::RefundCarriedIn(f) => signed(
            &mut f
                .rows
                .iter()
                .map(|r| (r.coin_pub, r.rtransaction_id, r.amount, r.merchant_sig)),
        ),
        Facts::AbortExtended(f) => signed(
            &mut f
                .coins
                .iter()
                .map(|r| (r.coin_pub, RefundId::ABORT, r.amount, r.merchant_sig)),
        ),
        Facts::AbortRequested(f) => signed(
            &mut f
                .coins
                .iter()
                .filter_map(|r| Some((r.coin_pub, RefundId::ABORT, r.amount?, r.merchant_sig?))),
        ),
        _ => false,
    };
    if permitted {
        return proven("the merchant's key signed each permission in it, against the merchant");
    }
    if item
        .attachments
        .values()
        .any(|held| held.absence == Some(Absence::Erased))
    {
        return (
            Standing::Erased,
            "the shop's word; the bytes behind it are erased".to_owned(),
        );
    }
    let because = match &event.facts {
        Facts::OrderRecorded(_) => "the shop's word; who holds the contract can compare its hash",
        Facts::DepositRecorded(f) if f.exchange_sig.is_some() || f.coin_sig.is_some() => {
            "the shop's word; the signatures that it recorded of it are not verified here"
        }
        Facts::ExchangeReplied(_) | Facts::DepositReplied(_) => {
            "the shop's word: an exchange does not sign such a reply"
        }
        Facts::RefundAnswered(_) | Facts::AbortAnswered(_) => {
            "the shop's word; a receipt that a wallet kept binds it"
        }
        _ => "the shop's word",
    };
    (Standing::Claimed, because.to_owned())
}

fn master_signed(f: &ExchangeKeysSeen) -> bool {
    f.signkeys.iter().all(|key| {
        let message = message::signing_key_validity(key.start_s, key.expire_s, key.end_s, &key.key);
        f.master_pub.verify(&message, &key.master_sig)
    })
}

/// Facts as lines: a value a line, an entry of a list a line.
fn fact_lines(facts: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let Value::Object(members) = facts else {
        return lines;
    };
    for (name, value) in members {
        match value {
            Value::Array(entries) if name != "part" => {
                for (index, entry) in entries.iter().enumerate() {
                    lines.push(format!("{name}[{}]: {}", index + 1, flat("", entry)));
                }
            }
            value => lines.push(format!("{name}: {}", flat(name, value))),
        }
    }
    lines
}

fn flat(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            let plain = number.to_string();
            let seconds = name.ends_with("_s").then(|| number.as_u64()).flatten();
            let micros = name.ends_with("_us").then(|| number.as_u64()).flatten();
            let told = seconds
                .and_then(|s| quittance_taler::Timestamp::from_s(s).ok())
                .map(second)
                .or_else(|| {
                    micros
                        .and_then(|us| quittance_taler::Micros::new(us).ok())
                        .map(time)
                });
            told.map_or(plain.clone(), |told| format!("{plain} ({told})"))
        }
        Value::Object(members) => {
            let parts: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name} {}", flat(name, value)))
                .collect();
            parts.join(", ")
        }
        Value::Array(entries) => {
            let parts: Vec<String> = entries.iter().map(|entry| flat("", entry)).collect();
            parts.join(" of ")
        }
        other => other.to_string(),
    }
}

fn attachments(event: &Event, seq: u64, item: &Item) -> Vec<AttachmentPart> {
    event
        .attachments
        .iter()
        .map(|(name, digest)| {
            let held = item.attachments.get(name.as_str());
            let bytes = held.and_then(|held| held.bytes.as_ref());
            let state = match held.map(|held| (held.absence, &held.salt, &held.bytes)) {
                Some((Some(Absence::Redacted), ..)) => AttachmentState::Redacted,
                Some((Some(Absence::Erased), ..)) => AttachmentState::Erased,
                Some((None, Some(salt), Some(bytes))) => {
                    let matches = seal::Salt::try_from(salt.as_slice())
                        .is_ok_and(|salt| seal::attachment_digest(&salt, bytes) == *digest);
                    if matches {
                        AttachmentState::Included
                    } else {
                        AttachmentState::Differs
                    }
                }
                _ => AttachmentState::Missing,
            };
            let is_read = *name == AttachmentName::Reason && state == AttachmentState::Included;
            let text = bytes
                .filter(|bytes| is_read && bytes.len() <= REASON_SHOWN_MAX)
                .and_then(|bytes| String::from_utf8(bytes.clone()).ok());
            AttachmentPart {
                name: name.as_str().to_owned(),
                state,
                digest: digest.to_string(),
                size: bytes.and_then(|bytes| u64::try_from(bytes.len()).ok()),
                file: bytes.map(|_| attachment_file(seq, name.as_str())),
                text,
            }
        })
        .collect()
}
