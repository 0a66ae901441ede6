//! GNUnet's HKDF: RFC 5869, but extracting with HMAC-SHA512 and expanding with HMAC-SHA256.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha512};

/// Bytes that one step of the expansion yields.
const STEP: usize = 32;

/// `N` bytes derived from the key material; `N` is at most 255 steps of 32 bytes.
pub(crate) fn hkdf<const N: usize>(salt: &[u8], key_material: &[u8], info: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    hkdf_into(&mut out, salt, key_material, info);
    out
}

/// Fills `out`, at most 255 steps of 32 bytes, with bytes derived from the key material.
pub(crate) fn hkdf_into(out: &mut [u8], salt: &[u8], key_material: &[u8], info: &[u8]) {
    assert!(
        out.len() <= STEP * usize::from(u8::MAX),
        "the steps are counted in one byte"
    );
    let mut extract = Hmac::<Sha512>::new_from_slice(salt).expect("HMAC takes keys of any length");
    extract.update(key_material);
    let key = extract.finalize().into_bytes();
    let expand = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");

    let mut previous: Option<[u8; STEP]> = None;
    for (chunk, counter) in out.chunks_mut(STEP).zip(1u8..) {
        let mut step = expand.clone();
        if let Some(previous) = previous {
            step.update(&previous);
        }
        step.update(info);
        step.update(&[counter]);
        let block: [u8; STEP] = step.finalize().into_bytes().into();
        chunk.copy_from_slice(&block[..chunk.len()]);
        previous = Some(block);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::base32;

    #[test]
    fn gnunets_vector() {
        let out = hkdf::<64>(
            &base32::decode("94KPT83PCNS7J83KC5P78Y8").unwrap(),
            &base32::decode("94KPT83MD1JJ0WV5CDS6AX10D5Q70XBM41NPAY90DNGQ8SBJD5GPR").unwrap(),
            &base32::decode(
                "94KPT83141HPYVKMCNW78833D1TPWTSC41GPRWVF41NPWVVQDRG62WS04XMPWSKF4WG6JVH0EHM6A82J8S1G",
            )
            .unwrap(),
        );
        assert_eq!(
            base32::encode(&out),
            "GTMR4QT05Z9WF5HKVG0WK9RPXGHSMHJNW377G9GJXCA8B0FEKPF4D27RJMSJZYWSQNTBJ5EYVV7ZW18B48Z0JVJJ80RHB706Y96Q358"
        );
        // A shorter output is the start of the longer one; no output at all is lawful, too.
        assert_eq!(hkdf::<40>(b"s", b"k", b"i"), hkdf::<64>(b"s", b"k", b"i")[..40]);
        assert_eq!(hkdf::<0>(b"", b"", b""), [0; 0]);
    }
}
