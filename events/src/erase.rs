//! Erases an attachment for a lawful reason: the event that says so and the bytes' end in one transaction, then proof
//! that the files hold them no more. Signature, chain and tree stand, because events hold salted digests alone.
//! Decides nothing: whether the service still needs the bytes is for the caller to say, whether it is lawful for the
//! operator to know. Nothing runs beside it: it holds the lock. Copies elsewhere are beyond it.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, params};

use quittance_taler::Micros;

use crate::append::{Append, AppendError, Stream};
use crate::event::{AttachmentName, Event, Facts, NewEvent};
use crate::facts::AttachmentErased;
use crate::ids::Seq;
use crate::keys::KeyRing;
use crate::ledger::{OpenError, Paths};
use crate::limits::{ERASED_SAMPLE_BYTES, ERASED_SAMPLE_MIN, ERASED_SAMPLES_MAX};
use crate::opening::{BOTH_KEYS, begin};
use crate::sale::Folded;
use crate::schema;
use crate::store::{self, StoreError};
use crate::writer::Writer;

/// Why nothing was erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The ledger was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The event was not recorded.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such attachment.
    #[error("event {seq} has no attachment {}", name.as_str())]
    Unknown {
        /// The event.
        seq: Seq,
        /// The name.
        name: AttachmentName,
    },
    /// Its bytes are gone already.
    #[error("attachment {} of event {seq} is erased already", name.as_str())]
    AlreadyErased {
        /// The event.
        seq: Seq,
        /// The name.
        name: AttachmentName,
    },
    /// The service needs the bytes for something open.
    #[error("attachment {} of event {seq} is still needed: {why}", name.as_str())]
    Needed {
        /// The event.
        seq: Seq,
        /// The name.
        name: AttachmentName,
        /// What for.
        why: String,
    },
    /// Erased and recorded as such, but the bytes could not be taken out of the files.
    #[error("event {erasure} says that the bytes are erased, but {what}")]
    Remains {
        /// The `attachment_erased`.
        erasure: Seq,
        /// What is left where, or why nobody can say.
        what: String,
    },
}

impl From<rusqlite::Error> for EraseError {
    fn from(error: rusqlite::Error) -> EraseError {
        EraseError::Store(error.into())
    }
}

/// Erases salt and bytes of an attachment, and records why. Gives the event's sequence. `needed` says what the bytes of
/// this event of this order are still needed for.
///
/// # Errors
/// See [`EraseError`]; nothing is changed but for [`EraseError::Remains`].
pub fn erase(
    paths: &Paths,
    ring: KeyRing,
    (seq, name): (Seq, AttachmentName),
    reason: &str,
    at: Micros,
    holder: &str,
    needed: impl FnOnce(&Folded, &Event) -> Option<String>,
) -> Result<Seq, EraseError> {
    let (mut writer, _lock) = begin(paths, ring, BOTH_KEYS, holder)?;
    let needles = match stored(&writer.conn, seq, name)? {
        None => return Err(EraseError::Unknown { seq, name }),
        Some((Some(salt), Some(bytes))) => Needles::new(salt, &bytes),
        Some(_) => return Err(EraseError::AlreadyErased { seq, name }),
    };
    let event = store::read_event(&writer.conn, seq)?.ok_or(EraseError::Unknown { seq, name })?;
    let stream = match event.order_key() {
        None => {
            if let Facts::AccountAdded(f) = &event.facts {
                let instance = event.instance.as_ref();
                let book = writer.shared.book();
                let account = instance.and_then(|instance| book.account(instance, &f.h_wire));
                if account.is_some_and(|account| account.open) {
                    let why = "orders name the account until it is closed".into();
                    return Err(EraseError::Needed { seq, name, why });
                }
            }
            Stream::Ledger(event.instance.clone())
        }
        Some(key) => {
            let order = store::read_order(&writer.conn, &key, &writer.shared.book())?;
            let order = order.ok_or_else(|| StoreError::Damaged(format!("order {key} has no events")))?;
            if let Some(why) = needed(&order, &event) {
                return Err(EraseError::Needed { seq, name, why });
            }
            Stream::Told(key)
        }
    };
    let facts = AttachmentErased { seq, name };
    let appended = writer.record(Append {
        stream,
        at,
        events: vec![NewEvent::with(
            facts,
            AttachmentName::Reason,
            reason.as_bytes().to_vec(),
        )],
    })?;
    let erasure = *appended.seqs.last().expect("an erasure is always recorded");
    writer.end();
    prove_gone(&writer, paths, needles).map_err(|what| EraseError::Remains { erasure, what })?;
    Ok(erasure)
}

type Stored = (Option<Vec<u8>>, Option<Vec<u8>>);

fn stored(conn: &Connection, seq: Seq, name: AttachmentName) -> rusqlite::Result<Option<Stored>> {
    conn.query_row(
        "SELECT salt, bytes FROM attachment WHERE seq = ?1 AND name = ?2",
        params![seq.sql(), name.as_str()],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .optional()
}

/// What must not be found any more: the salt, which nothing else holds, and samples of the bytes.
struct Needles {
    salt: Vec<u8>,
    samples: Vec<Vec<u8>>,
}

impl Needles {
    fn new(salt: Vec<u8>, bytes: &[u8]) -> Needles {
        let chunks = bytes.chunks_exact(ERASED_SAMPLE_BYTES);
        let step = (chunks.len() / ERASED_SAMPLES_MAX).max(1);
        let samples = chunks.step_by(step).take(ERASED_SAMPLES_MAX);
        let mut samples: Vec<Vec<u8>> = samples.map(<[u8]>::to_vec).collect();
        if samples.is_empty() && bytes.len() >= ERASED_SAMPLE_MIN {
            samples.push(bytes.to_vec());
        }
        Needles { salt, samples }
    }

    /// Leaves out what the ledger rightly holds elsewhere too: other attachments with the same text, facts.
    fn only_here(mut self, conn: &Connection) -> rusqlite::Result<Needles> {
        let mut elsewhere = conn.prepare(
            "SELECT EXISTS (SELECT 1 FROM attachment WHERE instr(bytes, ?1) > 0)
                 OR EXISTS (SELECT 1 FROM event WHERE instr(sealed, ?1) > 0)",
        )?;
        let mut kept = Vec::new();
        for sample in self.samples {
            if !elsewhere.query_row([&sample], |row| row.get::<_, bool>(0))? {
                kept.push(sample);
            }
        }
        self.samples = kept;
        Ok(self)
    }

    fn all(&self) -> impl Iterator<Item = &Vec<u8>> {
        std::iter::once(&self.salt).chain(&self.samples)
    }

    /// Whether one of them stands in the file.
    fn found_in(&self, mut file: File) -> io::Result<bool> {
        let longest = self.all().map(Vec::len).max().unwrap_or(0);
        // Most places are told apart by their first two bytes.
        let mut begins = vec![false; 1 << 16];
        for needle in self.all() {
            if let [a, b, ..] = needle[..] {
                begins[usize::from(u16::from_be_bytes([a, b]))] = true;
            }
        }
        let mut held: Vec<u8> = Vec::new();
        loop {
            // A needle may lie across two reads.
            held.drain(..held.len().saturating_sub(longest));
            if file.by_ref().take(READ_BYTES).read_to_end(&mut held)? == 0 {
                return Ok(false);
            }
            let may_begin = |pair: &[u8]| begins[usize::from(u16::from_be_bytes([pair[0], pair[1]]))];
            for (place, pair) in held.windows(2).enumerate() {
                if may_begin(pair) && self.all().any(|needle| held[place..].starts_with(needle)) {
                    return Ok(true);
                }
            }
        }
    }
}

/// Read at once of a file that is searched.
const READ_BYTES: u64 = 1024 * 1024;

/// Looks for the bytes in the ledger's files. Pages that were split before the erasure may still hold a copy in their
/// unused parts; writing the whole file anew takes it out.
fn prove_gone(writer: &Writer, paths: &Paths, needles: Needles) -> Result<(), String> {
    let told = |e: &dyn std::fmt::Display| e.to_string();
    let needles = needles.only_here(&writer.conn).map_err(|e| told(&e))?;
    for attempt in 0..2 {
        if attempt > 0 {
            writer.conn.execute_batch("VACUUM").map_err(|e| told(&e))?;
        }
        schema::truncate_wal(&writer.conn).map_err(|e| told(&e))?;
        if !found(paths, &needles)? {
            return Ok(());
        }
    }
    Err("the files still hold some of them".into())
}

fn found(paths: &Paths, needles: &Needles) -> Result<bool, String> {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = paths.ledger.as_os_str().to_owned();
        path.push(suffix);
        let path = PathBuf::from(path);
        match File::open(&path).and_then(|file| needles.found_in(file)) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(format!("{} cannot be read: {e}", path.display())),
        }
    }
    Ok(false)
}
