//! The report in words for people who never saw the program.

use std::fmt::Write as _;

use crate::report::{Finding, Report};
use crate::rules::RULES;
use crate::story::second;
use quittance_taler::Timestamp;

/// The report in plain words.
#[must_use]
pub fn print_report(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "Ledger {} ({})",
        report.ledger,
        report.origin.as_deref().unwrap_or("without a readable name")
    )?;
    match (&report.event_key, report.key_pinned) {
        (Some(key), true) => writeln!(out, "Event key {key}, as given to the auditor")?,
        (Some(key), false) => writeln!(
            out,
            "Event key {key}, NOT PINNED: it is taken from the ledger itself; compare it with the key that the operator published"
        )?,
        (None, _) => writeln!(out, "No event key could be read: no signature was checked")?,
    }
    match report.anchored {
        Some(size) => writeln!(out, "Anchor: holds, it covers {size} events")?,
        None => writeln!(
            out,
            "Anchor: none that holds; events cut off the end would not be seen"
        )?,
    }
    for witness in &report.witnesses {
        let known = if witness.pinned {
            "as given to the auditor"
        } else {
            "NOT PINNED: whose key it is, is the ledger's own word"
        };
        let time = Timestamp::from_s(witness.time_s).map_or_else(|_| witness.time_s.to_string(), second);
        let said = match (witness.size, time) {
            (0, _) => "cosigned nothing that is kept here".to_owned(),
            (size, time) => format!("last cosigned {size} events, at {time}"),
        };
        writeln!(out, "Witness {}, {known}: {said}", witness.vkey)?;
    }
    if let Some(size) = report.since {
        writeln!(
            out,
            "Earlier audit: the ledger extends its checkpoint of {size} events; {} are new since",
            report.checked.events.saturating_sub(size)
        )?;
    }
    if let Some(seq) = report.as_of {
        writeln!(out, "State as of event {seq}: what came later is not looked at")?;
    }
    let c = &report.checked;
    writeln!(out, "\nChecked:")?;
    for (count, what) in [
        (c.events, "events, each hashed and chained to the one before"),
        (
            c.signatures,
            if report.fast {
                "event signatures verified, in lists (--fast)"
            } else {
                "event signatures verified"
            },
        ),
        (c.attachments, "attachments match their digests"),
        (c.erased, "attachments not checkable: erased"),
        (c.checkpoints, "checkpoints, signature and root"),
        (c.receipts, "receipts whose answers are there"),
        (c.orders, "orders replayed from their events"),
        (c.approvals, "approvals"),
        (c.aborts, "aborts and extensions"),
        (c.exchange_replies, "exchange replies judged anew"),
        (
            c.answers,
            "answers rebuilt and compared with the digest of what was served",
        ),
        (
            c.answers_not_checkable,
            "answers whose body is not checkable: erased",
        ),
    ] {
        writeln!(out, "{count:>9}  {what}")?;
    }
    for (currency, money) in &report.money {
        writeln!(
            out,
            "\n{currency}: deposited {}; approved {}, of which confirmed {}; given back by aborts {}, of which confirmed {}",
            money.deposited.text(),
            money.approved.text(),
            money.confirmed.text(),
            money.aborted.text(),
            money.aborted_confirmed.text()
        )?;
    }
    write_findings(report, out)
}

fn write_findings(report: &Report, out: &mut String) -> std::fmt::Result {
    if !report.notes.is_empty() {
        writeln!(out, "\nNotes (no rule is broken):")?;
        for note in &report.notes {
            let place = place(note.seq, note.instance.as_deref(), note.order.as_deref());
            writeln!(out, "  - {place}{}", note.text)?;
        }
    }
    if report.is_sound() {
        return writeln!(
            out,
            "\nSOUND: no finding. Every rule holds for what is recorded here."
        );
    }
    let count = u64::try_from(report.findings.len())
        .unwrap_or(u64::MAX)
        .saturating_add(report.findings_unlisted);
    writeln!(out, "\nFINDINGS: {count}")?;
    for (finding, number) in report.findings.iter().zip(1_u64..) {
        writeln!(out)?;
        let grade = finding.grade.as_str();
        writeln!(
            out,
            "{number}. [{grade}] {}: {}{}",
            finding.rule,
            place_of(finding),
            finding.text
        )?;
        let sentence = RULES
            .iter()
            .find(|rule| rule.id == finding.rule)
            .map_or("", |rule| rule.sentence);
        writeln!(out, "   rule:     {sentence}")?;
        if !finding.expected.is_empty() || !finding.found.is_empty() {
            writeln!(
                out,
                "   expected: {}\n   found:    {}",
                finding.expected, finding.found
            )?;
        }
        if !finding.at_stake.is_empty() {
            let stake: Vec<String> = finding.at_stake.iter().map(ToString::to_string).collect();
            writeln!(out, "   at stake: {}", stake.join(", "))?;
        }
        for consequence in &finding.consequences {
            writeln!(
                out,
                "   -> follows from it: {}: {}{}",
                consequence.rule,
                place_of(consequence),
                consequence.text
            )?;
        }
        if finding.consequences_unlisted > 0 {
            writeln!(out, "   -> and {} more", finding.consequences_unlisted)?;
        }
    }
    if report.findings_unlisted > 0 {
        writeln!(
            out,
            "\n{} more findings are not listed.",
            report.findings_unlisted
        )?;
    }
    Ok(())
}

fn place_of(finding: &Finding) -> String {
    place(finding.seq, finding.instance.as_deref(), finding.order.as_deref())
}

fn place(seq: Option<u64>, instance: Option<&str>, order: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(seq) = seq {
        let _ = write!(text, "event {seq}");
    }
    if let (Some(instance), Some(order)) = (instance, order) {
        let _ = write!(
            text,
            "{}order {instance}/{order}",
            if seq.is_some() { ", " } else { "" }
        );
    }
    if !text.is_empty() {
        text.push_str(": ");
    }
    text
}
