//! Keys, signatures and hashes as types of their own, so that no coin's key passes for a merchant's.
//!
//! All are plain bytes: reading one does not check that it is a point on the curve, verifying does.
//! Signatures are plain Ed25519 (RFC 8032); valid means `verify_strict`, which refuses the weak keys that let
//! one signature fit any message.

use crate::{base32, base32::Base32Error, text::serde_as_text};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::{fmt, str::FromStr};
use zeroize::Zeroizing;

/// Why a text is no key, signature or hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {what}: {source}")]
pub struct KeyError {
    what: &'static str,
    source: Base32Error,
}

macro_rules! byte_string {
    ($(#[$doc:meta])* $name:ident, $length:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// Wraps the raw bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $length]) -> $name {
                $name(bytes)
            }

            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<$name, KeyError> {
                base32::decode_exact(text).map($name).map_err(|source| KeyError { what: $what, source })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base32::encode(&self.0))
            }
        }

        serde_as_text!($name, $what);
    };
}

macro_rules! verifies {
    ($($name:ident)*) => {$(
        impl $name {
            /// Whether `sig` is this key's over `message`. False also where these bytes are no key, or a weak
            /// one.
            #[must_use]
            pub fn verify(&self, message: &[u8], sig: &EddsaSignature) -> bool {
                VerifyingKey::from_bytes(&self.0)
                    .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(&sig.0)).is_ok())
            }
        }
    )*};
}

byte_string!(
    /// A coin's public key.
    CoinPub, 32, "a coin's public key"
);
byte_string!(
    /// A merchant instance's public key.
    MerchantPub, 32, "a merchant's public key"
);
byte_string!(
    /// An exchange's offline master key: what an exchange is known by.
    MasterPub, 32, "an exchange's master public key"
);
byte_string!(
    /// An exchange's online signing key.
    ExchangePub, 32, "an exchange's signing key"
);
byte_string!(
    /// An Ed25519 signature, R then S.
    EddsaSignature, 64, "a signature"
);
byte_string!(
    /// A SHA-512 hash.
    HashCode, 64, "a hash of 64 bytes"
);
byte_string!(
    /// Any digest of 32 bytes.
    Digest32, 32, "a digest of 32 bytes"
);
byte_string!(
    /// What a wallet names in its claim, so that the contract terms are its alone: a public key of its making.
    ClaimNonce, 32, "a claim's nonce"
);
byte_string!(
    /// What a wallet must show to claim an order whose id can be guessed. Compare with [`ClaimToken::matches`].
    ClaimToken, 16, "a claim token"
);
byte_string!(
    /// What keeps `h_wire` from being guessed from the account.
    WireSalt, 16, "a wire salt"
);
verifies!(CoinPub MerchantPub MasterPub ExchangePub);

impl ClaimToken {
    /// Whether both are the same, in a time that does not tell where they differ.
    #[must_use]
    pub fn matches(&self, other: &ClaimToken) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
    }
}

/// An Ed25519 private key. Erased from memory on drop; cannot be copied, and does not show itself in `Debug`.
pub struct EddsaPrivateKey(SigningKey);

impl EddsaPrivateKey {
    /// From the 32 bytes of RFC 8032's seed.
    #[must_use]
    pub fn from_bytes(seed: [u8; 32]) -> EddsaPrivateKey {
        let seed = Zeroizing::new(seed);
        EddsaPrivateKey(SigningKey::from_bytes(&seed))
    }

    /// From the seed in base32, as Taler stores it.
    pub fn from_base32(text: &str) -> Result<EddsaPrivateKey, KeyError> {
        base32::decode_exact(text)
            .map(EddsaPrivateKey::from_bytes)
            .map_err(|source| KeyError {
                what: "a private key",
                source,
            })
    }

    /// The seed. Secret: only for storing the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public key, whosever it is.
    #[must_use]
    pub fn public_bytes(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The public key of a merchant whose key this is.
    #[must_use]
    pub fn merchant_pub(&self) -> MerchantPub {
        MerchantPub(self.public_bytes())
    }

    /// Signs. The same message always gets the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> EddsaSignature {
        EddsaSignature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for EddsaPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EddsaPrivateKey(public {})",
            base32::encode(&self.public_bytes())
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const PRIVATE: &str = "9TM70AKDTS57AWY9JK2J4TMBTMW6K62WHHGZWYDG0VM5ABPZKD40";
    const PUBLIC: &str = "8GSJZ649T2PXMKZC01Y4ANNBE7MF14QVK9SQEC4E46ZHKCVG8AS0";

    #[test]
    fn known_key_signs_and_verifies() {
        let key = EddsaPrivateKey::from_base32(PRIVATE).unwrap();
        assert_eq!(key.merchant_pub().to_string(), PUBLIC);
        assert_eq!(base32::encode(key.as_bytes()), PRIVATE);
        let signature = key.sign(b"message");
        assert_eq!(signature, key.sign(b"message"));
        assert!(key.merchant_pub().verify(b"message", &signature));
        assert!(!key.merchant_pub().verify(b"massage", &signature));
        let mut bytes = *signature.as_bytes();
        bytes[63] ^= 1;
        assert!(
            !key.merchant_pub()
                .verify(b"message", &EddsaSignature::from_bytes(bytes))
        );
    }

    #[test]
    fn no_key_and_weak_keys_verify_nothing() {
        // 2 is the y of no point; the neutral element is a key for which R = 0, s = 0 fits every message.
        let mut no_point = [0; 32];
        no_point[0] = 2;
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        for key in [no_point, neutral, [0; 32], [0xff; 32]] {
            assert!(
                !MasterPub::from_bytes(key).verify(b"x", &EddsaSignature::from_bytes(signature)),
                "{key:?}"
            );
        }
    }

    #[test]
    fn debug_keeps_the_secret() {
        let shown = format!("{:?}", EddsaPrivateKey::from_base32(PRIVATE).unwrap());
        assert!(shown.contains(PUBLIC) && !shown.contains(PRIVATE), "{shown}");
    }

    #[test]
    fn text_is_lenient_in_and_canonical_out() {
        let key: CoinPub = PUBLIC.to_ascii_lowercase().parse().unwrap();
        assert_eq!(key.to_string(), PUBLIC);
        assert_eq!(format!("{key:?}"), PUBLIC);
        assert_eq!(serde_json::to_string(&key).unwrap(), format!("\"{PUBLIC}\""));
        let odd_pad = format!("\"{}1\"", &PUBLIC[..51]);
        assert_eq!(serde_json::from_str::<CoinPub>(&odd_pad).unwrap(), key);
        for wrong in ["\"\"", "1", "null", "\"8GSJ\""] {
            assert!(serde_json::from_str::<CoinPub>(wrong).is_err(), "{wrong}");
        }
        let error = "8GSJ".parse::<MerchantPub>().unwrap_err().to_string();
        assert_eq!(
            error,
            "not a merchant's public key: base32 of 32 bytes has 52 symbols, this text has 4"
        );
    }
}
