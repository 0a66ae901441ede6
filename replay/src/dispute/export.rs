//! Makes a dispute file from a ledger: audits the whole of it, takes the order's events and those that they rest on,
//! and proves each to be in the tree of the ledger's last checkpoint. Refuses to overwrite, and writes nothing beside
//! the evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use quittance_events::copy::{Copy, CopyError, StoredEvent};
use quittance_events::{AttachmentName, Event, Facts, InstanceId, OrderKey};
use quittance_taler::{HashCode, MasterPub};
use quittance_tlog::tlog_proof::TlogProof;
use quittance_tlog::{Checkpoint, CosignerKey, Note, ProofCollector, leaf_hash};
use tempfile::TempDir;

use crate::keys::LedgerKeys;
use crate::notes::claimed;
use crate::open::{self, Opened};
use crate::{Unusable, VerifyOptions, verify};

use super::compose::{Claims, MADE_BY, audit_part, compose};
use super::container;
use super::contents::{Absence, Contents, Held, Item};

/// What to export, and where to.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// The ledger, its anchor and its key, for the audit that comes first.
    pub verify: VerifyOptions,
    /// The merchant instance.
    pub instance: String,
    /// The order's id.
    pub order: String,
    /// Attachments to leave out.
    pub redact: Vec<Redaction>,
    /// The file to make.
    pub out: PathBuf,
}

/// Names an attachment: `SEQ:NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Redaction {
    /// Its event.
    pub seq: u64,
    /// Which of the event's.
    pub name: AttachmentName,
}

impl std::str::FromStr for Redaction {
    type Err = String;

    fn from_str(text: &str) -> Result<Redaction, String> {
        let read = || {
            let (seq, name) = text.split_once(':')?;
            Some(Redaction {
                seq: seq.parse().ok()?,
                name: AttachmentName::from_name(name)?,
            })
        };
        read().ok_or_else(|| {
            format!("{text:?} is not SEQ:NAME, NAME being terms, body, reply, reason, keys or account")
        })
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Events of the order, and those that they rest on.
    pub events: usize,
    /// Events newer than the checkpoint.
    pub unproven: u64,
    /// Length of the file.
    pub bytes: usize,
    /// What the audit of the whole ledger came to, in a sentence.
    pub audit: String,
    /// Whether that audit found nothing.
    pub sound: bool,
    /// Rules that the order's own events break.
    pub findings: usize,
}

/// Why no file was made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is nothing to export from.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The ledger cannot be read all through, or holds no checkpoint that its events bear out.
    #[error("{0}; see what `verify` says of this ledger")]
    Unsound(String),
    /// The order has more events than a dispute file may hold.
    #[error("the file would be beyond what its readers accept: {0}")]
    Bounds(String),
    /// An attachment to leave out that the file would not have anyway.
    #[error("event {} of this order has no attachment {} to leave out", .0.seq, .0.name.as_str())]
    NothingToRedact(Redaction),
    /// The file is there already, or cannot be written.
    #[error("{path} cannot be made: {why}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
}

impl From<CopyError> for ExportError {
    fn from(error: CopyError) -> ExportError {
        ExportError::Unsound(error.to_string())
    }
}

fn unsound(why: impl std::fmt::Display) -> ExportError {
    ExportError::Unsound(why.to_string())
}

/// Makes the file.
///
/// # Errors
/// See [`ExportError`]. Findings are no error: they stand in the file.
pub fn export(options: &ExportOptions) -> Result<Exported, ExportError> {
    // Before the work, for a plain word; the file itself is created only where there is none.
    if options.out.exists() {
        return Err(ExportError::Write {
            path: options.out.display().to_string(),
            why: "it exists already, and is not overwritten".into(),
        });
    }
    let bundle = bundle(options)?;
    write_new(&options.out, &bundle.0)?;
    Ok(bundle.1)
}

/// Makes a file that was not there; what cannot be written whole is taken away again.
///
/// # Errors
/// It is there already, or cannot be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let failed = |why: &dyn std::fmt::Display| ExportError::Write {
        path: path.display().to_string(),
        why: why.to_string(),
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|e| failed(&e))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| {
        let left = std::fs::remove_file(path).err();
        failed(&left.map_or_else(
            || e.to_string(),
            |left| format!("{e}; a part of it is left: {left}"),
        ))
    })
}

/// The bytes of the file.
pub(crate) fn bundle(options: &ExportOptions) -> Result<(Vec<u8>, Exported), ExportError> {
    let still = Still::of(&options.verify.ledger)?;
    let audited = verify(&VerifyOptions {
        ledger: still.path.clone(),
        ..options.verify.clone()
    })?;
    let missing = || Unusable::NoSuchOrder(format!("{}/{}", options.instance, options.order));
    let (Ok(instance), Ok(order)) = (options.instance.parse(), options.order.parse()) else {
        return Err(missing().into());
    };
    let key = OrderKey { instance, order };
    let opened = open::open(&still.path)?;
    let copy = match &opened {
        Opened::Damaged(why) => return Err(unsound(why)),
        Opened::Readable { copy, .. } => copy,
    };
    let read = read_all(copy, &key)?;
    if read.order.is_empty() {
        return Err(missing().into());
    }
    let contents = contents(copy, &read, &options.redact)?;
    let claims = Claims {
        made_by: MADE_BY.to_owned(),
        key_pinned: audited.key_pinned,
        audit: audit_part(&audited, &options.instance, &options.order),
    };
    let composed = compose(&contents, &claims, None).map_err(unsound)?;
    let bytes = container::pack(&composed.entries).map_err(|e| ExportError::Bounds(e.to_string()))?;
    let exported = Exported {
        events: contents.events.len(),
        unproven: composed.report.checkpoint.unproven,
        bytes: bytes.len(),
        audit: composed.report.audit.sentence.clone(),
        sound: composed.report.audit.sound,
        findings: composed.report.findings.len(),
    };
    Ok((bytes, exported))
}

/// A ledger that nobody writes while it is read twice: a file that comes with a WAL is copied first.
pub(crate) struct Still {
    pub(crate) path: PathBuf,
    _folder: Option<TempDir>,
}

impl Still {
    pub(crate) fn of(ledger: &Path) -> Result<Still, Unusable> {
        let wal = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push("-wal");
            PathBuf::from(name)
        };
        if !wal(ledger).exists() {
            return Ok(Still {
                path: ledger.to_owned(),
                _folder: None,
            });
        }
        let failed = |e: std::io::Error| Unusable::unreadable(ledger, e);
        let folder = tempfile::tempdir().map_err(failed)?;
        let path = folder.path().join("ledger.sqlite3");
        std::fs::copy(ledger, &path).map_err(failed)?;
        std::fs::copy(wal(ledger), wal(&path)).map_err(failed)?;
        Ok(Still {
            path,
            _folder: Some(folder),
        })
    }
}

/// What may be needed of a ledger, by the numbers of events.
#[derive(Default)]
struct Read {
    order: BTreeSet<i64>,
    /// The first event, and the order's instance.
    beginnings: BTreeSet<i64>,
    /// The instance's accounts, and the one that the order names.
    accounts: Vec<(i64, HashCode)>,
    h_wire: Option<HashCode>,
    keys_seen: BTreeMap<i64, MasterPub>,
    /// The order's exchanges.
    masters: BTreeSet<MasterPub>,
    corrections: BTreeSet<i64>,
    /// New keys of the ledger, and what raises its format for them.
    rotations: BTreeSet<i64>,
    /// Erasures, and the events whose attachments they erased.
    erasures: BTreeMap<i64, i64>,
    keys: LedgerKeys,
}

/// Reads all events: an index that lies leaves nothing out.
fn read_all(copy: &Copy, key: &OrderKey) -> Result<Read, ExportError> {
    let mut found = Read::default();
    copy.walk::<ExportError>(|item| {
        let Ok(stored) = item else { return Ok(()) };
        let Ok(event) = Event::parse(&stored.sealed) else {
            return Ok(());
        };
        let seq = stored.seq;
        if event.order_key().as_ref() == Some(key) {
            found.order.insert(seq);
        }
        match &event.facts {
            Facts::LedgerOpened(f) if seq == 1 => {
                found.beginnings.insert(seq);
                found.keys.begin(f);
            }
            Facts::AccountAdded(f) if is_of(&event, &key.instance) => found.accounts.push((seq, f.h_wire)),
            Facts::AccountClosed(f) if is_of(&event, &key.instance) => found.accounts.push((seq, f.h_wire)),
            Facts::OrderCreated(f) if found.order.contains(&seq) => found.h_wire = Some(f.h_wire),
            Facts::DepositRequested(f) if found.order.contains(&seq) => {
                found.masters.insert(f.exchange_master_pub);
            }
            Facts::InstanceAdded(_) | Facts::InstanceClosed(_) if is_of(&event, &key.instance) => {
                found.beginnings.insert(seq);
            }
            Facts::ClockCorrected(_) => {
                found.corrections.insert(seq);
            }
            Facts::FormatRaised(_) => {
                found.rotations.insert(seq);
            }
            Facts::LedgerKeyRotated(f) => {
                found.rotations.insert(seq);
                // What is wrong with it, the audit tells.
                found.keys.rotate(u64::try_from(seq).map_err(unsound)?, f);
            }
            Facts::AttachmentErased(f) => {
                found.erasures.insert(seq, f.seq.sql());
            }
            Facts::ExchangeKeysSeen(f) => {
                found.keys_seen.insert(seq, f.master_pub);
            }
            Facts::OrderRecorded(f) if found.order.contains(&seq) => {
                let exchanges = f.exchanges.iter();
                found
                    .masters
                    .extend(exchanges.map(|exchange| exchange.master_pub));
            }
            Facts::DepositRecorded(f) if found.order.contains(&seq) => {
                found.masters.insert(f.exchange_master_pub);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

impl Read {
    /// The events that a file needs whose checkpoint is of this size: the order's, and those that they rest on.
    fn wanted(&self, checkpoint: u64) -> BTreeSet<i64> {
        let last = self.order.last().copied().unwrap_or(0);
        let of_exchanges = self.keys_seen.iter();
        let of_exchanges = of_exchanges.filter(|(_, master)| self.masters.contains(master));
        let accounts = self.accounts.iter();
        let accounts = accounts.filter(|(_, h_wire)| self.h_wire == Some(*h_wire));
        let before = self.beginnings.iter().chain(of_exchanges.map(|(seq, _)| seq));
        let before = before.chain(accounts.map(|(seq, _)| seq));
        let mut wanted: BTreeSet<i64> = before.copied().filter(|seq| *seq < last).collect();
        wanted.extend(&self.order);
        // The checkpoint is judged under the key in force there.
        let signed = self.rotations.iter().copied();
        wanted.extend(signed.filter(|seq| u64::try_from(*seq).is_ok_and(|seq| seq <= checkpoint)));
        // Each of these may call for others: an erasure is sealed under a key, at a time that corrections explain, and
        // a correction's reason may be erased.
        loop {
            let (before, last) = (wanted.len(), wanted.last().copied().unwrap_or(0));
            wanted.extend(self.rotations.union(&self.corrections).filter(|seq| **seq < last));
            let erasures = self.erasures.iter();
            let of_these: Vec<i64> = erasures
                .filter(|(_, target)| wanted.contains(target))
                .map(|(seq, _)| *seq)
                .collect();
            wanted.extend(of_these);
            if wanted.len() == before {
                return wanted;
            }
        }
    }
}

fn is_of(event: &Event, instance: &InstanceId) -> bool {
    event.instance.as_ref() == Some(instance)
}

fn contents(copy: &Copy, read: &Read, redact: &[Redaction]) -> Result<Contents, ExportError> {
    let (size, note) = last_checkpoint(copy, &read.keys)?;
    let mut contents = Contents::default();
    for seq in read.wanted(size) {
        let Some(stored) = copy.event(seq)? else { continue };
        let number = u64::try_from(seq).map_err(unsound)?;
        contents.events.insert(number, item(stored));
    }
    for redaction in redact {
        let item = contents.events.get_mut(&redaction.seq);
        let held = item
            .and_then(|item| item.attachments.get_mut(redaction.name.as_str()))
            .filter(|held| held.bytes.is_some())
            .ok_or(ExportError::NothingToRedact(*redaction))?;
        *held = redacted();
    }
    let proofs = proofs(copy, &contents, size, &note)?;
    for (seq, item) in &mut contents.events {
        item.proof = proofs.get(seq).map(|proof| proof.to_string().into_bytes());
    }
    contents.checkpoint = note.to_string().into_bytes();
    Ok(contents)
}

fn redacted() -> Held {
    Held {
        absence: Some(Absence::Redacted),
        ..Held::default()
    }
}

fn item(stored: StoredEvent) -> Item {
    let attachments = stored.attachments.into_iter().map(|row| {
        let held = match (row.salt, row.bytes) {
            (None, None) => Held {
                absence: Some(Absence::Erased),
                ..Held::default()
            },
            // An exchange's keys are long, and what counts of them stands in the facts, signed.
            _ if row.name == AttachmentName::Keys.as_str() => redacted(),
            (salt, bytes) => Held {
                salt,
                bytes,
                absence: None,
            },
        };
        (row.name, held)
    });
    Item {
        sealed: stored.sealed,
        signature: stored.signature,
        attachments: attachments
            .filter(|(name, _)| AttachmentName::from_name(name).is_some())
            .collect(),
        proof: None,
    }
}

/// The last checkpoint that the ledger's own key signed, the one in force at its size. Whether the events bear it out
/// shows with the proofs.
fn last_checkpoint(copy: &Copy, keys: &LedgerKeys) -> Result<(u64, Note), ExportError> {
    let opened = |note: &str| {
        let key = keys.checkpoint_at(claimed(note)?.size)?;
        let size = Checkpoint::open(note, key).ok()?.size;
        Some((size, Note::parse(note).ok()?))
    };
    let mut below = i64::MAX;
    while let Some((size, note)) = copy.checkpoint_below(below)? {
        if let Some((covered, mut note)) = opened(&note).filter(|(covered, _)| *covered > 0) {
            add_cosignatures(copy, size, &mut note)?;
            return Ok((covered, note));
        }
        below = size;
    }
    Err(unsound("the ledger holds no checkpoint that its key signed"))
}

/// What witnesses said of the checkpoint, as far as it verifies under the keys that the ledger has for them.
fn add_cosignatures(copy: &Copy, size: i64, note: &mut Note) -> Result<(), ExportError> {
    for (_, vkey, line) in copy.cosignatures_of(size)? {
        let Ok(key) = vkey.parse::<CosignerKey>() else {
            continue;
        };
        let with = format!("{note}{line}\n");
        if let Some(cosigned) = Note::parse(&with)
            .ok()
            .filter(|with| key.cosigned_at(with).is_ok())
        {
            *note = cosigned;
        }
    }
    Ok(())
}

/// The proofs of all events that the checkpoint covers, in one pass.
fn proofs(
    copy: &Copy,
    contents: &Contents,
    size: u64,
    note: &Note,
) -> Result<BTreeMap<u64, TlogProof>, ExportError> {
    let covered: Vec<u64> = contents
        .events
        .keys()
        .copied()
        .filter(|seq| *seq <= size)
        .collect();
    let indexes = covered.iter().map(|seq| seq - 1);
    let mut collector = ProofCollector::new(size, indexes).map_err(unsound)?;
    copy.walk::<ExportError>(|item| {
        if let Ok(stored) = item
            && collector.frontier().size() < size
        {
            let leaf = leaf_hash(&[stored.sealed.as_slice(), &stored.signature].concat());
            collector.push(leaf).map_err(unsound)?;
        }
        Ok(())
    })?;
    let collected = collector.finish().map_err(unsound)?;
    let checkpoint = Checkpoint::parse_text(note.text()).map_err(unsound)?;
    if collected.root != checkpoint.root {
        return Err(unsound("the events do not bear out the last checkpoint"));
    }
    covered
        .into_iter()
        .map(|seq| {
            let hashes = collected.proofs.get(&(seq - 1)).cloned().unwrap_or_default();
            let proof = TlogProof::new(seq - 1, hashes, note.clone(), Vec::new()).map_err(unsound)?;
            Ok((seq, proof))
        })
        .collect()
}
