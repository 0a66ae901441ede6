//! Derives all that a dispute file says from the evidence in it: `report.json`, `refunds.csv`, `report.html`,
//! `README.txt`. The exporter and the verifier run this same code, so that what is said is compared byte for byte with
//! what follows.

use std::collections::{BTreeMap, HashSet};

use quittance_events::facts::Part;
use quittance_events::{AttachmentName, Facts, seal};
use quittance_taler::{ContractTerms, MasterPub, json, message};
use quittance_tlog::{Checkpoint, Note, VerifierKey};
use serde_json::Value;

use crate::report::{Finding, Report};
use crate::rules;
use crate::story::{second, time};

use super::container::Entries;
use super::contents::{Absence, Contents, proof_file};
use super::replayed::{Replayed, Untold, replay};
use super::report::{
    AnswerPart, Audit, CheckpointPart, DisputeReport, ExchangePart, FoundPart, KeyPart, Ledger, NotePart,
    OrderPart, ProofPart, REPORT_FORMAT,
};
use super::{csv_list, money, readme, timeline};

/// What the exporter says and nobody can recompute from the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) made_by: String,
    pub(crate) key_pinned: bool,
    pub(crate) audit: Audit,
}

/// What this program says of itself in the files that it makes.
pub(crate) const MADE_BY: &str = concat!("quittance-replay ", env!("CARGO_PKG_VERSION"));

/// Why nothing can be derived.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Uncomposed {
    #[error(transparent)]
    Untold(#[from] Untold),
    #[error("the checkpoint is none: {0}")]
    Checkpoint(String),
    #[error("{0}")]
    Other(String),
}

/// All of a dispute file, and what its replay came to.
pub(crate) struct Composed {
    pub(crate) report: DisputeReport,
    pub(crate) entries: Entries,
    pub(crate) replayed: Replayed,
    /// The key in force at the checkpoint's size.
    pub(crate) checkpoint_key: VerifierKey,
}

/// Derives everything.
pub(crate) fn compose(
    contents: &Contents,
    claims: &Claims,
    pinned: Option<&VerifierKey>,
) -> Result<Composed, Uncomposed> {
    let replayed = replay(contents, pinned)?;
    let (checkpoint, checkpoint_key) = checkpoint(contents, &replayed)?;
    let report = report(contents, &replayed, claims, checkpoint, &checkpoint_key);
    let mut entries = contents.entries();
    let json = serde_json::to_string_pretty(&report).map_err(|e| Uncomposed::Other(e.to_string()))?;
    let csv = csv_list::of_order(&replayed.key, &money::permissions(&replayed))
        .map_err(|e| Uncomposed::Other(e.to_string()))?;
    entries.insert("report.json".into(), format!("{json}\n").into_bytes());
    entries.insert("refunds.csv".into(), csv);
    entries.insert("report.html".into(), super::page(&report).into_bytes());
    entries.insert("README.txt".into(), readme::text(&report).into_bytes());
    Ok(Composed {
        report,
        entries,
        replayed,
        checkpoint_key,
    })
}

fn report(
    contents: &Contents,
    replayed: &Replayed,
    claims: &Claims,
    checkpoint: CheckpointPart,
    checkpoint_key: &VerifierKey,
) -> DisputeReport {
    let (timeline, context) = timeline::events(contents, replayed);
    let permissions = money::permissions(replayed);
    let fold = &replayed.fold;
    let terms = &fold.terms;
    DisputeReport {
        format: REPORT_FORMAT,
        made_by: claims.made_by.clone(),
        ledger: Ledger {
            origin: replayed.origin.clone(),
            // What is said does not depend on which key its reader brought.
            event_key: replayed.first_key.to_string(),
            checkpoint_key: checkpoint_key.to_string(),
            key_pinned: claims.key_pinned,
        },
        order: OrderPart {
            instance: replayed.key.instance.to_string(),
            id: replayed.key.order.to_string(),
            summary: summary(replayed),
            h_contract: terms.h_contract.to_string(),
            amount: terms.amount.to_string(),
            made_at: second(terms.timestamp_s),
            refund_deadline: second(terms.refund_deadline_s),
            wire_deadline: second(terms.wire_deadline_s),
            merchant_pub: terms.merchant_pub.to_string(),
            exchanges: terms
                .exchanges
                .iter()
                .map(|exchange| ExchangePart {
                    url: exchange.url.clone(),
                    master_pub: exchange.master_pub.to_string(),
                })
                .collect(),
        },
        audit: claims.audit.clone(),
        // Nor does this.
        findings: flatten(&replayed.findings, |finding| finding.rule != rules::LOG_KEY.id),
        notes: notes(contents, replayed, &checkpoint),
        sums: money::sums(fold, &permissions.list),
        timeline,
        context,
        coins: money::coins(fold, &permissions.list),
        answers: answers(replayed, contents),
        proofs: contents
            .events
            .keys()
            .map(|seq| ProofPart {
                seq: *seq,
                file: (*seq <= checkpoint.size).then(|| proof_file(*seq)),
            })
            .collect(),
        checkpoint,
        exchange_keys: exchange_keys(replayed),
        standing_rule: timeline::standing_rule(),
    }
}

/// Findings as a flat list, each root before what follows from it; those that `keep` names, and the roots of those.
pub(crate) fn flatten(findings: &[Finding], keep: impl Fn(&Finding) -> bool) -> Vec<FoundPart> {
    let mut parts = Vec::new();
    for root in findings {
        let following: Vec<&Finding> = root.consequences.iter().filter(|finding| keep(finding)).collect();
        if keep(root) || !following.is_empty() {
            parts.push(found_part(root, false));
            parts.extend(following.into_iter().map(|finding| found_part(finding, true)));
        }
    }
    parts
}

fn found_part(finding: &Finding, consequence: bool) -> FoundPart {
    FoundPart {
        rule: finding.rule.to_owned(),
        grade: finding.grade.as_str().to_owned(),
        seq: finding.seq,
        text: finding.text.clone(),
        expected: finding.expected.clone(),
        found: finding.found.clone(),
        at_stake: finding.at_stake.iter().map(ToString::to_string).collect(),
        consequence,
    }
}

/// What the audit of a whole ledger says of one order.
pub(crate) fn audit_part(report: &Report, instance: &str, order: &str) -> Audit {
    let concerns = |finding: &Finding| {
        finding.order.is_none()
            || (finding.instance.as_deref(), finding.order.as_deref()) == (Some(instance), Some(order))
    };
    let findings = flatten(&report.findings, concerns);
    let roots = findings.iter().filter(|finding| !finding.consequence).count();
    let elsewhere = report.findings.len().saturating_sub(roots);
    let findings_elsewhere = u64::try_from(elsewhere)
        .unwrap_or(u64::MAX)
        .saturating_add(report.findings_unlisted);
    let (events, orders) = (report.checked.events, report.checked.orders);
    let sentence = if report.is_sound() {
        format!("Every rule held for all {events} events of the ledger and its {orders} orders.")
    } else {
        format!(
            "Rules were broken: {roots} findings concern this order or the ledger as a whole, {findings_elsewhere} \
             other orders, in {events} events of {orders} orders."
        )
    };
    Audit {
        sound: report.is_sound(),
        sentence,
        events,
        signatures: report.checked.signatures,
        orders,
        answers: report.checked.answers,
        anchored: report.anchored,
        findings,
        findings_elsewhere,
    }
}

fn summary(replayed: &Replayed) -> Option<String> {
    let first = replayed
        .decisions
        .iter()
        .find(|d| matches!(d.event.facts, Facts::OrderRecorded(_)))?;
    let terms = json::parse_strict(first.bytes(AttachmentName::Terms)?).ok()?;
    // Only of terms that are this order's.
    ContractTerms::read(&terms, replayed.fold.terms.choice_index).ok()?;
    terms
        .get("summary")
        .and_then(Value::as_str)
        .map(ToOwned::to_owned)
}

fn notes(contents: &Contents, replayed: &Replayed, checkpoint: &CheckpointPart) -> Vec<NotePart> {
    let mut notes: Vec<NotePart> = replayed
        .notes
        .iter()
        .map(|note| NotePart {
            seq: note.seq,
            text: note.text.clone(),
        })
        .collect();
    for (seq, item) in &contents.events {
        for (name, held) in &item.attachments {
            let text = match held.absence {
                Some(Absence::Redacted) => format!("the attachment {name} is left out of this file"),
                Some(Absence::Erased) => format!("the attachment {name} is erased from the ledger"),
                None => continue,
            };
            notes.push(NotePart {
                seq: Some(*seq),
                text,
            });
        }
    }
    if checkpoint.unproven > 0 {
        let text = format!(
            "{} events of this file are newer than its checkpoint: they are signed, and have no proof yet",
            checkpoint.unproven
        );
        notes.push(NotePart { seq: None, text });
    }
    notes
}

fn checkpoint(contents: &Contents, replayed: &Replayed) -> Result<(CheckpointPart, VerifierKey), Uncomposed> {
    let wrong = |e: &dyn std::fmt::Display| Uncomposed::Checkpoint(e.to_string());
    let text = std::str::from_utf8(&contents.checkpoint).map_err(|e| wrong(&e))?;
    let note = Note::parse(text).map_err(|e| wrong(&e))?;
    let read = Checkpoint::parse_text(note.text()).map_err(|e| wrong(&e))?;
    let key = replayed
        .keys
        .checkpoint_at(read.size)
        .cloned()
        .ok_or(Untold::NoGenesis)?;
    let others = note.signatures().iter().filter(|line| line.name() != key.name());
    let newer = contents.events.keys().filter(|seq| **seq > read.size).count();
    let part = CheckpointPart {
        size: read.size,
        root: note.text().lines().nth(2).unwrap_or_default().to_owned(),
        cosigners: others.map(|line| line.name().to_string()).collect(),
        unproven: u64::try_from(newer).unwrap_or(u64::MAX),
    };
    Ok((part, key))
}

/// What wallets were answered.
fn answers(replayed: &Replayed, contents: &Contents) -> Vec<AnswerPart> {
    let delivered: BTreeMap<u64, String> = replayed
        .decisions
        .iter()
        .filter_map(|decision| match &decision.event.facts {
            Facts::RefundDelivered(f) => Some((f.answer.get(), time(decision.event.at_us))),
            _ => None,
        })
        .collect();
    let unchecked: HashSet<u64> = replayed
        .notes
        .iter()
        .filter(|note| note.text.contains("not checkable"))
        .filter_map(|note| note.seq)
        .collect();
    let mut answers = Vec::new();
    for decision in &replayed.decisions {
        let (to, http_status, refund_amount, as_of, body, part) = match &decision.event.facts {
            Facts::RefundAnswered(f) => ("refund", f.http_status, f.refund_amount, f.as_of, f.body, f.part),
            Facts::AbortAnswered(f) => ("abort", f.http_status, None, f.as_of, f.body, f.part),
            _ => continue,
        };
        let (first, last) = (decision.first(), decision.last);
        let digest = contents
            .events
            .get(&last)
            .map(|item| seal::event_digest(&item.sealed));
        let rebuilt = (!unchecked.contains(&first)).then(|| {
            Part::is_last(part)
                && !replayed.is_found(first, "answer.body")
                && !replayed.is_found(first, "answer.http_status")
        });
        answers.push(AnswerPart {
            seq: last,
            at: time(decision.event.at_us),
            to: to.to_owned(),
            http_status,
            refund_amount: refund_amount.map(|amount| amount.to_string()),
            as_of: as_of.get(),
            body: body.to_string(),
            rebuilt,
            receipt: format!(
                "{} {last} {} {body}",
                replayed.origin,
                digest.map_or_else(String::new, |digest| digest.to_string())
            ),
            delivered_at: delivered.get(&last).cloned(),
        });
    }
    answers
}

/// Keys of the order's exchanges that their master keys signed, each as it was first seen.
fn exchange_keys(replayed: &Replayed) -> Vec<KeyPart> {
    let masters: HashSet<MasterPub> = replayed
        .fold
        .terms
        .exchanges
        .iter()
        .map(|e| e.master_pub)
        .collect();
    let mut keys: Vec<KeyPart> = Vec::new();
    let mut known = HashSet::new();
    for decision in &replayed.decisions {
        let Facts::ExchangeKeysSeen(f) = &decision.event.facts else {
            continue;
        };
        if !masters.contains(&f.master_pub) {
            continue;
        }
        for key in &f.signkeys {
            let message = message::signing_key_validity(key.start_s, key.expire_s, key.end_s, &key.key);
            let is_new = known.insert((f.master_pub, key.key, key.start_s, key.expire_s, key.end_s));
            if is_new && f.master_pub.verify(&message, &key.master_sig) {
                keys.push(KeyPart {
                    key: key.key.to_string(),
                    master_pub: f.master_pub.to_string(),
                    start: second(key.start_s),
                    expire: second(key.expire_s),
                    end: second(key.end_s),
                    seen_seq: decision.first(),
                });
            }
        }
    }
    keys
}
