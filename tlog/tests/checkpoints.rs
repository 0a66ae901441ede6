//! Checkpoints against vectors of others, then against themselves.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use quittance_tlog::{
    Checkpoint, CheckpointError, Hash, KeyName, MAX_ORIGIN_BYTES, Note, NoteError, NoteSigner, OriginError,
    VerifierKey, check_origin,
};

/// A checkpoint that Tessera signed, with its key: `spicy/spicy_test.go` of github.com/warpfork/spicytool.
const TESSERA_KEY: &str = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
const TESSERA: &str = "example.com/log/testdata\n100270\nGRV1O0dCqmjjPvYi7CtOT79zb/fPwLNsMFWsynwU8Ac=\n\n— example.com/log/testdata M9e0lkcvy5bAe7rrC8tCyAP+my+CLzswA91zOpBNWVU7qCojkUOHnfdQzDImoYeYH8G8PJSwOqsx0RkSa261OmKVwwM=\n";

/// Go's checksum database, signed by a key whose name is not the origin: `formats/log/checkpoint_test.go` of
/// github.com/google/trillian-examples.
const SUMDB_KEY: &str = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
const SUMDB: &str = "go.sum database tree\n6476701\nmb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=\n\n— sum.golang.org Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=\n";

/// The example of c2sp.org/tlog-checkpoint. Its key is not published, so it shows the form only.
const SOFA: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

const ORIGIN: &str = "shop.example/log";

fn signer(name: &str) -> NoteSigner {
    NoteSigner::new(KeyName::new(name).unwrap(), &[5; 32])
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: ORIGIN.into(),
        size: 42,
        root: Hash([0xa5; 32]),
    }
}

fn parse(text: &str) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::parse_text(text)
}

#[test]
fn a_checkpoint_of_tessera_opens() {
    let opened = Checkpoint::open(TESSERA, &TESSERA_KEY.parse().unwrap()).unwrap();
    assert_eq!(
        (opened.origin.as_str(), opened.size),
        ("example.com/log/testdata", 100_270)
    );
    assert_eq!(
        format!("{:?}", opened.root),
        "1915753b4742aa68e33ef622ec2b4e4fbf736ff7cfc0b36c3055acca7c14f007"
    );
    assert_eq!(opened.to_text(), Note::parse(TESSERA).unwrap().text());
}

#[test]
fn the_go_checksum_database_verifies_but_is_not_the_log_of_its_key() {
    let key: VerifierKey = SUMDB_KEY.parse().unwrap();
    let note = Note::parse(SUMDB).unwrap();
    assert_eq!(note.verify(&key), Ok(()));
    assert_eq!(parse(note.text()).unwrap().size, 6_476_701);
    assert_eq!(
        Checkpoint::open(SUMDB, &key),
        Err(CheckpointError::OtherOrigin {
            origin: "go.sum database tree".into(),
            key: "sum.golang.org".into()
        })
    );
}

#[test]
fn the_specification_example_is_read_and_written() {
    let note = Note::parse(SOFA).unwrap();
    let read = parse(note.text()).unwrap();
    assert_eq!(
        (read.origin.as_str(), read.size),
        ("example.com/behind-the-sofa", 20_852_163)
    );
    assert_eq!(
        (read.to_text().as_str(), note.to_string().as_str()),
        (note.text(), SOFA)
    );
}

#[test]
fn an_untrusted_checkpoint_does_not_open() {
    let note = checkpoint().sign(&signer(ORIGIN)).unwrap().to_string();
    let not_signed = |name: &str| Err(NoteError::NotSigned(KeyName::new(name).unwrap()).into());
    let namesake = NoteSigner::new(KeyName::new(ORIGIN).unwrap(), &[6; 32]).verifier();
    assert_eq!(Checkpoint::open(&note, &namesake), not_signed(ORIGIN));
    assert_eq!(
        Checkpoint::open(&note, &signer("other.example").verifier()),
        not_signed("other.example")
    );
    assert_eq!(
        Checkpoint::open(&checkpoint().to_text(), &namesake),
        Err(NoteError::NoSignatures.into())
    );
}

/// A witness's signature below ours changes nothing for who knows our key alone.
#[test]
fn a_cosigned_checkpoint_opens() {
    let (ours, witness) = (signer(ORIGIN), signer("witness.example"));
    let note = Note::signed(&checkpoint().to_text(), &[&ours, &witness])
        .unwrap()
        .to_string();
    assert_eq!(Checkpoint::open(&note, &ours.verifier()), Ok(checkpoint()));
    assert!(matches!(
        Checkpoint::open(&note, &witness.verifier()),
        Err(CheckpointError::OtherOrigin { .. })
    ));
}

#[test]
fn what_is_signed_but_no_checkpoint_does_not_open() {
    let ours = signer(ORIGIN);
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    for (text, error) in [
        (format!("{ORIGIN}\n1\n"), CheckpointError::Lines),
        (
            format!("{ORIGIN}\n1\n{root}\nextension\n"),
            CheckpointError::Extension,
        ),
        (format!("{ORIGIN}\n01\n{root}\n"), CheckpointError::Size),
    ] {
        let note = Note::signed(&text, &[&ours]).unwrap().to_string();
        assert_eq!(Checkpoint::open(&note, &ours.verifier()), Err(error), "{text:?}");
    }
}

#[test]
fn only_the_one_way_to_write_a_checkpoint_is_read() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    for size in ["0", "1", "10", "18446744073709551615"] {
        assert_eq!(
            parse(&format!("o\n{size}\n{root}\n")).unwrap().size.to_string(),
            size
        );
    }
    for size in [
        "",
        "00",
        "01",
        "+1",
        "-1",
        " 1",
        "1 ",
        "1.0",
        "0x1",
        "1_0",
        "١",
        "18446744073709551616",
    ] {
        assert_eq!(
            parse(&format!("o\n{size}\n{root}\n")),
            Err(CheckpointError::Size),
            "{size:?}"
        );
    }
    for bad in [
        "",
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I",
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=",
        "CsUYapGGPo4dkMgIAUqom_Xajj7h2fB2MPA3j2jxq2I=",
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxqw==",
        " CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
    ] {
        assert_eq!(
            parse(&format!("o\n1\n{bad}\n")),
            Err(CheckpointError::Root),
            "{bad:?}"
        );
    }
    for text in ["\n", "o\n", "o\n1\n", "\n1\nroot\n"] {
        assert_eq!(parse(text), Err(CheckpointError::Lines), "{text:?}");
    }
    for more in ["\n", "x\n", "x\ny\n"] {
        assert_eq!(
            parse(&format!("o\n1\n{root}\n{more}")),
            Err(CheckpointError::Extension),
            "{more:?}"
        );
    }
    assert_eq!(parse(""), Err(NoteError::TextEnd.into()));
    assert_eq!(parse(&format!("o\n1\n{root}")), Err(NoteError::TextEnd.into()));
    assert_eq!(
        parse(&format!("o\r\n1\n{root}\n")),
        Err(NoteError::Control('\r').into())
    );
}

#[test]
fn a_checkpoint_is_signed_for_the_signers_own_log_only() {
    assert!(matches!(
        checkpoint().sign(&signer("other.example")),
        Err(CheckpointError::OtherOrigin { .. })
    ));
    let forged = Checkpoint {
        origin: format!("{ORIGIN}\n7"),
        ..checkpoint()
    };
    assert_eq!(
        forged.sign(&signer(ORIGIN)),
        Err(OriginError::Character('\n').into())
    );
    let url = Checkpoint {
        origin: format!("https://{ORIGIN}"),
        ..checkpoint()
    };
    assert_eq!(url.sign(&signer(&url.origin)), Err(OriginError::Scheme.into()));
}

#[test]
fn origins() {
    for origin in [
        "example.com/log42",
        "shop.example:8443/a_b-c~d",
        "x",
        &"x".repeat(MAX_ORIGIN_BYTES),
    ] {
        assert_eq!(check_origin(origin), Ok(()));
        assert!(KeyName::new(origin).is_ok());
    }
    assert_eq!(check_origin(""), Err(OriginError::Empty));
    assert_eq!(
        check_origin(&"x".repeat(MAX_ORIGIN_BYTES + 1)),
        Err(OriginError::TooLong)
    );
    for found in [' ', '+', '\n', '\u{7f}', '\0', 'è', '\u{202e}'] {
        assert_eq!(
            check_origin(&format!("a{found}b")),
            Err(OriginError::Character(found))
        );
    }
    for origin in ["https://example.com/log", "/log", "//example.com"] {
        assert_eq!(check_origin(origin), Err(OriginError::Scheme));
    }
}

/// Every single bit of a signed checkpoint counts, also those of names, dashes, padding and line ends.
#[test]
fn one_changed_bit_anywhere_refuses_the_checkpoint() {
    let key: VerifierKey = TESSERA_KEY.parse().unwrap();
    let mut text_left = 0;
    for bit in 0..TESSERA.len() * 8 {
        let mut bytes = TESSERA.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // What is not UTF-8 any more is no note, and does not get as far as this crate.
        if let Ok(changed) = String::from_utf8(bytes) {
            text_left += 1;
            let opened = Checkpoint::open(&changed, &key);
            assert!(
                matches!(opened, Err(CheckpointError::Note(_))),
                "bit {bit}: {opened:?}"
            );
        }
    }
    assert!(text_left > TESSERA.len() * 6, "the loop has to reach the checks");
}

proptest! {
    // Signing without optimisation takes its time.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_signed_opens_and_nothing_else(
        origin in "[a-z0-9]{1,10}\\.example/[!-*,-~]{0,30}",
        size: u64,
        root: [u8; 32],
        changed in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        prop_assume!(!origin.contains("://"));
        let ours = signer(&origin);
        let checkpoint = Checkpoint { origin, size, root: Hash(root) };
        prop_assert_eq!(parse(&checkpoint.to_text()), Ok(checkpoint.clone()));
        let note = checkpoint.sign(&ours).unwrap().to_string();
        let opened = Checkpoint::open(&note, &ours.verifier());
        prop_assert_eq!(opened, Ok(checkpoint));
        let mut bytes = note.into_bytes();
        let index = changed.index(bytes.len());
        bytes[index] ^= 1 << bit;
        if let Ok(note) = String::from_utf8(bytes) {
            prop_assert!(Checkpoint::open(&note, &ours.verifier()).is_err());
        }
    }

    /// No two texts are the same checkpoint.
    #[test]
    fn reading_and_writing_changes_nothing(text in "[a-c ]{0,3}\n[01]{0,3}\n[A-Z]{42}[A-Z]=\n(x\n)?") {
        if let Ok(read) = parse(&text) {
            prop_assert_eq!(read.to_text(), text);
        }
    }
}
