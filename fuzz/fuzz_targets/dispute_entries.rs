//! Dispute files as what they hold, so that no checksum stands in the way: `\n=== NAME\n` begins an entry. Refused or
//! judged, whatever they hold; nobody without the keys makes another sound one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::{bounded, dispute};
use quittance_replay::dispute::{check, print_bundle};

fuzz_target!(|data: &[u8]| {
    let Some(file) = dispute::packed(data) else { return };
    let Ok(report) = bounded(file.len(), dispute::TIMES, || check(&file, "dispute.zip", None)) else {
        return;
    };
    assert!(!report.is_sound() || dispute::is_known(&file));
    assert!(!print_bundle(&report).is_empty());
});
