//! What a log sends a witness and what it gets back: one text each, bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::{bounded, text};
use quittance_tlog::witness::{AddCheckpoint, MAX_PROOF_LINES, add_cosignatures, parse_size};
use quittance_tlog::{Cosigner, KeyName};

fuzz_target!(|data: &[u8]| {
    let Some(given) = text(data) else { return };
    bounded(data.len(), 64, || {
        if let Some(size) = parse_size(given) {
            assert_eq!(format!("{size}\n"), given);
        }
        // A request, and behind a NUL the witness's reply to it.
        let (request, reply) = given.split_once('\0').unwrap_or((given, ""));
        let Ok(request) = request.parse::<AddCheckpoint>() else {
            return;
        };
        assert_eq!(
            request.to_string().parse::<AddCheckpoint>().as_ref(),
            Ok(&request)
        );
        assert!(request.proof().len() <= MAX_PROOF_LINES);
        let witness = Cosigner::new(KeyName::new("witness.example/w1").expect("a name"), &[8; 32]);
        let mut note = request.note().clone();
        let before = note.clone();
        match add_cosignatures(&mut note, reply, &[witness.verifier()]) {
            Ok(times) => assert!(times.is_empty() || note.signatures().len() >= before.signatures().len()),
            Err(_) => assert_eq!(note, before, "a refused reply changes nothing"),
        }
    });
});
