//! RSA blind signatures as GNUnet makes them: the key's bytes, the full-domain hash, and the check of an unblinded
//! signature. Only checks; never blinds, signs or holds a private key, so nothing here is secret.
//!
//! A signature s over a hash is valid for (n, e) if s^e mod n is the hash spread over all of n's range: GNUnet's
//! HKDF over the hash, salted with the key's bytes and counted up until the result is below n.

use crate::{HashCode, base32, base32::Base32Error, kdf::hkdf_into, text::serde_as_text};
use num_bigint::BigUint;
use num_integer::Integer;
use std::{fmt, str::FromStr};

/// Sizes of modulus that exchanges make, in bits. A check costs up to a millisecond at the greatest.
const MODULUS_BITS: std::ops::RangeInclusive<u64> = 1024..=8192;
/// Greatest public exponent, in bytes: everyone uses 65537, and a long one would only cost time.
const MAX_EXPONENT_BYTES: usize = 8;
/// Two lengths of two bytes stand before modulus and exponent.
const HEADER: usize = 4;
const FDH_INFO: &[u8] = b"RSA-FDA FTpsW!";
/// Greatest length of a signature: that of the greatest modulus.
const MAX_SIGNATURE_BYTES: usize = 1024;

/// Why bytes are no RSA key or signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RsaError {
    /// Not base32.
    #[error("not base32: {0}")]
    Text(#[from] Base32Error),
    /// The lengths in front do not fit, or a number has leading zeros or is even.
    #[error("not an RSA key in GNUnet's form")]
    Malformed,
    /// The modulus is not within 1024 to 8192 bits, or the exponent not within 3 to 2^64-1.
    #[error("an RSA key of a size that no exchange uses")]
    Size,
    /// A signature that is empty or longer than any modulus.
    #[error("an RSA signature of {0} bytes")]
    Signature(usize),
}

/// An RSA public key, with the bytes that it is hashed as.
#[derive(Clone, PartialEq, Eq)]
pub struct RsaPublicKey {
    bytes: Vec<u8>,
    modulus: BigUint,
    exponent: BigUint,
}

impl RsaPublicKey {
    /// Reads GNUnet's form: length of modulus and of exponent (two bytes each, big endian), then both numbers, big
    /// endian without leading zeros.
    pub fn from_bytes(bytes: &[u8]) -> Result<RsaPublicKey, RsaError> {
        let (&[m0, m1, e0, e1], numbers) = bytes.split_first_chunk::<HEADER>().ok_or(RsaError::Malformed)?;
        let (modulus, exponent) = numbers
            .split_at_checked(usize::from(u16::from_be_bytes([m0, m1])))
            .ok_or(RsaError::Malformed)?;
        if exponent.len() != usize::from(u16::from_be_bytes([e0, e1])) {
            return Err(RsaError::Malformed);
        }
        if exponent.len() > MAX_EXPONENT_BYTES {
            return Err(RsaError::Size);
        }
        // Another spelling of the same numbers would be another key to whoever hashes the bytes.
        let plain = |number: &[u8]| number.first().is_some_and(|byte| *byte != 0);
        if !plain(modulus) || !plain(exponent) {
            return Err(RsaError::Malformed);
        }
        let (modulus, exponent) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
        if !MODULUS_BITS.contains(&modulus.bits()) || exponent < BigUint::from(3u8) {
            return Err(RsaError::Size);
        }
        if modulus.is_even() || exponent.is_even() {
            return Err(RsaError::Malformed);
        }
        Ok(RsaPublicKey {
            bytes: bytes.to_vec(),
            modulus,
            exponent,
        })
    }

    /// The bytes that the key was read from.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether `signature`, unblinded, is this key's over `hash`.
    #[must_use]
    pub fn verify(&self, hash: &HashCode, signature: &RsaSignature) -> bool {
        let signature = BigUint::from_bytes_be(&signature.0);
        // A greater number would be a second signature that passes: s + n.
        if signature >= self.modulus {
            return false;
        }
        let expected = self.full_domain_hash(hash);
        // A common divisor would be a factor of n: such a key was made to track who uses it.
        expected.gcd(&self.modulus) == BigUint::from(1u8)
            && signature.modpow(&self.exponent, &self.modulus) == expected
    }

    /// What a signature over `hash` is the root of: the hash spread over all of the modulus' range.
    #[must_use]
    pub fn full_domain_hash(&self, hash: &HashCode) -> BigUint {
        let bits = self.modulus.bits();
        let bytes = usize::try_from(bits.div_ceil(8)).expect("a modulus has at most 1024 bytes");
        let surplus = bits.next_multiple_of(8) - bits;
        let mut out = vec![0; bytes];
        for counter in 0..=u16::MAX {
            let info = [FDH_INFO, &counter.to_be_bytes()].concat();
            hkdf_into(&mut out, &self.bytes, hash.as_bytes(), &info);
            out[0] &= 0xff >> surplus;
            let number = BigUint::from_bytes_be(&out);
            if number < self.modulus {
                return number;
            }
        }
        unreachable!("each try is below the modulus with a chance of at least a half")
    }
}

impl FromStr for RsaPublicKey {
    type Err = RsaError;

    fn from_str(text: &str) -> Result<RsaPublicKey, RsaError> {
        RsaPublicKey::from_bytes(&base32::decode(text)?)
    }
}

impl fmt::Display for RsaPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32::encode(&self.bytes))
    }
}

serde_as_text!(RsaPublicKey, "an RSA public key");

/// An unblinded RSA signature: a number, big endian.
#[derive(Clone, PartialEq, Eq)]
pub struct RsaSignature(Vec<u8>);

impl RsaSignature {
    /// 1 to 1024 bytes; whether the number is below a key's modulus shows when it is checked.
    pub fn from_bytes(bytes: &[u8]) -> Result<RsaSignature, RsaError> {
        if (1..=MAX_SIGNATURE_BYTES).contains(&bytes.len()) {
            Ok(RsaSignature(bytes.to_vec()))
        } else {
            Err(RsaError::Signature(bytes.len()))
        }
    }
}

impl FromStr for RsaSignature {
    type Err = RsaError;

    fn from_str(text: &str) -> Result<RsaSignature, RsaError> {
        RsaSignature::from_bytes(&base32::decode(text)?)
    }
}

impl fmt::Display for RsaSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32::encode(&self.0))
    }
}

serde_as_text!(RsaSignature, "an RSA signature");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    fn encoded(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length(modulus)[..], &length(exponent), modulus, exponent].concat()
    }

    #[test]
    fn reads_one_form_only() {
        let modulus = [0xff; 128];
        let good = encoded(&modulus, &[1, 0, 1]);
        let key = RsaPublicKey::from_bytes(&good).unwrap();
        assert_eq!(key.as_bytes(), good);
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        let leading_zero = [&[0], &modulus[..]].concat();
        let mut even = modulus;
        even[127] = 0xfe;
        let mut trailing = good.clone();
        trailing.push(0);
        for (bytes, error) in [
            (vec![], RsaError::Malformed),
            (vec![0, 128, 0], RsaError::Malformed),
            (good[..good.len() - 1].to_vec(), RsaError::Malformed),
            (trailing, RsaError::Malformed),
            (encoded(&leading_zero, &[3]), RsaError::Malformed),
            (encoded(&modulus, &[0, 3]), RsaError::Malformed),
            (encoded(&modulus, &[]), RsaError::Malformed),
            (encoded(&even, &[3]), RsaError::Malformed),
            (encoded(&modulus, &[4]), RsaError::Malformed),
            (encoded(&modulus, &[1]), RsaError::Size),
            (encoded(&modulus, &[1; 9]), RsaError::Size),
            (encoded(&modulus[..127], &[3]), RsaError::Size),
            (encoded(&[0xff; 1025], &[3]), RsaError::Size),
        ] {
            assert_eq!(RsaPublicKey::from_bytes(&bytes), Err(error), "{}", bytes.len());
        }
        assert_eq!(RsaSignature::from_bytes(&[]), Err(RsaError::Signature(0)));
        assert_eq!(
            RsaSignature::from_bytes(&[1; 1025]),
            Err(RsaError::Signature(1025))
        );
        assert!(matches!("*".parse::<RsaSignature>(), Err(RsaError::Text(_))));
    }

    #[test]
    fn the_hash_stays_below_moduli_of_any_length() {
        // 1025 and 1031 bits: one and seven bits in the first byte; and one just above a power of two, where every
        // second try is too great.
        for first in [0x01, 0x7f, 0x80] {
            let mut modulus = [0; 129];
            (modulus[0], modulus[128]) = (first, 1);
            let key = RsaPublicKey::from_bytes(&encoded(&modulus, &[3])).unwrap();
            for byte in 0..8 {
                let hash = key.full_domain_hash(&HashCode::from_bytes([byte; 64]));
                assert!(hash < key.modulus, "{first} {byte}");
                assert!(hash.bits() > 900, "{first} {byte}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(header in prop::collection::vec(0u8..3, 0..5), body in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [header, body].concat();
            if let Ok(key) = RsaPublicKey::from_bytes(&bytes) {
                prop_assert_eq!(key.as_bytes(), bytes);
                let one = RsaSignature::from_bytes(&[1]).unwrap();
                prop_assert!(!key.verify(&HashCode::from_bytes([0; 64]), &one));
            }
        }

        #[test]
        fn every_key_is_read_back(mut modulus in prop::collection::vec(any::<u8>(), 128..300), exponent in 1u64..) {
            modulus[0] |= 0x80;
            *modulus.last_mut().unwrap() |= 1;
            let exponent = BigUint::from(exponent | 3).to_bytes_be();
            let key = RsaPublicKey::from_bytes(&encoded(&modulus, &exponent)).unwrap();
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}
