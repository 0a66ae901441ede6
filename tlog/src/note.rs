//! Signed notes: a text and the Ed25519 signatures under it, after c2sp.org/signed-note@v1.0.0.
//!
//! Signatures of type 0x01 are made and verified here, those of type 0x04 in [`crate::cosignature`]: a key's type is
//! part of its Rust type, so that a log's key is never taken for a witness's. Other types are carried along as
//! signatures of unknown keys and never judged. A signature is valid when `verify_strict` of ed25519-dalek says so.
//! A parsed note says nothing until [`Note::verify`] passed with a key that the caller trusts.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// The specification asks for 16 at least; Go's note package, which most logs use, stops at 100.
pub const MAX_SIGNATURES: usize = 100;

/// The largest note that is read, in bytes. As in Go's note package; far above any checkpoint, it bounds the work
/// that an untrusted text can cause.
pub const MAX_NOTE_BYTES: usize = 1_000_000;

/// The type byte of Ed25519 signatures over the note's text.
pub const ED25519: u8 = 0x01;

/// Bytes of the key id in front of every signature.
const KEY_ID_BYTES: usize = 4;

/// What every signature line begins with: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Why a key's name or text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty.
    #[error("a key name cannot be empty")]
    EmptyName,
    /// The name holds a character that would end it in a key or a signature line.
    #[error("a key name cannot hold {0:?}")]
    NameCharacter(char),
    /// The text is not `name+id+key`.
    #[error("a verifier key is name+id+key, with an id of eight lower-case hexadecimal digits")]
    Format,
    /// The last part is not the canonical base64 of a type byte and 32 bytes.
    #[error("the verifier key is not the canonical base64 of a type byte and 32 bytes")]
    Encoding,
    /// The type byte is not the one of the keys asked for.
    #[error("key type {0:#04x} is not supported here")]
    Type(u8),
    /// The id is not the one that name and key give.
    #[error("the key id is {found:08x}, but name and key give {expected:08x}")]
    Id {
        /// The id computed from name and key.
        expected: u32,
        /// The id in the text.
        found: u32,
    },
    /// The 32 bytes are no point on the curve, or one under which a signature proves nothing.
    #[error("the bytes are no usable Ed25519 public key")]
    Point,
}

/// Why a note is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text does not end in a newline.
    #[error("the text of a note ends in a newline")]
    TextEnd,
    /// A control character other than newline.
    #[error("a note cannot hold the control character {0:?}")]
    Control(char),
    /// No empty line separates text and signatures.
    #[error("no empty line separates the text from signatures")]
    NoSignatures,
    /// A line below the text is not a dash, a name and the canonical base64 of at least five bytes.
    #[error("signature line {0} is malformed")]
    SignatureLine(usize),
    /// More than [`MAX_SIGNATURES`].
    #[error("more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// More than [`MAX_NOTE_BYTES`].
    #[error("more than {MAX_NOTE_BYTES} bytes")]
    TooLong,
    /// None of the keys has signed this note.
    #[error("no known key has signed this note")]
    NoKnownKey,
    /// The key has not signed this note.
    #[error("{0} has not signed this note")]
    NotSigned(KeyName),
    /// A signature says it is by this key, and is not valid.
    #[error("the signature by {0} is not valid")]
    Invalid(KeyName),
}

/// A key's name: not empty, without Unicode spaces, plus signs and control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// Checks a name.
    pub fn new(name: impl Into<String>) -> Result<Self, KeyError> {
        let name = name.into();
        if name.is_empty() {
            return Err(KeyError::EmptyName);
        }
        match name
            .chars()
            .find(|&c| c.is_whitespace() || c == '+' || forbidden(c))
        {
            Some(found) => Err(KeyError::NameCharacter(found)),
            None => Ok(Self(name)),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyName {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        Self::new(name)
    }
}

/// A control character that no part of a note can hold.
fn forbidden(c: char) -> bool {
    c < ' ' && c != '\n'
}

/// The id of a key: the first four bytes of SHA-256 over name, newline, type and public key.
fn key_id(name: &KeyName, kind: u8, public_key: &[u8; 32]) -> u32 {
    let digest = Sha256::new()
        .chain_update(name.as_str())
        .chain_update([b'\n', kind])
        .chain_update(public_key)
        .finalize();
    u32::from_be_bytes(*digest.first_chunk().expect("SHA-256 gives 32 bytes"))
}

/// A key that signs the text of notes, such as a log's: an Ed25519 key of type 0x01.
///
/// ```
/// # use quittance_tlog::VerifierKey;
/// let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
/// let key: VerifierKey = text.parse()?;
/// assert_eq!((key.name().as_str(), key.id()), ("PeterNeumann", 0xc74f_20a3));
/// assert_eq!(key.to_string(), text);
/// # Ok::<(), quittance_tlog::KeyError>(())
/// ```
pub type VerifierKey = NoteKey<ED25519>;

/// An Ed25519 key that signatures of one type are verified with. Written and read as `name+id+key`, the form that
/// Go's note package prints and C2SP calls a vkey, the key being base64 of the type byte and the public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteKey<const KIND: u8> {
    name: KeyName,
    id: u32,
    key: VerifyingKey,
}

impl<const KIND: u8> NoteKey<KIND> {
    /// The key of this name. Refuses bytes that are no point on the curve, and points of small order, under which
    /// anybody can sign anything.
    pub fn new(name: KeyName, public_key: [u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(&public_key).map_err(|_| KeyError::Point)?;
        if key.is_weak() {
            return Err(KeyError::Point);
        }
        Ok(Self::of(name, key))
    }

    pub(crate) fn of(name: KeyName, key: VerifyingKey) -> Self {
        let id = key_id(&name, KIND, key.as_bytes());
        Self { name, id, key }
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The key's id: a hint for finding the key, no proof of anything.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The Ed25519 public key.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether a signature line says that it is by this key.
    pub(crate) fn made(&self, line: &NoteSignature) -> bool {
        line.key_id == self.id && line.name == self.name
    }

    /// Checks a bare signature over bytes. Why exactly one is not valid does not matter to anybody but a forger.
    pub(crate) fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), NoteError> {
        Signature::from_slice(signature)
            .and_then(|signature| self.key.verify_strict(message, &signature))
            .map_err(|_| NoteError::Invalid(self.name.clone()))
    }
}

impl<const KIND: u8> fmt::Display for NoteKey<KIND> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = [&[KIND], self.public_key().as_slice()].concat();
        write!(
            f,
            "{}+{:08x}+{}",
            self.name,
            self.id,
            BASE64_STANDARD.encode(typed)
        )
    }
}

impl<const KIND: u8> FromStr for NoteKey<KIND> {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, rest) = text.split_once('+').ok_or(KeyError::Format)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Format)?;
        let name = KeyName::new(name)?;
        if id.len() != 2 * KEY_ID_BYTES || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(KeyError::Format);
        }
        let found = u32::from_str_radix(id, 16).map_err(|_| KeyError::Format)?;
        let typed = BASE64_STANDARD.decode(key).map_err(|_| KeyError::Encoding)?;
        let (&kind, public_key) = typed.split_first().ok_or(KeyError::Encoding)?;
        if kind != KIND {
            return Err(KeyError::Type(kind));
        }
        let key = Self::new(name, public_key.try_into().map_err(|_| KeyError::Encoding)?)?;
        if key.id != found {
            return Err(KeyError::Id {
                expected: key.id,
                found,
            });
        }
        Ok(key)
    }
}

/// A named Ed25519 key that signs notes. Its secret is wiped when it is dropped.
pub struct NoteSigner {
    key: SigningKey,
    verifier: VerifierKey,
}

/// Shows the public half alone.
impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSigner({})", self.verifier)
    }
}

impl NoteSigner {
    /// The key of this name that RFC 8032 derives from a seed.
    #[must_use]
    pub fn new(name: KeyName, seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let verifier = NoteKey::of(name, key.verifying_key());
        Self { key, verifier }
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        self.verifier.name()
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        self.verifier.clone()
    }

    /// Signs a text as it stands; [`Note::signed`] makes a note of it.
    #[must_use]
    pub fn sign(&self, text: &str) -> NoteSignature {
        NoteSignature::by(&self.verifier, self.key.sign(text.as_bytes()).to_bytes().to_vec())
    }
}

/// One signature line, valid or not, of whatever type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: KeyName,
    key_id: u32,
    signature: Vec<u8>,
}

impl NoteSignature {
    pub(crate) fn by<const KIND: u8>(key: &NoteKey<KIND>, signature: Vec<u8>) -> Self {
        Self {
            name: key.name.clone(),
            key_id: key.id,
            signature,
        }
    }

    /// The name of the key that is said to have signed.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The id of that key.
    #[must_use]
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// The signature without the key id: 64 bytes if it is of type 0x01, never empty.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Reads a line, without the newline at its end.
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
        let bytes = BASE64_STANDARD.decode(encoded).ok()?;
        let (key_id, signature) = bytes.split_first_chunk::<KEY_ID_BYTES>()?;
        if signature.is_empty() {
            return None;
        }
        let name = KeyName::new(name).ok()?;
        Some(Self {
            name,
            key_id: u32::from_be_bytes(*key_id),
            signature: signature.to_vec(),
        })
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.key_id.to_be_bytes(), self.signature.as_slice()].concat();
        write!(
            f,
            "{SIGNATURE_PREFIX}{} {}",
            self.name,
            BASE64_STANDARD.encode(bytes)
        )
    }
}

/// A text and the signatures under it. Well-formed by construction, verified only by [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Signs a text, which has to end in a newline.
    pub fn signed(text: &str, signers: &[&NoteSigner]) -> Result<Self, NoteError> {
        check_text(text)?;
        match signers.len() {
            0 => return Err(NoteError::NoSignatures),
            n if n > MAX_SIGNATURES => return Err(NoteError::TooManySignatures),
            _ => {}
        }
        let signatures = signers.iter().map(|signer| signer.sign(text)).collect();
        let note = Self {
            text: text.to_owned(),
            signatures,
        };
        if note.to_string().len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong);
        }
        Ok(note)
    }

    /// Reads a note and checks its form, all of it: what comes back is written again byte for byte.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong);
        }
        // The text may hold empty lines itself: the last one separates.
        let (before, below) = note.rsplit_once("\n\n").ok_or(NoteError::NoSignatures)?;
        let text = format!("{before}\n");
        check_text(&text)?;
        let signatures = parse_signatures(below)?;
        Ok(Self { text, signatures })
    }

    /// The signed text, with the newline at its end.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures in the order of the note, by keys known or not.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature line, such as a witness's, without judging it. A line that the note has is not added again.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        if self.signatures.contains(&signature) {
            return Ok(());
        }
        if self.signatures.len() == MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        self.signatures.push(signature);
        if self.to_string().len() > MAX_NOTE_BYTES {
            self.signatures.pop();
            return Err(NoteError::TooLong);
        }
        Ok(())
    }

    /// Passes if this key signed the text. Signatures by other keys are ignored, also where they share its name or
    /// its id; of several by this key each has to be valid.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let mut signed = false;
        for line in self.signatures.iter().filter(|line| key.made(line)) {
            key.check(self.text.as_bytes(), &line.signature)?;
            signed = true;
        }
        if signed {
            Ok(())
        } else {
            Err(NoteError::NotSigned(key.name.clone()))
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        Self::parse(note)
    }
}

/// Reads one or more signature lines, each with its newline.
pub(crate) fn parse_signatures(lines: &str) -> Result<Vec<NoteSignature>, NoteError> {
    if lines.is_empty() {
        return Err(NoteError::NoSignatures);
    }
    let last = lines.split('\n').count();
    let lines = lines.strip_suffix('\n').ok_or(NoteError::SignatureLine(last))?;
    let mut signatures = Vec::new();
    for (index, line) in lines.split('\n').enumerate() {
        if index == MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        signatures.push(NoteSignature::parse(line).ok_or(NoteError::SignatureLine(index + 1))?);
    }
    Ok(signatures)
}

pub(crate) fn check_text(text: &str) -> Result<(), NoteError> {
    if let Some(found) = text.chars().find(|&c| forbidden(c)) {
        return Err(NoteError::Control(found));
    }
    if text.ends_with('\n') {
        Ok(())
    } else {
        Err(NoteError::TextEnd)
    }
}
