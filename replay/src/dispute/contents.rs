//! What a dispute file holds as evidence: events as sealed, their signatures, attachments, proofs, the checkpoint. From
//! and to entries of the zip, judging nothing. Everything else in the file is derived from it.

use std::collections::BTreeMap;

use quittance_events::copy::{StoredAttachment, StoredEvent};
use quittance_events::{AttachmentName, Event};
use quittance_taler::Digest32;

use super::container::Entries;

/// Why an attachment's bytes are not in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The exporter left them out.
    Redacted,
    /// The ledger does not have them any more.
    Erased,
}

impl Absence {
    const ALL: [Absence; 2] = [Absence::Redacted, Absence::Erased];

    fn extension(self) -> &'static str {
        match self {
            Absence::Redacted => "redacted",
            Absence::Erased => "erased",
        }
    }

    /// What stands in the place of the bytes.
    fn word(self, seq: u64, name: &str, digest: Option<&Digest32>) -> Vec<u8> {
        let what = match self {
            Absence::Redacted => "was left out of this file by its exporter",
            Absence::Erased => "is erased from the ledger, with its salt",
        };
        let digest = digest.map_or_else(|| "none".to_owned(), ToString::to_string);
        format!(
            "The attachment \"{name}\" of event {seq} {what}.\nIts salted digest, as the event holds it: {digest}\n"
        )
        .into_bytes()
    }
}

/// What there is of an attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) salt: Option<Vec<u8>>,
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) absence: Option<Absence>,
}

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) sealed: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) attachments: BTreeMap<String, Held>,
    /// The file that proves that it is in the checkpoint's tree.
    pub(crate) proof: Option<Vec<u8>>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) events: BTreeMap<u64, Item>,
    pub(crate) checkpoint: Vec<u8>,
}

pub(crate) fn attachment_file(seq: u64, name: &str) -> String {
    format!("attachments/{seq}-{name}")
}

pub(crate) fn proof_file(seq: u64) -> String {
    format!("proofs/{seq}.tlog-proof")
}

impl Contents {
    /// The entries of the zip that these contents are.
    pub(crate) fn entries(&self) -> Entries {
        let mut entries = Entries::from([("checkpoint".to_owned(), self.checkpoint.clone())]);
        for (seq, item) in &self.events {
            let event = Event::parse(&item.sealed).ok();
            entries.insert(format!("events/{seq}.json"), item.sealed.clone());
            entries.insert(format!("events/{seq}.sig"), item.signature.clone());
            for (name, held) in &item.attachments {
                let file = attachment_file(*seq, name);
                if let Some(salt) = &held.salt {
                    entries.insert(format!("{file}.salt"), salt.clone());
                }
                if let Some(bytes) = &held.bytes {
                    entries.insert(file.clone(), bytes.clone());
                }
                if let Some(absence) = held.absence {
                    let digest = AttachmentName::from_name(name)
                        .and_then(|name| event.as_ref()?.attachments.get(&name));
                    let word = absence.word(*seq, name, digest);
                    entries.insert(format!("{file}.{}", absence.extension()), word);
                }
            }
            if let Some(proof) = &item.proof {
                entries.insert(proof_file(*seq), proof.clone());
            }
        }
        entries
    }

    /// Reads contents from entries. What is foreign or incomplete among them shows when they are made anew.
    pub(crate) fn read(entries: &Entries) -> Contents {
        let mut contents = Contents {
            events: BTreeMap::new(),
            checkpoint: entries.get("checkpoint").cloned().unwrap_or_default(),
        };
        for (name, bytes) in entries {
            let Some(seq) = name
                .strip_prefix("events/")
                .and_then(|name| number(name.strip_suffix(".json")?))
            else {
                continue;
            };
            let item = Item {
                sealed: bytes.clone(),
                signature: entries
                    .get(&format!("events/{seq}.sig"))
                    .cloned()
                    .unwrap_or_default(),
                attachments: AttachmentName::ALL
                    .into_iter()
                    .filter_map(|name| Some((name.as_str().to_owned(), held(entries, seq, name.as_str())?)))
                    .collect(),
                proof: entries.get(&proof_file(seq)).cloned(),
            };
            contents.events.insert(seq, item);
        }
        contents
    }

    /// The events as a ledger would hold them. Attachments that were left out have no row.
    pub(crate) fn stored(&self) -> impl Iterator<Item = StoredEvent> {
        self.events.iter().map(|(seq, item)| {
            // No number in a name is above 2^53.
            let seq = i64::try_from(*seq).unwrap_or(i64::MAX);
            let rows = item.attachments.iter();
            let attachments = rows
                .filter(|(_, held)| held.absence != Some(Absence::Redacted))
                .map(|(name, held)| StoredAttachment {
                    seq,
                    name: name.clone(),
                    salt: held.salt.clone(),
                    bytes: held.bytes.clone(),
                });
            StoredEvent {
                seq,
                sealed: item.sealed.clone(),
                signature: item.signature.clone(),
                attachments: attachments.collect(),
            }
        })
    }

    /// Attachments that were left out.
    pub(crate) fn redacted(&self) -> impl Iterator<Item = (u64, AttachmentName)> {
        self.events.iter().flat_map(|(seq, item)| {
            let redacted = |held: &Held| held.absence == Some(Absence::Redacted);
            item.attachments
                .iter()
                .filter(move |(_, held)| redacted(held))
                .filter_map(|(name, _)| Some((*seq, AttachmentName::from_name(name)?)))
        })
    }
}

fn held(entries: &Entries, seq: u64, name: &str) -> Option<Held> {
    let file = attachment_file(seq, name);
    let found = Held {
        salt: entries.get(&format!("{file}.salt")).cloned(),
        bytes: entries.get(&file).cloned(),
        absence: Absence::ALL
            .into_iter()
            .find(|absence| entries.contains_key(&format!("{file}.{}", absence.extension()))),
    };
    (found != Held::default()).then_some(found)
}

/// A number in the one form that a name has it.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text && number <= quittance_events::ids::SAFE_INTEGER_MAX && number > 0)
        .then_some(number)
}
