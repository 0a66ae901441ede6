//! For each rule a ledger that breaks it and nothing else, correctly sealed by an operator with the keys. The report
//! must name exactly that rule, at the event where it breaks, with the money at stake.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::collections::BTreeSet;

use quittance_events::erase::erase;
use quittance_events::facts::*;
use quittance_events::ledger::vkey;
use quittance_events::seal::{EventKey, answer_digest, rotation_message};
use quittance_events::{AttachmentName, Event, Facts, NewEvent, Order, Seq, WebhookId};
use quittance_replay::rules::RULES;
use quittance_replay::{VerifyOptions, verify};
use quittance_taler::{Digest32, EddsaSignature, Timestamp};
use quittance_tlog::{Checkpoint, Cosigner, Hash, KeyName, Note};
use rusqlite::Connection;
use support::takeover::*;
use support::*;

/// Changes a fact of the event at a place.
macro_rules! edit {
    ($events:expr, $place:expr, $kind:ident, |$facts:ident| $change:expr) => {{
        let place = $place;
        match &mut $events[place].0.facts {
            Facts::$kind($facts) => $change,
            other => panic!("a {}", other.kind()),
        }
        place
    }};
}

/// One test for each rule, and the list of the rules that have one.
macro_rules! forgeries {
    ($( $name:ident $rule:literal |$id:ident| $body:block )*) => {
        $( #[test] fn $name() { let $id = $rule; $body } )*
        const FORGED: &[&str] = &[$( $rule ),*];
    };
}

#[path = "forged/evidence.rs"]
mod evidence;
#[path = "forged/instances.rs"]
mod instances;
#[path = "forged/paying.rs"]
mod paying;
#[path = "forged/sold.rs"]
mod sold;

#[test]
fn every_rule_has_its_forgery() {
    let others = sold::RULES_FORGED.iter().chain(instances::RULES_FORGED);
    let forged: BTreeSet<&str> = FORGED.iter().chain(others).copied().collect();
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(forged, rules);
}

fn other_digest() -> Digest32 {
    Digest32::from_bytes([9; 32])
}

fn bad_signature() -> EddsaSignature {
    secret(99).sign(b"something else")
}

/// The order's projection at the end.
fn at_end(events: &Events, order: &str) -> Order {
    order_at(events, order, events.len())
}

/// Appends an approval at the time of the last event, as the service would make it.
fn approve(events: &mut Events, order: &str, rows: &[(u16, u64, &str)]) -> usize {
    let known = at_end(events, order);
    let now = events.last().unwrap().0.at_us.floor_s();
    let after = known
        .last_execution()
        .and_then(|last| last.seconds())
        .map_or(now, |last| second(last + 1));
    append(events, order, approval(&known, rows, now.max(after)));
    events.len() - 1
}

/// Changes a file behind the service's back.
fn tamper(forged: &Forged, change: impl FnOnce(&Connection)) {
    tampered(&forged.ledger(), change);
}

/// Seals the last event anew in the file, with other bytes and a right signature. The tree is then another one; that
/// follows from it.
fn reseal_last(forged: &Forged, key: u8, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    tamper(forged, |conn| {
        let last = "SELECT sealed FROM event ORDER BY seq DESC LIMIT 1";
        let sealed = change(conn.query_row(last, [], |row| row.get(0)).unwrap());
        let signature = EventKey::new(secret(key)).sign_event(&sealed);
        conn.execute(
            "UPDATE event SET sealed = ?1, signature = ?2 WHERE seq = (SELECT max(seq) FROM event)",
            rusqlite::params![sealed, signature.as_bytes().as_slice()],
        )
        .unwrap();
    });
}

/// What a token may do in a forged ledger.
#[derive(Clone, Copy)]
struct Grant {
    scope: TokenScope,
    expire_s: Timestamp,
    refreshable: bool,
}

fn grant(scope: TokenScope, expire_s: Timestamp) -> Grant {
    Grant {
        scope,
        expire_s,
        refreshable: false,
    }
}

fn raise_to_tokens(events: &mut Events) {
    for version in [2, 3] {
        append_own(events, version - 1, NewEvent::bare(FormatRaised { version }));
    }
}

/// Appends an event of version 4.
fn append_raised(events: &mut Events, order: &str, new: NewEvent) {
    for version in events.last().unwrap().0.version..4 {
        append_own(
            events,
            version,
            NewEvent::bare(FormatRaised { version: version + 1 }),
        );
    }
    append(events, order, new);
    events.last_mut().unwrap().0.version = 4;
}

fn append_of_instance(events: &mut Events, new: NewEvent) {
    append_own(events, 3, new);
    events.last_mut().unwrap().0.instance = Some(key(PAID).instance);
}

fn add_token(events: &mut Events, id: &str, grant: Grant, by: Option<&str>) {
    let facts = TokenAdded {
        token: id.parse().unwrap(),
        scope: grant.scope,
        expire_s: grant.expire_s,
        refreshable: grant.refreshable,
        by: by.map(|by| by.parse().unwrap()),
    };
    append_of_instance(events, NewEvent::bare(facts));
}

forgeries! {
    a_foreign_table "log.file" |rule| {
        let forged = forge(sound_events());
        tamper(&forged, |conn| conn.execute_batch("CREATE TABLE notes (text TEXT)").unwrap());
        let report = forged.report();
        assert!(assert_root(&report, rule, None, "", &[]).text.contains("notes"));
    }

    an_event_of_another_ledger "log.genesis" |rule| {
        let mut events = sound_events();
        let last = events.len() - 1;
        events[last].0.ledger = "other.example/ledger".into();
        assert_root(&forge(events).report(), rule, last, "0.5", &[]);
    }

    another_key_than_published "log.key" |rule| {
        let options = VerifyOptions {
            ledger_key: Some(vkey(ORIGIN, &Digest32::from_bytes(secret(77).public_bytes())).unwrap()),
            ..forge(sound_events()).options()
        };
        let forged = forge(sound_events());
        let report = verify(&VerifyOptions { ledger: forged.ledger(), anchor: None, ..options }).unwrap();
        assert_root(&report, rule, 0, "", &[]);
    }

    an_event_deleted "log.gapless" |rule| {
        let events = sound_events();
        let place = nth(&events, PAID, "refund_approved", 1);
        let forged = forge(events);
        tamper(&forged, |conn| {
            conn.execute("DELETE FROM event WHERE seq = ?1", [row(place)]).unwrap();
            conn.execute("DELETE FROM attachment WHERE seq = ?1", [row(place)]).unwrap();
        });
        let report = forged.report();
        assert_root(&report, rule, place + 1, "", &["answer.body", "answer.refund_amount", "answer.rows", "approval.requested", "exchange.requested", "log.anchor", "log.chain", "log.index", "log.tiles", "log.tree"]);
    }

    an_event_chained_to_another "log.chain" |rule| {
        let events = sound_events();
        let last = events.len() - 1;
        let forged = forge(events);
        reseal_last(&forged, 1, |sealed| {
            let mut event = Event::parse(&sealed).unwrap();
            event.prev = other_digest();
            event.canonical()
        });
        assert_root(&forged.report(), rule, last, "0.5", &["log.anchor", "log.index", "log.tree"]);
    }

    an_event_signed_by_another_key "log.signature" |rule| {
        let events = sound_events();
        let last = events.len() - 1;
        let forged = forge(events);
        reseal_last(&forged, 66, |sealed| sealed);
        assert_root(&forged.report(), rule, last, "0.5", &["log.anchor", "log.index", "log.tree"]);
    }

    an_event_with_a_blank_in_it "log.canonical" |rule| {
        let events = sound_events();
        let last = events.len() - 1;
        let forged = forge(events);
        reseal_last(&forged, 1, |sealed| [b"{ ", &sealed[1..]].concat());
        assert_root(&forged.report(), rule, last, "0.5", &["log.anchor", "log.index", "log.tree"]);
    }

    an_event_of_a_version_that_nothing_raised "log.version" |rule| {
        let mut events = sound_events();
        let last = events.len() - 1;
        events[last].0.version = 2;
        assert_root(&forge(events).report(), rule, last, "0.5", &[]);
    }

    a_new_key_that_nobody_let_in "log.rotation" |rule| {
        let mut events = sound_events();
        append_own(&mut events, 1, NewEvent::bare(FormatRaised { version: 2 }));
        let (place, key) = (events.len(), EventKey::new(secret(71)));
        let seq = Seq::new(u64::try_from(place).unwrap() + 1).unwrap();
        let message = rotation_message(ORIGIN, seq, KeyRole::Event, &key.public().key());
        append_own(&mut events, 2, NewEvent::bare(LedgerKeyRotated {
            role: KeyRole::Event,
            new_key: key.public().key(),
            authorised_by: Authority::EventKey,
            // Whoever took the file, and not the key.
            authorisation: secret(71).sign(message.as_bytes()),
            possession: secret(71).sign(message.as_bytes()),
        }));
        assert_root(&forge_rotated(events, &[&key]).report(), rule, place, "", &[]);
    }

    an_approval_by_a_token_that_was_not_taken "token.known" |rule| {
        // Tokens that are there, one that is revoked and how long before the approval in seconds, and whether all is well.
        type Story<'a> = (&'a [(&'a str, Grant)], Option<(&'a str, u64)>, bool);
        let all = grant(TokenScope::All, Timestamp::NEVER);
        let now = sound_events().last().unwrap().0.at_us;
        let ended = second(now.floor_s().seconds().unwrap() - 600);
        let stories: [Story; 8] = [
            (&[], None, true),
            (&[("tk1", all)], None, true),
            (&[("tk1", grant(TokenScope::Refunds, Timestamp::NEVER))], None, true),
            // Its end is less than two minutes ago.
            (&[("tk1", all)], Some(("tk1", 100)), true),
            (&[("tk1", all)], Some(("tk1", 200)), false),
            (&[("other", all)], None, false),
            (&[("tk1", grant(TokenScope::Orders, Timestamp::NEVER))], None, false),
            (&[("tk1", grant(TokenScope::All, ended))], None, false),
        ];
        for (number, (tokens, revoked, is_sound)) in stories.into_iter().enumerate() {
            let mut events = sound_events();
            if !tokens.is_empty() {
                raise_to_tokens(&mut events);
            }
            for (id, grant) in tokens {
                add_token(&mut events, id, *grant, None);
            }
            if let Some((id, s)) = revoked {
                let facts = TokenRevoked { token: id.parse().unwrap(), by: None };
                append_of_instance(&mut events, NewEvent::bare(facts));
                let revoked = events.len() - 1;
                events[revoked].0.at_us = now.plus_s(s);
                approve(&mut events, UNTOUCHED, &[(41, 2, "0.25")]);
                events[revoked].0.at_us = now;
            } else {
                approve(&mut events, UNTOUCHED, &[(41, 2, "0.25")]);
            }
            let place = events.len() - 1;
            let report = forge(events).report();
            if is_sound {
                assert!(report.is_sound(), "{number}: {report:?}");
            } else {
                assert_root(&report, rule, place, "0.25", &[]);
            }
        }
        // A token of the whole service, and a revocation of nothing.
        let mut events = sound_events();
        raise_to_tokens(&mut events);
        add_token(&mut events, "tk1", all, None);
        events.last_mut().unwrap().0.instance = None;
        add_token(&mut events, "other", all, None);
        approve(&mut events, UNTOUCHED, &[(41, 2, "0.25")]);
        assert!(forge(events.clone()).report().is_sound());
        let facts = TokenRevoked { token: "third".parse().unwrap(), by: None };
        append_of_instance(&mut events, NewEvent::bare(facts));
        let place = events.len() - 1;
        assert_root(&forge(events).report(), rule, place, "", &[]);
    }

    a_token_that_gives_more_than_it_has "token.grant" |rule| {
        let never = Timestamp::NEVER;
        let now = sound_events().last().unwrap().0.at_us.floor_s().seconds().unwrap();
        let (soon, later) = (second(now + 100), second(now + 1000));
        let refreshable = |grant| Grant { refreshable: true, ..grant };
        for (parent, child, is_sound) in [
            (grant(TokenScope::All, never), grant(TokenScope::Refunds, never), true),
            (grant(TokenScope::All, never), refreshable(grant(TokenScope::All, soon)), true),
            (grant(TokenScope::All, soon), grant(TokenScope::All, soon), true),
            (refreshable(grant(TokenScope::Read, soon)), refreshable(grant(TokenScope::Read, later)), true),
            (grant(TokenScope::All, soon), grant(TokenScope::All, later), false),
            (grant(TokenScope::All, soon), refreshable(grant(TokenScope::All, soon)), false),
            (grant(TokenScope::All, never), grant(TokenScope::Audit, never), false),
            (refreshable(grant(TokenScope::Read, soon)), grant(TokenScope::Refunds, soon), false),
            (grant(TokenScope::Read, never), grant(TokenScope::Read, never), false),
        ] {
            let mut events = sound_events();
            raise_to_tokens(&mut events);
            add_token(&mut events, "parent", parent, None);
            add_token(&mut events, "child", child, Some("parent"));
            let place = events.len() - 1;
            let report = forge(events).report();
            if is_sound {
                assert!(report.is_sound(), "{report:?}");
            } else {
                assert_root(&report, rule, place, "", &[]);
            }
        }
    }

    an_erasure_that_erased_nothing "log.erased" |rule| {
        let events = sound_events();
        let place = nth(&events, PAID, "refund_approved", 0);
        let forged = continued();
        let seq = Seq::new(u64::try_from(place).unwrap() + 1).unwrap();
        let paths = paths(forged.dir.path());
        let target = (seq, AttachmentName::Reason);
        erase(&paths, keys().into(), target, "asked to", after(&events), "test", |_, _| None).unwrap();
        assert!(forged.report().is_sound());
        tamper(&forged, |conn| {
            let original = sound().join("ledger.sqlite3");
            conn.execute("ATTACH ?1 AS original", [original.to_str().unwrap()]).unwrap();
            conn.execute(
                "UPDATE attachment SET (salt, bytes) =
                     (SELECT salt, bytes FROM original.attachment WHERE seq = ?1) WHERE seq = ?1",
                [row(place)],
            )
            .unwrap();
            conn.execute_batch("DETACH original").unwrap();
        });
        // The format is raised before the erasure.
        assert_root(&forged.report(), rule, events.len() + 1, "3", &[]);
    }

    parts_that_differ "log.parts" |rule| {
        let mut events = sound_events();
        let place = nth(&events, WIDE, "refund_approved", 1);
        edit!(events, place, RefundApproved, |f| f.total = amount("249"));
        assert_root(&forge(events).report(), rule, place, "250", &[]);
    }

    an_event_dated_back "log.time" |rule| {
        let mut events = sound_events();
        let last = events.len() - 1;
        events[last].0.at_us = events[last].0.at_us.minus_s(62);
        // It lies before the event before it of its order, too.
        assert_root(&forge(events).report(), rule, last, "0.5", &["log.time"]);
    }

    a_reason_that_was_wiped "log.attachments" |rule| {
        let events = sound_events();
        let place = nth(&events, PAID, "refund_approved", 0);
        let forged = forge(events);
        tamper(&forged, |conn| {
            conn.execute("UPDATE attachment SET salt = NULL, bytes = NULL WHERE seq = ?1", [row(place)]).unwrap();
        });
        let report = forged.report();
        assert_root(&report, rule, place, "3", &[]);
        assert_eq!(report.checked.erased, 1);
    }

    a_checkpoint_of_another_tree "log.tree" |rule| {
        let events = sound_events();
        let size = events.len();
        let forged = forge(events);
        let checkpoint =
            Checkpoint { origin: ORIGIN.into(), size: u64::try_from(size).unwrap() - 3, root: Hash([7; 32]) };
        let note = checkpoint.sign(&keys().checkpoint).unwrap().to_string();
        tamper(&forged, |conn| {
            conn.execute("INSERT INTO checkpoint (size, note) VALUES (?1, ?2)", (row(size) - 4, note)).unwrap();
        });
        assert_root(&forged.report(), rule, size - 4, "", &[]);
    }

    a_ledger_cut_off_at_its_end "log.anchor" |rule| {
        let mut events = sound_events();
        let size = events.len();
        events.truncate(size - 5);
        let forged = forge(events);
        let cut = VerifyOptions { anchor: Some(sound().join("ledger.anchor")), ..forged.options() };
        assert_root(&verify(&cut).unwrap(), rule, size - 1, "", &[]);
        // Without the anchor nobody can tell: the guide says so.
        assert!(verify(&VerifyOptions { anchor: None, ..cut }).unwrap().is_sound());
    }

    a_cosignature_of_another_checkpoint "log.cosignature" |rule| {
        let forged = forge(sound_events());
        let witness = Cosigner::new(KeyName::new("witness.example/w1").unwrap(), &[77; 32]);
        let vkey = witness.verifier().to_string();
        let mut size = 0;
        tamper(&forged, |conn| {
            let (at, note): (i64, String) = conn
                .query_row("SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .unwrap();
            size = usize::try_from(at).unwrap();
            let own = witness.sign(&Note::parse(&note).unwrap(), 1_795_226_400).unwrap().to_string();
            let insert = "INSERT INTO cosignature (size, vkey, line) VALUES (?1, ?2, ?3)";
            conn.execute(insert, (at, &vkey, own)).unwrap();
        });
        // It is of this checkpoint: nothing to find, and the report says who cosigned.
        let report = forged.report();
        assert!(report.is_sound());
        let said = &report.witnesses[0];
        assert_eq!((said.vkey.as_str(), said.pinned, said.time_s), (vkey.as_str(), false, 1_795_226_400));
        assert_eq!(usize::try_from(said.size).unwrap(), size);
        tamper(&forged, |conn| {
            let other = Checkpoint { origin: ORIGIN.into(), size: 3, root: Hash([7; 32]) };
            let other = other.sign(&keys().checkpoint).unwrap();
            let line = witness.sign(&other, 1_795_226_400).unwrap().to_string();
            conn.execute("UPDATE cosignature SET line = ?1", [line]).unwrap();
        });
        assert_root(&forged.report(), rule, size - 1, "", &[]);
    }

    a_tile_with_another_hash "log.tiles" |rule| {
        let forged = forge(sound_events());
        tamper(&forged, |conn| {
            // The hash of another leaf in the place of one: of the right size, and no hash unknown.
            let hashes: Vec<u8> = conn.query_row("SELECT hashes FROM tile", [], |row| row.get(0)).unwrap();
            let swapped = [&hashes[..32], &hashes[..32], &hashes[64..]].concat();
            conn.execute("UPDATE tile SET hashes = ?1", [swapped]).unwrap();
        });
        let report = forged.report();
        assert_eq!((report.findings.len(), report.findings[0].rule, report.findings[0].seq), (1, rule, None));
        assert!(report.findings[0].text.contains("tile 0/0"));
    }

    a_history_sealed_anew "log.since" |rule| {
        let mut events = sound_events();
        let place = nth(&events, PAID, "refund_approved", 0);
        events[place].1.attachments[0].1 = b"never returned".to_vec();
        let rewritten = forge(events);
        let options = VerifyOptions { since: Some(sound().join("ledger.anchor")), ..rewritten.options() };
        let size = sound_events().len();
        assert_root(&report_all_ways(&options), rule, size - 1, "308.5", &[]);
        // In itself it is sound.
        assert!(rewritten.report().is_sound());
    }

    an_answer_that_a_wallet_can_prove_and_the_ledger_lacks "log.receipt" |rule| {
        let events = sound_events();
        let place = events.len() - 1;
        let receipt = last_receipt(sound(), UNTOUCHED);
        let forged = forge(events[..place].to_vec());
        let options = VerifyOptions { receipts: vec![receipt.clone()], ..forged.options() };
        assert_root(&report_all_ways(&options), rule, place, "", &[]);
        // Another answer in its place: what is recorded instead is at stake.
        let mut other = events;
        edit!(other, place, RefundAnswered, |f| f.as_of = Seq::new(f.as_of.get() - 2).unwrap());
        let forged = forge(other);
        let report = report_all_ways(&VerifyOptions { receipts: vec![receipt], ..forged.options() });
        let rules: Vec<&str> = report.findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, ["answer.as_of", rule]);
        assert_eq!(report.findings[1].at_stake, [amount("0.5")]);
    }

    a_head_of_another_time "log.index" |rule| {
        let forged = forge(sound_events());
        tamper(&forged, |conn| {
            conn.execute("UPDATE head SET greatest_at_us = greatest_at_us + 1", []).unwrap();
        });
        assert_root(&forged.report(), rule, None, "", &[]);
    }

    a_predecessor_of_another_root "takeover.predecessor" |rule| {
        let mut events = successor(None);
        edit!(events, 0, LedgerOpened, |f| f.predecessor.as_mut().unwrap().root = other_digest());
        assert_root(&taken_over(events), rule, 0, "", &[]);
    }

    a_generation_left_out "takeover.generation" |rule| {
        let mut events = successor(Some(2));
        approve_first(&mut events, 2 << 20);
        assert_root(&taken_over(events), rule, 0, "", &[]);
    }

    an_order_left_behind "takeover.orders" |rule| {
        let mut events = successor(None);
        events.retain(|(event, _)| event.order_key() != Some(key(WIDE)));
        let report = taken_over(events);
        let finding = &report.findings[0];
        assert_eq!((report.findings.len(), finding.rule, finding.seq), (1, rule, None));
        assert_eq!((finding.order.as_deref(), finding.at_stake[0]), (Some(WIDE), amount("250")));
    }

    a_deposit_carried_in_with_another_fee "takeover.contract" |rule| {
        let mut events = successor(None);
        let place = nth(&events, PAID, "deposit_recorded", 1);
        edit!(events, place, DepositRecorded, |f| f.refund_fee = amount("0.02"));
        assert_root(&taken_over(events), rule, place, "2.5", &[]);
    }

    a_refund_carried_in_with_another_amount "takeover.refunds" |rule| {
        let mut events = successor(None);
        let place = nth(&events, TAKEN_OVER, "refund_carried_in", 0);
        let h_contract = at_end(&events, TAKEN_OVER).terms.h_contract;
        edit!(events, place, RefundCarriedIn, |f| {
            f.rows[1].amount = amount("1.5");
            f.rows[1].merchant_sig = permit(&h_contract, coin(21), 8, amount("1.5"));
        });
        assert_root(&taken_over(events), rule, place, "0.5", &[]);
    }

    a_deposit_for_no_order "order.begin" |rule| {
        let mut events = sound_events();
        append(&mut events, "2026.325-ghost", deposit(61, "4"));
        append(&mut events, "2026.325-ghost", deposit(62, "5"));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 2, "4", &[]);
    }

    terms_with_another_wire_deadline "order.terms" |rule| {
        let mut events = sound_events();
        let place = nth(&events, UNTOUCHED, "order_recorded", 0);
        edit!(events, place, OrderRecorded, |f| f.wire_deadline_s = second(START_S + 21 * DAY_S));
        assert_root(&forge(events).report(), rule, place, "1", &[]);
    }

    a_deposit_at_a_foreign_exchange "order.deposit" |rule| {
        let mut events = sound_events();
        let place = nth(&events, UNTOUCHED, "deposit_recorded", 0);
        let foreign = quittance_taler::MasterPub::from_bytes(secret(44).public_bytes());
        edit!(events, place, DepositRecorded, |f| f.exchange_master_pub = foreign);
        assert_root(&forge(events).report(), rule, place, "1", &[]);
    }

    a_payment_above_its_deposits "order.paid" |rule| {
        let mut events = sound_events();
        let place = nth(&events, UNTOUCHED, "payment_completed", 0);
        edit!(events, place, PaymentCompleted, |f| f.paid = amount("3"));
        assert_root(&forge(events).report(), rule, place, "2", &[]);
    }

    a_takeover_after_an_approval "approval.carried_in" |rule| {
        let mut events = sound_events();
        let h_contract = at_end(&events, UNTOUCHED).terms.h_contract;
        let row = CarriedInRow {
            coin_pub: coin(41),
            rtransaction_id: refund_id(9),
            amount: amount("0.1"),
            execution_s: second(START_S),
            merchant_sig: permit(&h_contract, coin(41), 9, amount("0.1")),
        };
        let facts = RefundCarriedIn { rows: vec![row], part: None, by: token() };
        append(&mut events, UNTOUCHED, NewEvent::bare(facts));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "0.1", &[]);
    }

    an_approval_for_an_unpaid_order "approval.allowed" |rule| {
        let mut events = sound_events();
        let place = approve(&mut events, WIDE_ABORT, &[(2000, 1, "1")]);
        assert_root(&forge(events).report(), rule, place, "1", &[]);
    }

    more_approved_than_paid "approval.total" |rule| {
        let mut events = sound_events();
        let place = approve(&mut events, UNTOUCHED, &[(41, 2, "1")]);
        assert_root(&forge(events).report(), rule, place, "0.5", &["approval.coin"]);
    }

    rows_that_do_not_sum_up "approval.rows" |rule| {
        let mut events = sound_events();
        let place = approve(&mut events, UNTOUCHED, &[(41, 2, "0.1")]);
        edit!(events, place, RefundApproved, |f| f.total = amount("0.8"));
        assert_root(&forge(events).report(), rule, place, "0.2", &[]);
    }

    more_refunded_than_a_coin_holds "approval.coin" |rule| {
        let mut events = sound_events();
        let place = approve(&mut events, PAID, &[(1, 3, "1.5")]);
        assert_root(&forge(events).report(), rule, place, "1.5", &[]);
    }

    an_id_out_of_turn "approval.ids" |rule| {
        let mut events = sound_events();
        let place = approve(&mut events, UNTOUCHED, &[(41, 5, "0.25")]);
        assert_root(&forge(events).report(), rule, place, "0.25", &[]);
    }

    an_approval_that_the_merchant_did_not_sign "approval.signature" |rule| {
        let mut events = sound_events();
        let place = approve(&mut events, UNTOUCHED, &[(41, 2, "0.25")]);
        edit!(events, place, RefundApproved, |f| f.rows[0].merchant_sig = bad_signature());
        assert_root(&forge(events).report(), rule, place, "0.25", &[]);
    }

    an_approval_of_another_second "approval.execution" |rule| {
        let mut events = sound_events();
        let place = approve(&mut events, UNTOUCHED, &[(41, 2, "0.25")]);
        edit!(events, place, RefundApproved, |f| f.execution_s = second(START_S));
        assert_root(&forge(events).report(), rule, place, "0.25", &[]);
    }

    a_refund_requested_too_late "approval.deadline" |rule| {
        let mut events = sound_events();
        append(&mut events, LATE, requested(&[(31, 1)]));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "5", &[]);
    }

    a_refund_requested_twice "approval.requested" |rule| {
        let mut events = sound_events();
        append(&mut events, WIDE, requested(&[(1000, 1)]));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
    }

    an_abort_of_a_paid_order "abort.requested" |rule| {
        let mut events = sound_events();
        let event = abort(&at_end(&events, UNTOUCHED), &[41]);
        append(&mut events, UNTOUCHED, event);
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
    }

    an_abort_of_a_coin_that_nobody_named "abort.coins" |rule| {
        let mut events = sound_events();
        let place = nth(&events, ABORTED, "abort_requested", 0);
        let request = abort(&order_at(&events, ABORTED, place), &[13, 12]);
        events[place].1.attachments = request.attachments;
        assert_root(&forge(events).report(), rule, place, "5", &[]);
    }

    a_deposited_coin_said_to_be_undeposited "abort.state" |rule| {
        let mut events = sound_events();
        let place = nth(&events, ABORTED, "abort_requested", 0);
        edit!(events, place, AbortRequested, |f| {
            let named = f.coins.iter_mut().find(|named| named.coin_pub == coin(11)).unwrap();
            *named = AbortCoin { state: AbortCoinState::Undeposited, amount: None, merchant_sig: None, ..*named };
        });
        assert_root(&forge(events).report(), rule, place, "5", &["answer.body", "answer.exchange_status", "exchange.requested"]);
    }

    an_abort_of_less_than_the_deposit "abort.amount" |rule| {
        let mut events = sound_events();
        let place = nth(&events, ABORTED, "abort_requested", 0);
        let h_contract = order_at(&events, ABORTED, place).terms.h_contract;
        edit!(events, place, AbortRequested, |f| {
            let named = f.coins.iter_mut().find(|named| named.coin_pub == coin(11)).unwrap();
            named.amount = Some(amount("4"));
            named.merchant_sig = Some(permit(&h_contract, coin(11), 0, amount("4")));
        });
        assert_root(&forge(events).report(), rule, place, "1", &["answer.body", "answer.exchange_status", "answer.http_status", "exchange.confirmed"]);
    }

    an_abort_that_the_merchant_did_not_sign "abort.signature" |rule| {
        let mut events = sound_events();
        let place = nth(&events, ABORTED, "abort_requested", 0);
        edit!(events, place, AbortRequested, |f| {
            f.coins.iter_mut().find(|named| named.coin_pub == coin(11)).unwrap().merchant_sig = Some(bad_signature());
        });
        assert_root(&forge(events).report(), rule, place, "5", &[]);
    }

    a_paid_coin_given_back_as_if_it_came_late "abort.extended" |rule| {
        let mut events = sound_events();
        let h_contract = at_end(&events, UNTOUCHED).terms.h_contract;
        append(&mut events, UNTOUCHED, extension(&h_contract, 41, "1"));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
    }

    a_late_deposit_that_is_kept "abort.late_deposit" |rule| {
        let mut events = sound_events();
        append(&mut events, UNTOUCHED, deposit(42, "0.75"));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "0.75", &[]);
    }

    a_payment_that_counts_an_aborted_coin "abort.payment" |rule| {
        let mut events = sound_events();
        let place = nth(&events, ABORTED, "payment_completed", 0);
        edit!(events, place, PaymentCompleted, |f| {
            f.coins.push(coin(11));
            f.paid = amount("25");
        });
        assert_root(&forge(events).report(), rule, place, "5", &["order.paid"]);
    }

    a_refusal_recorded_twice "abort.refusal" |rule| {
        let mut events = sound_events();
        let (event, new) = events[nth(&events, PAID, "abort_refused", 0)].clone();
        append(&mut events, PAID, NewEvent { facts: event.facts, ..new });
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
    }

    a_signing_key_that_the_master_did_not_sign "exchange.keys" |rule| {
        let mut events = sound_events();
        let place = events.iter().position(|(event, _)| event.facts.kind() == "exchange_keys_seen").unwrap();
        let mut told = signing_key(5, START_S - DAY_S, START_S + 30 * DAY_S);
        told.master_sig = bad_signature();
        events[place].1.attachments[0].1 = keys_reply(std::slice::from_ref(&told));
        edit!(events, place, ExchangeKeysSeen, |f| f.signkeys = vec![told]);
        assert_root(&forge(events).report(), rule, place, "", &["answer.body", "answer.exchange_status", "answer.http_status", "exchange.confirmed"]);
    }

    a_reply_to_what_was_never_asked "exchange.requested" |rule| {
        let mut events = sound_events();
        append(&mut events, UNTOUCHED, reply(41, 1, 1, 404, r#"{"code":1502}"#, Verdict::Refused));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "0.5", &[]);
    }

    an_attempt_out_of_turn "exchange.attempt" |rule| {
        let mut events = sound_events();
        let facts = ExchangeUnreached {
            coin_pub: coin(1000),
            rtransaction_id: refund_id(1),
            attempt: 0,
            failure: Failure::Closed,
        };
        append(&mut events, WIDE, NewEvent::bare(facts));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
    }

    a_confirmation_by_an_unknown_key "exchange.confirmed" |rule| {
        let mut events = sound_events();
        let event = confirmation(&at_end(&events, WIDE), 1000, 1, 1, 6);
        append(&mut events, WIDE, event);
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
    }

    a_busy_exchange_said_to_have_refused "exchange.verdict" |rule| {
        let mut events = sound_events();
        append(&mut events, WIDE, reply(1000, 1, 1, 503, r#"{"code":1501}"#, Verdict::Refused));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
    }

    a_confirmation_by_an_exchange_not_given "exchange.pinned" |rule| {
        let mut events = sound_events();
        let place = place(&events, PAID, |facts| matches!(facts, Facts::ExchangeReplied(_)));
        events.truncate(place + 1);
        let forged = forge(events);
        let other = quittance_taler::MasterPub::from_bytes(secret(44).public_bytes());
        let options = VerifyOptions { exchange_keys: vec![other], ..forged.options() };
        assert_root(&verify(&options).unwrap(), rule, place, "3", &[]);
    }

    an_answer_from_an_older_state "answer.as_of" |rule| {
        let mut events = sound_events();
        let last = events.len() - 1;
        edit!(events, last, RefundAnswered, |f| f.as_of = Seq::new(f.as_of.get() - 2).unwrap());
        assert_root(&forge(events).report(), rule, last, "0.5", &[]);
    }

    a_wallet_sent_away_with_410 "answer.http_status" |rule| {
        let mut events = sound_events();
        let gone = nth(&events, LATE, "refund_answered", 0);
        let last = events.len() - 1;
        let body = edit_of(&events, gone).body;
        edit!(events, last, RefundAnswered, |f| {
            *f = RefundAnswered { http_status: 410, body, refund_amount: None, rows: None, ..f.clone() };
        });
        assert_root(&forge(events).report(), rule, last, "0.5", &[]);
    }

    a_sum_too_small "answer.refund_amount" |rule| {
        let mut events = sound_events();
        let last = events.len() - 1;
        edit!(events, last, RefundAnswered, |f| {
            f.refund_amount = Some(amount("0.2"));
            f.body = other_digest();
        });
        assert_root(&forge(events).report(), rule, last, "0.3", &["answer.body"]);
    }

    a_refund_left_out "answer.rows" |rule| {
        let mut events = sound_events();
        let place = last_answer(&events, PAID);
        edit!(events, place, RefundAnswered, |f| {
            f.rows.as_mut().unwrap().pop();
            f.body = other_digest();
        });
        assert_root(&forge(events).report(), rule, place, "1", &["answer.body"]);
    }

    an_execution_time_moved "answer.execution_time" |rule| {
        let mut events = sound_events();
        let place = last_answer(&events, PAID);
        edit!(events, place, RefundAnswered, |f| {
            f.rows.as_mut().unwrap()[0].execution_s = Timestamp::NEVER;
            f.body = other_digest();
        });
        assert_root(&forge(events).report(), rule, place, "3", &["answer.body"]);
    }

    a_success_without_confirmation "answer.exchange_status" |rule| {
        let mut events = sound_events();
        let place = last_answer(&events, PAID);
        edit!(events, place, RefundAnswered, |f| {
            f.rows.as_mut().unwrap()[2].exchange_status = 200;
            f.body = other_digest();
        });
        assert_root(&forge(events).report(), rule, place, "1", &["answer.body"]);
    }

    an_abort_answered_for_a_coin_under_none "answer.coins" |rule| {
        let mut events = sound_events();
        let as_of = at_end(&events, ABORTED).moved;
        let facts = AbortAnswered {
            as_of,
            http_status: 200,
            mode: Undeposited::Typed,
            body: answer_digest(br#"{"refunds":[{"type":"undeposited"}]}"#),
            coins: vec![AnsweredCoin { coin_pub: coin(17), kind: EntryType::Undeposited, exchange_status: None }],
            part: None,
        };
        append(&mut events, ABORTED, NewEvent::bare(facts));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "17", &[]);
    }

    another_body_than_was_recorded "answer.body" |rule| {
        let mut events = sound_events();
        let place = last_answer(&events, PAID);
        edit!(events, place, RefundAnswered, |f| f.body = other_digest());
        assert_root(&forge(events).report(), rule, place, "11", &[]);
    }

    an_answer_recorded_twice "answer.once" |rule| {
        let mut events = sound_events();
        let (event, new) = events.last().unwrap().clone();
        append(&mut events, UNTOUCHED, NewEvent { facts: event.facts, ..new });
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
    }

    a_delivery_of_no_answer "answer.delivered" |rule| {
        let mut events = sound_events();
        append(&mut events, UNTOUCHED, NewEvent::bare(RefundDelivered { answer: Seq::new(5).unwrap() }));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
    }

    a_webhook_of_another_orders_payment "webhook.told" |rule| {
        let mut events = sound_events();
        let of = events[nth(&events, PAID, "payment_completed", 0)].0.seq;
        let webhook = "shop".parse().unwrap();
        append_raised(&mut events, UNTOUCHED, NewEvent::bare(WebhookDelivered { webhook, of, attempt: 1, http_status: 204 }));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
    }

    a_webhook_that_was_done_already "webhook.told" |rule| {
        let mut events = sound_events();
        let of = events[nth(&events, PAID, "payment_completed", 0)].0.seq;
        let webhook: WebhookId = "shop".parse().unwrap();
        let given_up = WebhookGivenUp { webhook: webhook.clone(), of, attempt: 3 };
        append_raised(&mut events, PAID, NewEvent::bare(given_up));
        append_raised(&mut events, PAID, NewEvent::bare(WebhookDelivered { webhook, of, attempt: 4, http_status: 200 }));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
    }

    a_webhook_that_was_refused "webhook.told" |rule| {
        let mut events = sound_events();
        let of = events[nth(&events, PAID, "payment_completed", 0)].0.seq;
        let webhook = "shop".parse().unwrap();
        append_raised(&mut events, PAID, NewEvent::bare(WebhookDelivered { webhook, of, attempt: 1, http_status: 500 }));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
    }
}

fn last_answer(events: &Events, order: &str) -> usize {
    let key = key(order);
    let fits = |event: &Event| {
        event.order_key().as_ref() == Some(&key) && matches!(event.facts, Facts::RefundAnswered(_))
    };
    events.iter().rposition(|(event, _)| fits(event)).unwrap()
}

fn edit_of(events: &Events, place: usize) -> &RefundAnswered {
    match &events[place].0.facts {
        Facts::RefundAnswered(f) => f,
        other => panic!("a {}", other.kind()),
    }
}

#[test]
fn what_an_operator_seals_anew_without_change_is_sound() {
    let report = forge(sound_events()).report();
    assert!(report.is_sound(), "{:#?}", report.findings);
}

#[test]
fn an_answer_that_was_taken_out_leaves_no_trace_but_its_delivery() {
    // Whoever holds a receipt can prove it; the ledger alone cannot.
    let mut events = sound_events();
    let place = nth(&events, WIDE, "refund_delivered", 0);
    take_out(&mut events, place);
    for part in [1, 0] {
        let place = nth(&events, WIDE, "refund_answered", part);
        take_out(&mut events, place);
    }
    assert!(forge(events).report().is_sound());
}

#[test]
fn an_approval_put_in_before_a_confirmation_is_found_at_the_answers_after_it() {
    let mut events = sound_events();
    let place = nth(&events, PAID, "refund_requested", 0);
    let known = order_at(&events, PAID, place);
    let now = events[place].0.at_us.floor_s();
    let event = another(&events, PAID, place, approval(&known, &[(2, 1, "0.5")], now));
    put_in(&mut events, place, event);
    let report = forge(events).report();
    let rules: BTreeSet<&str> = report.findings.iter().map(|finding| finding.rule).collect();
    assert!(
        rules.contains("answer.refund_amount") && rules.contains("approval.ids"),
        "{rules:?}"
    );
}

#[test]
fn a_missing_part_and_a_part_alone_are_found() {
    let mut events = sound_events();
    let place = nth(&events, WIDE, "payment_completed", 1);
    take_out(&mut events, place);
    let report = forge(events).report();
    let finding = &report.findings[0];
    assert_eq!((report.findings.len(), finding.rule), (1, "log.parts"));
    let mut events = sound_events();
    let place = nth(&events, WIDE, "payment_completed", 0);
    take_out(&mut events, place);
    let report = forge(events).report();
    assert_eq!((report.findings.len(), report.findings[0].rule), (1, "log.parts"));
}

#[test]
fn a_clock_correction_that_was_taken_out_shows_in_the_times() {
    let mut events = sound_events();
    let place = events
        .iter()
        .position(|(event, _)| event.facts.kind() == "clock_corrected")
        .unwrap();
    take_out(&mut events, place);
    let report = forge(events).report();
    assert!(
        report.findings.iter().all(|finding| finding.rule == "log.time"),
        "{:#?}",
        report.findings
    );
    assert_eq!(report.findings[0].seq, Some(u64::try_from(place).unwrap() + 1));
}

/// The sequence of the event at a place, as SQLite has it.
fn row(place: usize) -> i64 {
    i64::try_from(place).unwrap() + 1
}
