//! One receipt against one ledger, without an audit: is the answer that a wallet kept the receipt of in there?

use std::fmt::Write as _;
use std::path::Path;

use quittance_events::Event;
use quittance_events::receipt::Receipt;
use quittance_events::seal;
use quittance_tlog::VerifierKey;
use serde::Serialize;

use crate::findings::Findings;
use crate::keys::{LedgerKeys, vkey};
use crate::open::{self, Opened, Unusable};
use crate::receipts::{self, Found};
use crate::report::Finding;

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReceiptReport {
    /// The file.
    pub ledger: String,
    /// The ledger's name.
    pub origin: String,
    /// The answer's event.
    pub seq: u64,
    /// The event key that signed the receipt, as VKEY.
    pub event_key: String,
    /// Whether that key was given by the auditor; otherwise it is the ledger's own word.
    pub key_pinned: bool,
    /// The body given has the digest that the receipt names.
    pub body_compared: bool,
    /// The ledger lacks the answer, or says otherwise; nothing where it has it.
    pub finding: Option<Finding>,
}

/// Compares a receipt with a ledger; `body` is what the wallet was served with it. With a key from elsewhere the
/// receipt is judged under that one, whatever the ledger says of itself.
///
/// # Errors
/// The ledger is unusable, the key did not sign the receipt, or the body is not the receipt's.
pub fn check_receipt(
    ledger: &Path,
    receipt: &Receipt,
    body: Option<&[u8]>,
    ledger_key: Option<&VerifierKey>,
) -> Result<ReceiptReport, Unusable> {
    let opened = open::open(ledger)?;
    let copy = match &opened {
        Opened::Readable { copy, .. } => copy,
        Opened::Damaged(why) => return Err(Unusable::unreadable(ledger, why)),
    };
    let damaged = |e| Unusable::unreadable(ledger, e);
    let mut keys = LedgerKeys::read(copy).map_err(damaged)?;
    if let Some(given) = ledger_key.filter(|given| keys.event_vkeys().all(|key| key != **given)) {
        // The ledger names others: what the auditor brings counts, and that alone.
        keys = LedgerKeys::named(given);
    }
    let key = keys
        .receipting(receipt.seq.get())
        .find(|key| receipt.verify(key))
        .and_then(|key| vkey(keys.origin()?, &key.key()))
        .filter(|key| key.name().as_str() == receipt.origin);
    let Some(key) = key else {
        let whose = ledger_key.map_or_else(
            || "no event key that the ledger names for then or later".to_owned(),
            |key| format!("neither {key} nor a key that it let in"),
        );
        return Err(Unusable::NoReceipt(format!(
            "{whose} signed this receipt: it proves nothing about this ledger"
        )));
    };
    if body.is_some_and(|body| seal::answer_digest(body) != receipt.body) {
        return Err(Unusable::NoReceipt(
            "the body given is not the one that the receipt speaks of".into(),
        ));
    }
    let stored = copy.event(receipt.seq.sql()).map_err(damaged)?;
    let found = stored.map(|stored| {
        let event = Event::parse(&stored.sealed).ok();
        Found::new(seal::event_digest(&stored.sealed), event.as_ref())
    });
    let told = body.map(receipts::told_in);
    let mut findings = Findings::default();
    if let Some(draft) = receipts::compare(receipt, found.as_ref(), told.as_deref()) {
        findings.add(draft, None);
    }
    Ok(ReceiptReport {
        ledger: ledger.display().to_string(),
        origin: receipt.origin.clone(),
        seq: receipt.seq.get(),
        event_key: key.to_string(),
        key_pinned: ledger_key.is_some(),
        body_compared: body.is_some(),
        finding: findings.finish().0.pop(),
    })
}

/// The same in plain words.
#[must_use]
pub fn print_receipt(report: &ReceiptReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &ReceiptReport, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "The receipt is genuine: {} signed it, for event {} of {}.{}",
        report.event_key,
        report.seq,
        report.origin,
        if report.key_pinned {
            ""
        } else {
            " (NOT PINNED: the key is taken from the ledger itself)"
        }
    )?;
    if report.body_compared {
        writeln!(out, "The body given is the one that it speaks of.")?;
    }
    let Some(finding) = &report.finding else {
        return writeln!(
            out,
            "FOUND: {} holds that event, with the same digest and the same body's digest.",
            report.ledger
        );
    };
    writeln!(
        out,
        "FINDING [{}] {}: event {}: {}\n   expected: {}\n   found:    {}",
        finding.grade.as_str(),
        finding.rule,
        report.seq,
        finding.text,
        finding.expected,
        finding.found
    )?;
    if !finding.at_stake.is_empty() {
        let stake: Vec<String> = finding.at_stake.iter().map(ToString::to_string).collect();
        writeln!(out, "   at stake: {}", stake.join(", "))?;
    }
    writeln!(
        out,
        "The event key signed an answer that {} does not have: it was cut or rewritten.",
        report.ledger
    )
}
