//! Two copies of one ledger: whether one extends the other, or where they part. Where they part, both events stand
//! under a signature of the ledger's key, and checkpoints of both sides contradict each other: that is proof
//! against the holder of the keys, whoever shows it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;

use quittance_events::copy::{Copy, CopyError, StoredEvent};
use quittance_events::seal;
use quittance_taler::{Digest32, EddsaSignature};
use quittance_tlog::{Checkpoint, Frontier, leaf_hash};
use serde::Serialize;

use crate::keys::{LedgerKeys, vkey};
use crate::open::{self, Opened, Unusable};

/// Events read at once.
const PAGE: u32 = 1_000;

/// What two copies are to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Difference {
    /// They hold the same events.
    Same {
        /// How many.
        events: u64,
    },
    /// All events of one stand at the beginning of the other.
    Extends {
        /// The longer one.
        longer: String,
        /// The shorter one.
        shorter: String,
        /// How many events both hold.
        common: u64,
        /// How many the longer one holds beyond them.
        more: u64,
    },
    /// They part.
    Parts {
        /// Events that are the same in both.
        common: u64,
        /// The first sequence at which they differ.
        seq: i64,
        /// What each holds there.
        a: Box<Side>,
        /// Likewise.
        b: Box<Side>,
        /// Both sides hold the place under a valid signature of the ledger's event key.
        proven: bool,
    },
}

impl Difference {
    /// Whether the two contradict each other.
    #[must_use]
    pub fn is_contradiction(&self) -> bool {
        matches!(self, Difference::Parts { .. })
    }
}

/// One side of a parting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The file.
    pub ledger: String,
    /// The event key in force there, as VKEY.
    pub event_key: Option<String>,
    /// The event; nothing where this copy has a gap.
    pub event: Option<SideEvent>,
    /// The first checkpoint that covers the event: at a size that both sides have one of, where there is such.
    pub checkpoint: Option<SideCheckpoint>,
}

/// An event as one side has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SideEvent {
    /// The sealed bytes as text.
    pub sealed: String,
    /// Their digest.
    pub digest: Digest32,
    /// The signature in base32.
    pub signature: Option<EddsaSignature>,
    /// It is that of the ledger's event key.
    pub signature_holds: bool,
}

/// A checkpoint that covers one side's event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SideCheckpoint {
    /// How many events it covers.
    pub size: u64,
    /// The signed note.
    pub note: String,
    /// It is signed by the ledger's checkpoint key, and its root is that of this side's events.
    pub holds: bool,
}

/// The events of a copy, one after the other.
struct Reader<'a> {
    copy: &'a Copy,
    page: VecDeque<StoredEvent>,
    after: i64,
    /// Tree over what was taken so far.
    tree: Frontier,
}

impl<'a> Reader<'a> {
    fn new(copy: &'a Copy) -> Reader<'a> {
        Reader {
            copy,
            page: VecDeque::new(),
            after: i64::MIN,
            tree: Frontier::default(),
        }
    }

    fn peek(&mut self) -> Result<Option<&StoredEvent>, CopyError> {
        if self.page.is_empty() {
            self.page = self.copy.events_after(self.after, PAGE)?.into();
            if let Some(last) = self.page.back() {
                if last.seq <= self.after {
                    return Err(CopyError::Damaged("events are out of order".into()));
                }
                self.after = last.seq;
            }
        }
        Ok(self.page.front())
    }

    fn take(&mut self) {
        if let Some(event) = self.page.pop_front() {
            self.tree
                .push(leaf_hash(&[event.sealed, event.signature].concat()));
        }
    }

    /// Reads on until the tree has this size; says whether it does.
    fn grow(&mut self, size: u64) -> Result<bool, CopyError> {
        while self.tree.size() < size && self.peek()?.is_some() {
            self.take();
        }
        Ok(self.tree.size() == size)
    }

    fn count_rest(&mut self) -> Result<u64, CopyError> {
        let mut count = 0;
        while self.peek()?.is_some() {
            count += 1;
            self.page.pop_front();
        }
        Ok(count)
    }
}

/// Compares two copies.
///
/// # Errors
/// One of them is unusable, or too damaged to be read to where they part.
pub fn diff(a: &Path, b: &Path) -> Result<Difference, Unusable> {
    let (opened_a, opened_b) = (open::open(a)?, open::open(b)?);
    let (copy_a, copy_b) = (readable(&opened_a, a)?, readable(&opened_b, b)?);
    compare((a, copy_a), (b, copy_b)).map_err(|(path, error)| Unusable::unreadable(&path, error))
}

fn readable<'a>(opened: &'a Opened, path: &Path) -> Result<&'a Copy, Unusable> {
    match opened {
        Opened::Readable { copy, .. } => Ok(copy),
        Opened::Damaged(why) => Err(Unusable::unreadable(path, why)),
    }
}

type Failed = (std::path::PathBuf, CopyError);

fn compare((path_a, a): (&Path, &Copy), (path_b, b): (&Path, &Copy)) -> Result<Difference, Failed> {
    let of_a = |e| (path_a.to_owned(), e);
    let of_b = |e| (path_b.to_owned(), e);
    let (mut left, mut right) = (Reader::new(a), Reader::new(b));
    let name = |path: &Path| path.display().to_string();
    loop {
        let common = left.tree.size();
        let (first, second) = (left.peek().map_err(of_a)?, right.peek().map_err(of_b)?);
        let seq = match (first, second) {
            (None, None) => return Ok(Difference::Same { events: common }),
            (Some(_), None) => {
                return Ok(Difference::Extends {
                    longer: name(path_a),
                    shorter: name(path_b),
                    common,
                    more: left.count_rest().map_err(of_a)?,
                });
            }
            (None, Some(_)) => {
                return Ok(Difference::Extends {
                    longer: name(path_b),
                    shorter: name(path_a),
                    common,
                    more: right.count_rest().map_err(of_b)?,
                });
            }
            (Some(first), Some(second)) if same(first, second) => {
                left.take();
                right.take();
                continue;
            }
            (Some(first), Some(second)) => first.seq.min(second.seq),
        };
        let at = [left.peek().map_err(of_a)?, right.peek().map_err(of_b)?]
            .map(|event| event.filter(|event| event.seq == seq).cloned());
        let covering = common + 1;
        let shared = shared_size(a, b, covering).map_err(of_a)?;
        let [of_left, of_right] = at;
        let a = side(path_a, left, of_left, shared.unwrap_or(covering)).map_err(of_a)?;
        let b = side(path_b, right, of_right, shared.unwrap_or(covering)).map_err(of_b)?;
        let holds = |side: &Side| side.event.as_ref().is_some_and(|event| event.signature_holds);
        // Where they begin alike, the keys of both are the ledger's; a rotation that was not let in makes none.
        let proven = holds(&a) && holds(&b) && (common > 0 || a.event_key == b.event_key);
        return Ok(Difference::Parts {
            common,
            seq,
            a: Box::new(a),
            b: Box::new(b),
            proven,
        });
    }
}

fn same(a: &StoredEvent, b: &StoredEvent) -> bool {
    (a.seq, &a.sealed, &a.signature) == (b.seq, &b.sealed, &b.signature)
}

/// The first size from `covering` on that both have a checkpoint of: two of one size and different roots contradict
/// each other without anything else.
fn shared_size(a: &Copy, b: &Copy, covering: u64) -> Result<Option<u64>, CopyError> {
    let mut from = i64::try_from(covering).unwrap_or(i64::MAX);
    loop {
        let (Some((of_a, _)), Some((of_b, _))) = (
            a.checkpoints_from(from, 1)?.pop(),
            b.checkpoints_from(from, 1)?.pop(),
        ) else {
            return Ok(None);
        };
        if of_a == of_b {
            return Ok(u64::try_from(of_a).ok());
        }
        let next = of_a.max(of_b);
        if next <= from {
            // Damaged: sizes come out of order.
            return Ok(None);
        }
        from = next;
    }
}

fn side(path: &Path, mut reader: Reader, event: Option<StoredEvent>, size: u64) -> Result<Side, CopyError> {
    let keys = LedgerKeys::read(reader.copy)?;
    let sealing = event
        .as_ref()
        .and_then(|event| keys.event_at(u64::try_from(event.seq).ok()?));
    let event = event.map(|event| {
        let signature = <[u8; seal::SIGNATURE_LEN]>::try_from(event.signature.as_slice())
            .ok()
            .map(EddsaSignature::from_bytes);
        SideEvent {
            digest: seal::event_digest(&event.sealed),
            signature,
            signature_holds: sealing
                .zip(signature)
                .is_some_and(|(key, signature)| key.verify_event(&event.sealed, &signature)),
            sealed: String::from_utf8_lossy(&event.sealed).into_owned(),
        }
    });
    let from = i64::try_from(size).unwrap_or(i64::MAX);
    let checkpoint = match reader.copy.checkpoints_from(from, 1)?.pop() {
        None => None,
        Some((size, note)) => {
            let size = u64::try_from(size).unwrap_or(0);
            let grown = reader.grow(size)?;
            let signed = keys
                .checkpoint_at(size)
                .and_then(|key| Checkpoint::open(&note, key).ok());
            Some(SideCheckpoint {
                size,
                holds: grown
                    && signed.is_some_and(|signed| signed.size == size && signed.root == reader.tree.root()),
                note,
            })
        }
    };
    Ok(Side {
        ledger: path.display().to_string(),
        event_key: sealing
            .and_then(|key| vkey(keys.origin()?, &key.key()))
            .or_else(|| keys.event_vkeys().next())
            .map(|key| key.to_string()),
        event,
        checkpoint,
    })
}

/// The difference in plain words.
#[must_use]
pub fn print_difference(difference: &Difference) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(difference, &mut out);
    out
}

fn write(difference: &Difference, out: &mut String) -> std::fmt::Result {
    match difference {
        Difference::Same { events } => writeln!(out, "The two hold the same {events} events."),
        Difference::Extends {
            longer,
            shorter,
            common,
            more,
        } => writeln!(
            out,
            "{longer} extends {shorter}: the {common} events of the shorter one, and {more} more."
        ),
        Difference::Parts {
            common,
            seq,
            a,
            b,
            proven,
        } => {
            writeln!(
                out,
                "THEY PART at event {seq}, after {common} events that are the same in both."
            )?;
            if *proven {
                writeln!(
                    out,
                    "The ledger's event key signed both: whoever holds it told two histories. Keep both copies."
                )?;
            } else {
                writeln!(
                    out,
                    "Not both are signed by the ledger's key: one of the copies may be changed, damaged or another ledger."
                )?;
            }
            for (letter, side) in [('A', a), ('B', b)] {
                write_side(letter, side, out)?;
            }
            Ok(())
        }
    }
}

fn write_side(letter: char, side: &Side, out: &mut String) -> std::fmt::Result {
    let key = side.event_key.as_deref().unwrap_or("none that can be read");
    writeln!(out, "\n{letter}: {}\n   event key:  {key}", side.ledger)?;
    match &side.event {
        None => writeln!(out, "   event:      none, this copy has a gap here")?,
        Some(event) => {
            let signature = event
                .signature
                .map_or_else(|| "none".to_owned(), |signature| signature.to_string());
            writeln!(out, "   event:      {}", event.sealed)?;
            writeln!(out, "   digest:     {}", event.digest)?;
            writeln!(
                out,
                "   signature:  {signature} ({})",
                if event.signature_holds {
                    "the event key's"
                } else {
                    "NOT the event key's"
                }
            )?;
        }
    }
    match &side.checkpoint {
        None => writeln!(out, "   checkpoint: none covers it"),
        Some(checkpoint) => {
            let holds = if checkpoint.holds {
                "signed by the checkpoint key, over the events of this copy"
            } else {
                "does NOT hold for this copy"
            };
            writeln!(out, "   checkpoint: of {} events, {holds}:", checkpoint.size)?;
            checkpoint
                .note
                .lines()
                .try_for_each(|line| writeln!(out, "      {line}"))
        }
    }
}
