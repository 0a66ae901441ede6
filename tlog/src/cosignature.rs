//! Cosignatures: a witness's statement that a checkpoint continues every earlier one that it saw of that log, after
//! c2sp.org/tlog-cosignature@v1.0.1, type 0x04 (Ed25519, with the time of signing).
//!
//! It makes and verifies the signatures and never checks what they state: who cosigns has to verify consistency with
//! the checkpoint cosigned last, and to remember the new one before the signature leaves. The time is whatever the
//! cosigner said; it is handed in, and how old it may be is for the caller to judge. Type 0x06 (ML-DSA-44) is carried
//! along in notes and never judged.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::{KeyName, Note, NoteError, NoteKey, NoteSignature};
use ed25519_dalek::{Signer as _, SigningKey};
use std::fmt;

/// The type byte of Ed25519 cosignatures.
pub const COSIGNATURE: u8 = 0x04;

/// The latest time that a cosignature can have, in seconds since 1970: the specification's bound.
pub const MAX_TIME_S: u64 = (1 << 63) - 1;

/// Why a checkpoint is not cosigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CosignError {
    /// The note's text is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The time is beyond [`MAX_TIME_S`].
    #[error("{0} is no time that a cosignature can have")]
    Time(u64),
}

/// A witness's key: an Ed25519 key of type 0x04. The signed bytes do not hold the key's name, so a public key must
/// not serve under two names.
///
/// ```
/// # use quittance_tlog::CosignerKey;
/// let text = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
/// let key: CosignerKey = text.parse()?;
/// assert_eq!((key.name().as_str(), key.id()), ("remora.n621.de", 0xda77_ade7));
/// assert_eq!(key.to_string(), text);
/// # Ok::<(), quittance_tlog::KeyError>(())
/// ```
pub type CosignerKey = NoteKey<COSIGNATURE>;

/// What is signed: a header that keeps these signatures apart from all others, the time, the note's whole text.
fn message(time_s: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

impl NoteKey<COSIGNATURE> {
    /// When this key cosigned the note, in seconds since 1970. Of several cosignatures by this key each has to be
    /// valid, and the latest time counts; signatures by other keys are ignored.
    ///
    /// It says nothing about the log's own signature, nor whether the text is a checkpoint.
    pub fn cosigned_at(&self, note: &Note) -> Result<u64, NoteError> {
        let mut latest = None;
        for line in note.signatures().iter().filter(|line| self.made(line)) {
            latest = latest.max(Some(self.time_of(line, note.text())?));
        }
        latest.ok_or_else(|| NoteError::NotSigned(self.name().clone()))
    }

    /// The time of one cosignature of this key over a text.
    pub(crate) fn time_of(&self, line: &NoteSignature, text: &str) -> Result<u64, NoteError> {
        let invalid = || NoteError::Invalid(self.name().clone());
        let (time, signature) = line.signature().split_first_chunk().ok_or_else(invalid)?;
        let time_s = u64::from_be_bytes(*time);
        if time_s > MAX_TIME_S {
            return Err(invalid());
        }
        self.check(message(time_s, text).as_bytes(), signature)?;
        Ok(time_s)
    }
}

/// A named Ed25519 key that cosigns checkpoints. Its secret is wiped when it is dropped.
pub struct Cosigner {
    key: SigningKey,
    verifier: CosignerKey,
}

/// Shows the public half alone.
impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cosigner({})", self.verifier)
    }
}

impl Cosigner {
    /// The key of this name that RFC 8032 derives from a seed. The seed must not serve for anything else.
    #[must_use]
    pub fn new(name: KeyName, seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let verifier = NoteKey::of(name, key.verifying_key());
        Self { key, verifier }
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> CosignerKey {
        self.verifier.clone()
    }

    /// Cosigns a checkpoint as of a time, in seconds since 1970. Refuses a text that is no checkpoint. The line is
    /// added to the note with [`Note::add`].
    ///
    /// ```
    /// # use quittance_tlog::{Checkpoint, Cosigner, Frontier, KeyName, NoteSigner};
    /// let log = NoteSigner::new(KeyName::new("example.com/log")?, &[7; 32]);
    /// let witness = Cosigner::new(KeyName::new("witness.example/w1")?, &[8; 32]);
    /// let tree = Frontier::default();
    /// let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 0, root: tree.root() };
    /// let mut note = checkpoint.sign(&log)?;
    /// note.add(witness.sign(&note, 1_679_315_147)?)?;
    /// assert_eq!(witness.verifier().cosigned_at(&note)?, 1_679_315_147);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sign(&self, note: &Note, time_s: u64) -> Result<NoteSignature, CosignError> {
        Checkpoint::parse_text(note.text())?;
        if time_s > MAX_TIME_S {
            return Err(CosignError::Time(time_s));
        }
        let signature = self.key.sign(message(time_s, note.text()).as_bytes());
        let timed = [time_s.to_be_bytes().as_slice(), &signature.to_bytes()].concat();
        Ok(NoteSignature::by(&self.verifier, timed))
    }
}
