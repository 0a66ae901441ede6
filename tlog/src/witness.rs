//! What a log says to its witnesses and what they answer: the bodies of `add-checkpoint`, after
//! c2sp.org/tlog-witness@v1.0.0.
//!
//! It reads and writes them, sends nothing, and does not decide for a witness. What was read is well-formed and
//! nothing more: the witness has still to verify the log's signature, that `old` is the size it cosigned last, and
//! the proof ([`verify_consistency`](crate::proof::verify_consistency)).

use crate::checkpoint::{Checkpoint, CheckpointError, parse_decimal, parse_hash};
use crate::cosignature::CosignerKey;
use crate::note::{Note, NoteError, parse_signatures};
use crate::tree::Hash;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::{fmt, str::FromStr};

/// The most hashes that a request can have, as the specification says. Trees of up to 2^62 leaves need no more.
pub const MAX_PROOF_LINES: usize = 63;

/// The `Content-Type` of a 409 that tells the witness's size.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

/// Why the body of a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The first line is not `old` and a decimal number without leading zeros.
    #[error("the first line is not `old` and a size")]
    Old,
    /// A line of the proof is not the canonical base64 of 32 bytes.
    #[error("line {0} of the proof is not the canonical base64 of 32 bytes")]
    Hash(usize),
    /// More than [`MAX_PROOF_LINES`].
    #[error("more than {MAX_PROOF_LINES} hashes")]
    TooManyHashes,
    /// No empty line separates the proof from the checkpoint.
    #[error("no empty line separates the proof from the checkpoint")]
    NoCheckpoint,
    /// What follows the empty line is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// The body of a request to cosign a checkpoint. Its text is what [`fmt::Display`] writes and [`FromStr`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    old: u64,
    proof: Vec<Hash>,
    note: Note,
    checkpoint: Checkpoint,
}

impl AddCheckpoint {
    /// Asks to cosign this note, with the proof that its tree continues the one of size `old`. Refuses a note whose
    /// text is no checkpoint, and a proof that is too long; does not verify it.
    pub fn new(old: u64, proof: Vec<Hash>, note: Note) -> Result<Self, RequestError> {
        if proof.len() > MAX_PROOF_LINES {
            return Err(RequestError::TooManyHashes);
        }
        let checkpoint = Checkpoint::parse_text(note.text())?;
        Ok(Self {
            old,
            proof,
            note,
            checkpoint,
        })
    }

    /// The size that the log believes the witness to have cosigned last; 0 if none.
    #[must_use]
    pub fn old(&self) -> u64 {
        self.old
    }

    /// The consistency proof from that size to the checkpoint's.
    #[must_use]
    pub fn proof(&self) -> &[Hash] {
        &self.proof
    }

    /// The checkpoint as the log signed it.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// What the checkpoint says, verified by nobody yet: [`Checkpoint::verify`] does it.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        write_hashes(&self.proof, f)?;
        write!(f, "\n{}", self.note)
    }
}

impl FromStr for AddCheckpoint {
    type Err = RequestError;

    fn from_str(body: &str) -> Result<Self, RequestError> {
        let (old, rest) = body.split_once('\n').ok_or(RequestError::Old)?;
        let old = old
            .strip_prefix("old ")
            .and_then(parse_decimal)
            .ok_or(RequestError::Old)?;
        let (proof, note) = read_hashes(rest, MAX_PROOF_LINES).map_err(|found| match found {
            HashLines::Malformed(line) => RequestError::Hash(line),
            HashLines::TooMany => RequestError::TooManyHashes,
            HashLines::NoEnd => RequestError::NoCheckpoint,
        })?;
        Self::new(old, proof, Note::parse(note).map_err(CheckpointError::from)?)
    }
}

/// What is wrong with lines of hashes that should end in an empty line.
pub(crate) enum HashLines {
    Malformed(usize),
    TooMany,
    NoEnd,
}

/// Reads lines of hashes up to and with the empty line behind them; gives the hashes and what follows.
pub(crate) fn read_hashes(text: &str, limit: usize) -> Result<(Vec<Hash>, &str), HashLines> {
    let mut hashes = Vec::new();
    let mut rest = text;
    loop {
        let (line, behind) = rest.split_once('\n').ok_or(HashLines::NoEnd)?;
        rest = behind;
        if line.is_empty() {
            return Ok((hashes, rest));
        }
        if hashes.len() == limit {
            return Err(HashLines::TooMany);
        }
        hashes.push(parse_hash(line).ok_or(HashLines::Malformed(hashes.len() + 1))?);
    }
}

pub(crate) fn write_hashes(hashes: &[Hash], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    hashes
        .iter()
        .try_for_each(|hash| writeln!(f, "{}", BASE64_STANDARD.encode(hash.0)))
}

/// Adds to a note the cosignatures that a witness answered with 200, as far as they are by these keys, and gives the
/// times of those, in seconds since 1970. Signatures by other keys are ignored; an invalid one by one of these keys
/// refuses the answer as a whole and leaves the note as it was.
pub fn add_cosignatures(
    note: &mut Note,
    answer: &str,
    witnesses: &[CosignerKey],
) -> Result<Vec<u64>, NoteError> {
    let mut cosigned = note.clone();
    let mut times = Vec::new();
    for line in parse_signatures(answer)? {
        if let Some(key) = witnesses.iter().find(|key| key.made(&line)) {
            times.push(key.time_of(&line, note.text())?);
            cosigned.add(line)?;
        }
    }
    *note = cosigned;
    Ok(times)
}

/// The size that the witness cosigned last, from the body of a 409 with [`SIZE_CONTENT_TYPE`]; `None` if it is not
/// one number and a newline.
#[must_use]
pub fn parse_size(answer: &str) -> Option<u64> {
    parse_decimal(answer.strip_suffix('\n')?)
}
