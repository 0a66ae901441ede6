//! Signed notes and their keys against vectors of others, then against themselves.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use base64::prelude::{BASE64_STANDARD, Engine as _};
use proptest::prelude::*;
use quittance_tlog::note::{MAX_NOTE_BYTES, MAX_SIGNATURES};
use quittance_tlog::{KeyError, KeyName, Note, NoteError, NoteSigner, VerifierKey};

// Keys, text and signatures of `note_test.go` in golang.org/x/mod/sumdb/note (TestSign, TestOpen); the package's
// documentation shows the same note.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
/// The last part of `PRIVATE+KEY+PeterNeumann+c74f20a3+…`: the type byte and the seed.
const PETER_SECRET: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const PETER_LINE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const ENOCH_LINE: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

// The example of c2sp.org/signed-note. Its key is not published, so it shows the form only.
const QUASIMODO: &str = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";

fn key(text: &str) -> VerifierKey {
    text.parse().unwrap()
}

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

fn peter() -> NoteSigner {
    let typed = BASE64_STANDARD.decode(PETER_SECRET).unwrap();
    NoteSigner::new(name("PeterNeumann"), typed[1..].try_into().unwrap())
}

#[test]
fn go_verifier_keys_are_read_and_written() {
    // Besides the two: sum.golang.org's own, and those of formats/log/checkpoint_test.go in
    // github.com/google/trillian-examples.
    for text in [
        PETER,
        ENOCH,
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "Log+2271c621+AemuH5ooBpEPcr+W8onrjA1NfuzBVHdezakU81Ekarvs",
        "Known+451c786d+AXAQ0T7lbwuY4ABJ9/MYY9bWV3hmSyOGVt2x42NkmdUH",
        "KnownAgain+4893b26c+AQ+LR7BFF/F/dkpIBjBpSvT0crkteizuUkavAoGeaYMj",
    ] {
        let parsed = key(text);
        assert_eq!(parsed.to_string(), text);
        assert_eq!(
            VerifierKey::new(parsed.name().clone(), *parsed.public_key()),
            Ok(parsed)
        );
    }
    assert_eq!(peter().verifier(), key(PETER));
    assert_eq!(key(PETER).id(), 0xc74f_20a3);
}

/// The manglings of TestNewVerifier in `note_test.go`: every proper substring, every byte raised by one, a key too
/// long and one of unknown type, both with fitting ids.
#[test]
fn go_manglings_of_a_verifier_key_are_refused() {
    let refused = |text: &str| assert!(text.parse::<VerifierKey>().is_err(), "{text:?} was accepted");
    for start in 0..=PETER.len() {
        for end in start..=PETER.len() {
            if (start, end) != (0, PETER.len()) {
                refused(&PETER[start..end]);
            }
        }
    }
    for index in 0..PETER.len() {
        let mut bytes = PETER.as_bytes().to_vec();
        bytes[index] += 1;
        refused(&String::from_utf8(bytes).unwrap());
    }
    refused("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==");
    assert_eq!(
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse::<VerifierKey>(),
        Err(KeyError::Type(0x65))
    );
}

#[test]
fn other_malformed_verifier_keys_are_refused() {
    let parse = |text: &str| text.parse::<VerifierKey>();
    assert_eq!(parse("PeterNeumann"), Err(KeyError::Format));
    assert_eq!(
        parse(&PETER.replace("c74f20a3", "C74F20A3")),
        Err(KeyError::Format)
    );
    assert_eq!(
        parse(&PETER.replace("c74f20a3", "+74f20a3")),
        Err(KeyError::Format)
    );
    assert_eq!(
        parse(&PETER.replace("PeterNeumann", "")),
        Err(KeyError::EmptyName)
    );
    assert_eq!(
        parse(&PETER.replace("Peter", "Peter ")),
        Err(KeyError::NameCharacter(' '))
    );
    assert_eq!(
        parse(&PETER.replace("c74f20a3", "c74f20a4")),
        Err(KeyError::Id {
            expected: 0xc74f_20a3,
            found: 0xc74f_20a4
        })
    );
    assert!(matches!(
        parse(&PETER.replace("Neumann", "Neuman")),
        Err(KeyError::Id { .. })
    ));
    assert_eq!(parse(&format!("{PETER}\n")), Err(KeyError::Encoding));
    assert_eq!(parse(&format!("{PETER}====")), Err(KeyError::Encoding));
    assert_eq!(parse("x+00000000+"), Err(KeyError::Encoding));
}

#[test]
fn unusable_public_keys_are_refused() {
    // y = 2 is on no point of the curve; y = 1 is the neutral element, under which a forger can sign.
    for first in [2, 1] {
        let mut bytes = [0; 32];
        bytes[0] = first;
        assert_eq!(
            VerifierKey::new(name("x"), bytes),
            Err(KeyError::Point),
            "y = {first}"
        );
    }
}

#[test]
fn key_names_hold_no_spaces_plus_signs_or_control_characters() {
    assert_eq!(KeyName::new(""), Err(KeyError::EmptyName));
    for found in [
        ' ', '\t', '\n', '\u{85}', '\u{a0}', '\u{2003}', '\u{3000}', '+', '\0', '\u{1b}',
    ] {
        assert_eq!(
            KeyName::new(format!("a{found}b")),
            Err(KeyError::NameCharacter(found))
        );
    }
    assert_eq!(name("esempio.example/è-così").as_str(), "esempio.example/è-così");
}

#[test]
fn signing_gives_the_go_note_byte_for_byte() {
    let note = Note::signed(TEXT, &[&peter()]).unwrap();
    assert_eq!(note.to_string(), format!("{TEXT}\n{PETER_LINE}"));
    assert_eq!(note.verify(&key(PETER)), Ok(()));
}

#[test]
fn go_notes_verify_and_other_keys_are_ignored() {
    let both = Note::parse(&format!("{TEXT}\n{PETER_LINE}{ENOCH_LINE}")).unwrap();
    assert_eq!(both.text(), TEXT);
    assert_eq!(both.verify(&key(PETER)), Ok(()));
    assert_eq!(both.verify(&key(ENOCH)), Ok(()));
    let names: Vec<_> = both
        .signatures()
        .iter()
        .map(|line| line.name().as_str())
        .collect();
    assert_eq!(names, ["PeterNeumann", "EnochRoot"]);

    let one = Note::parse(&format!("{TEXT}\n{PETER_LINE}")).unwrap();
    assert_eq!(
        one.verify(&key(ENOCH)),
        Err(NoteError::NotSigned(name("EnochRoot")))
    );
    // A key that shares the name, but not the id.
    let namesake = NoteSigner::new(name("PeterNeumann"), &[3; 32]).verifier();
    assert_eq!(
        one.verify(&namesake),
        Err(NoteError::NotSigned(name("PeterNeumann")))
    );
}

#[test]
fn an_invalid_signature_by_the_known_key_refuses_the_note() {
    // As in TestOpen: the id is right, the signature three bytes too long.
    let longer = format!("{}ABCD{}", &PETER_LINE[..60], &PETER_LINE[60..]);
    let invalid = Err(NoteError::Invalid(name("PeterNeumann")));
    for lines in [
        longer.clone(),
        format!("{PETER_LINE}{longer}"),
        format!("{longer}{PETER_LINE}"),
    ] {
        assert_eq!(
            Note::parse(&format!("{TEXT}\n{lines}"))
                .unwrap()
                .verify(&key(PETER)),
            invalid
        );
    }
    let unknown_invalid = Note::parse(&format!("{TEXT}\n{longer}{ENOCH_LINE}")).unwrap();
    assert_eq!(unknown_invalid.verify(&key(ENOCH)), Ok(()));
    let other_text = Note::parse(&format!("{}\n{PETER_LINE}", TEXT.replace("think", "thank"))).unwrap();
    assert_eq!(other_text.verify(&key(PETER)), invalid);
}

#[test]
fn the_specification_example_is_split_at_its_last_empty_line() {
    let note = Note::parse(QUASIMODO).unwrap();
    assert!(note.text().ends_with("sole:\n\ned è subito sera.\n"));
    assert_eq!(
        (note.signatures().len(), note.signatures()[0].signature().len()),
        (1, 64)
    );
    assert_eq!(note.signatures()[0].key_id(), 0x367b_a04b);
    assert_eq!(note.to_string(), QUASIMODO);
}

#[test]
fn malformed_notes_are_refused() {
    let parse = |note: String| Note::parse(&note).unwrap_err();
    let line = |lines: &str| parse(format!("{TEXT}\n{lines}"));
    // The list of TestOpen; its case of invalid UTF-8 cannot be put into a `str`.
    assert_eq!(parse(TEXT.to_owned()), NoteError::NoSignatures);
    assert_eq!(line(""), NoteError::NoSignatures);
    assert_eq!(line(PETER_LINE.trim_end()), NoteError::SignatureLine(1));
    assert_eq!(
        parse(format!("\u{1}{TEXT}\n{PETER_LINE}")),
        NoteError::Control('\u{1}')
    );
    assert_eq!(
        line(&PETER_LINE.replace("PeterNeumann", "Bad Name")),
        NoteError::SignatureLine(1)
    );
    assert_eq!(
        line(&format!("{PETER_LINE}Unexpected line.\n")),
        NoteError::SignatureLine(2)
    );
    // And more.
    assert_eq!(line(&format!("{PETER_LINE}\n")), NoteError::NoSignatures);
    assert_eq!(
        line(&PETER_LINE.replace('\n', "\r\n")),
        NoteError::SignatureLine(1)
    );
    assert_eq!(
        parse(format!("{TEXT}\n{PETER_LINE}").replace('\n', "\r\n")),
        NoteError::NoSignatures
    );
    assert_eq!(line(&PETER_LINE.replace('—', "-")), NoteError::SignatureLine(1));
    assert_eq!(
        line(&PETER_LINE.replace("PeterNeumann", "Peter+Neumann")),
        NoteError::SignatureLine(1)
    );
    assert_eq!(
        line(&PETER_LINE.replace("AM=", "AN=")),
        NoteError::SignatureLine(1),
        "stray bits"
    );
    assert_eq!(
        line(&PETER_LINE.replace("AM=", "AM")),
        NoteError::SignatureLine(1),
        "no padding"
    );
    assert_eq!(
        line("— x AAAAAA==\n"),
        NoteError::SignatureLine(1),
        "a key id without a signature"
    );
    assert_eq!(
        Note::parse(&format!("{TEXT}\n— x AAAAAAA=\n"))
            .unwrap()
            .signatures()[0]
            .signature(),
        [0]
    );
}

#[test]
fn the_number_of_signatures_and_the_size_are_bounded() {
    let signer = peter();
    let enough = Note::parse(&format!("{TEXT}\n{}", PETER_LINE.repeat(MAX_SIGNATURES))).unwrap();
    assert_eq!(enough.signatures().len(), MAX_SIGNATURES);
    let more = format!("{TEXT}\n{}", PETER_LINE.repeat(MAX_SIGNATURES + 1));
    assert_eq!(Note::parse(&more), Err(NoteError::TooManySignatures));
    assert_eq!(
        Note::signed(TEXT, &[&signer; MAX_SIGNATURES + 1]),
        Err(NoteError::TooManySignatures)
    );

    let frame = "\n\n".len() + PETER_LINE.len();
    let longest = "x".repeat(MAX_NOTE_BYTES - frame) + "\n";
    let note = Note::signed(&longest, &[&signer]).unwrap().to_string();
    assert_eq!(note.len(), MAX_NOTE_BYTES);
    assert_eq!(Note::parse(&note).unwrap().verify(&signer.verifier()), Ok(()));
    assert_eq!(Note::parse(&format!("x{note}")), Err(NoteError::TooLong));
    assert_eq!(
        Note::signed(&format!("x{longest}"), &[&signer]),
        Err(NoteError::TooLong)
    );
}

#[test]
fn what_cannot_be_a_note_is_not_signed() {
    assert_eq!(Note::signed("abc", &[&peter()]), Err(NoteError::TextEnd));
    assert_eq!(Note::signed("", &[&peter()]), Err(NoteError::TextEnd));
    assert_eq!(Note::signed("a\tb\n", &[&peter()]), Err(NoteError::Control('\t')));
    assert_eq!(Note::signed(TEXT, &[]), Err(NoteError::NoSignatures));
}

#[test]
fn the_secret_is_not_shown() {
    assert_eq!(format!("{:?}", peter()), format!("NoteSigner({PETER})"));
}

proptest! {
    // Signing without optimisation takes its time.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Texts with empty lines, dashes and whatever else is allowed.
    #[test]
    fn a_signed_note_is_read_back_and_verifies(
        lines in prop::collection::vec("(— x AAAAAAA=)?[^\\x00-\\x1f]{0,12}", 1..6),
        names in prop::collection::vec("[a-zè./]{1,12}", 1..4),
    ) {
        let text = lines.join("\n") + "\n";
        let signers: Vec<_> =
            names.iter().zip(1_u8..).map(|(name, seed)| NoteSigner::new(KeyName::new(name).unwrap(), &[seed; 32])).collect();
        let note = Note::signed(&text, &signers.iter().collect::<Vec<_>>()).unwrap();
        let read = Note::parse(&note.to_string());
        prop_assert_eq!(read.as_ref(), Ok(&note));
        prop_assert_eq!(note.text(), text);
        for signer in &signers {
            prop_assert_eq!(note.verify(&signer.verifier()), Ok(()));
            prop_assert_eq!(signer.verifier().to_string().parse(), Ok(signer.verifier()));
        }
    }

    /// Whatever is read is written again byte for byte: no two texts are the same note.
    #[test]
    fn reading_and_writing_changes_nothing(note in "[a\n]{0,4}\n\n(— [a-c] [A-Za-z0-9+/]{7}=?\n){1,3}") {
        if let Ok(read) = Note::parse(&note) {
            prop_assert_eq!(read.to_string(), note);
        }
    }

    #[test]
    fn any_text_is_read_without_panic_and_written_alike(note in "(\\PC|\n|— ){0,60}", key in "\\PC{0,60}") {
        prop_assert!(Note::parse(&note).map_or(true, |read| read.to_string() == note));
        prop_assert!(key.parse::<VerifierKey>().map_or(true, |read| read.to_string() == key));
    }
}
