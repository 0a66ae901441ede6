//! Dispute files as bytes: refused or judged, whatever they are; a file that is sound holds the events of a seed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::{bounded, dispute};
use quittance_replay::dispute::check;

fuzz_target!(|data: &[u8]| {
    if let Ok(report) = bounded(data.len(), dispute::TIMES, || check(data, "dispute.zip", None)) {
        assert!(!report.is_sound() || dispute::is_known(data));
    }
});
