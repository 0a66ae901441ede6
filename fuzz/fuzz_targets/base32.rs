//! Base32: what is decoded is written canonically, and the canonical text is read as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::{bounded, text};
use quittance_taler::{CoinPub, HashCode, base32};

fuzz_target!(|data: &[u8]| {
    bounded(data.len(), 16, || {
        let written = base32::encode(data);
        assert_eq!(base32::decode(&written).expect("what was encoded"), data);
        let Some(given) = text(data) else { return };
        if let Ok(bytes) = base32::decode(given) {
            let canonical = base32::encode(&bytes);
            assert_eq!(canonical.len(), given.len());
            assert_eq!(base32::decode(&canonical).expect("canonical"), bytes);
        }
        if let Ok(key) = given.parse::<CoinPub>() {
            assert_eq!(key.to_string().parse::<CoinPub>().expect("canonical"), key);
            assert_eq!(base32::decode_exact(given), Ok(*key.as_bytes()));
        }
        if let Ok(hash) = given.parse::<HashCode>() {
            assert_eq!(hash.to_string().parse::<HashCode>().expect("canonical"), hash);
        }
    });
});
