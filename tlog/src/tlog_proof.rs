//! Proofs for who is offline: one text that shows an entry to be in a log and who witnessed it, after
//! c2sp.org/tlog-proof, format v1 (a draft when this was written). Files of it end in `.tlog-proof`.
//!
//! The entry itself is not in it, and the extra data is authenticated by nothing. What was read proves nothing
//! before [`TlogProof::verify`] passed with the log's keys; how many witnesses are enough is for the caller to say.

use crate::checkpoint::{Checkpoint, CheckpointError, parse_decimal};
use crate::note::{Note, VerifierKey};
use crate::proof::{ProofError, verify_inclusion};
use crate::tree::Hash;
use crate::witness::{HashLines, read_hashes, write_hashes};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::{fmt, str::FromStr};

/// The first line of every such proof.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The most hashes that an inclusion proof can have where a size has 64 bits.
pub const MAX_HASHES: usize = 64;

/// Why a proof is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// The first line is not [`HEADER`].
    #[error("the first line is not {HEADER}")]
    Header,
    /// The extra data is empty or not canonical base64.
    #[error("the extra data is not canonical base64, or empty")]
    Extra,
    /// There is no index, or it is not a decimal number below 2^64 without leading zeros.
    #[error("no line `index` with a decimal number without leading zeros")]
    Index,
    /// A line of the inclusion proof is not the canonical base64 of 32 bytes.
    #[error("line {0} of the inclusion proof is not the canonical base64 of 32 bytes")]
    Hash(usize),
    /// More than [`MAX_HASHES`].
    #[error("more than {MAX_HASHES} hashes")]
    TooManyHashes,
    /// No empty line separates the inclusion proof from the checkpoint.
    #[error("no empty line separates the inclusion proof from the checkpoint")]
    NoCheckpoint,
    /// What follows is no checkpoint, or not one that the log signed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The leaf is not at that index of the checkpoint's tree.
    #[error(transparent)]
    Inclusion(#[from] ProofError),
}

/// A proof that an entry is in a log. Its text is what [`fmt::Display`] writes and [`FromStr`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    index: u64,
    hashes: Vec<Hash>,
    note: Note,
    extra: Vec<u8>,
}

impl TlogProof {
    /// The proof that leaf `index` is in the tree of that checkpoint. Refuses what could not be read again; verifies
    /// nothing. Empty extra data is none.
    pub fn new(index: u64, hashes: Vec<Hash>, note: Note, extra: Vec<u8>) -> Result<Self, TlogProofError> {
        if hashes.len() > MAX_HASHES {
            return Err(TlogProofError::TooManyHashes);
        }
        Checkpoint::parse_text(note.text())?;
        Ok(Self {
            index,
            hashes,
            note,
            extra,
        })
    }

    /// The entry's index in the log, the first being 0.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The inclusion proof, from the leaf's sibling up.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The signed checkpoint, for asking witnesses' keys whether they
    /// [cosigned](crate::cosignature::CosignerKey::cosigned_at) it.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Extra data of the application, empty if there is none. Nothing protects it: trust it only as far as it is
    /// checked against the entry.
    #[must_use]
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }

    /// Passes if one of the log's keys signed the checkpoint and the leaf, given as its
    /// [`leaf_hash`](crate::leaf_hash), is at the index in its tree. Gives the checkpoint.
    pub fn verify(&self, leaf: &Hash, log: &[VerifierKey]) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = Checkpoint::verify(&self.note, log)?;
        verify_inclusion(leaf, self.index, checkpoint.size, &self.hashes, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if !self.extra.is_empty() {
            writeln!(f, "extra {}", BASE64_STANDARD.encode(&self.extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        write_hashes(&self.hashes, f)?;
        write!(f, "\n{}", self.note)
    }
}

impl FromStr for TlogProof {
    type Err = TlogProofError;

    fn from_str(text: &str) -> Result<Self, TlogProofError> {
        let (header, mut rest) = text.split_once('\n').ok_or(TlogProofError::Header)?;
        if header != HEADER {
            return Err(TlogProofError::Header);
        }
        let mut extra = Vec::new();
        if let Some(behind) = rest.strip_prefix("extra ") {
            let encoded;
            (encoded, rest) = behind.split_once('\n').ok_or(TlogProofError::Extra)?;
            extra = BASE64_STANDARD
                .decode(encoded)
                .map_err(|_| TlogProofError::Extra)?;
            if extra.is_empty() {
                return Err(TlogProofError::Extra);
            }
        }
        let (index, rest) = rest
            .strip_prefix("index ")
            .and_then(|line| line.split_once('\n'))
            .ok_or(TlogProofError::Index)?;
        let index = parse_decimal(index).ok_or(TlogProofError::Index)?;
        let (hashes, note) = read_hashes(rest, MAX_HASHES).map_err(|found| match found {
            HashLines::Malformed(line) => TlogProofError::Hash(line),
            HashLines::TooMany => TlogProofError::TooManyHashes,
            HashLines::NoEnd => TlogProofError::NoCheckpoint,
        })?;
        Self::new(
            index,
            hashes,
            Note::parse(note).map_err(CheckpointError::from)?,
            extra,
        )
    }
}
