//! Cosignatures, requests to witnesses and offline proofs, against what others published and against themselves.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use proptest::prelude::*;
use quittance_tlog::cosignature::MAX_TIME_S;
use quittance_tlog::note::MAX_SIGNATURES;
use quittance_tlog::proof::verify_consistency;
use quittance_tlog::witness::{MAX_PROOF_LINES, add_cosignatures, parse_size};
use quittance_tlog::{
    AddCheckpoint, Checkpoint, CheckpointError, CosignError, Cosigner, CosignerKey, KeyError, KeyName, Note,
    NoteError, NoteSigner, ProofError, RequestError, TlogProof, TlogProofError, VerifierKey, leaf_hash,
};
use support::{Tree, flipped, hash};

/// A checkpoint of a public log, signed by the log in two ways and cosigned by four witnesses of the public network:
/// the test data of tlog-scales (`TestCheckpointVerification`). The keys are those that the operators publish.
const ARCHE: &str = "arche2025h1.staging.ct.transparency.dev\n1432088532\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\n— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=\n— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==\n— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==\n— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==\n";
const ARCHE_KEY: &str =
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f";
const WITNESSES: [&str; 4] = [
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
];
const ARCHE_TIME_S: u64 = 0x6a12_2120;

/// Another witness, which did not cosign [`ARCHE`].
const NAVIGLI: &str =
    "witness.navigli.sunlight.geomys.org+a3e00fe2+BNy/co4C1Hn1p+INwJrfUlgz7W55dSZReusH/GhUhJ/G";

/// The example of c2sp.org/tlog-cosignature. Its keys are not published, so it shows the form only.
const SOFA: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

/// The example request of c2sp.org/tlog-witness.
const SOFA_REQUEST: &str = "old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\njrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";

/// The example answer of c2sp.org/tlog-witness.
const SOFA_ANSWER: &str = "— witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQLrdk3DXDqI5G2HgLatVs0pWh6Up69HVOw==\n— witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt64vWhO+DlkL0+UfzuOBMh9ChdMkP1vi/lCAsmlw==\n— witness.example/w2 AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbYKA7nC3HNJhm/kWl7oJlqU3rXXvpysAdyP3wQ==\n";

/// A Sigsum log and its requests, from `internal/witness/witness_test.go` of github.com/FiloSottile/torchwood.
const SIGSUM: &str = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562";
const SIGSUM_KEY: &str = "ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f";
const SIGSUM_FIRST: &str = "old 0\n\nsigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562\n1\nKgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562 UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=\n";
const SIGSUM_SECOND: [&str; 2] = [
    "old 1\nKgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nKgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\nsigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562\n3\nRcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=\n\n— sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562 UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=\n",
    "old 1\nKgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=\nKgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\nsigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562\n5\nQrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=\n\n— sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562 UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=\n",
];

const ORIGIN: &str = "shop.example/log";

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

fn log() -> NoteSigner {
    NoteSigner::new(name(ORIGIN), &[5; 32])
}

fn witness(number: u8) -> Cosigner {
    Cosigner::new(name(&format!("witness.example/w{number}")), &[100 + number; 32])
}

fn signed(tree: &Tree, size: u64) -> Note {
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size,
        root: tree.root(size),
    };
    checkpoint.sign(&log()).unwrap()
}

fn cosigned(mut note: Note, cosigner: &Cosigner, time_s: u64) -> Note {
    note.add(cosigner.sign(&note, time_s).unwrap()).unwrap();
    note
}

fn keys<T: std::str::FromStr<Err = KeyError>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn cosignatures_of_the_public_witness_network_verify() {
    let note = Note::parse(ARCHE).unwrap();
    let checkpoint = Checkpoint::verify(&note, &keys(&[ARCHE_KEY])).unwrap();
    assert_eq!(checkpoint.size, 1_432_088_532);
    for (key, text) in keys::<CosignerKey>(&WITNESSES).iter().zip(WITNESSES) {
        assert_eq!(key.to_string(), text);
        assert_eq!(key.cosigned_at(&note), Ok(ARCHE_TIME_S), "{key}");
    }
    let other: CosignerKey = NAVIGLI.parse().unwrap();
    assert_eq!(
        other.cosigned_at(&note),
        Err(NoteError::NotSigned(other.name().clone()))
    );
    let changed = Note::parse(&ARCHE.replace("1432088532", "1432088533")).unwrap();
    for key in keys::<CosignerKey>(&WITNESSES) {
        assert_eq!(
            key.cosigned_at(&changed),
            Err(NoteError::Invalid(key.name().clone()))
        );
    }
}

#[test]
fn the_specification_example_has_the_time_of_its_text() {
    let note = Note::parse(SOFA).unwrap();
    let line = &note.signatures()[1];
    assert_eq!(line.name().as_str(), "witness.example.com/w1");
    assert_eq!(line.signature().len(), 8 + 64);
    assert_eq!(line.signature()[..8], 1_679_315_147_u64.to_be_bytes());
    assert_eq!(note.to_string(), SOFA);
}

#[test]
fn a_log_key_is_no_witness_key() {
    assert_eq!(ARCHE_KEY.parse::<CosignerKey>(), Err(KeyError::Type(0x01)));
    assert_eq!(WITNESSES[0].parse::<VerifierKey>(), Err(KeyError::Type(0x04)));
    // One seed and one name, but two types: two ids, and neither is taken for the other.
    let (signer, cosigner) = (log(), Cosigner::new(name(ORIGIN), &[5; 32]));
    assert_eq!(signer.verifier().public_key(), cosigner.verifier().public_key());
    let typed = |kind: u8| [&[kind], signer.verifier().public_key().as_slice()].concat();
    assert_eq!(signer.verifier().id(), signed_note::key_id(ORIGIN, &typed(0x01)));
    assert_eq!(
        cosigner.verifier().id(),
        signed_note::key_id(ORIGIN, &typed(0x04))
    );
    let tree = Tree::numbered(3);
    let note = cosigned(signed(&tree, 3), &cosigner, 7);
    assert_eq!(note.verify(&signer.verifier()), Ok(()));
    assert_eq!(cosigner.verifier().cosigned_at(&note), Ok(7));
    assert!(cosigner.verifier().cosigned_at(&signed(&tree, 3)).is_err());
}

#[test]
fn signed_note_reads_a_cosigned_note_and_finds_the_logs_signature() {
    let note = cosigned(signed(&Tree::numbered(3), 3), &witness(1), 1_700_000_000);
    let read = signed_note::Note::from_bytes(note.to_string().as_bytes()).unwrap();
    let key = signed_note::StandardVerifier::new(&log().verifier().to_string()).unwrap();
    let (known, unknown) = read
        .verify(&signed_note::VerifierList::new(vec![Box::new(key)]))
        .unwrap();
    assert_eq!((known.len(), unknown.len()), (1, 1));
    assert_eq!(unknown[0].name(), "witness.example/w1");
    assert_eq!(unknown[0].id(), witness(1).verifier().id());
    assert_eq!(unknown[0].signature(), note.signatures()[1].signature());
}

#[test]
fn the_latest_of_several_cosignatures_counts_and_each_has_to_be_valid() {
    let cosigner = witness(1);
    let key = cosigner.verifier();
    let once = cosigned(signed(&Tree::numbered(3), 3), &cosigner, 20);
    let twice = cosigned(once.clone(), &cosigner, 10);
    assert_eq!(key.cosigned_at(&twice), Ok(20));
    assert_eq!(
        cosigned(once.clone(), &cosigner, 20),
        once,
        "the same line twice is one"
    );
    let elsewhere = cosigner.sign(&signed(&Tree::numbered(4), 4), 30).unwrap();
    let mut mixed = once;
    mixed.add(elsewhere).unwrap();
    assert_eq!(
        key.cosigned_at(&mixed),
        Err(NoteError::Invalid(key.name().clone()))
    );
}

#[test]
fn times_end_where_the_specification_ends_them() {
    let (cosigner, note) = (witness(1), signed(&Tree::numbered(1), 1));
    for time_s in [0, MAX_TIME_S] {
        let note = cosigned(note.clone(), &cosigner, time_s);
        assert_eq!(cosigner.verifier().cosigned_at(&note), Ok(time_s));
    }
    assert_eq!(
        cosigner.sign(&note, MAX_TIME_S + 1),
        Err(CosignError::Time(MAX_TIME_S + 1))
    );
    let no_checkpoint = Note::signed("a\nb\n", &[&log()]).unwrap();
    assert_eq!(
        cosigner.sign(&no_checkpoint, 0),
        Err(CosignError::Checkpoint(CheckpointError::Lines))
    );
}

#[test]
fn one_bit_changed_in_a_cosignature_is_refused() {
    let key = witness(1).verifier();
    let line = witness(1)
        .sign(&signed(&Tree::numbered(3), 3), 1_700_000_000)
        .unwrap();
    let note = signed(&Tree::numbered(3), 3).to_string();
    let bytes = [key.id().to_be_bytes().as_slice(), line.signature()].concat();
    let with = |bytes: &[u8]| {
        let encoded = BASE64_STANDARD.encode(bytes);
        Note::parse(&format!("{note}— {} {encoded}\n", key.name())).unwrap()
    };
    assert_eq!(key.cosigned_at(&with(&bytes)), Ok(1_700_000_000));
    for bit in 0..8 * bytes.len() {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(key.cosigned_at(&with(&changed)).is_err(), "bit {bit}");
    }
    for wrong in [
        &bytes[..bytes.len() - 1],
        &[bytes.as_slice(), &[0]].concat(),
        &bytes[..9],
    ] {
        assert_eq!(
            key.cosigned_at(&with(wrong)),
            Err(NoteError::Invalid(key.name().clone()))
        );
    }
}

#[test]
fn a_note_takes_no_more_signatures_than_it_can_be_read_with() {
    let mut note = signed(&Tree::numbered(1), 1);
    for time_s in 1..u64::try_from(MAX_SIGNATURES).unwrap() {
        note = cosigned(note, &witness(1), time_s);
    }
    assert_eq!(note.signatures().len(), MAX_SIGNATURES);
    let full = note.clone();
    let more = witness(1).sign(&note, 0).unwrap();
    assert_eq!(note.add(more), Err(NoteError::TooManySignatures));
    assert_eq!(note, full);
    assert_eq!(Note::parse(&note.to_string()), Ok(note));
}

#[test]
fn a_log_with_several_keys() {
    let tree = Tree::numbered(3);
    let (old, new) = (log(), NoteSigner::new(name(ORIGIN), &[6; 32]));
    let both = Note::signed(signed(&tree, 3).text(), &[&old, &new]).unwrap();
    let known = [old.verifier(), new.verifier()];
    for note in [&both, &signed(&tree, 3)] {
        assert_eq!(Checkpoint::verify(note, &known).unwrap().size, 3);
    }
    assert_eq!(
        Checkpoint::verify(&both, &[]),
        Err(CheckpointError::Note(NoteError::NoKnownKey))
    );
    assert_eq!(
        Checkpoint::verify(&signed(&tree, 3), &known[1..]),
        Err(CheckpointError::Note(NoteError::NoKnownKey))
    );
    // Who claims to be a known key and is not spoils the note, even where another known key signed it.
    let forged = Note::signed(signed(&tree, 2).text(), &[&old]).unwrap();
    let mut spoiled = Note::signed(signed(&tree, 3).text(), &[&new]).unwrap();
    spoiled.add(forged.signatures()[0].clone()).unwrap();
    assert_eq!(
        Checkpoint::verify(&spoiled, &known),
        Err(CheckpointError::Note(NoteError::Invalid(name(ORIGIN))))
    );
    assert!(Checkpoint::verify(&spoiled, &known[1..]).is_ok());
    let stranger = NoteSigner::new(name("shop.example/other"), &[6; 32]);
    let other = Note::signed(signed(&tree, 3).text(), &[&stranger]).unwrap();
    assert!(matches!(
        Checkpoint::verify(&other, &[stranger.verifier()]),
        Err(CheckpointError::OtherOrigin { .. })
    ));
}

#[test]
fn the_request_of_the_specification_is_read_and_written() {
    let request: AddCheckpoint = SOFA_REQUEST.parse().unwrap();
    assert_eq!(request.to_string(), SOFA_REQUEST);
    assert_eq!((request.old(), request.proof().len()), (20_852_014, 4));
    assert_eq!(request.checkpoint().size, 20_852_163);
    assert_eq!(request.note().signatures().len(), 2);
}

#[test]
fn the_requests_of_a_sigsum_log_are_what_a_witness_accepts() {
    let key = VerifierKey::new(name(SIGSUM), hash(SIGSUM_KEY).0).unwrap();
    let first: AddCheckpoint = SIGSUM_FIRST.parse().unwrap();
    assert_eq!((first.old(), first.proof()), (0, [].as_slice()));
    let seen = Checkpoint::verify(first.note(), std::slice::from_ref(&key)).unwrap();
    for (body, size) in SIGSUM_SECOND.iter().zip([3, 5]) {
        let request: AddCheckpoint = body.parse().unwrap();
        assert_eq!(request.to_string(), *body);
        let next = Checkpoint::verify(request.note(), std::slice::from_ref(&key)).unwrap();
        assert_eq!((request.old(), next.size), (seen.size, size));
        assert_eq!(
            verify_consistency(request.old(), &seen.root, next.size, &next.root, request.proof()),
            Ok(())
        );
    }
}

#[test]
fn malformed_requests_are_refused() {
    let refused = |body: String| body.parse::<AddCheckpoint>().unwrap_err();
    for first in [
        "old",
        "old ",
        "old -1",
        "old 01",
        "old +1",
        "old 18446744073709551616",
        "Old 1",
        "old  1",
        "old 1 ",
    ] {
        assert_eq!(
            refused(SOFA_REQUEST.replace("old 20852014", first)),
            RequestError::Old,
            "{first:?}"
        );
    }
    assert_eq!(refused(String::new()), RequestError::Old);
    assert_eq!(
        refused(SOFA_REQUEST.replace("kaw=", "kax=")),
        RequestError::Hash(1)
    );
    assert_eq!(
        refused(SOFA_REQUEST.replace("swk=", "swk")),
        RequestError::Hash(2)
    );
    assert_eq!(
        refused(SOFA_REQUEST.replace("/6WVhPs2", "")),
        RequestError::Hash(4)
    );
    assert_eq!(
        refused(SOFA_REQUEST.replacen("\n\nexample", "\nexample", 1)),
        RequestError::Hash(5)
    );
    assert_eq!(refused("old 0\n".into()), RequestError::NoCheckpoint);
    assert_eq!(
        refused("old 0\n\n".into()),
        RequestError::Checkpoint(CheckpointError::Note(NoteError::NoSignatures))
    );
    assert_eq!(
        refused(SOFA_REQUEST.replace("q2I=\n", "q2I=\nextension\n")),
        RequestError::Checkpoint(CheckpointError::Extension)
    );
    assert!(matches!(
        refused(SOFA_REQUEST.trim_end().into()),
        RequestError::Checkpoint(CheckpointError::Note(NoteError::SignatureLine(_)))
    ));
    assert!(matches!(
        refused(SOFA_REQUEST.replace('\n', "\r\n")),
        RequestError::Old
    ));

    let line = "KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    let long = |lines| SIGSUM_FIRST.replacen("\n\n", &format!("\n{}\n", line.repeat(lines)), 1);
    let longest: AddCheckpoint = long(MAX_PROOF_LINES).parse().unwrap();
    assert_eq!(longest.proof().len(), MAX_PROOF_LINES);
    assert_eq!(refused(long(MAX_PROOF_LINES + 1)), RequestError::TooManyHashes);
    let hashes = vec![leaf_hash(b""); MAX_PROOF_LINES + 1];
    assert_eq!(
        AddCheckpoint::new(0, hashes, longest.note().clone()),
        Err(RequestError::TooManyHashes)
    );
}

#[test]
fn the_answer_of_a_witness() {
    let tree = Tree::numbered(9);
    let mut note = signed(&tree, 9);
    let before = note.clone();
    let (first, second, unknown) = (witness(1), witness(2), witness(3));
    let known = [first.verifier(), second.verifier()];
    let line = |cosigner: &Cosigner, time_s| format!("{}\n", cosigner.sign(&before, time_s).unwrap());

    // Forms only: nobody here knows these keys.
    assert_eq!(add_cosignatures(&mut note, SOFA_ANSWER, &known), Ok(vec![]));
    assert_eq!(note, before);
    // One line that is forged spoils the answer.
    let forged = format!("{}\n", second.sign(&signed(&tree, 8), 5).unwrap());
    let answer = line(&first, 3) + &forged;
    assert_eq!(
        add_cosignatures(&mut note, &answer, &known),
        Err(NoteError::Invalid(name("witness.example/w2")))
    );
    assert_eq!(note, before);
    for malformed in ["", "\n", "x\n", line(&first, 3).trim_end()] {
        assert!(add_cosignatures(&mut note, malformed, &known).is_err());
    }
    let answer = line(&first, 3) + &line(&unknown, 4) + &line(&second, 5);
    assert_eq!(add_cosignatures(&mut note, &answer, &known), Ok(vec![3, 5]));
    assert_eq!(note.signatures().len(), 3);
    assert_eq!(known[0].cosigned_at(&note), Ok(3));
    assert_eq!(known[1].cosigned_at(&note), Ok(5));
    assert!(unknown.verifier().cosigned_at(&note).is_err());
    assert!(Checkpoint::verify(&note, &[log().verifier()]).is_ok());

    assert_eq!(parse_size("20852014\n"), Some(20_852_014));
    assert_eq!(parse_size("0\n"), Some(0));
    for malformed in [
        "",
        "\n",
        "1",
        "01\n",
        "1\n\n",
        " 1\n",
        "+1\n",
        "18446744073709551616\n",
    ] {
        assert_eq!(parse_size(malformed), None, "{malformed:?}");
    }
}

fn offline(tree: &Tree, index: u64, size: u64, extra: &[u8]) -> TlogProof {
    TlogProof::new(
        index,
        tree.inclusion(index, size),
        signed(tree, size),
        extra.to_vec(),
    )
    .unwrap()
}

/// The example of c2sp.org/tlog-proof, its abbreviated signatures replaced by others of the right form.
#[test]
fn the_proof_of_the_specification_is_read_and_written() {
    let signatures = SOFA.split_once("\n\n").unwrap().1;
    let text = format!(
        "c2sp.org/tlog-proof@v1\nextra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6kYXJ3aW4tYXJ\nindex 73894\ngSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\nB95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\nEKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=\nRoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=\nAHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=\n\nexample.com/fancylog\n109482\nsFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\n{signatures}"
    );
    let proof: TlogProof = text.parse().unwrap();
    assert_eq!(proof.to_string(), text);
    assert_eq!((proof.index(), proof.hashes().len()), (73_894, 5));
    assert!(proof.extra().starts_with(b"age-v1.2.1-darwin-arm64.tar.gz"));
    assert_eq!(proof.note().signatures().len(), 2);
}

#[test]
fn an_offline_proof_shows_the_entry_the_log_and_the_witnesses() {
    let tree = Tree::numbered(77);
    let log_keys = [log().verifier()];
    for (index, size) in [(0, 1), (0, 2), (41, 77), (76, 77)] {
        let mut note = signed(&tree, size);
        note = cosigned(note, &witness(1), 1_700_000_000);
        let made = TlogProof::new(index, tree.inclusion(index, size), note, b"context".to_vec()).unwrap();
        let read: TlogProof = made.to_string().parse().unwrap();
        assert_eq!(read, made);
        let checkpoint = read.verify(&tree.leaf(index), &log_keys).unwrap();
        assert_eq!((checkpoint.size, checkpoint.root), (size, tree.root(size)));
        assert_eq!(witness(1).verifier().cosigned_at(read.note()), Ok(1_700_000_000));
        assert!(witness(2).verifier().cosigned_at(read.note()).is_err());
    }
    let proof = offline(&tree, 41, 77, b"");
    assert_eq!(proof.to_string().lines().nth(1), Some("index 41"));
    assert_eq!(
        proof.verify(&tree.leaf(40), &log_keys),
        Err(TlogProofError::Inclusion(ProofError::Root))
    );
    assert_eq!(
        proof.verify(
            &tree.leaf(41),
            &[NoteSigner::new(name(ORIGIN), &[9; 32]).verifier()]
        ),
        Err(TlogProofError::Checkpoint(CheckpointError::Note(
            NoteError::NoKnownKey
        )))
    );
    let beyond = TlogProof::new(77, vec![], signed(&tree, 77), vec![]).unwrap();
    assert_eq!(
        beyond.verify(&tree.leaf(41), &log_keys),
        Err(TlogProofError::Inclusion(ProofError::Index {
            index: 77,
            size: 77
        }))
    );
}

/// The cases of `proof/tlog_proof_test.go` in github.com/transparency-dev/formats, and more.
#[test]
fn malformed_offline_proofs_are_refused() {
    let text = offline(&Tree::numbered(4), 1, 4, b"extra information").to_string();
    let refused = |from: &str, to: &str| {
        assert!(text.contains(from), "{from:?}");
        text.replacen(from, to, 1).parse::<TlogProof>().unwrap_err()
    };
    let (header, extra) = ("c2sp.org/tlog-proof@v1\n", "extra ZXh0cmEgaW5mb3JtYXRpb24=\n");
    for other in [
        "wrong-header\n",
        "",
        "\n",
        "c2sp.org/tlog-proof@v2\n",
        "c2sp.org/tlog-proof@v1 \n",
        "c2sp.org/tlog-proof@v1\r\n",
    ] {
        assert_eq!(refused(header, other), TlogProofError::Header, "{other:?}");
    }
    for other in [
        "extra !!notbase64!!\n",
        "extra \n",
        "extra ZXh0cmEgaW5mb3JtYXRpb25=\n",
        "extra ZXh0cmEgaW5mb3JtYXRpb24\n",
    ] {
        assert_eq!(refused(extra, other), TlogProofError::Extra, "{other:?}");
    }
    for other in ["extra\n", "Extra AA==\n", "extra AA==\nextra AA==\n", "\n"] {
        assert_eq!(refused(extra, other), TlogProofError::Index, "{other:?}");
    }
    for other in [
        "",
        "\n",
        "index\n",
        "index \n",
        "index notanumber\n",
        "index -5\n",
        "index 01\n",
        "index 1 \n",
        "index 18446744073709551616\n",
    ] {
        assert_eq!(refused("index 1\n", other), TlogProofError::Index, "{other:?}");
    }
    let long = format!("index 1\n{}\n", BASE64_STANDARD.encode([0; 64]));
    for other in [
        &long,
        "index 1\n!!notbase64!!\n",
        "index 1\nindex 1\n",
        "index 1\n \n",
    ] {
        assert_eq!(refused("index 1\n", other), TlogProofError::Hash(1), "{other:?}");
    }
    assert_eq!(refused("\n\n", "\n"), TlogProofError::Hash(3));
    let hashes = |count| {
        format!(
            "index 1\n{}",
            "KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n".repeat(count)
        )
    };
    assert_eq!(refused("index 1\n", &hashes(63)), TlogProofError::TooManyHashes);
    assert!(
        text.replacen("index 1\n", &hashes(62), 1)
            .parse::<TlogProof>()
            .is_ok()
    );
    assert_eq!(
        TlogProof::new(0, vec![leaf_hash(b""); 65], signed(&Tree::numbered(1), 1), vec![]),
        Err(TlogProofError::TooManyHashes)
    );
    assert_eq!(
        refused("\n\n", "\n\n\n"),
        TlogProofError::Checkpoint(CheckpointError::Lines)
    );
    let cut = text.split_once("\n\n").unwrap().0;
    assert_eq!(
        format!("{cut}\n").parse::<TlogProof>(),
        Err(TlogProofError::NoCheckpoint)
    );
    assert_eq!(
        format!("{cut}\n\n").parse::<TlogProof>(),
        Err(TlogProofError::Checkpoint(CheckpointError::Note(
            NoteError::NoSignatures
        )))
    );
}

#[test]
fn one_bit_changed_anywhere_in_an_offline_proof_is_refused() {
    let tree = Tree::numbered(77);
    let (leaf, log_keys) = (tree.leaf(41), [log().verifier()]);
    let text = offline(&tree, 41, 77, b"").to_string();
    let accepted = |text: &str| {
        text.parse::<TlogProof>()
            .is_ok_and(|proof| proof.verify(&leaf, &log_keys).is_ok())
    };
    assert!(accepted(&text));
    for bit in 0..8 * text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(
            !String::from_utf8(bytes).is_ok_and(|text| accepted(&text)),
            "bit {bit}"
        );
    }
    for bit in 0..256 {
        let proof: TlogProof = text.parse().unwrap();
        assert!(proof.verify(&flipped(&leaf, bit), &log_keys).is_err());
    }
}

/// A text with some characters replaced, left out or put in.
fn edited(text: &str, edits: &[(prop::sample::Index, u8, char)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, how, c) in edits {
        let at = at.index(chars.len());
        match how % 3 {
            0 => chars[at] = *c,
            1 => chars.insert(at, *c),
            _ => drop(chars.remove(at)),
        }
    }
    chars.into_iter().collect()
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, char)>> {
    let c = prop_oneof![prop::char::range(' ', '~'), Just('\n'), Just('—'), any::<char>()];
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), c), 0..4)
}

proptest! {
    #[test]
    fn only_what_is_written_is_read(edits in edits(), cut in any::<prop::sample::Index>(), noise in any::<String>()) {
        let tree = Tree::numbered(9);
        let proof = offline(&tree, 4, 9, b"x").to_string();
        let request = AddCheckpoint::new(5, tree.consistency(5, 9), signed(&tree, 9)).unwrap().to_string();
        let key = witness(1).verifier().to_string();
        for text in [&edited(&proof, &edits), &edited(&request, &edits), &edited(&key, &edits), &noise] {
            let cut = text.char_indices().map(|(at, _)| at).nth(cut.index(text.len() + 1));
            for text in [text, &text[..cut.unwrap_or(0)]] {
                if let Ok(read) = text.parse::<TlogProof>() {
                    prop_assert_eq!(&read.to_string(), text);
                }
                if let Ok(read) = text.parse::<AddCheckpoint>() {
                    prop_assert_eq!(&read.to_string(), text);
                }
                if let Ok(read) = text.parse::<CosignerKey>() {
                    prop_assert_eq!(&read.to_string(), text);
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read(
        size in 1_u64..40,
        (leaf, old) in any::<(prop::sample::Index, prop::sample::Index)>(),
        extra in prop::collection::vec(any::<u8>(), 0..40),
        time_s in 0..=MAX_TIME_S,
    ) {
        let tree = Tree::numbered(size);
        let leaf = u64::try_from(leaf.index(tree.leaves.len())).unwrap();
        let old = u64::try_from(old.index(tree.leaves.len() + 1)).unwrap();
        let note = cosigned(signed(&tree, size), &witness(1), time_s);
        prop_assert_eq!(witness(1).verifier().cosigned_at(&note), Ok(time_s));
        let proof = TlogProof::new(leaf, tree.inclusion(leaf, size), note.clone(), extra).unwrap();
        prop_assert!(proof.verify(&tree.leaf(leaf), &[log().verifier()]).is_ok());
        prop_assert_eq!(proof.to_string().parse(), Ok(proof));
        let request = AddCheckpoint::new(old, tree.consistency(old, size), note).unwrap();
        prop_assert_eq!(request.to_string().parse(), Ok(request));
    }
}
