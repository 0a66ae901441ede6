//! Seals: digests, the event key's signature, and the leaf of the Merkle tree. Byte layouts: `docs/event-format.md`.
//! Never reads a clock, never decides what is sealed. Valid always means Ed25519 `verify_strict`.

use quittance_taler::strict::{BatchSeed, StrictKey};
use quittance_taler::{Digest32, EddsaPrivateKey, EddsaSignature};
use quittance_tlog::tree;

use crate::facts::KeyRole;
use crate::ids::Seq;

/// BLAKE3 context of an event's digest.
const EVENT_CONTEXT: &str = "quittance 2026-11-21 event v1";
/// BLAKE3 context of an attachment's digest.
const ATTACHMENT_CONTEXT: &str = "quittance 2026-11-21 attachment v1";
/// BLAKE3 context of an answer body's digest.
const ANSWER_CONTEXT: &str = "quittance 2026-11-21 answer v1";
/// What an event's signature covers before the sealed bytes, so that it can pass for nothing else.
const EVENT_DOMAIN: &[u8] = b"quittance/event/v1\n";

/// What a key's rotation is signed over, before its words, so that it can pass for nothing else.
const ROTATION_DOMAIN: &str = "quittance/key/v1\n";

/// Longest leaf: tile bundles give a leaf's length in 16 bits.
pub const LEAF_MAX: usize = 65_535;
/// Bytes of a signature, which end a leaf.
pub const SIGNATURE_LEN: usize = 64;
/// Bytes of an attachment's salt.
pub const SALT_LEN: usize = 32;

/// Salt of an attachment: without it, somebody could guess an erased text and check the guess.
pub type Salt = [u8; SALT_LEN];

/// Digest of an event: what the next event's `prev` says.
#[must_use]
pub fn event_digest(sealed: &[u8]) -> Digest32 {
    Digest32::from_bytes(blake3::derive_key(EVENT_CONTEXT, sealed))
}

/// Digest of an answer's body, before any content encoding.
#[must_use]
pub fn answer_digest(body: &[u8]) -> Digest32 {
    Digest32::from_bytes(blake3::derive_key(ANSWER_CONTEXT, body))
}

/// Salted digest of an attachment.
#[must_use]
pub fn attachment_digest(salt: &Salt, bytes: &[u8]) -> Digest32 {
    let mut hasher = blake3::Hasher::new_derive_key(ATTACHMENT_CONTEXT);
    hasher.update(salt).update(bytes);
    Digest32::from_bytes(*hasher.finalize().as_bytes())
}

/// What the first event's `prev` says.
#[must_use]
pub fn no_digest() -> Digest32 {
    Digest32::from_bytes([0; 32])
}

/// The bytes that an event's signature covers.
fn signed_bytes(sealed: &[u8]) -> Vec<u8> {
    [EVENT_DOMAIN, sealed].concat()
}

/// What authorises a new key, and what the new key signs in turn: this ledger, the rotation's place, role and key.
#[must_use]
pub fn rotation_message(origin: &str, seq: Seq, role: KeyRole, new_key: &Digest32) -> String {
    format!("{ROTATION_DOMAIN}{origin} {seq} {} {new_key}", role.as_str())
}

/// The leaf of the Merkle tree: sealed bytes and signature.
#[must_use]
pub fn leaf_hash(sealed: &[u8], signature: &EddsaSignature) -> tree::Hash {
    tree::leaf_hash(&[sealed, signature.as_bytes()].concat())
}

/// The key that signs events and receipts. Held by the service alone.
pub struct EventKey(EddsaPrivateKey);

impl EventKey {
    /// A key from its 32 secret bytes.
    #[must_use]
    pub fn new(secret: EddsaPrivateKey) -> EventKey {
        EventKey(secret)
    }

    /// The public half, as the genesis names it.
    #[must_use]
    pub fn public(&self) -> EventPub {
        EventPub(Digest32::from_bytes(self.0.public_bytes()))
    }

    /// Signs sealed bytes.
    #[must_use]
    pub fn sign_event(&self, sealed: &[u8]) -> EddsaSignature {
        self.0.sign(&signed_bytes(sealed))
    }

    /// Signs any other message; callers bring a domain of their own.
    pub(crate) fn sign(&self, message: &[u8]) -> EddsaSignature {
        self.0.sign(message)
    }
}

/// The public half of an event key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPub(Digest32);

impl EventPub {
    /// As the genesis names it.
    #[must_use]
    pub fn new(key: Digest32) -> EventPub {
        EventPub(key)
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn key(&self) -> Digest32 {
        self.0
    }

    /// Whether the key signed these sealed bytes.
    #[must_use]
    pub fn verify_event(&self, sealed: &[u8], signature: &EddsaSignature) -> bool {
        self.verify(&signed_bytes(sealed), signature)
    }

    /// Whether the key signed this message.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &EddsaSignature) -> bool {
        // Any of Taler's key types checks strictly; the merchant's is as good as another.
        quittance_taler::MerchantPub::from_bytes(*self.0.as_bytes()).verify(message, signature)
    }
}

/// An event key that was read once, to check many events. Says what [`EventPub::verify_event`] says.
pub struct EventChecker {
    key: EventPub,
    strict: Option<StrictKey>,
}

impl EventChecker {
    /// Reads a key. One that is none, or a weak one, verifies nothing.
    #[must_use]
    pub fn new(key: EventPub) -> EventChecker {
        EventChecker {
            key,
            strict: StrictKey::new(key.0.as_bytes()),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> EventPub {
        self.key
    }

    /// Whether the key signed these sealed bytes.
    #[must_use]
    pub fn verify_event(&self, sealed: &[u8], signature: &EddsaSignature) -> bool {
        self.strict
            .as_ref()
            .is_some_and(|key| key.verify(&signed_bytes(sealed), signature))
    }

    /// Whether the key signed each of these, checked at once. `false`: one at least it did not, or they cannot be
    /// checked at once.
    #[must_use]
    pub fn verify_events(&self, signed: &[(&[u8], &EddsaSignature)], seed: &BatchSeed) -> bool {
        let Some(key) = &self.strict else {
            return signed.is_empty();
        };
        let messages: Vec<Vec<u8>> = signed.iter().map(|(sealed, _)| signed_bytes(sealed)).collect();
        let signed: Vec<_> = messages
            .iter()
            .zip(signed)
            .map(|(message, (_, signature))| (message.as_slice(), *signature))
            .collect();
        key.verify_all(&signed, seed)
    }
}
