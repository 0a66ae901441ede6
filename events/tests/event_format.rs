//! Holds `docs/event-format.md` against the code: every value of its worked example is recomputed from the keys,
//! salts and sealed bytes that it gives, and its tables name exactly the kinds and facts that the code takes. The
//! values were made by another program, so that the page is checked and not only copied.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use quittance_events::answer::{self, RefundAnswer};
use quittance_events::event::EventError;
use quittance_events::ledger::vkey;
use quittance_events::receipt::{HEADER, Receipt};
use quittance_events::seal::{
    EventKey, LEAF_MAX, answer_digest, attachment_digest, event_digest, leaf_hash, no_digest,
};
use quittance_events::{AttachmentName, Event, Facts, Order, facts};
use quittance_taler::{Digest32, EddsaPrivateKey, base32, contract_hash, json, message};
use quittance_tlog::checkpoint::Checkpoint;
use quittance_tlog::note::{KeyName, NoteSigner};
use quittance_tlog::tree::{Frontier, root_of};

const PAGE: &str = include_str!("../../docs/event-format.md");

/// The page's fenced blocks by their names, without the last line end.
fn blocks() -> BTreeMap<&'static str, &'static str> {
    let mut blocks = BTreeMap::new();
    for part in PAGE.split("\n```text ").skip(1) {
        let (name, rest) = part.split_once('\n').unwrap();
        let (body, _) = rest.split_once("\n```").unwrap();
        assert!(blocks.insert(name, body).is_none(), "two blocks {name}");
    }
    blocks
}

/// A block's lines of the form `word  value`.
fn words(block: &str) -> BTreeMap<&str, &str> {
    let pairs = block.lines().map(|line| line.split_once(' ').unwrap());
    pairs.map(|(word, value)| (word, value.trim_start())).collect()
}

/// A record of the example as the page prints it.
struct Printed {
    event: Event,
    sealed: &'static str,
    digest: Digest32,
    signature: &'static str,
    leaf: &'static str,
}

fn printed() -> Vec<Printed> {
    let blocks = blocks();
    let count = blocks.keys().filter(|name| name.starts_with("event ")).count();
    (1..=count)
        .map(|n| {
            let words = words(blocks[format!("event {n}").as_str()]);
            Printed {
                event: Event::parse_canonical(words["sealed"].as_bytes()).unwrap(),
                sealed: words["sealed"],
                digest: words["digest"].parse().unwrap(),
                signature: words["signature"],
                leaf: words["leaf"],
            }
        })
        .collect()
}

fn secret(name: &str) -> EddsaPrivateKey {
    EddsaPrivateKey::from_base32(words(blocks()["keys"])[name]).unwrap()
}

fn event_key() -> EventKey {
    EventKey::new(secret("event_key"))
}

fn origin() -> String {
    let Facts::LedgerOpened(genesis) = &printed()[0].event.facts else {
        panic!("the example begins with another kind")
    };
    genesis.origin.clone()
}

fn checkpoint_key() -> NoteSigner {
    NoteSigner::new(
        KeyName::new(origin()).unwrap(),
        secret("checkpoint_key").as_bytes(),
    )
}

/// Salt and bytes of an attachment of the example.
fn attachment(seq: usize, name: AttachmentName) -> ([u8; 32], &'static str) {
    let name = format!("attachment {seq} {}", name.as_str());
    let words = words(blocks()[name.as_str()]);
    (base32::decode_exact(words["salt"]).unwrap(), words["bytes"])
}

#[test]
fn digests_signatures_and_leaves_are_as_printed() {
    let mut prev = no_digest();
    for (printed, seq) in printed().iter().zip(1..) {
        assert_eq!(printed.event.seq.get(), seq);
        assert_eq!(printed.event.prev, prev, "prev of {seq}");
        assert_eq!(
            event_digest(printed.sealed.as_bytes()),
            printed.digest,
            "digest of {seq}"
        );
        let signature = event_key().sign_event(printed.sealed.as_bytes());
        assert_eq!(signature.to_string(), printed.signature, "signature of {seq}");
        assert!(
            event_key()
                .public()
                .verify_event(printed.sealed.as_bytes(), &signature)
        );
        let leaf = leaf_hash(printed.sealed.as_bytes(), &signature);
        assert_eq!(format!("{leaf:?}"), printed.leaf, "leaf of {seq}");
        prev = printed.digest;
    }
}

#[test]
fn attachments_have_the_digests_that_their_events_name() {
    let mut seen = 0;
    for (printed, seq) in printed().iter().zip(1..) {
        for (name, digest) in &printed.event.attachments {
            let (salt, bytes) = attachment(seq, *name);
            assert_eq!(attachment_digest(&salt, bytes.as_bytes()), *digest);
            seen += 1;
        }
    }
    let printed = blocks()
        .keys()
        .filter(|name| name.starts_with("attachment "))
        .count();
    assert_eq!((seen, printed), (2, 2));
    let names = AttachmentName::ALL.map(|name| format!("\n| `{}` | ", name.as_str()));
    assert!(names.iter().all(|row| PAGE.contains(row)), "{names:?}");
}

#[test]
fn keys_are_those_of_the_genesis() {
    let Facts::LedgerOpened(genesis) = &printed()[0].event.facts else {
        panic!("the example begins with another kind")
    };
    let printed = words(blocks()["vkeys"]);
    assert_eq!(genesis.event_key, event_key().public().key());
    assert_eq!(
        vkey(&genesis.origin, &genesis.event_key).unwrap().to_string(),
        printed["event"]
    );
    assert_eq!(
        vkey(&genesis.origin, &genesis.checkpoint_key)
            .unwrap()
            .to_string(),
        printed["checkpoint"]
    );
    assert_eq!(checkpoint_key().verifier().to_string(), printed["checkpoint"]);
}

#[test]
fn the_checkpoint_is_signed_over_the_tree_of_all_events() {
    let mut frontier = Frontier::default();
    let mut leaves = Vec::new();
    for printed in printed() {
        let leaf = leaf_hash(printed.sealed.as_bytes(), &printed.signature.parse().unwrap());
        frontier.push(leaf);
        leaves.push(leaf);
    }
    let checkpoint = Checkpoint {
        origin: origin(),
        size: frontier.size(),
        root: frontier.root(),
    };
    assert_eq!(root_of(&leaves), checkpoint.root);
    let note = format!("{}\n", blocks()["checkpoint"]);
    assert_eq!(checkpoint.sign(&checkpoint_key()).unwrap().to_string(), note);
    assert_eq!(
        Checkpoint::open(&note, &checkpoint_key().verifier()).unwrap(),
        checkpoint
    );
}

/// The example's order, folded from its events.
fn order() -> Order {
    let events = printed();
    let mut of_order = events
        .iter()
        .filter(|printed| printed.event.order_key().is_some());
    let mut order = Order::begin(&of_order.next().unwrap().event).unwrap();
    for printed in of_order {
        order.apply(&printed.event, &printed.digest, None).unwrap();
    }
    order
}

#[test]
fn the_body_follows_from_the_events_and_the_receipt_vouches_for_it() {
    let last = printed().pop().unwrap();
    let Facts::RefundAnswered(answered) = &last.event.facts else {
        panic!("the example ends with another kind")
    };
    let body = blocks()["body 7"];
    let order = order();
    let Ok(RefundAnswer::Recorded(rebuilt)) = answer::refund(&order, last.event.at_us) else {
        panic!("the example's order has no answer to record")
    };
    assert_eq!(String::from_utf8(rebuilt.body).unwrap(), body);
    assert_eq!(answer_digest(body.as_bytes()), answered.body);
    assert_eq!(answered.as_of, order.moved);

    let receipt: Receipt = blocks()["receipt"].parse().unwrap();
    let recorded = order.recorded_answer(&answered.body).unwrap();
    assert_eq!(Receipt::sign(&origin(), &event_key(), recorded), receipt);
    assert!(receipt.verify(&event_key().public()));
    assert_eq!((receipt.seq, receipt.event), (last.event.seq, last.digest));
    assert!(blocks()["form"].starts_with(&format!("{HEADER}: ")));
}

#[test]
fn contract_and_permission_are_those_that_the_facts_name() {
    let order = order();
    let (_, terms) = attachment(3, AttachmentName::Terms);
    let parsed = json::parse_strict(terms.as_bytes()).unwrap();
    assert_eq!(json::canonical(&parsed), terms.as_bytes());
    let h_contract = contract_hash(&parsed).unwrap();
    assert_eq!(order.terms.h_contract, h_contract);
    let merchant = secret("merchant_key");
    assert_eq!(order.terms.merchant_pub, merchant.merchant_pub());
    assert_eq!(order.rows.len(), 1);
    let row = &order.rows[0];
    let request = message::refund_request(&h_contract, &row.coin_pub, row.rtransaction_id.get(), &row.amount);
    assert_eq!(merchant.sign(&request), row.merchant_sig);
}

#[test]
fn the_gone_body_and_the_bounds_are_as_printed() {
    let mut order = order();
    order.rows.clear();
    let seconds = order.terms.wire_deadline_s.seconds().unwrap();
    let deadline = quittance_taler::Micros::from_s(seconds).unwrap();
    let Ok(RefundAnswer::Recorded(gone)) = answer::refund(&order, deadline) else {
        panic!("an order without refunds past its deadline is gone")
    };
    let body = String::from_utf8(gone.body).unwrap();
    let printed = blocks()["bodies"]
        .lines()
        .find_map(|line| line.strip_prefix("refund 410  "));
    assert_eq!(Some(body.as_str()), printed);
    assert_eq!(LEAF_MAX, 65_535);
    assert!(PAGE.contains("at most 65,535 bytes; sealed bytes therefore at most 65,471"));
    assert_eq!(facts::LIST_MAX, 200);
    assert!(PAGE.contains("An event lists at most 200 rows or coins."));
    assert_eq!(quittance_events::order::REPLY_HANDED_ON_MAX, 16_384);
    assert!(PAGE.contains("at most 16,384 bytes long"));
    assert_eq!(quittance_events::limits::CHECKPOINT_KEYS_OVERLAP_S, 30 * 86_400);
    assert!(PAGE.contains("For 30 days of event time after its rotation"));
    assert_eq!(quittance_events::event::FORMAT_VERSION, 4);
    assert!(PAGE.contains("version above 4 a program that knows 4 stops"));
    assert_eq!(quittance_events::book::KEY_TOLERANCE_S, 3600);
    assert!(PAGE.contains("start - 3600 s ≤ `at_us` < expire + 3600 s"));
}

/// The page's kinds in its order, each with the facts that its table names.
fn tables() -> Vec<(&'static str, BTreeSet<String>)> {
    let (_, kinds) = PAGE.split_once("\n## Kinds\n").unwrap();
    let (kinds, _) = kinds.split_once("\n## ").unwrap();
    let sections = kinds.split("\n### `").skip(1);
    sections
        .map(|section| {
            let (kind, rest) = section.split_once('`').unwrap();
            let rows = rest.lines().filter_map(|line| line.strip_prefix("| `"));
            let names: Vec<String> = rows
                .map(|row| row.split_once('`').unwrap().0.to_owned())
                .collect();
            let set: BTreeSet<String> = names.iter().cloned().collect();
            assert_eq!(set.len(), names.len(), "{kind} lists a fact twice");
            (kind, set)
        })
        .collect()
}

/// What the reader says that an object may hold, learnt from how it refuses an object that holds something else.
fn taken(kind: &str, facts: &str) -> Option<Vec<String>> {
    let (digest, version) = (no_digest(), Facts::first_version(kind));
    let sealed = format!(
        r#"{{"at_us":0,"facts":{facts},"kind":"{kind}","ledger":"l","prev":"{digest}","seq":1,"v":{version}}}"#
    );
    let error = match Event::parse(sealed.as_bytes()) {
        Err(EventError::Shape(error)) => error,
        other => panic!("{kind} took {facts}: {other:?}"),
    };
    let (_, expected) = error.split_once("unknown field `?`, expected ")?;
    // Names stand in every second place between ticks.
    Some(
        expected
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect(),
    )
}

fn facts_of(kind: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for name in taken(kind, r#"{"?":0}"#).unwrap() {
        let forms = [
            format!(r#"{{"{name}":{{"?":0}}}}"#),
            format!(r#"{{"{name}":[{{"?":0}}]}}"#),
        ];
        for inner in forms
            .iter()
            .find_map(|form| taken(kind, form))
            .unwrap_or_default()
        {
            names.insert(format!("{name}.{inner}"));
        }
        names.insert(name);
    }
    names
}

#[test]
fn the_tables_name_exactly_the_kinds_and_facts_of_the_code() {
    let tables = tables();
    let kinds: Vec<&str> = tables.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, Facts::KINDS);
    for (kind, printed) in tables {
        assert_eq!(printed, facts_of(kind), "{kind}");
    }
}

#[test]
fn what_an_event_may_not_have_is_refused() {
    let sealed = printed()[0].sealed;
    let refused = |bytes: &str| Event::parse_canonical(bytes.as_bytes()).is_err();
    assert!(!refused(sealed));
    assert!(refused(&sealed.replace(":1}", ":5}")), "another version");
    assert!(
        refused(&sealed.replace("{\"at_us\"", "{\"a\":1,\"at_us\"")),
        "an unknown member"
    );
    assert!(refused(&sealed.replacen(',', ", ", 1)), "a space");
    assert!(
        refused(&sealed.replace("ledger_opened", "ledger_closed")),
        "an unknown kind"
    );
}
