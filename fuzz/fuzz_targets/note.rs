//! Signed notes and their keys: what is read is written again byte for byte; a witness's time is in its signature.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::{bounded, text};
use quittance_tlog::{Cosigner, CosignerKey, KeyName, Note, NoteSigner, VerifierKey};

fuzz_target!(|data: &[u8]| {
    let Some(given) = text(data) else { return };
    bounded(data.len(), 64, || {
        if let Ok(key) = given.parse::<VerifierKey>() {
            assert_eq!(key.to_string(), given);
        }
        if let Ok(key) = given.parse::<CosignerKey>() {
            assert_eq!(key.to_string(), given);
        }
        let Ok(mut note) = Note::parse(given) else { return };
        assert_eq!(note.to_string(), given);
        let signer = NoteSigner::new(KeyName::new("shop.example/test").expect("a name"), &[7; 32]);
        let forged = note.verify(&signer.verifier()).is_ok();
        let added = note.add(signer.sign(note.text())).is_ok();
        if added && forged {
            assert_eq!(note.verify(&signer.verifier()), Ok(()));
        }
        let witness = Cosigner::new(KeyName::new("witness.example/w1").expect("a name"), &[8; 32]);
        if let Ok(line) = witness.sign(&note, 1_700_000_000)
            && witness.verifier().cosigned_at(&note).is_err()
            && note
                .signatures()
                .iter()
                .all(|line| line.key_id() != witness.verifier().id())
            && note.add(line).is_ok()
        {
            assert_eq!(witness.verifier().cosigned_at(&note), Ok(1_700_000_000));
        }
        if added {
            assert_eq!(Note::parse(&note.to_string()).as_ref(), Ok(&note));
        }
    });
});
