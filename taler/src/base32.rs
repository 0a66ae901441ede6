//! Crockford base32 in GNUnet's dialect, in which Taler writes keys, hashes and signatures.
//!
//! Several texts decode to the same bytes, so a received text is never to be compared, stored or used as a
//! key: decode it and encode anew. Encoding is canonical: upper case, pad bits zero.

use data_encoding::{Encoding, Specification};
use std::sync::LazyLock;

const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// What the decoder takes besides the alphabet: lower case, and the look-alikes. U for V is GNUnet's own.
const ALIASES: (&str, &str) = ("abcdefghjkmnpqrstvwxyzOoIiLlUu", "ABCDEFGHJKMNPQRSTVWXYZ001111VV");

static CROCKFORD: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str(ALPHABET);
    specification.translate.from.push_str(ALIASES.0);
    specification.translate.to.push_str(ALIASES.1);
    // GNUnet's decoder does not look at the pad bits, so keys with odd ones exist in the wild.
    specification.check_trailing_bits = false;
    specification
        .encoding()
        .expect("the alphabet has 32 distinct ASCII symbols and maps aliases onto them")
});

/// Why a text is not base32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Base32Error {
    /// The text has another length than the bytes expected of it need.
    #[error("base32 of {bytes} bytes has {expected} symbols, this text has {found}")]
    Length {
        /// Bytes that were to be decoded.
        bytes: usize,
        /// Symbols that those bytes need.
        expected: usize,
        /// Length of the text in bytes.
        found: usize,
    },
    /// No whole number of bytes has that many symbols.
    #[error("no whole number of bytes has {0} base32 symbols")]
    NoWholeBytes(usize),
    /// A character outside of the alphabet and its aliases.
    #[error("character {0} of the text is no base32 symbol")]
    Symbol(usize),
}

/// Writes bytes canonically: 32 bytes become 52 symbols, 64 bytes 103.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    CROCKFORD.encode(bytes)
}

/// Reads exactly `N` bytes, as lenient as GNUnet: any case, O I L U as 0 1 1 V, any pad bits. No other length
/// will do.
pub fn decode_exact<const N: usize>(text: &str) -> Result<[u8; N], Base32Error> {
    let expected = (N * 8).div_ceil(5);
    if text.len() != expected {
        return Err(Base32Error::Length {
            bytes: N,
            expected,
            found: text.len(),
        });
    }
    let mut bytes = [0; N];
    CROCKFORD
        .decode_mut(text.as_bytes(), &mut bytes)
        .map_err(|partial| Base32Error::Symbol(partial.error.position))?;
    Ok(bytes)
}

/// Reads a text of any length that is some whole number of bytes, otherwise as lenient as [`decode_exact`].
pub fn decode(text: &str) -> Result<Vec<u8>, Base32Error> {
    CROCKFORD
        .decode(text.as_bytes())
        .map_err(|error| match error.kind {
            data_encoding::DecodeKind::Length => Base32Error::NoWholeBytes(text.len()),
            _ => Base32Error::Symbol(error.position),
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_text() {
        assert_eq!(encode(b"Hello, GNU Taler"), "91JPRV3F5GG4EKJN41A62V35E8");
        assert_eq!(
            &decode_exact::<16>("91JPRV3F5GG4EKJN41A62V35E8").unwrap(),
            b"Hello, GNU Taler"
        );
        assert_eq!(encode(&[0; 32]).len(), 52);
        assert_eq!(encode(&[255; 64]).len(), 103);
        assert_eq!(encode(&[]), "");
    }

    #[test]
    fn look_alikes_and_pad_bits_decode_alike() {
        // 0, 1, 1, V, each with its aliases.
        let canonical = decode("0011VVVV").unwrap();
        for text in ["Oo1iVUuv", "oOIlvUVu", "0OL1UUUU"] {
            assert_eq!(decode(text).unwrap(), canonical, "{text}");
        }
        // 26 symbols hold 130 bits: the last two belong to nothing.
        assert_eq!(
            decode_exact::<16>("91JPRV3F5GG4EKJN41A62V35EB"),
            decode_exact("91JPRV3F5GG4EKJN41A62V35E8")
        );
    }

    #[test]
    fn refuses_other_lengths_and_symbols() {
        let length = |found| {
            Err(Base32Error::Length {
                bytes: 32,
                expected: 52,
                found,
            })
        };
        assert_eq!(decode_exact::<32>(&"0".repeat(51)), length(51));
        assert_eq!(decode_exact::<32>(&"0".repeat(53)), length(53));
        assert_eq!(decode_exact::<32>(""), length(0));
        for symbol in ["*", " ", "=", "-", "\0"] {
            let text = format!("{}{symbol}{}", "0".repeat(50), "0");
            assert_eq!(
                decode_exact::<32>(&text),
                Err(Base32Error::Symbol(50)),
                "{symbol:?}"
            );
        }
        assert_eq!(decode_exact::<32>(&"é".repeat(26)), Err(Base32Error::Symbol(0)));
        assert_eq!(decode("0"), Err(Base32Error::NoWholeBytes(1)));
        assert_eq!(decode("00*0"), Err(Base32Error::Symbol(2)));
    }

    proptest! {
        #[test]
        fn round_trip(bytes: Vec<u8>) {
            let text = encode(&bytes);
            prop_assert_eq!(text.len(), (bytes.len() * 8).div_ceil(5));
            prop_assert_eq!(decode(&text).unwrap(), bytes.clone());
            prop_assert_eq!(decode(&text.to_ascii_lowercase()).unwrap(), bytes);
        }

        #[test]
        fn any_spelling_of_64_bytes_is_the_same_64_bytes(half: [u8; 32], choices: [u8; 32], pad in 0usize..8) {
            let bytes: Vec<u8> = half.iter().chain(&choices).copied().collect();
            let mut text: Vec<u8> = encode(&bytes).into_bytes();
            let last = ALPHABET.bytes().position(|symbol| Some(&symbol) == text.last()).unwrap();
            // 103 symbols hold 515 bits.
            prop_assert_eq!(last % 8, 0);
            *text.last_mut().unwrap() = ALPHABET.as_bytes()[last + pad];
            for (symbol, choice) in text.iter_mut().zip(choices.iter().cycle()) {
                let spellings: &[u8] = match *symbol {
                    b'0' => b"0Oo",
                    b'1' => b"1IiLl",
                    b'V' => b"VvUu",
                    other => &[other, other.to_ascii_lowercase()],
                };
                *symbol = spellings[usize::from(*choice) % spellings.len()];
            }
            prop_assert_eq!(decode_exact::<64>(str::from_utf8(&text).unwrap()).unwrap().to_vec(), bytes);
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in ".{0,60}") {
            if let Ok(bytes) = decode_exact::<32>(&text) {
                prop_assert_eq!(decode(&encode(&bytes)).unwrap(), bytes.to_vec());
                prop_assert_eq!(decode(&text).unwrap(), bytes.to_vec());
            }
        }
    }
}
