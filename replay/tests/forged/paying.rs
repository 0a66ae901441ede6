//! Forgeries of how a sold order was paid, which leave out or make up what nobody signed.

use super::sold::*;
use super::support::selling::*;
use super::*;
use quittance_taler::{HashCode, MasterPub, WireSalt, json as taler_json};
use serde_json::{Value, json};

fn other_master() -> MasterPub {
    MasterPub::from_bytes(secret(44).public_bytes())
}

const OTHER_URL: &str = "https://other.example/";

/// Names this address for the coins in the request behind the last event.
fn rename_exchange(events: &mut Events, url: &str) {
    let body = &mut events.last_mut().unwrap().1.attachments[0].1;
    let mut request: Value = serde_json::from_slice(body).unwrap();
    for coin in request["coins"].as_array_mut().unwrap() {
        coin["exchange_url"] = json!(url);
    }
    *body = serde_json::to_vec(&request).unwrap();
}

/// Erases what stands behind an offer.
fn erase_offered(events: &mut Events, order: &str) {
    let seq = Seq::new(u64::try_from(nth(events, order, "order_created", 0)).unwrap() + 1).unwrap();
    let facts = AttachmentErased {
        seq,
        name: AttachmentName::Terms,
    };
    append(
        events,
        order,
        NewEvent::with(facts, AttachmentName::Reason, b"asked to".to_vec()),
    );
}

#[test]
fn a_rivals_coin_in_question_that_a_payment_leaves_out_is_found() {
    let mut events = shop_events();
    let batch = ask(&mut events, CLAIMED, &[(31, "0.7")], |_| {});
    let failure = Failure::Timeout;
    let unreached = DepositUnreached {
        batch,
        attempt: 1,
        failure,
    };
    append(&mut events, CLAIMED, NewEvent::bare(unreached));
    ask_and_confirm(&mut events, &[(32, "1")], 5, |_| {});
    let mut honest = events.clone();
    let extended = given_back(&at_end(&events, CLAIMED), 31, "0.7");
    append_all(&mut honest, CLAIMED, vec![extended, completed(&[(32, "1")])]);
    let report = forge(honest).report();
    assert!(report.is_sound(), "{:#?}", report.findings);
    append(&mut events, CLAIMED, completed(&[(32, "1")]));
    let last = events.len() - 1;
    assert_root(&forge(events).report(), "abort.extended", last, "0.7", &[]);
    // What its exchange did not take for sure nobody is owed.
    let mut events = shop_events();
    let batch = ask(&mut events, CLAIMED, &[(31, "0.7")], |_| {});
    let spent = refused(batch, 1, 409, r#"{"code":1012}"#, Verdict::Refused);
    append(&mut events, CLAIMED, spent);
    ask_and_confirm(&mut events, &[(32, "1")], 5, |_| {});
    append(&mut events, CLAIMED, completed(&[(32, "1")]));
    let report = forge(events).report();
    assert!(report.is_sound(), "{:#?}", report.findings);
}

/// Another account of the instance; gives its hash.
fn append_account(events: &mut Events) -> HashCode {
    let (uri, salt) = (account().0, WireSalt::from_bytes([8; 16]));
    let mut added = account_added();
    added.attachments[0].1 = taler_json::canonical(&json!({"payto_uri": uri, "salt": salt}));
    let h_wire = uri.h_wire(&salt);
    if let Facts::AccountAdded(f) = &mut added.facts {
        f.h_wire = h_wire;
    }
    append_mine(events, added);
    h_wire
}

#[test]
fn facts_of_an_offer_are_held_to_the_contract_once_its_terms_are_gone() {
    for what in ["nothing", "pay_deadline", "h_wire", "max_fee"] {
        let terms = |terms: &mut Value| {
            if what == "max_fee" {
                terms.as_object_mut().unwrap().remove("max_fee");
            }
        };
        let mut events = shop_events();
        let other = append_account(&mut events);
        append_offer(&mut events, terms, |f| match what {
            "pay_deadline" => f.pay_deadline_s = Timestamp::NEVER,
            "h_wire" => f.h_wire = other,
            _ => {}
        });
        append_all(&mut events, "another", claim_of("another", terms, |_| {}));
        let contract = events.len() - 2;
        erase_offered(&mut events, "another");
        let report = forge(events).report();
        if what == "nothing" {
            assert!(report.is_sound(), "{:#?}", report.findings);
        } else {
            assert_root(&report, "order.terms", contract, "2", &[]);
        }
    }
}

#[test]
fn coins_go_to_the_exchange_that_their_wallet_named() {
    // However it writes the address.
    for url in ["https://EXCHANGE.example", "https://exchange.example:443/"] {
        let mut events = shop_events();
        ask(&mut events, CLAIMED, &[(31, "1")], |_| {});
        rename_exchange(&mut events, url);
        let report = forge(events).report();
        assert!(report.is_sound(), "{url}: {:#?}", report.findings);
    }
    for url in [OTHER_URL, "http://exchange.example/", "exchange.example", ""] {
        let mut events = shop_events();
        ask(&mut events, CLAIMED, &[(31, "1")], |_| {});
        rename_exchange(&mut events, url);
        let last = events.len() - 1;
        assert_root(&forge(events).report(), "deposit.requested", last, "1", &[]);
    }
    // Nor to another one that the terms name.
    let mut events = shop_events();
    let named = json!({"url": OTHER_URL, "master_pub": other_master(), "priority": 1});
    let terms = |terms: &mut Value| terms["exchanges"].as_array_mut().unwrap().push(named.clone());
    let both = || {
        let other = NamedExchange {
            url: OTHER_URL.into(),
            master_pub: other_master(),
        };
        exchanges().into_iter().chain([other]).collect()
    };
    append_offer(&mut events, terms, |f| f.exchanges = both());
    let mut claim = claim_of("another", terms, |_| {});
    if let Facts::OrderRecorded(f) = &mut claim[0].facts {
        f.exchanges = both();
    }
    append_all(&mut events, "another", claim);
    ask(&mut events, "another", &[(31, "2")], |f| {
        f.exchange_url = OTHER_URL.into();
        f.exchange_master_pub = other_master();
    });
    let last = events.len() - 1;
    assert_root(
        &forge(events.clone()).report(),
        "deposit.requested",
        last,
        "2",
        &[],
    );
    rename_exchange(&mut events, OTHER_URL);
    let report = forge(events).report();
    assert!(report.is_sound(), "{:#?}", report.findings);
}
