//! Receipts: one text each, from the header or from a file's line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_events::receipt::Receipt;
use quittance_fuzz::{bounded, text};

fuzz_target!(|data: &[u8]| {
    bounded(data.len(), 32, || {
        let Some(given) = text(data) else { return };
        if let Ok(receipt) = given.parse::<Receipt>() {
            assert_eq!(receipt.to_string(), given);
        }
    });
});
