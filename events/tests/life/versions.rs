//! Which format version each event is of: readers refuse what stands in the wrong place.

use quittance_events::create::create;
use quittance_events::event::EventError;
use quittance_events::facts::{AttachmentErased, FormatRaised};
use quittance_events::ledger::OpenError;
use quittance_events::{AttachmentName, Event, Facts, NewEvent, Seq};

use crate::rotating::own;
use crate::support::{Home, keys, order_key, terms};

/// A ledger of the genesis and these further events.
fn ledger_of(events: impl FnOnce(&Event) -> Vec<(Event, NewEvent)>) -> Home {
    let genesis = Home::new().events().remove(0);
    let home = Home::empty();
    let mut all = vec![(genesis.clone(), NewEvent::bare(genesis.facts.clone()))];
    all.extend(events(&genesis));
    create(&home.paths, &keys(), all).unwrap();
    home
}

fn bare(event: Event) -> (Event, NewEvent) {
    let new = NewEvent::bare(event.facts.clone());
    (event, new)
}

fn raised(genesis: &Event, version: u64, to: u64) -> (Event, NewEvent) {
    bare(own(genesis, version, FormatRaised { version: to }))
}

fn order(genesis: &Event, version: u64) -> (Event, NewEvent) {
    let mut event = own(genesis, version, terms().facts);
    let key = order_key("a");
    (event.instance, event.order) = (Some(key.instance), Some(key.order));
    (event, terms())
}

#[test]
fn a_kind_of_version_2_is_unknown_in_version_1() {
    let facts = AttachmentErased {
        seq: Seq::FIRST,
        name: AttachmentName::Reason,
    };
    let event = own(&Home::new().events().remove(0), 2, facts);
    let sealed = String::from_utf8(event.canonical()).unwrap();
    assert!(sealed.ends_with(r#""v":2}"#));
    assert_eq!(Event::parse_canonical(sealed.as_bytes()).unwrap(), event);
    let older = sealed.replace(r#""v":2}"#, r#""v":1}"#);
    assert!(
        matches!(Event::parse(older.as_bytes()), Err(EventError::UnknownKind(kind)) if kind == "attachment_erased")
    );
    for kind in Facts::KINDS {
        let first = match *kind {
            "attachment_erased" | "ledger_key_rotated" => 2,
            "token_added" | "token_revoked" => 3,
            "account_added" | "account_closed" | "order_created" | "order_claimed" | "order_deleted"
            | "terms_forgotten" | "deposit_requested" | "deposit_replied" | "deposit_unreached"
            | "session_paid" | "webhook_delivered" | "webhook_given_up" => 4,
            _ => 1,
        };
        assert_eq!(Facts::first_version(kind), first, "{kind}");
    }
}

#[test]
fn versions_in_the_wrong_place_are_damage() {
    let sound = ledger_of(|genesis| vec![raised(genesis, 1, 2), order(genesis, 2)]);
    assert!(sound.open().order(&order_key("a")).unwrap().is_some());
    let wrong_orders = [
        ledger_of(|genesis| vec![order(genesis, 2)]),
        ledger_of(|genesis| vec![raised(genesis, 1, 2), order(genesis, 1)]),
    ];
    for home in wrong_orders {
        let error = home.open().order(&order_key("a")).unwrap_err().to_string();
        assert!(error.contains("format version"), "{error}");
    }
    let wrong_ledgers = [
        ledger_of(|genesis| vec![raised(genesis, 2, 2)]),
        ledger_of(|genesis| vec![raised(genesis, 1, 1)]),
        ledger_of(|genesis| vec![raised(genesis, 1, 3)]),
        ledger_of(|genesis| vec![raised(genesis, 1, 2), raised(genesis, 2, 2)]),
    ];
    for home in wrong_ledgers {
        assert!(matches!(home.try_open(), Err(OpenError::Store(_))));
    }
}

#[test]
fn a_newer_format_is_not_opened() {
    let home = ledger_of(|genesis| {
        vec![
            raised(genesis, 1, 2),
            raised(genesis, 2, 3),
            raised(genesis, 3, 4),
            raised(genesis, 4, 5),
        ]
    });
    let Err(error) = home.try_open() else {
        panic!("it opened")
    };
    assert!(matches!(error, OpenError::NewerFormat(5)), "{error}");
    assert!(error.to_string().contains("use a newer one"));
}
