//! An order's story for people: one line an event, in order of time, with amounts and the state of what stands
//! behind it. It tells what is recorded and judges nothing; `verify` does.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use quittance_events::copy::{Copy, CopyError, StoredEvent};
use quittance_events::facts::{
    AbortCoinState, AbortRequested, ExchangeReplied, Failure, OrderRecorded, RefundAnswered, RefundApproved,
    RefundCarriedIn, Verdict,
};
use quittance_events::seal::attachment_digest;
use quittance_events::{Event, Facts, OrderKey, RefundId};
use quittance_taler::{Amount, CoinPub, Micros, Timestamp};

use crate::AsOf;
use crate::open::{self, Opened, Unusable};
use crate::prepare;

/// Characters of a coin's key that tell one coin of an order from another.
const COIN_SHOWN: usize = 8;

/// Tells the story of one order, up to a past state where one is given.
///
/// # Errors
/// The ledger is unusable, or has no such order, or had none then.
pub fn show(ledger: &Path, instance: &str, order: &str, as_of: Option<AsOf>) -> Result<String, Unusable> {
    let missing = || Unusable::NoSuchOrder(format!("{instance}/{order}"));
    let (Ok(instance_id), Ok(order_id)) = (instance.parse(), order.parse()) else {
        return Err(missing());
    };
    let key = OrderKey {
        instance: instance_id,
        order: order_id,
    };
    let damaged = |why: &dyn std::fmt::Display| Unusable::unreadable(ledger, why);
    let opened = open::open(ledger)?;
    let copy = match &opened {
        Opened::Damaged(why) => return Err(damaged(why)),
        Opened::Readable { copy, .. } => copy,
    };
    let last = as_of.map_or(Ok(i64::MAX), |as_of| as_of.last(copy))?;
    let events = events_of(copy, &key, last).map_err(|e| damaged(&e))?;
    if events.is_empty() {
        return Err(missing());
    }
    let mut story = format!("Order {key}\n");
    if as_of.is_some() {
        story = format!("Order {key}, as of event {last}\n");
    }
    let mut amounts = HashMap::new();
    for stored in &events {
        let at = line(stored, &mut amounts);
        let _ = writeln!(story, "{at}");
    }
    Ok(story)
}

/// The order's events up to this one, of all that there are: an index that lies leaves nothing out.
fn events_of(copy: &Copy, key: &OrderKey, last: i64) -> Result<Vec<StoredEvent>, CopyError> {
    let mut events = Vec::new();
    copy.walk::<CopyError>(|item| {
        if let Ok(stored) = item
            && stored.seq <= last
            && prepare::order_of(&stored.sealed).as_ref() == Some(key)
        {
            events.push(stored);
        }
        Ok(())
    })?;
    Ok(events)
}

fn line(stored: &StoredEvent, amounts: &mut Amounts) -> String {
    let event = match Event::parse(&stored.sealed) {
        Ok(event) => event,
        Err(e) => return format!("{:<27}  #{}  UNREADABLE: {e}", "", stored.seq),
    };
    let mut text = format!(
        "{}  #{}  {}",
        time(event.at_us),
        stored.seq,
        told(&event, amounts)
    );
    if let Some(part) = event.facts.part() {
        let _ = write!(text, " (part {} of {})", part.0, part.1);
    }
    for (name, digest) in &event.attachments {
        let row = stored.attachments.iter().find(|row| row.name == name.as_str());
        let state = match row.map(|row| (&row.salt, &row.bytes)) {
            None => "missing".to_owned(),
            Some((None, None)) => "erased".to_owned(),
            Some((Some(salt), Some(bytes))) => {
                let matches = <[u8; 32]>::try_from(salt.as_slice())
                    .is_ok_and(|salt| attachment_digest(&salt, bytes) == *digest);
                format!(
                    "{} bytes, {}",
                    bytes.len(),
                    if matches { "as sealed" } else { "NOT as sealed" }
                )
            }
            Some(_) => "damaged".to_owned(),
        };
        let _ = write!(text, " [{}: {state}]", name.as_str());
    }
    text
}

pub(crate) fn time(at: Micros) -> String {
    let micros = i64::try_from(at.get())
        .ok()
        .and_then(DateTime::<Utc>::from_timestamp_micros);
    micros.map_or_else(
        || format!("{} us", at.get()),
        |time| time.to_rfc3339_opts(SecondsFormat::Micros, true),
    )
}

pub(crate) fn second(time: Timestamp) -> String {
    let Some(seconds) = time.seconds() else {
        return "never".into();
    };
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0));
    time.map_or_else(
        || format!("{seconds} s"),
        |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
    )
}

fn coin(coin: &CoinPub) -> String {
    let text = coin.to_string();
    format!("coin {}", &text[..COIN_SHOWN])
}

fn list(rows: impl Iterator<Item = String>) -> String {
    rows.collect::<Vec<_>>().join(", ")
}

pub(crate) fn told(event: &Event, amounts: &mut Amounts) -> String {
    match &event.facts {
        Facts::OrderRecorded(f) => recorded(f),
        Facts::DepositRecorded(f) => format!(
            "deposit of {} with {} at {} (refund fee {})",
            f.amount_with_fee,
            coin(&f.coin_pub),
            f.exchange_url,
            f.refund_fee
        ),
        Facts::PaymentCompleted(f) => format!("paid: {} with {} coins", f.paid, f.coins.len()),
        Facts::RefundCarriedIn(f) => carried_in(f, amounts),
        Facts::RefundApproved(f) => approved(f, amounts),
        Facts::RefundRequested(f) => {
            let rows = f
                .rows
                .iter()
                .map(|row| permission(amounts, &row.coin_pub, row.rtransaction_id));
            format!("about to ask the exchange for the first time: {}", list(rows))
        }
        Facts::AbortRequested(f) => abort(f, amounts),
        Facts::AbortExtended(f) => {
            amounts.extend(
                f.coins
                    .iter()
                    .map(|row| ((row.coin_pub, RefundId::ABORT), row.amount)),
            );
            let coins = f
                .coins
                .iter()
                .map(|row| format!("{} of {}", row.amount, coin(&row.coin_pub)));
            format!("deposits that do not count are given back: {}", list(coins))
        }
        Facts::AbortRefused(f) => {
            format!(
                "abort of {} coins refused with {} (code {}): the order is paid",
                f.coins.len(),
                f.http_status,
                f.error_code
            )
        }
        Facts::ExchangeReplied(f) => replied(f, amounts),
        Facts::ExchangeUnreached(f) => {
            format!(
                "the exchange {} about {}, attempt {}",
                failure_word(f.failure),
                permission(amounts, &f.coin_pub, f.rtransaction_id),
                f.attempt
            )
        }
        Facts::RefundAnswered(f) => answered(f),
        Facts::AbortAnswered(f) => {
            let coins = f.coins.iter().map(|row| {
                let status = row
                    .exchange_status
                    .map_or_else(String::new, |status| format!(" {status}"));
                let kind = format!("{:?}", row.kind).to_lowercase();
                format!("{} {kind}{status}", coin(&row.coin_pub))
            });
            format!(
                "abort answered {} on the state of event {}: {}",
                f.http_status,
                f.as_of,
                list(coins)
            )
        }
        Facts::AttachmentErased(f) => {
            format!("attachment {} of event {} was erased", f.name.as_str(), f.seq)
        }
        Facts::RefundDelivered(f) => format!("the answer of event {} was delivered", f.answer),
        Facts::WebhookDelivered(f) => format!(
            "webhook {} was told of event {} ({}), attempt {}",
            f.webhook, f.of, f.http_status, f.attempt
        ),
        Facts::WebhookGivenUp(f) => {
            format!(
                "webhook {} could not be told of event {} in time",
                f.webhook, f.of
            )
        }
        other => sold(other).unwrap_or_else(|| format!("{}, which belongs to no order", other.kind())),
    }
}

fn recorded(f: &OrderRecorded) -> String {
    format!(
        "order recorded: {} of {}, refunds until {}, wire deadline {}",
        f.amount,
        second(f.timestamp_s),
        second(f.refund_deadline_s),
        second(f.wire_deadline_s)
    )
}

fn permission(amounts: &HashMap<(CoinPub, RefundId), Amount>, of: &CoinPub, id: RefundId) -> String {
    match amounts.get(&(*of, id)) {
        Some(amount) => format!("{amount} of {} (id {id})", coin(of)),
        None => format!("{} (id {id})", coin(of)),
    }
}

fn abort(f: &AbortRequested, amounts: &mut Amounts) -> String {
    let coins = f.coins.iter().map(|named| {
        let of = coin(&named.coin_pub);
        match (named.state, named.amount) {
            (AbortCoinState::Known, _) => format!("{of} is under abort already"),
            (AbortCoinState::Deposited, Some(amount)) => format!("{amount} of {of} goes back"),
            (AbortCoinState::Asked, Some(amount)) => {
                format!("{amount} of {of} goes back if the exchange took it")
            }
            _ => format!("{of} was not deposited"),
        }
    });
    let text = format!("abort accepted: {}", list(coins));
    amounts.extend(
        f.coins
            .iter()
            .filter_map(|named| Some(((named.coin_pub, RefundId::ABORT), named.amount?))),
    );
    text
}

/// What an exchange did to what it was asked for.
fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Confirmed => "confirmed",
        Verdict::Refused => "finally refused",
        Verdict::Later => "put off",
        Verdict::Unproven => "claimed without proof",
        Verdict::Malformed => "answered unintelligibly",
    }
}

fn failure_word(failure: Failure) -> &'static str {
    match failure {
        Failure::Connect => "could not be reached",
        Failure::Closed => "closed the connection before its reply was whole",
        Failure::Timeout => "did not reply in time",
    }
}

/// Of an order that was sold here.
fn sold(facts: &Facts) -> Option<String> {
    Some(match facts {
        Facts::OrderCreated(f) => format!(
            "offered: {} of {}, to be paid until {}, refunds until {}, wire deadline {}, by token {}",
            f.amount,
            second(f.timestamp_s),
            second(f.pay_deadline_s),
            second(f.refund_deadline_s),
            second(f.wire_deadline_s),
            f.by
        ),
        Facts::OrderClaimed(f) => format!("claimed by the wallet with the nonce {}", f.nonce),
        Facts::OrderDeleted(f) => format!("taken back, by token {}", f.by),
        Facts::TermsForgotten(f) => format!("members of the contract were forgotten, by token {}", f.by),
        Facts::DepositRequested(f) => {
            let coins = f.coins.iter();
            let coins = coins.map(|asked| format!("{} of {}", asked.amount_with_fee, coin(&asked.coin_pub)));
            format!("about to ask {} to take {}", f.exchange_url, list(coins))
        }
        Facts::DepositReplied(f) => {
            let code = f
                .error_code
                .map_or_else(String::new, |code| format!(", code {code}"));
            format!(
                "the exchange {} the deposits of event {}: status {}{code}, attempt {}",
                verdict_word(f.verdict),
                f.batch,
                f.http_status,
                f.attempt
            )
        }
        Facts::DepositUnreached(f) => format!(
            "the exchange {} about the deposits of event {}, attempt {}",
            failure_word(f.failure),
            f.batch,
            f.attempt
        ),
        Facts::SessionPaid(f) => format!("a wallet showed it to be paid in the session {}", f.session),
        _ => return None,
    })
}

fn replied(f: &ExchangeReplied, amounts: &Amounts) -> String {
    let of = permission(amounts, &f.coin_pub, f.rtransaction_id);
    let code = f
        .error_code
        .map_or_else(String::new, |code| format!(", code {code}"));
    let verdict = verdict_word(f.verdict);
    format!(
        "the exchange {verdict} {of}: status {}{code}, attempt {}",
        f.http_status, f.attempt
    )
}

fn answered(f: &RefundAnswered) -> String {
    let Some(total) = f.refund_amount else {
        return format!(
            "refund request answered {} on the state of event {}",
            f.http_status, f.as_of
        );
    };
    let rows = f.rows.iter().flatten().map(|row| {
        let (of, status) = (coin(&row.coin_pub), row.exchange_status);
        format!(
            "{of} (id {}) {status} of {}",
            row.rtransaction_id,
            second(row.execution_s)
        )
    });
    let rows = list(rows);
    let then = if rows.is_empty() { "" } else { "; " };
    let (status, as_of) = (f.http_status, f.as_of);
    format!("refund request answered {status} on the state of event {as_of}: {total}{then}{rows}")
}

pub(crate) type Amounts = HashMap<(CoinPub, RefundId), Amount>;

fn carried_in(f: &RefundCarriedIn, amounts: &mut Amounts) -> String {
    amounts.extend(
        f.rows
            .iter()
            .map(|row| ((row.coin_pub, row.rtransaction_id), row.amount)),
    );
    let rows = f.rows.iter().map(|row| {
        let (of, at) = (coin(&row.coin_pub), second(row.execution_s));
        format!("{} of {of} (id {}, of {at})", row.amount, row.rtransaction_id)
    });
    format!("taken over from elsewhere: {}, by token {}", list(rows), f.by)
}

fn approved(f: &RefundApproved, amounts: &mut Amounts) -> String {
    amounts.extend(
        f.rows
            .iter()
            .map(|row| ((row.coin_pub, row.rtransaction_id), row.amount)),
    );
    let rows = f.rows.iter().map(|row| {
        format!(
            "{} of {} (id {})",
            row.amount,
            coin(&row.coin_pub),
            row.rtransaction_id
        )
    });
    let at = second(f.execution_s);
    format!(
        "refund approved, total now {}: {}; execution time {at}, by token {}",
        f.total,
        list(rows),
        f.by
    )
}
