//! Round trips, and other spellings of the same event.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use quittance_events::event::EventError;
use quittance_events::seal::EventKey;
use quittance_events::{Event, Facts};
use quittance_taler::EddsaPrivateKey;
use serde_json::Value;

use crate::arbitrary::{any_event, event};

fn value(sealed: &[u8]) -> Value {
    serde_json::from_slice(sealed).unwrap()
}

/// So many events of every kind, the same in every run.
fn of_every_kind(each: usize) -> Vec<Event> {
    let mut runner = TestRunner::deterministic();
    let kinds = Facts::KINDS.iter();
    kinds
        .flat_map(|kind| (0..each).map(|_| *kind).collect::<Vec<_>>())
        .map(|kind| event(kind).new_tree(&mut runner).unwrap().current())
        .collect()
}

#[test]
fn every_kind_is_written_as_an_independent_canonicalizer_writes_it_and_read_back_equal() {
    let events = of_every_kind(20);
    assert_eq!(events.len(), 20 * Facts::KINDS.len());
    for event in events {
        let sealed = event.canonical();
        let kind = event.facts.kind();
        assert_eq!(
            sealed,
            serde_json_canonicalizer::to_vec(&value(&sealed)).unwrap(),
            "{kind}"
        );
        assert_eq!(Event::parse_canonical(&sealed).unwrap(), event, "{kind}");
        assert_eq!(Event::parse(&sealed).unwrap(), event, "{kind}");
        let read = value(&sealed);
        assert_eq!(read["facts"], event.facts_value());
        assert_eq!(
            (read["kind"].as_str(), read["v"].as_u64()),
            (Some(kind), Some(event.version))
        );
        let mut members: Vec<&str> = read.as_object().unwrap().keys().map(String::as_str).collect();
        let absent = |name: &str| !read.as_object().unwrap().contains_key(name);
        assert_eq!(absent("attachments"), event.attachments.is_empty());
        assert_eq!(
            (absent("instance"), absent("order")),
            (event.instance.is_none(), event.order.is_none())
        );
        members.retain(|name| !["attachments", "instance", "order"].contains(name));
        assert_eq!(members, ["at_us", "facts", "kind", "ledger", "prev", "seq", "v"]);
        assert!(!has_null(&read), "{kind}: what is absent is absent, never null");
    }
}

/// The value once for each number in it, with that number beyond what canonical JSON holds.
fn with_one_number_too_great(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(_) => vec![Value::from(1_u64 << 53)],
        Value::Array(items) => (0..items.len())
            .flat_map(|at| {
                with_one_number_too_great(&items[at])
                    .into_iter()
                    .map(move |wrong| {
                        let mut items = items.clone();
                        items[at] = wrong;
                        Value::Array(items)
                    })
            })
            .collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, member)| {
                with_one_number_too_great(member).into_iter().map(move |wrong| {
                    let mut members = members.clone();
                    members.insert(name.clone(), wrong);
                    Value::Object(members)
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn no_event_holds_a_number_that_could_not_be_written_again() {
    let mut numbers = 0;
    for event in of_every_kind(10) {
        for wrong in with_one_number_too_great(&value(&event.canonical())) {
            numbers += 1;
            let wrong = wrong.to_string();
            assert!(Event::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
    assert!(numbers > 3 * 10 * Facts::KINDS.len());
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(members) => members.values().any(has_null),
        _ => false,
    }
}

#[expect(clippy::too_many_lines, reason = "one line a spelling, read as a table")]
/// All ways to say the same in other bytes that a lenient reader would take.
fn respelled(sealed: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let text = std::str::from_utf8(sealed).unwrap();
    let Value::Object(members) = value(sealed) else {
        panic!("an object")
    };
    let joined = |members: Vec<(&String, &Value)>| {
        let members: Vec<String> = members
            .iter()
            .map(|(name, value)| format!("{}:{value}", serde_json::json!(name)))
            .collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    };
    let mut reversed: Vec<_> = members.iter().collect();
    reversed.reverse();
    let mut rotated: Vec<_> = members.iter().collect();
    rotated.rotate_left(1);
    let twice = |name: &str| {
        text.replacen('{', &format!("{{\"{name}\":{},", members[name]), 1)
            .into_bytes()
    };
    let added = |member: &str| text.replacen('{', &format!("{{{member},"), 1).into_bytes();
    let number = |name: &str, other: String| {
        text.replacen(
            &format!("\"{name}\":{}", members[name]),
            &format!("\"{name}\":{other}"),
            1,
        )
        .into_bytes()
    };
    let prev = members["prev"].as_str().unwrap();
    let mut spellings = vec![
        ("members the other way round", joined(reversed)),
        ("members rotated", joined(rotated)),
        ("a blank before", format!(" {text}").into_bytes()),
        ("a line end", format!("{text}\n").into_bytes()),
        ("blanks within", text.replacen(':', ": ", 1).into_bytes()),
        (
            "printed for people",
            serde_json::to_vec_pretty(&value(sealed)).unwrap(),
        ),
        ("a byte order mark", format!("\u{feff}{text}").into_bytes()),
        ("a second value", format!("{text}{text}").into_bytes()),
        ("cut short", sealed[..sealed.len() - 1].to_vec()),
        ("a member twice", twice("seq")),
        ("facts twice", twice("facts")),
        ("an unknown member", added("\"zz\":1")),
        ("a version as a float", number("v", "1.0".into())),
        ("a version with an exponent", number("v", "1e0".into())),
        (
            "a sequence with a zero before",
            number("seq", format!("0{}", members["seq"])),
        ),
        (
            "a sequence as text",
            number("seq", format!("\"{}\"", members["seq"])),
        ),
        (
            "a sequence below zero",
            number("seq", format!("-{}", members["seq"])),
        ),
        (
            "a time as a float",
            number("at_us", format!("{}.0", members["at_us"])),
        ),
        (
            "a digest in lower case",
            text.replacen(prev, &prev.to_lowercase(), 1).into_bytes(),
        ),
        (
            "a digest with a blank",
            text.replacen(prev, &format!("{prev} "), 1).into_bytes(),
        ),
        (
            "an escaped letter",
            text.replacen("\"kind\"", "\"k\\u0069nd\"", 1).into_bytes(),
        ),
    ];
    for (name, from, to) in [
        ("O for 0", '0', 'O'),
        ("L for 1", '1', 'L'),
        ("I for 1", '1', 'i'),
        ("U for V", 'V', 'U'),
    ] {
        spellings.push((
            name,
            text.replacen(prev, &prev.replacen(from, &to.to_string(), 1), 1)
                .into_bytes(),
        ));
    }
    // The last symbol of 52 carries four bits that say nothing.
    let last = prev.chars().last().unwrap();
    for other in "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        .chars()
        .filter(|other| *other != last)
    {
        let padded = format!("{}{other}", &prev[..51]);
        spellings.push(("pad bits", text.replacen(prev, &padded, 1).into_bytes()));
    }
    for absent in ["instance", "order"]
        .into_iter()
        .filter(|name| !members.contains_key(*name))
    {
        spellings.push(("null for absent", added(&format!("\"{absent}\":null"))));
    }
    if !members.contains_key("attachments") {
        spellings.push((
            "no attachments, spelled out",
            text.replacen(",\"facts\"", ",\"attachments\":{},\"facts\"", 1)
                .into_bytes(),
        ));
    }
    spellings
}

#[test]
fn no_other_spelling_of_an_event_is_taken() {
    for event in of_every_kind(6) {
        let sealed = event.canonical();
        for (what, other) in respelled(&sealed) {
            if other == sealed {
                // A digest without the symbol in question.
                continue;
            }
            if let Ok(taken) = Event::parse_canonical(&other) {
                // Pad bits that are no pad bits of this digest give another event, never this one.
                assert_ne!(taken, event, "{what}: {}", String::from_utf8_lossy(&other));
                assert_eq!(what, "pad bits");
            }
        }
    }
}

/// Spellings of single facts, each in an event that is otherwise as it should be.
#[test]
fn facts_have_one_spelling_too() {
    let sealed = |kind: &str, facts: &str| {
        format!(
            "{{\"at_us\":1,\"facts\":{facts},\"kind\":\"{kind}\",\"ledger\":\"x.example/y\",\"prev\":\"{}\",\"seq\":2,\"v\":1}}",
            "0".repeat(52)
        )
    };
    let key = "0".repeat(52);
    let added =
        |amount: &str| format!("{{\"base_url\":\"u\",\"currency\":\"{amount}\",\"merchant_pub\":\"{key}\"}}");
    Event::parse_canonical(sealed("instance_added", &added("KUDOS")).as_bytes()).unwrap();
    let paid = |amount: &str| format!("{{\"coins\":[\"{key}\"],\"paid\":\"{amount}\"}}");
    for right in ["KUDOS:1", "KUDOS:0.5", "KUDOS:4503599627370496.99999999"] {
        Event::parse_canonical(sealed("payment_completed", &paid(right)).as_bytes()).unwrap();
    }
    let mut wrong: Vec<(&str, String)> = Vec::new();
    for amount in [
        "KUDOS:1.0",
        "KUDOS:1.50",
        "KUDOS:01",
        "KUDOS:1.",
        "KUDOS: 1",
        "kudos:1",
        "KUDOS:.5",
        "KUDOS:+1",
        "KUDOS:1.000000001",
    ] {
        wrong.push(("payment_completed", paid(amount)));
    }
    for currency in ["KU", "kudos", "KUDOSKUDOSKU", "KUD0S", ""] {
        wrong.push(("instance_added", added(currency)));
    }
    let clock = |from: &str| format!("{{\"from_us\":{from},\"to_us\":1}}");
    Event::parse_canonical(sealed("clock_corrected", &clock("9007199254740991")).as_bytes()).unwrap();
    for time in [
        "9007199254740992",
        "1.0",
        "1e3",
        "-1",
        "\"1\"",
        "null",
        "\"never\"",
        "[1]",
        "true",
    ] {
        wrong.push(("clock_corrected", clock(time)));
    }
    let version = |version: &str| format!("{{\"version\":{version}}}");
    Event::parse_canonical(sealed("format_raised", &version("2")).as_bytes()).unwrap();
    for number in ["2.0", "2e0", "02", " 2", "-0", "null"] {
        wrong.push(("format_raised", version(number)));
    }
    wrong.extend([
        (
            "payment_completed",
            "{\"coins\":[],\"paid\":\"KUDOS:1\",\"part\":null}".into(),
        ),
        (
            "payment_completed",
            "{\"coins\":[],\"paid\":\"KUDOS:1\",\"part\":[1,2,3]}".into(),
        ),
        (
            "payment_completed",
            "{\"coins\":[],\"paid\":\"KUDOS:1\",\"tip\":1}".into(),
        ),
        ("payment_completed", "{\"paid\":\"KUDOS:1\",\"coins\":[]}".into()),
        (
            "payment_completed",
            "{\"coins\":[],\"coins\":[],\"paid\":\"KUDOS:1\"}".into(),
        ),
        ("payment_completed", "{}".into()),
        ("payment_completed", "[]".into()),
        ("refund_delivered", "{\"answer\":9007199254740992}".into()),
        ("refund_invented", "{}".into()),
    ]);
    for (kind, facts) in wrong {
        let other = sealed(kind, &facts);
        assert!(Event::parse_canonical(other.as_bytes()).is_err(), "{other}");
    }
}

#[test]
fn newer_versions_and_unknown_kinds_are_told_as_such() {
    let event = of_every_kind(1).remove(0);
    let text = String::from_utf8(event.canonical()).unwrap();
    let newer = text
        .replacen("\"v\":1}", "\"v\":5}", 1)
        .replacen("\"v\":2}", "\"v\":5}", 1)
        .replacen("\"v\":3}", "\"v\":5}", 1)
        .replacen("\"v\":4}", "\"v\":5}", 1)
        .replacen("\"facts\"", "\"deeds\"", 1);
    assert!(matches!(
        Event::parse(newer.as_bytes()),
        Err(EventError::UnknownVersion(5))
    ));
    let unknown = text.replacen("\"kind\":\"ledger_opened\"", "\"kind\":\"ledger_opines\"", 1);
    assert!(
        matches!(Event::parse(unknown.as_bytes()), Err(EventError::UnknownKind(kind)) if kind == "ledger_opines")
    );
    assert!(Event::parse(b"\xff{}").is_err());
    assert!(Event::parse(b"").is_err());
}

proptest! {
    #[test]
    fn sealing_and_reading_give_the_event_back(event in any_event()) {
        let sealed = event.canonical();
        prop_assert_eq!(&Event::parse_canonical(&sealed).unwrap(), &event);
        let key = EventKey::new(EddsaPrivateKey::from_bytes([1; 32]));
        let signature = key.sign_event(&sealed);
        prop_assert!(key.public().verify_event(&sealed, &signature));
    }

    #[test]
    fn a_changed_byte_gives_no_event_or_another_one(
        event in any_event(), place in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0..3_u8,
    ) {
        let sealed = event.canonical();
        let place = place.index(sealed.len());
        let mut changed = sealed.clone();
        match how {
            0 => changed[place] = byte,
            1 => changed.insert(place, byte),
            _ => drop(changed.remove(place)),
        }
        prop_assume!(changed != sealed);
        if let Ok(other) = Event::parse_canonical(&changed) {
            prop_assert_ne!(other, event);
        }
        let key = EventKey::new(EddsaPrivateKey::from_bytes([1; 32]));
        prop_assert!(!key.public().verify_event(&changed, &key.sign_event(&sealed)));
    }
}
