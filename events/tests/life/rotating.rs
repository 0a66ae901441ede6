//! Keys give way to new ones, and everything that a key vouches for follows.

use quittance_events::create::{Beginnings, init_with};
use quittance_events::facts::{Authority, KeyRole};
use quittance_events::keys::KeyRing;
use quittance_events::ledger::OpenError;
use quittance_events::receipt::Receipt;
use quittance_events::rotate::{NewKeys, RotateError, Rotator};
use quittance_events::seal::{EventKey, EventPub, rotation_message};
use quittance_events::{Event, Facts, Ledger, Seq};
use quittance_taler::{Digest32, EddsaPrivateKey};
use quittance_tlog::checkpoint::Checkpoint;
use quittance_tlog::note::{KeyName, NoteSigner};

use crate::support::{Home, ORIGIN, append, at, keys, order_key, refund_answer, refunding};

const BOTH: [KeyRole; 2] = [KeyRole::Event, KeyRole::Checkpoint];
const DAY_S: u64 = 86_400;

pub(crate) fn event_key(n: u8) -> EventKey {
    EventKey::new(EddsaPrivateKey::from_bytes([n; 32]))
}

fn signer(n: u8) -> NoteSigner {
    NoteSigner::new(KeyName::new(ORIGIN).unwrap(), &[n; 32])
}

/// Keys by the byte that their seeds repeat: event keys are odd in the tests, checkpoint keys even.
pub(crate) fn ring(event: &[u8], checkpoint: &[u8]) -> KeyRing {
    KeyRing {
        origin: KeyName::new(ORIGIN).unwrap(),
        event: event.iter().map(|n| event_key(*n)).collect(),
        checkpoint: checkpoint.iter().map(|n| signer(*n)).collect(),
    }
}

fn new_keys(event: Option<u8>, checkpoint: Option<u8>) -> NewKeys {
    NewKeys {
        event: event.map(event_key),
        checkpoint: checkpoint.map(signer),
    }
}

/// Rotates both keys from 1, 2 to 11, 12, a minute after the start.
pub(crate) fn rotate_both(home: &Home) {
    let rotator = Rotator::open(&home.paths, keys().into(), &BOTH, None, "test").unwrap();
    rotator
        .rotate(new_keys(Some(11), Some(12)), None, at(60))
        .unwrap();
}

/// Sealed bytes and signature of an event.
fn stored(home: &Home, seq: u64) -> (Vec<u8>, quittance_taler::EddsaSignature) {
    let row: (Vec<u8>, Vec<u8>) = home
        .stranger()
        .query_row(
            "SELECT sealed, signature FROM event WHERE seq = ?1",
            [i64::try_from(seq).unwrap()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let signature = quittance_taler::EddsaSignature::from_bytes(row.1.try_into().unwrap());
    (row.0, signature)
}

fn is_sealed_by(home: &Home, seq: u64, key: u8) -> bool {
    let (sealed, signature) = stored(home, seq);
    event_key(key).public().verify_event(&sealed, &signature)
}

#[test]
fn a_rotation_raises_the_format_and_is_authorised_and_possessed_as_the_page_says() {
    let home = Home::new();
    rotate_both(&home);
    let events = home.events();
    let kinds: Vec<_> = events
        .iter()
        .map(|event| (event.facts.kind(), event.version))
        .collect();
    assert_eq!(
        kinds,
        [
            ("ledger_opened", 1),
            ("format_raised", 1),
            ("ledger_key_rotated", 2),
            ("ledger_key_rotated", 2)
        ]
    );
    // By hand, as the page has it.
    for (event, role, new, authority) in [
        (&events[2], "event", event_key(11).public(), event_key(1).public()),
        (
            &events[3],
            "checkpoint",
            EventPub::new(Digest32::from_bytes(*signer(12).verifier().public_key())),
            event_key(11).public(),
        ),
    ] {
        let Facts::LedgerKeyRotated(f) = &event.facts else {
            panic!("a {}", event.facts.kind())
        };
        let message = format!("quittance/key/v1\n{ORIGIN} {} {role} {}", event.seq, new.key());
        assert_eq!(rotation_message(ORIGIN, event.seq, f.role, &f.new_key), message);
        assert_eq!(
            (f.new_key, f.authorised_by, f.role.as_str()),
            (new.key(), Authority::EventKey, role)
        );
        assert!(authority.verify(message.as_bytes(), &f.authorisation));
        assert!(new.verify(message.as_bytes(), &f.possession));
    }
    assert!(is_sealed_by(&home, 1, 1) && is_sealed_by(&home, 2, 1));
    assert!(is_sealed_by(&home, 3, 11) && is_sealed_by(&home, 4, 11));
}

#[test]
fn only_the_keys_in_force_open_a_ledger() {
    let home = Home::new();
    rotate_both(&home);
    let refused = |ring: KeyRing, which: &str| match Ledger::open(&home.paths, ring, "test") {
        Err(OpenError::ForeignKey(key)) => assert_eq!(key, which),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    };
    refused(ring(&[1], &[2]), "event");
    refused(ring(&[11], &[2]), "checkpoint");
    let ledger = Ledger::open(&home.paths, ring(&[11], &[12]), "test").unwrap();
    assert_eq!(ledger.event_key(), event_key(11).public());
    drop(ledger);
    // A key that had its time does not come back.
    let rotator = |event| {
        let all = ring(&[1, 11], &[2, 12]);
        Rotator::open(&home.paths, all, &[KeyRole::Event], None, "test")
            .unwrap()
            .rotate(new_keys(Some(event), None), None, at(70))
    };
    assert!(matches!(rotator(1), Err(RotateError::Used("event"))));
    assert!(matches!(rotator(11), Err(RotateError::Used("event"))));
    rotator(13).unwrap();
    let kinds: Vec<_> = home.events().iter().map(|event| event.facts.kind()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "format_raised").count(), 1);
}

#[test]
fn checkpoints_bear_both_signatures_for_a_while() {
    let open = |note: &str, key: u8| Checkpoint::open(note, &signer(key).verifier());
    let home = Home::new();
    assert!(open(&home.anchor(), 2).is_ok());
    rotate_both(&home);
    let first = home.anchor();
    assert_eq!(open(&first, 12).unwrap().size, 4);
    assert_eq!(open(&first, 2).unwrap().size, 4);
    let order = |name: &str, seconds: u64, checkpoint: &[u8]| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ledger = Ledger::open(&home.paths, ring(&[11], checkpoint), "test").unwrap();
        runtime.block_on(append(
            &ledger,
            &order_key(name),
            at(seconds),
            vec![crate::support::terms()],
        ));
        ledger.close();
        home.anchor()
    };
    let before_the_end = 60 + 30 * DAY_S - 1;
    // The old key is not at hand; then it is; then its time is over.
    let without = order("a", 100, &[12]);
    assert!(open(&without, 12).is_ok() && open(&without, 2).is_err());
    let with = order("b", before_the_end, &[2, 12]);
    assert!(open(&with, 12).is_ok() && open(&with, 2).is_ok());
    let over = order("c", before_the_end + 1, &[2, 12]);
    assert!(open(&over, 12).is_ok() && open(&over, 2).is_err());
}

#[tokio::test]
async fn a_receipt_is_by_the_key_in_force_at_its_answer() {
    let home = Home::new();
    let key = order_key("a");
    let ledger = home.open();
    let order = refunding(&ledger, &key, &[1]).await.order().unwrap();
    let (event, _) = refund_answer(&order, at(11));
    let early = append(&ledger, &key, at(11), vec![event]).await.answer.unwrap();
    let first = ledger.receipt(&early).unwrap();
    ledger.close();
    rotate_both(&home);

    // The old key is at hand: the same receipt. It is not: none rather than one that proves nothing.
    let ledger = Ledger::open(&home.paths, ring(&[1, 11], &[12]), "test").unwrap();
    assert_eq!(ledger.receipt(&early), Some(first.clone()));
    ledger.close();
    let ledger = Ledger::open(&home.paths, ring(&[11], &[12]), "test").unwrap();
    assert_eq!(ledger.receipt(&early), None);
    let moved = append(&ledger, &key, at(62), vec![crate::support::unreached(1, 1, 1)]).await;
    let (event, _) = refund_answer(&moved.order().unwrap(), at(63));
    let late = append(&ledger, &key, at(63), vec![event]).await.answer.unwrap();
    let receipt: Receipt = ledger.receipt(&late).unwrap().parse().unwrap();
    assert!(receipt.verify(&event_key(11).public()) && !receipt.verify(&event_key(1).public()));
    let receipt: Receipt = first.parse().unwrap();
    assert!(receipt.verify(&event_key(1).public()));
}

/// A ledger with a recovery key.
fn recoverable() -> Home {
    let home = Home::empty();
    let recovery_key = Some(event_key(99).public().key());
    init_with(&home.paths, &keys(), at(0), &Beginnings { recovery_key }).unwrap();
    home
}

#[test]
fn a_lost_event_key_is_replaced_by_the_recovery_key() {
    let home = recoverable();
    let kinds: Vec<_> = home.events().iter().map(|event| event.facts.kind()).collect();
    assert_eq!(kinds, ["ledger_opened", "format_raised"]);
    let open = |event: &[u8], roles: &[KeyRole], recovery: Option<u8>| {
        let recovery = recovery.map(event_key);
        Rotator::open(&home.paths, ring(event, &[2]), roles, recovery.as_ref(), "test")
    };
    let event = [KeyRole::Event];
    let refused = [
        (open(&[], &event, None), "event key in force"),
        (open(&[], &[KeyRole::Checkpoint], Some(99)), "event key in force"),
        (open(&[], &event, Some(98)), "not the recovery key"),
    ];
    for (result, words) in refused {
        let error = result.err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
    let rotator = open(&[], &event, Some(99)).unwrap();
    rotator
        .rotate(new_keys(Some(11), None), Some(&event_key(99)), at(60))
        .unwrap();
    let events = home.events();
    let Facts::LedgerKeyRotated(f) = &events[2].facts else {
        panic!("a {}", events[2].facts.kind())
    };
    let message = rotation_message(ORIGIN, Seq::new(3).unwrap(), KeyRole::Event, &f.new_key);
    assert_eq!(f.authorised_by, Authority::RecoveryKey);
    assert!(
        event_key(99)
            .public()
            .verify(message.as_bytes(), &f.authorisation)
    );
    assert!(is_sealed_by(&home, 3, 11));
    Ledger::open(&home.paths, ring(&[11], &[2]), "test").unwrap();
}

#[test]
fn a_ledger_without_a_recovery_key_cannot_be_recovered() {
    let home = Home::new();
    let recovery = event_key(99);
    let open = Rotator::open(
        &home.paths,
        ring(&[], &[2]),
        &[KeyRole::Event],
        Some(&recovery),
        "test",
    );
    assert!(matches!(open, Err(RotateError::NoRecoveryKey)));
}

#[test]
fn a_lost_checkpoint_key_needs_the_event_key_alone() {
    let home = Home::new();
    let role = [KeyRole::Checkpoint];
    let rotator = Rotator::open(&home.paths, ring(&[1], &[]), &role, None, "test").unwrap();
    rotator.rotate(new_keys(None, Some(12)), None, at(60)).unwrap();
    assert!(Checkpoint::open(&home.anchor(), &signer(12).verifier()).is_ok());
    let ledger = Ledger::open(&home.paths, ring(&[1], &[12]), "test").unwrap();
    assert_eq!(ledger.event_key(), event_key(1).public());
}

#[test]
fn the_anchor_is_followed_over_a_rotation() {
    let home = Home::new();
    let early = home.beside("early");
    std::fs::copy(&home.paths.ledger, &early).unwrap();
    let old_anchor = home.anchor();
    rotate_both(&home);
    // An anchor of before, under the old key, is of this ledger still; the ledger of before is behind the new one.
    let new_anchor = home.anchor();
    std::fs::write(&home.paths.anchor, old_anchor).unwrap();
    Ledger::open(&home.paths, ring(&[11], &[12]), "test").unwrap();
    std::fs::write(&home.paths.anchor, new_anchor).unwrap();
    std::fs::copy(&early, &home.paths.ledger).unwrap();
    assert!(matches!(home.try_open(), Err(OpenError::BehindAnchor(_))));
}

/// For tests elsewhere: an event as the ledger's own.
pub(crate) fn own(like: &Event, version: u64, facts: impl Into<Facts>) -> Event {
    let mut event = like.clone();
    (event.instance, event.order, event.version, event.facts) = (None, None, version, facts.into());
    event
}
