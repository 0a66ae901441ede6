//! Checks a dispute file without its ledger: hashes, signatures, proofs and rules anew, derives what the file says from
//! the evidence in it, and compares byte for byte. Unpacks nothing to disk and opens nothing else.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use quittance_tlog::tlog_proof::TlogProof;
use quittance_tlog::{Checkpoint, Note, VerifierKey, leaf_hash};
use serde::Serialize;

use crate::Unusable;

use super::compose::{Claims, Composed, MADE_BY, compose, flatten};
use super::container::{self, ContainerError, Entries};
use super::contents::Contents;
use super::limits::{BUNDLE_MAX, REPORT_MAX};
use super::report::{Audit, DisputeReport, FoundPart, NotePart, REPORT_FORMAT};

/// What `verify-bundle` came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleReport {
    /// The file.
    pub file: String,
    /// The ledger's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The event key that signatures were checked with, as VKEY.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_key: Option<String>,
    /// Whether the reader brought that key from elsewhere.
    pub key_pinned: bool,
    /// The order, `INSTANCE/ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Events whose signature verifies.
    pub signatures: u64,
    /// Events in the file.
    pub events: u64,
    /// Events proven to be in the checkpoint's tree.
    pub proven: u64,
    /// Size of that tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// Attachments that are as sealed.
    pub attachments: u64,
    /// Exchange replies judged anew.
    pub exchange_replies: u64,
    /// Answers rebuilt and compared by digest.
    pub answers: u64,
    /// What the exporter's audit of the whole ledger came to, as the file says it. Not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<String>,
    /// What does not hold.
    pub findings: Vec<FoundPart>,
    /// What a reader should know.
    pub notes: Vec<NotePart>,
    /// What the file cannot prove.
    pub cannot: Vec<String>,
}

impl BundleReport {
    /// Whether nothing is wrong with the file, nor with what it tells.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, rule: &str, seq: Option<u64>, text: impl Into<String>) {
        self.findings.push(FoundPart {
            rule: rule.to_owned(),
            grade: "major".to_owned(),
            seq,
            text: text.into(),
            expected: String::new(),
            found: String::new(),
            at_stake: Vec::new(),
            consequence: false,
        });
    }
}

/// Checks a dispute file.
///
/// # Errors
/// It cannot be read, is no zip, is beyond the limits, or of a newer format. All else is a finding.
pub fn verify_bundle(path: &Path, ledger_key: Option<&VerifierKey>) -> Result<BundleReport, Unusable> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(BUNDLE_MAX + 1).read_to_end(&mut bytes))
        .map_err(|e| Unusable::unreadable(path, e))?;
    check(&bytes, &path.display().to_string(), ledger_key)
}

/// Checks the bytes of a dispute file.
///
/// # Errors
/// As [`verify_bundle`].
pub fn check(bytes: &[u8], file: &str, ledger_key: Option<&VerifierKey>) -> Result<BundleReport, Unusable> {
    let mut report = BundleReport {
        file: file.to_owned(),
        origin: None,
        event_key: None,
        key_pinned: ledger_key.is_some(),
        order: None,
        signatures: 0,
        events: 0,
        proven: 0,
        checkpoint: None,
        attachments: 0,
        exchange_replies: 0,
        answers: 0,
        audit: None,
        findings: Vec::new(),
        notes: Vec::new(),
        cannot: cannot(),
    };
    let entries = match container::unpack(bytes) {
        Ok(entries) => entries,
        Err(e @ (ContainerError::NoZip(_) | ContainerError::TooLarge | ContainerError::TooMany)) => {
            return Err(Unusable::unreadable(Path::new(file), e));
        }
        Err(e) => {
            report.find("bundle.form", None, e.to_string());
            return Ok(report);
        }
    };
    let claims = claims(&entries)?;
    let contents = Contents::read(&entries);
    report.events = u64::try_from(contents.events.len()).unwrap_or(u64::MAX);
    match compose(&contents, &claims, ledger_key) {
        Err(
            e @ super::compose::Uncomposed::Untold(super::replayed::Untold::Unusable(Unusable::Newer(_))),
        ) => {
            return Err(Unusable::Newer(e.to_string()));
        }
        Err(e) => report.find("bundle.story", None, format!("its story cannot be told: {e}")),
        Ok(composed) => {
            told(&mut report, &composed, &claims);
            proofs(&mut report, &contents, &composed.checkpoint_key);
            same(&mut report, bytes, &entries, &composed);
        }
    }
    Ok(report)
}

/// What the exporter claims. Of a report that cannot be read nothing is claimed: that it differs shows later.
fn claims(entries: &Entries) -> Result<Claims, Unusable> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u64,
    }
    let bytes = entries.get("report.json").map_or(&[][..], Vec::as_slice);
    let bytes = if bytes.len() <= REPORT_MAX { bytes } else { &[] };
    if let Ok(Format { format }) = serde_json::from_slice(bytes)
        && format > REPORT_FORMAT
    {
        return Err(Unusable::Newer(format!(
            "the file is of format {format}; this program knows {REPORT_FORMAT}: use a newer one"
        )));
    }
    let read: Option<DisputeReport> = serde_json::from_slice(bytes).ok();
    Ok(read.map_or_else(
        || Claims {
            made_by: MADE_BY.to_owned(),
            key_pinned: false,
            audit: Audit {
                sound: false,
                sentence: String::new(),
                events: 0,
                signatures: 0,
                orders: 0,
                answers: 0,
                anchored: None,
                findings: Vec::new(),
                findings_elsewhere: 0,
            },
        },
        |read| Claims {
            made_by: read.made_by,
            key_pinned: read.ledger.key_pinned,
            audit: read.audit,
        },
    ))
}

/// What replaying the events came to.
fn told(report: &mut BundleReport, composed: &Composed, claims: &Claims) {
    let replayed = &composed.replayed;
    report.origin = Some(replayed.origin.clone());
    report.event_key = Some(replayed.event_key.to_string());
    report.order = Some(replayed.key.to_string());
    report.signatures = replayed.checked.signatures;
    report.attachments = replayed.checked.attachments;
    report.exchange_replies = replayed.checked.exchange_replies;
    report.answers = replayed.checked.answers;
    report.audit = Some(claims.audit.sentence.clone());
    report.findings.extend(flatten(&replayed.findings, |_| true));
    if replayed.findings_unlisted > 0 {
        let text = format!("{} more findings are not listed", replayed.findings_unlisted);
        report.find("bundle.story", None, text);
    }
    if !claims.audit.sound {
        let text = format!(
            "the exporter's own audit of the ledger found: {}",
            claims.audit.sentence
        );
        report.find("bundle.audit", None, text);
    }
    report.notes.clone_from(&composed.report.notes);
}

/// The checkpoint's signature, and the place of every event in its tree.
fn proofs(report: &mut BundleReport, contents: &Contents, key: &VerifierKey) {
    let opened = std::str::from_utf8(&contents.checkpoint)
        .map_err(|e| e.to_string())
        .and_then(|text| Note::parse(text).map_err(|e| e.to_string()))
        .and_then(|note| {
            let checkpoint =
                Checkpoint::verify(&note, std::slice::from_ref(key)).map_err(|e| e.to_string())?;
            Ok((checkpoint, note))
        });
    let (checkpoint, note) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            return report.find(
                "bundle.checkpoint",
                None,
                format!("the ledger did not sign it: {e}"),
            );
        }
    };
    report.checkpoint = Some(checkpoint.size);
    for (seq, item) in &contents.events {
        let Some(proof) = &item.proof else {
            if *seq <= checkpoint.size {
                report.find("bundle.proof", Some(*seq), "its proof is missing");
            }
            continue;
        };
        let leaf = leaf_hash(&[item.sealed.as_slice(), &item.signature].concat());
        let read = std::str::from_utf8(proof)
            .map_err(|e| e.to_string())
            .and_then(|text| text.parse::<TlogProof>().map_err(|e| e.to_string()));
        let wrong = match read {
            Err(e) => Some(e),
            Ok(read) if read.note() != &note => Some("it leads to another checkpoint".to_owned()),
            Ok(read) if seq.checked_sub(1) != Some(read.index()) => Some("it is of another event".to_owned()),
            Ok(read) if read.to_string().as_bytes() != proof.as_slice() || !read.extra().is_empty() => {
                Some("it is not in the one form that a dispute file has".to_owned())
            }
            Ok(read) => read
                .verify(&leaf, std::slice::from_ref(key))
                .err()
                .map(|e| e.to_string()),
        };
        match wrong {
            Some(wrong) => report.find("bundle.proof", Some(*seq), wrong),
            None => report.proven += 1,
        }
    }
}

/// Every entry, and then the zip itself, against what follows from the evidence.
fn same(report: &mut BundleReport, bytes: &[u8], found: &Entries, composed: &Composed) {
    let before = report.findings.len();
    let expected = &composed.entries;
    let made_by = &composed.report.made_by;
    let why = if made_by == MADE_BY {
        String::new()
    } else {
        format!(": it was made by {made_by}, which may be why; check it with that version too")
    };
    for (name, content) in found {
        match expected.get(name) {
            None => report.find(
                "bundle.form",
                None,
                format!("{name} belongs to no event and no table of a dispute file"),
            ),
            Some(expected) if expected != content => {
                report.find(
                    "bundle.derived",
                    None,
                    format!("{name} does not say what follows from the events{why}"),
                );
            }
            Some(_) => {}
        }
    }
    for name in expected.keys().filter(|name| !found.contains_key(*name)) {
        report.find("bundle.form", None, format!("{name} is missing"));
    }
    if report.findings.len() > before {
        return;
    }
    match container::pack(expected) {
        Ok(packed) if packed == bytes => {}
        Ok(_) => report.find(
            "bundle.form",
            None,
            "the zip around the files is not in its one form",
        ),
        Err(e) => report.find("bundle.form", None, e.to_string()),
    }
}

/// What no dispute file can prove.
fn cannot() -> Vec<String> {
    [
        "that no event of the order was left out: an omission shows where numbers of permissions, or the events that \
         answers rest on, do not fit any more, and nowhere else; who has the ledger can see it",
        "what the exporter says of the rest of the ledger",
        "that deposits marked as claimed were made, and that times are true: they are the shop's word, as all that is \
         marked so",
        "that the event key is the shop's, unless you brought it yourself",
    ]
    .map(ToOwned::to_owned)
    .to_vec()
}

/// The report for people.
#[must_use]
pub fn print_bundle(report: &BundleReport) -> String {
    let mut text = String::new();
    let unknown = || "unknown".to_owned();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("file", plain(&report.file));
    line("order", plain(&report.order.clone().unwrap_or_else(unknown)));
    line("ledger", plain(&report.origin.clone().unwrap_or_else(unknown)));
    let pinned = if report.key_pinned {
        "as given by the reader"
    } else {
        "NOT PINNED: the file's own word"
    };
    line(
        "event key",
        format!(
            "{} ({pinned})",
            plain(&report.event_key.clone().unwrap_or_else(unknown))
        ),
    );
    line(
        "events",
        format!(
            "{}, of which {} signed, {} proven to be in the checkpoint of {} events",
            report.events,
            report.signatures,
            report.proven,
            report.checkpoint.map_or_else(unknown, |size| size.to_string())
        ),
    );
    line(
        "checked",
        format!(
            "{} attachments as sealed, {} exchange replies, {} answers rebuilt",
            report.attachments, report.exchange_replies, report.answers
        ),
    );
    if let Some(audit) = &report.audit {
        line("exporter", format!("says: {}", plain(audit)));
    }
    for note in &report.notes {
        let at = note.seq.map_or_else(String::new, |seq| format!("event {seq}: "));
        let _ = writeln!(text, "note: {at}{}", plain(&note.text));
    }
    for finding in &report.findings {
        let at = finding
            .seq
            .map_or_else(String::new, |seq| format!(" at event {seq}"));
        let follows = if finding.consequence {
            "  follows from it: "
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "{follows}[{}] {}{at}: {}",
            finding.grade,
            finding.rule,
            plain(&finding.text)
        );
        for (name, value) in [("expected", &finding.expected), ("found", &finding.found)] {
            if !value.is_empty() {
                let _ = writeln!(text, "    {name}: {}", plain(value));
            }
        }
        if !finding.at_stake.is_empty() {
            let _ = writeln!(text, "    at stake: {}", finding.at_stake.join(", "));
        }
    }
    let _ = writeln!(text, "It cannot prove:");
    for cannot in &report.cannot {
        let _ = writeln!(text, "- {cannot}");
    }
    let verdict = match report
        .findings
        .iter()
        .filter(|finding| !finding.consequence)
        .count()
    {
        0 => "SOUND: what the file says follows from the events in it".to_owned(),
        roots => format!("FINDINGS: {roots}"),
    };
    let _ = writeln!(text, "{verdict}");
    text
}

/// Texts of a file that somebody made cannot steer a terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
