//! Checkpoints: one text each; what opens under a key was signed by it, and only the seeds are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::{bounded, text};
use quittance_tlog::{Checkpoint, KeyName, Note, NoteSigner, check_origin};

const ORIGIN: &str = "shop.example/test";

fuzz_target!(|data: &[u8]| {
    let Some(given) = text(data) else { return };
    let signer = NoteSigner::new(KeyName::new(ORIGIN).expect("a name"), &[7; 32]);
    bounded(data.len(), 32, || {
        if let Ok(checkpoint) = Checkpoint::parse_text(given) {
            assert_eq!(checkpoint.to_text(), given);
            let signed = checkpoint.sign(&signer);
            assert_eq!(
                signed.is_ok(),
                checkpoint.origin == ORIGIN && check_origin(ORIGIN).is_ok()
            );
            if let Ok(note) = signed {
                assert_eq!(
                    Checkpoint::open(&note.to_string(), &signer.verifier()).as_ref(),
                    Ok(&checkpoint)
                );
            }
        }
        if let Ok(checkpoint) = Checkpoint::open(given, &signer.verifier()) {
            let note = Note::parse(given).expect("it opened");
            assert_eq!(checkpoint.to_text(), note.text());
            assert_eq!(Checkpoint::verify(&note, &[signer.verifier()]), Ok(checkpoint));
        }
    });
});
