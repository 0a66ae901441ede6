//! What wallets were told, and whether it stays true: each answer is compared with those before and after it, in the
//! order in which the ledger recorded them, whatever the order in which they arrived.

use std::collections::BTreeMap;

use quittance_events::receipt::Receipt;
use quittance_events::seal::{EventPub, answer_digest};
use quittance_sandbox::Direct;
use quittance_taler::{Amount, CoinPub};
use serde_json::Value;

use crate::network::short;
use crate::orders::{Order, Wish};

/// One coin's or refund's entry in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    coin: String,
    id: u64,
    /// Of refunds.
    amount: Option<Amount>,
    execution: Value,
    kind: String,
    status: u64,
    exchange_sig: Value,
}

impl Entry {
    fn read(value: &Value, coin: String, id: u64) -> Entry {
        Entry {
            coin,
            id,
            amount: value["refund_amount"].as_str().and_then(|text| text.parse().ok()),
            execution: value["execution_time"].clone(),
            kind: value["type"].as_str().unwrap_or_default().to_owned(),
            status: value["exchange_status"].as_u64().unwrap_or_default(),
            exchange_sig: value["exchange_sig"].clone(),
        }
    }

    fn is_success(&self) -> bool {
        self.kind == "success"
    }

    fn name(&self) -> String {
        format!("refund {} of coin {}", self.id, short(&self.coin))
    }
}

/// An answer of 200 or 410 that reached a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: Vec<u8>,
    total: Option<Amount>,
    entries: Vec<Entry>,
}

/// All that wallets were told in a run.
#[derive(Default)]
pub(crate) struct AllTold {
    /// By order and by what was asked, then by where the ledger recorded it.
    answers: BTreeMap<(String, bool), BTreeMap<u64, Answer>>,
    receipts: Vec<Receipt>,
}

impl AllTold {
    pub(crate) fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }

    /// A wallet gets a reply. `revised`: the operator has said at some time that the clock was wrong, or the shop has
    /// carried in refunds made elsewhere; then it may be too late for nothing any more.
    pub(crate) fn take(
        &mut self,
        order: &Order,
        wish: &Wish,
        (status, body, receipt): (u16, &[u8], Option<&str>),
        key: &EventPub,
        exchanges: &[Direct],
        revised: bool,
    ) -> Result<(), String> {
        let is_abort = match wish {
            Wish::Fetch => false,
            Wish::Abort(_) => true,
            _ => return Ok(()),
        };
        if !(status == 200 || (status == 410 && !is_abort)) {
            return Ok(());
        }
        let receipt: Receipt = receipt
            .and_then(|receipt| receipt.parse().ok())
            .ok_or_else(|| format!("{} was answered {status} without a receipt", order.id))?;
        if !receipt.verify(key) || receipt.body != answer_digest(body) {
            return Err(format!(
                "the receipt of an answer on {} does not fit it",
                order.id
            ));
        }
        let value: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let listed = value["refunds"].as_array().map_or(&[][..], Vec::as_slice);
        let entries = match wish {
            Wish::Abort(coins) if coins.len() != listed.len() => {
                return Err(format!(
                    "an abort of {} names other coins than were asked for",
                    order.id
                ));
            }
            Wish::Abort(coins) => coins
                .iter()
                .zip(listed)
                .map(|(coin, entry)| Entry::read(entry, coin.to_string(), 0))
                .collect(),
            _ => listed
                .iter()
                .map(|entry| {
                    let coin = entry["coin_pub"].as_str().unwrap_or_default().to_owned();
                    Entry::read(entry, coin, entry["rtransaction_id"].as_u64().unwrap_or_default())
                })
                .collect(),
        };
        let answer = Answer {
            status,
            body: body.to_vec(),
            total: value["refund_amount"].as_str().and_then(|text| text.parse().ok()),
            entries,
        };
        for entry in answer.entries.iter().filter(|entry| entry.is_success()) {
            granted(order, entry, exchanges)?;
        }
        let seq = receipt.seq.get();
        self.receipts.push(receipt);
        let answers = self.answers.entry((order.id.clone(), is_abort)).or_default();
        if let Some(same) = answers.get(&seq) {
            return if same.body == answer.body {
                Ok(())
            } else {
                Err(format!("two answers on {} are recorded as event {seq}", order.id))
            };
        }
        // An abort's answers name whatever coins were asked for, so each is compared with all.
        for (&other_seq, other) in &*answers {
            let (before, after) = if other_seq < seq {
                (other, &answer)
            } else {
                (&answer, other)
            };
            stays_true(before, after, is_abort, revised).map_err(|what| {
                format!(
                    "{}: {what} (events {} and {})",
                    order.id,
                    other_seq.min(seq),
                    other_seq.max(seq)
                )
            })?;
        }
        answers.insert(seq, answer);
        Ok(())
    }
}

/// What was told as success stands in an exchange's books.
fn granted(order: &Order, entry: &Entry, exchanges: &[Direct]) -> Result<(), String> {
    let coin: CoinPub = entry
        .coin
        .parse()
        .map_err(|_| "a coin's key is none".to_owned())?;
    let exchange = order.coin(&coin).map(|coin| &exchanges[coin.exchange]);
    let is_granted = exchange.is_some_and(|exchange| {
        exchange.refunds().iter().any(|refund| {
            refund.coin_pub == coin
                && refund.h_contract == order.h_contract
                && refund.rtransaction_id == entry.id
                && entry.amount.is_none_or(|amount| amount == refund.amount)
        })
    });
    if is_granted {
        Ok(())
    } else {
        Err(format!(
            "{}: {} is told as success and no exchange granted it",
            order.id,
            entry.name()
        ))
    }
}

fn stays_true(before: &Answer, after: &Answer, is_abort: bool, revised: bool) -> Result<(), String> {
    if before.status == 410 {
        return if after.status == 410 || revised {
            Ok(())
        } else {
            Err("it was too late, and then it was not".to_owned())
        };
    }
    if after.status == 410 {
        return if before.entries.is_empty() || revised {
            Ok(())
        } else if before.entries.iter().any(Entry::is_success) {
            Err("refunds were told, and then it was too late for any".to_owned())
        } else {
            Ok(())
        };
    }
    if let (Some(before), Some(after)) = (before.total, after.total)
        && after.units() < before.units()
    {
        return Err(format!("the refund amount fell from {before} to {after}"));
    }
    for was in &before.entries {
        let is = after
            .entries
            .iter()
            .find(|is| (&is.coin, is.id) == (&was.coin, was.id));
        let Some(is) = is else {
            if is_abort {
                continue;
            }
            return Err(format!("{} was told and is missing", was.name()));
        };
        if (is.amount, &is.execution) != (was.amount, &was.execution) {
            return Err(format!(
                "{} was told with another amount or execution time",
                was.name()
            ));
        }
        if was.is_success() && (!is.is_success() || is.exchange_sig != was.exchange_sig) {
            return Err(format!(
                "{} was a success and is {} {}",
                was.name(),
                is.kind,
                is.status
            ));
        }
        let was_final = was.kind == "failure" && (400..500).contains(&was.status);
        if was_final && is.status != was.status && !revised {
            return Err(format!(
                "{} was finally refused with {} and is {} {}",
                was.name(),
                was.status,
                is.kind,
                is.status
            ));
        }
    }
    Ok(())
}
