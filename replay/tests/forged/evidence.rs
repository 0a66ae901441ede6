//! Forgeries of which all signatures verify, and that the evidence in the ledger contradicts all the same.

use super::sold::*;
use super::support::selling::*;
use super::*;
use quittance_events::TokenId;
use quittance_taler::forget::{ForgetPath, forget};
use quittance_taler::{contract_hash, json as taler_json};
use serde_json::{Value, json};

/// Puts a digest beside a member, which is hashed in the member's place.
fn with_digest(terms: &mut Value, location: &str) {
    terms["delivery_location"] = json!({"street": location});
    terms["$forgettable"] =
        json!({"delivery_location": "0G2081040G2081040G2081040G2081040G2081040G2081040G20"});
    terms["$forgotten"] = json!({ "delivery_location": FORGOTTEN });
}

#[track_caller]
fn assert_last(events: Events, rule: &str, stake: &str) {
    let last = events.len() - 1;
    assert_root(&forge(events).report(), rule, last, stake, &[]);
}

/// What is noted of the orders of a ledger that is sound.
#[track_caller]
fn notes(events: Events) -> Vec<String> {
    let report = forge(events).report();
    assert!(report.is_sound(), "{:#?}", report.findings);
    let of_orders = report.notes.into_iter().filter(|note| note.order.is_some());
    of_orders.map(|note| note.text).collect()
}

#[test]
fn terms_beside_the_digest_of_others() {
    let mut events = shop_events();
    let place = append_forgotten(&mut events, |terms| with_digest(terms, "Oak Street"), 2);
    assert_root(&forge(events).report(), "order.forgotten", place, "10", &[]);
    let mut events = shop_events();
    append_offer(&mut events, |terms| with_digest(terms, "Oak Street"), |_| {});
    assert_last(events, "order.terms", "2");
    // And of a contract from its beginning, below another member.
    for (street, is_sound) in [("Oak Street", false), ("Elm Street", true)] {
        let mut events = sound_events();
        let mut new = recorded("another", "2", 20);
        let mut value: Value = serde_json::from_slice(&new.attachments[0].1).unwrap();
        value["extra"] = json!({"list": [{}]});
        with_digest(&mut value["extra"]["list"][0], street);
        new.attachments[0].1 = taler_json::canonical(&value);
        let Facts::OrderRecorded(f) = &mut new.facts else {
            panic!("a contract")
        };
        f.h_contract = contract_hash(&value).unwrap();
        append(&mut events, "another", new);
        if is_sound {
            assert!(forge(events).report().is_sound());
        } else {
            assert_last(events, "order.terms", "2");
        }
    }
}

/// A confirmation that is said to have come with another status.
#[test]
fn a_confirmation_under_another_status() {
    for (status, verdict) in [
        (503, Verdict::Later),
        (409, Verdict::Malformed),
        (200, Verdict::Unproven),
    ] {
        let mut events = shop_events();
        let place = ask_and_confirm(&mut events, &[(31, "1")], 5, |_| {});
        events.truncate(place + 1);
        edit!(events, place, DepositReplied, |f| {
            (f.http_status, f.verdict) = (status, verdict);
            (f.exchange_pub, f.exchange_timestamp_s) = (None, None);
        });
        assert_last(events, "deposit.verdict", "1");
        let mut events = sound_events();
        let event = confirmation(&at_end(&events, WIDE), 1000, 1, 1, 5);
        append(&mut events, WIDE, event);
        edit!(events, events.len() - 1, ExchangeReplied, |f| {
            (f.http_status, f.verdict) = (status, verdict);
            (f.exchange_pub, f.exchange_sig) = (None, None);
        });
        assert_last(events, "exchange.verdict", "1");
    }
}

#[test]
fn a_claim_of_proof_that_is_not_recorded() {
    for is_recorded in [true, false] {
        let mut events = shop_events();
        let place = ask_and_confirm(&mut events, &[(31, "1")], 6, |_| {});
        events.truncate(place + 1);
        edit!(events, place, DepositReplied, |f| {
            f.verdict = Verdict::Unproven;
            if !is_recorded {
                (f.exchange_pub, f.exchange_timestamp_s) = (None, None);
            }
        });
        if is_recorded {
            assert!(forge(events).report().is_sound());
        } else {
            assert_last(events, "deposit.verdict", "1");
        }
    }
}

/// Where its bytes are gone, nobody can say that it was proven after all.
#[test]
fn a_claim_with_a_good_key_and_a_bad_signature_that_is_erased() {
    let mut events = shop_events();
    let place = ask_and_confirm(&mut events, &[(31, "1")], 5, |_| {});
    events.truncate(place + 1);
    edit!(events, place, DepositReplied, |f| f.verdict = Verdict::Unproven);
    let reply = &mut events[place].1.attachments[0].1;
    let mut body: Value = serde_json::from_slice(reply).unwrap();
    body["exchange_sigs"] = json!([{"exchange_sig": bad_signature()}]);
    *reply = body.to_string().into_bytes();
    let forged = forge(events.clone());
    assert!(forged.report().is_sound());
    let paths = paths(forged.dir.path());
    let name = AttachmentName::Reply;
    let _erased = erase_of(&paths, keys().into(), place, name, after(&events));
    let report = forged.report();
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert_eq!(report.checked.erased, 1);
}

#[test]
fn refunds_made_elsewhere_of_what_was_sold_here() {
    let mut events = shop_events();
    let h_contract = at_end(&events, RIVALS).terms.h_contract;
    let row = CarriedInRow {
        coin_pub: purse_pub(13),
        rtransaction_id: refund_id(1),
        amount: amount("1"),
        execution_s: second(START_S),
        merchant_sig: permit(&h_contract, purse_pub(13), 1, amount("1")),
    };
    let facts = RefundCarriedIn {
        rows: vec![row],
        part: None,
        by: token(),
    };
    append(&mut events, RIVALS, NewEvent::bare(facts));
    assert_last(events, "approval.carried_in", "1");
}

#[test]
fn a_batch_that_is_decided_is_not_decided_again() {
    let refusal = r#"{"code":1201}"#;
    let mut events = shop_events();
    let batch = ask(&mut events, CLAIMED, &[(31, "1")], |_| {});
    append(
        &mut events,
        CLAIMED,
        refused(batch, 1, 409, refusal, Verdict::Refused),
    );
    let mut again = events.clone();
    append(&mut again, CLAIMED, refused(batch, 2, 503, "", Verdict::Later));
    assert_last(again, "deposit.asked", "1");
    let mut again = events.clone();
    let failure = Failure::Closed;
    let facts = DepositUnreached {
        batch,
        attempt: 2,
        failure,
    };
    append(&mut again, CLAIMED, NewEvent::bare(facts));
    assert_last(again, "deposit.asked", "1");
    // Nor does it count that the exchange took the coins after all.
    let place = events.len();
    let confirmed = confirmed(&at_end(&shop_with(&events, batch), CLAIMED), batch, 2, 5);
    append_all(&mut events, CLAIMED, confirmed);
    let report = forge(events).report();
    assert_root(&report, "deposit.asked", place, "1", &["deposit.confirmed"]);
}

/// The events up to the batch.
fn shop_with(events: &Events, batch: Seq) -> Events {
    events[..usize::try_from(batch.get()).unwrap()].to_vec()
}

/// An order whose nonce and fee can be forgotten, and without one of them.
fn without(member: &str) -> quittance_replay::Report {
    let mut events = shop_events();
    let mark = |terms: &mut Value| terms["$forgettable"][member] = json!("S");
    append_offer(&mut events, mark, |_| {});
    append_all(&mut events, "another", claim_of("another", mark, |_| {}));
    let mut terms = contract_terms("another", "2");
    mark(&mut terms);
    let path: ForgetPath = format!("$.{member}").parse().unwrap();
    let left = forget(&terms, &[path]).unwrap().unwrap();
    let facts = TermsForgotten { by: token() };
    let new = NewEvent::with(facts, AttachmentName::Terms, taler_json::canonical(&left));
    append(&mut events, "another", new);
    for kind in ["order_created", "order_recorded"] {
        let seq = Seq::new(u64::try_from(nth(&events, "another", kind, 0)).unwrap() + 1).unwrap();
        let name = AttachmentName::Terms;
        let new = NewEvent::with(AttachmentErased { seq, name }, AttachmentName::Reason, Vec::new());
        append(&mut events, "another", new);
    }
    forge(events).report()
}

#[test]
fn nonce_and_fee_outlive_what_is_forgotten() {
    let place = shop_events().len() + 3;
    assert_root(&without("nonce"), "order.forgotten", place, "2", &[]);
    assert_root(&without("max_fee"), "order.terms", place, "2", &[]);
    assert!(without("delivery_location").is_sound());
    for fee in [json!("EUR:1"), json!(1), Value::Null] {
        let mut events = shop_events();
        append_offer(&mut events, |terms| terms["max_fee"] = fee, |_| {});
        assert_last(events, "order.terms", "2");
    }
}

#[test]
fn nobody_imports_what_is_sold_here() {
    let mut events = shop_events();
    let facts = TokenAdded {
        token: token(),
        scope: TokenScope::All,
        expire_s: Timestamp::NEVER,
        refreshable: false,
        by: None,
    };
    append_mine(&mut events, NewEvent::bare(facts));
    let by = || TokenId::of_import();
    let mut told = events.clone();
    let mut new = recorded("another", "2", 20);
    let Facts::OrderRecorded(f) = &mut new.facts else {
        panic!("a contract")
    };
    f.by = Some(by());
    append(&mut told, "another", new);
    assert!(forge(told).report().is_sound());
    let mut offered = events.clone();
    append_offer(&mut offered, |_| {}, |f| f.by = by());
    assert_last(offered, "token.known", "2");
    let mut deleted = events.clone();
    append(&mut deleted, OFFERED, NewEvent::bare(OrderDeleted { by: by() }));
    assert_last(deleted, "token.known", "");
}

#[test]
fn no_token_pays_what_is_sold_here() {
    let mut events = shop_events();
    let place = nth(&events, SOLD, "payment_completed", 0);
    edit!(events, place, PaymentCompleted, |f| f.by = Some(token()));
    assert_root(&forge(events).report(), "token.known", place, "10.02", &[]);
    let mut events = shop_events();
    let place = nth(&events, RIVALS, "abort_extended", 0);
    edit!(events, place, AbortExtended, |f| f.by = Some(token()));
    assert_root(&forge(events).report(), "token.known", place, "5", &[]);
}

/// A wallet's request for two coins at two exchanges, of which the first takes its coin and the second refuses.
fn half_taken(events: &mut Events, coins: [u8; 2]) {
    let all = coins.map(|n| (n, "0.5"));
    let named = batch_of(&at_end(events, CLAIMED), DepositForm::PerCoin, None, &all);
    for (coin, is_taken) in all.iter().zip([true, false]) {
        let batch = ask(events, CLAIMED, &[*coin], |_| {});
        events.last_mut().unwrap().1.attachments[0].1 = pay_body(&named.coins);
        if is_taken {
            let confirmed = confirmed(&at_end(events, CLAIMED), batch, 1, 5);
            append_all(events, CLAIMED, confirmed);
        } else {
            append(
                events,
                CLAIMED,
                refused(batch, 1, 409, r#"{"code":1201}"#, Verdict::Refused),
            );
        }
    }
}

#[test]
fn coins_of_two_wallets_that_pay_together() {
    let mut events = shop_events();
    half_taken(&mut events, [31, 32]);
    half_taken(&mut events, [33, 34]);
    append(&mut events, CLAIMED, completed(&[(31, "0.5"), (33, "0.5")]));
    let told = notes(events);
    assert!(
        told.len() == 1 && told[0].contains("no request of a wallet names all coins"),
        "{told:?}"
    );
}

#[test]
fn a_payment_that_nobody_records() {
    let mut events = shop_events();
    ask_and_confirm(&mut events, &[(31, "1")], 5, |_| {});
    let told = notes(events.clone());
    assert!(
        told.len() == 1 && told[0].contains("it is not recorded as paid"),
        "{told:?}"
    );
    append(&mut events, CLAIMED, completed(&[(31, "1")]));
    assert_eq!(notes(events), Vec::<String>::new());
    // Too little pays nothing.
    let mut events = shop_events();
    ask_and_confirm(&mut events, &[(31, "0.9")], 5, |_| {});
    assert_eq!(notes(events), Vec::<String>::new());
}

#[test]
fn bytes_that_are_longer_than_the_service_takes_any() {
    let padded = |length: usize| {
        let mut events = shop_events();
        ask(&mut events, CLAIMED, &[(31, "1")], |_| {});
        events.last_mut().unwrap().1.attachments[0].1.resize(length, b' ');
        events
    };
    let report = forge(padded(262_144)).report();
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert_last(padded(262_145), "log.attachments", "1");
}
