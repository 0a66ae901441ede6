//! Checkpoints: what a log states about its tree, as the text of a signed note, after
//! c2sp.org/tlog-checkpoint@v1.0.0.
//!
//! Stricter than the specification in two points that it leaves to applications: extension lines are refused, and a
//! checkpoint is signed and opened only where the origin is the name of the signing key. It does not judge whether
//! two checkpoints are consistent: who signs has to remember what was signed before.

use crate::note::{Note, NoteError, NoteSigner, VerifierKey};
use crate::tree::Hash;
use base64::prelude::{BASE64_STANDARD, Engine as _};

/// The longest origin that [`check_origin`] accepts, in bytes. A URL that people copy by hand is shorter; witnesses
/// keep the origin as a key in their stores.
pub const MAX_ORIGIN_BYTES: usize = 200;

/// Why a name does not serve as the origin of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// The origin is empty.
    #[error("an origin cannot be empty")]
    Empty,
    /// The origin is longer than [`MAX_ORIGIN_BYTES`].
    #[error("an origin has at most {MAX_ORIGIN_BYTES} bytes")]
    TooLong,
    /// A space, a plus sign or another character that is not visible ASCII.
    #[error("an origin cannot hold {0:?}: it is visible ASCII without spaces and plus signs")]
    Character(char),
    /// The origin begins with a scheme or a slash.
    #[error("an origin is a URL without scheme, such as example.com/log")]
    Scheme,
}

/// Why a checkpoint is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note is malformed or not signed by the key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is not three lines, each ending in a newline, the first not empty.
    #[error("a checkpoint is three lines: origin, size, root")]
    Lines,
    /// There are lines after the third.
    #[error("a checkpoint with extension lines is refused")]
    Extension,
    /// The size is not a decimal number below 2^64 without leading zeros.
    #[error("the size is not a decimal number without leading zeros")]
    Size,
    /// The root is not the canonical base64 of 32 bytes.
    #[error("the root is not the canonical base64 of 32 bytes")]
    Root,
    /// The origin is not fit to be signed.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// Another log's checkpoint.
    #[error("the checkpoint is of {origin:?}, the key of {key:?}")]
    OtherOrigin {
        /// The origin in the checkpoint.
        origin: String,
        /// The name of the key.
        key: String,
    },
}

/// Checks that a new log's name looks like a schema-less URL: visible ASCII, no space, no plus sign, no scheme, at
/// most [`MAX_ORIGIN_BYTES`] long. Every such origin is a valid key name.
///
/// ```
/// # use quittance_tlog::check_origin;
/// assert!(check_origin("example.com/log42").is_ok());
/// assert!(check_origin("https://example.com/log42").is_err());
/// ```
pub fn check_origin(origin: &str) -> Result<(), OriginError> {
    if origin.is_empty() {
        return Err(OriginError::Empty);
    }
    if origin.len() > MAX_ORIGIN_BYTES {
        return Err(OriginError::TooLong);
    }
    if let Some(found) = origin.chars().find(|&c| !c.is_ascii_graphic() || c == '+') {
        return Err(OriginError::Character(found));
    }
    if origin.starts_with('/') || origin.contains("://") {
        return Err(OriginError::Scheme);
    }
    Ok(())
}

/// The state of a log's tree at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, its identity. One line, not empty.
    pub origin: String,
    /// How many leaves the tree has.
    pub size: u64,
    /// The root over those leaves.
    pub root: Hash,
}

impl Checkpoint {
    /// Reads the text of a note. Any one-line origin passes, as the specification demands of readers.
    ///
    /// ```
    /// # use quittance_tlog::Checkpoint;
    /// let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    /// assert_eq!(Checkpoint::parse_text(text)?.size, 20_852_163);
    /// # Ok::<(), quittance_tlog::CheckpointError>(())
    /// ```
    pub fn parse_text(text: &str) -> Result<Self, CheckpointError> {
        crate::note::check_text(text)?;
        let lines: Vec<&str> = text.split_terminator('\n').collect();
        let (origin, size, root) = match lines[..] {
            ["", ..] | [] | [_] | [_, _] => return Err(CheckpointError::Lines),
            [origin, size, root] => (origin, size, root),
            _ => return Err(CheckpointError::Extension),
        };
        Ok(Self {
            origin: origin.to_owned(),
            size: parse_decimal(size).ok_or(CheckpointError::Size)?,
            root: parse_hash(root).ok_or(CheckpointError::Root)?,
        })
    }

    /// The text of the note.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            BASE64_STANDARD.encode(self.root.0)
        )
    }

    /// Signs the checkpoint. Refuses an origin that [`check_origin`] refuses or that is not the signer's name.
    pub fn sign(&self, signer: &NoteSigner) -> Result<Note, CheckpointError> {
        check_origin(&self.origin)?;
        self.check_key_name(&signer.verifier())?;
        Ok(Note::signed(&self.to_text(), &[signer])?)
    }

    /// Reads a signed checkpoint, verifies the key's signature and that the checkpoint is of the key's own log.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        note.verify(key)?;
        let checkpoint = Self::parse_text(note.text())?;
        checkpoint.check_key_name(key)?;
        Ok(checkpoint)
    }

    /// The checkpoint in a note that one of these keys signed, all of them keys of the same log. A signature that one
    /// of them did not make in spite of its name and id refuses the note, whoever else signed it.
    pub fn verify(note: &Note, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse_text(note.text())?;
        let mut signed = false;
        for key in keys {
            match note.verify(key) {
                Ok(()) => {
                    checkpoint.check_key_name(key)?;
                    signed = true;
                }
                Err(NoteError::NotSigned(_)) => {}
                Err(refused) => return Err(refused.into()),
            }
        }
        if signed {
            Ok(checkpoint)
        } else {
            Err(NoteError::NoKnownKey.into())
        }
    }

    fn check_key_name(&self, key: &VerifierKey) -> Result<(), CheckpointError> {
        if self.origin == key.name().as_str() {
            return Ok(());
        }
        Err(CheckpointError::OtherOrigin {
            origin: self.origin.clone(),
            key: key.name().to_string(),
        })
    }
}

/// The one way to write a number: digits only, no leading zero but in zero itself.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// The one way to write a hash: canonical base64 of its 32 bytes.
pub(crate) fn parse_hash(text: &str) -> Option<Hash> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    bytes.try_into().ok().map(Hash)
}
