//! The forgeries of orders that were sold here.

use super::support::selling::*;
use super::*;
use quittance_taler::{HashCode, json as taler_json};
use serde_json::{Value, json};

/// Appends an event of the instance.
pub(super) fn append_mine(events: &mut Events, new: NewEvent) {
    append_own(events, 4, new);
    events.last_mut().unwrap().0.instance = Some(key(SOLD).instance);
}

/// Appends events of one order, in one commit.
pub(super) fn append_all(events: &mut Events, order: &str, new: Vec<NewEvent>) {
    for new in new {
        append(events, order, new);
    }
}

/// Asks at the end for a batch; gives its number.
pub(super) fn ask(
    events: &mut Events,
    order: &str,
    coins: &[(u8, &str)],
    change: impl FnOnce(&mut DepositRequested),
) -> Seq {
    let mut facts = batch_of(&at_end(events, order), DepositForm::PerCoin, None, coins);
    change(&mut facts);
    append(events, order, asking(facts));
    Seq::new(u64::try_from(events.len()).unwrap()).unwrap()
}

/// Asks for a coin of the claimed order and has it confirmed.
pub(super) fn ask_and_confirm(
    events: &mut Events,
    coins: &[(u8, &str)],
    signer: u8,
    change: impl FnOnce(&mut DepositRequested),
) -> usize {
    let batch = ask(events, CLAIMED, coins, change);
    let place = events.len();
    let confirmed = confirmed(&at_end(events, CLAIMED), batch, 1, signer);
    append_all(events, CLAIMED, confirmed);
    place
}

/// Another offer, as changed in its terms and facts.
pub(super) fn append_offer(
    events: &mut Events,
    terms: impl FnOnce(&mut Value),
    facts: impl FnOnce(&mut OrderCreated),
) {
    let mut new = offer("another", "2");
    let mut value = offered_terms("another", "2");
    terms(&mut value);
    new.attachments[0].1 = taler_json::canonical(&value);
    let Facts::OrderCreated(f) = &mut new.facts else {
        panic!("an offer")
    };
    facts(f);
    append(events, "another", new);
}

/// The claim of the offered order, as changed in the contract's terms and in the claim.
pub(super) fn append_claim(
    events: &mut Events,
    terms: impl FnOnce(&mut Value),
    claimed: impl FnOnce(&mut OrderClaimed),
) -> usize {
    append_all(events, OFFERED, claim_of(OFFERED, terms, claimed));
    events.len() - 1
}

/// The claim of an order that costs 2, as changed.
pub(super) fn claim_of(
    order: &str,
    terms: impl FnOnce(&mut Value),
    claimed: impl FnOnce(&mut OrderClaimed),
) -> Vec<NewEvent> {
    let mut new = claim(order, "2");
    let mut value = contract_terms(order, "2");
    terms(&mut value);
    new[0].attachments[0].1 = taler_json::canonical(&value);
    let hash = quittance_taler::contract_hash(&value).unwrap();
    if let Facts::OrderRecorded(f) = &mut new[0].facts {
        f.h_contract = hash;
    }
    if let Facts::OrderClaimed(f) = &mut new[1].facts {
        f.contract_sig = merchant().sign(&quittance_taler::message::contract(&hash));
        claimed(f);
    }
    new
}

/// Forgets the sold order's delivery location; `erased` of its two attachments are.
pub(super) fn append_forgotten(events: &mut Events, terms: impl FnOnce(&mut Value), erased: usize) -> usize {
    let mut new = forgotten_terms(SOLD, "10");
    let mut value: Value = serde_json::from_slice(&new.attachments[0].1).unwrap();
    terms(&mut value);
    new.attachments[0].1 = taler_json::canonical(&value);
    append(events, SOLD, new);
    let place = events.len() - 1;
    for kind in ["order_created", "order_recorded"].into_iter().take(erased) {
        let seq = Seq::new(u64::try_from(nth(events, SOLD, kind, 0)).unwrap() + 1).unwrap();
        let facts = AttachmentErased {
            seq,
            name: AttachmentName::Terms,
        };
        append(
            events,
            SOLD,
            NewEvent::with(facts, AttachmentName::Reason, b"forgotten".to_vec()),
        );
    }
    place
}

fn other_hash() -> HashCode {
    HashCode::from_bytes([8; 64])
}

forgeries! {
    an_account_under_another_hash "account.known" |rule| {
        let mut events = shop_events();
        let mut added = account_added();
        if let Facts::AccountAdded(f) = &mut added.facts {
            f.h_wire = other_hash();
        }
        append_mine(&mut events, added);
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
        let mut events = shop_events();
        append_mine(&mut events, account_added());
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
        let mut events = shop_events();
        append_mine(&mut events, NewEvent::bare(AccountClosed { h_wire: other_hash(), by: None }));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
    }

    an_offer_for_a_closed_account "order.account" |rule| {
        let mut events = shop_events();
        append_mine(&mut events, NewEvent::bare(AccountClosed { h_wire: h_wire(), by: None }));
        append_offer(&mut events, |_| {}, |_| {});
        let (last, closed) = (events.len() - 1, events.last().unwrap().0.at_us);
        // The account was chosen when the request came, and it may have been under way for a while.
        events[last].0.at_us = closed.plus_s(120);
        assert!(forge(events.clone()).report().is_sound());
        events[last].0.at_us = closed.plus_s(121);
        assert_root(&forge(events).report(), rule, last, "2", &[]);
        let mut events = shop_events();
        append_offer(&mut events, |terms| terms["h_wire"] = json!(other_hash()), |f| f.h_wire = other_hash());
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "2", &[]);
    }

    a_claim_that_the_merchant_did_not_sign "order.claimed" |rule| {
        let mut events = shop_events();
        let place = append_claim(&mut events, |_| {}, |f| f.contract_sig = bad_signature());
        assert_root(&forge(events).report(), rule, place, "2", &[]);
        // Another wallet's nonce than the contract has.
        let mut events = shop_events();
        let place = append_claim(&mut events, |_| {}, |f| f.nonce = quittance_taler::ClaimNonce::from_bytes([5; 32]));
        assert_root(&forge(events).report(), rule, place, "2", &[]);
        // Terms that were never offered.
        let mut events = shop_events();
        let place = append_claim(&mut events, |terms| terms["summary"] = json!("a pamphlet"), |_| {});
        assert_root(&forge(events).report(), rule, place - 1, "2", &[]);
        // Terms without a nonce are nobody's.
        let mut events = shop_events();
        let remove = |terms: &mut Value| drop(terms.as_object_mut().unwrap().remove("nonce"));
        let place = append_claim(&mut events, remove, |_| {});
        assert_root(&forge(events).report(), rule, place - 1, "2", &[]);
        // A contract that nobody claimed, and a claim that does not stand right behind.
        let mut events = shop_events();
        let place = append_claim(&mut events, |_| {}, |_| {});
        events.truncate(place);
        assert_root(&forge(events).report(), rule, place - 1, "2", &[]);
        let mut events = shop_events();
        let place = append_claim(&mut events, |_| {}, |_| {});
        let claim = events.pop().unwrap();
        append(&mut events, CLAIMED, NewEvent::bare(OrderDeleted { by: token() }));
        events.push(claim);
        let root = assert_root(&forge(events).report(), rule, place - 1, "2", &["order.claimed"]).text.clone();
        assert!(root.contains("no claim"), "{root}");
    }

    a_paid_order_taken_back "order.deleted" |rule| {
        let mut events = shop_events();
        append(&mut events, SOLD, NewEvent::bare(OrderDeleted { by: token() }));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "10.02", &[]);
        // With coins that an exchange may have taken.
        let mut events = shop_events();
        ask(&mut events, CLAIMED, &[(31, "1")], |_| {});
        append(&mut events, CLAIMED, NewEvent::bare(OrderDeleted { by: token() }));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
        // And what happens to one that was.
        let mut events = shop_events();
        append_all(&mut events, GONE, claim(GONE, "3"));
        let report = forge(events.clone()).report();
        let found: Vec<_> = report.findings.iter().map(|finding| (finding.rule, finding.seq)).collect();
        let last = u64::try_from(events.len()).unwrap();
        assert_eq!(found, [(rule, Some(last - 1)), (rule, Some(last))]);
    }

    forgotten_terms_of_another_contract "order.forgotten" |rule| {
        let mut events = shop_events();
        let place = append_forgotten(&mut events, |terms| terms["summary"] = json!("a pamphlet"), 2);
        assert_root(&forge(events).report(), rule, place, "10", &[]);
        let mut events = shop_events();
        let place = append_forgotten(&mut events, |_| {}, 1);
        assert_root(&forge(events).report(), rule, place, "", &[]);
        let mut events = shop_events();
        append_forgotten(&mut events, |_| {}, 2);
        let report = forge(events).report();
        assert!(report.is_sound(), "{:#?}", report.findings);
        assert_eq!(report.checked.erased, 2);
    }

    an_unpaid_order_shown_as_paid "order.session" |rule| {
        let mut events = shop_events();
        append(&mut events, CLAIMED, NewEvent::bare(SessionPaid { session: other_digest() }));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
    }

    fees_that_nobody_paid "order.fees" |rule| {
        let mut events = shop_events();
        ask_and_confirm(&mut events, &[(31, "1")], 5, |f| {
            f.coins[0].deposit_fee = amount("0.03");
            let terms = deposit_terms(&at_end(&shop_events(), CLAIMED), None);
            sign_coin(&terms, f.layout, 31, &mut f.coins[0]);
        });
        append(&mut events, CLAIMED, completed(&[(31, "1")]));
        let place = events.len() - 1;
        assert_root(&forge(events.clone()).report(), rule, place, "0.01", &[]);
        // Found all the same where the terms come to hand only later.
        let mut forgotten = forgotten_terms(CLAIMED, "1");
        let mut value: Value = serde_json::from_slice(&forgotten.attachments[0].1).unwrap();
        value["max_fee"] = json!("KUDOS:0.02");
        forgotten.attachments[0].1 = taler_json::canonical(&value);
        append(&mut events, CLAIMED, forgotten);
        for kind in ["order_created", "order_recorded"] {
            let seq = Seq::new(u64::try_from(nth(&events, CLAIMED, kind, 0)).unwrap() + 1).unwrap();
            let facts = AttachmentErased { seq, name: AttachmentName::Terms };
            append(&mut events, CLAIMED, NewEvent::with(facts, AttachmentName::Reason, Vec::new()));
        }
        assert_root(&forge(events).report(), rule, place + 1, "0.01", &[]);
    }

    coins_asked_of_a_paid_order "deposit.requested" |rule| {
        let mut events = shop_events();
        ask(&mut events, FREE, &[(31, "1")], |_| {});
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
        // After the pay deadline.
        let mut events = shop_events();
        ask(&mut events, CLAIMED, &[(31, "1")], |_| {});
        let last = events.len() - 1;
        events[last].0.at_us = quittance_taler::Micros::from_s(PAY_UNTIL + 1).unwrap();
        assert_root(&forge(events).report(), rule, last, "1", &[]);
        // At an address that the terms do not name.
        let mut events = shop_events();
        ask(&mut events, CLAIMED, &[(31, "1")], |f| f.exchange_url = "https://other.example/".into());
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
        // A coin under an abort; for two amounts; twice; not as the wallet's request has it.
        let mut events = shop_events();
        ask(&mut events, ASKED, &[(23, "1")], |_| {});
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
        let mut events = shop_events();
        ask(&mut events, CLAIMED, &[(31, "1")], |_| {});
        ask(&mut events, CLAIMED, &[(31, "0.9"), (32, "0.1")], |_| {});
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "0.9", &[]);
        let mut events = shop_events();
        ask(&mut events, CLAIMED, &[(31, "1"), (31, "1")], |_| {});
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
        let mut events = shop_events();
        ask(&mut events, CLAIMED, &[(31, "1"), (32, "0.5")], |_| {});
        let last = events.len() - 1;
        let Facts::DepositRequested(f) = &events[last].0.facts else { panic!("a batch") };
        let body = pay_body(&f.coins[..1]);
        events[last].1.attachments[0].1 = body;
        assert_root(&forge(events).report(), rule, last, "0.5", &[]);
    }

    a_coin_that_did_not_sign "deposit.signature" |rule| {
        let mut events = shop_events();
        ask(&mut events, CLAIMED, &[(31, "1"), (32, "0.5")], |f| f.coins[1].coin_sig = bad_signature());
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "0.5", &[]);
        // The newer form's signature is none in the older one.
        let mut events = shop_events();
        ask(&mut events, CLAIMED, &[(31, "1")], |f| f.layout = DepositForm::PerBatch);
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
    }

    a_reply_to_a_batch_that_was_never_asked_for "deposit.asked" |rule| {
        let mut events = shop_events();
        let facts = DepositUnreached { batch: Seq::new(5).unwrap(), attempt: 1, failure: Failure::Closed };
        append(&mut events, CLAIMED, NewEvent::bare(facts));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "", &[]);
    }

    a_busy_exchange_said_to_have_refused_deposits "deposit.verdict" |rule| {
        let mut events = shop_events();
        let batch = ask(&mut events, CLAIMED, &[(31, "1")], |_| {});
        append(&mut events, CLAIMED, refused(batch, 1, 503, r#"{"code":60}"#, Verdict::Refused));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
        let mut events = shop_events();
        let place = ask_and_confirm(&mut events, &[(31, "1")], 5, |_| {});
        events.truncate(place + 1);
        edit!(events, place, DepositReplied, |f| f.verdict = Verdict::Unproven);
        assert_root(&forge(events).report(), rule, place, "1", &[]);
    }

    deposits_confirmed_by_an_unknown_key "deposit.confirmed" |rule| {
        let mut events = shop_events();
        let place = ask_and_confirm(&mut events, &[(31, "1")], 6, |_| {});
        assert_root(&forge(events).report(), rule, place, "1", &[]);
        // A confirmation of another amount.
        let mut events = shop_events();
        let place = ask_and_confirm(&mut events, &[(31, "1")], 5, |_| {});
        edit!(events, place + 1, DepositRecorded, |f| f.amount_with_fee = amount("0.9"));
        assert_root(&forge(events).report(), rule, place + 1, "0.9", &[]);
        // A signature that stands in no reply.
        let mut events = shop_events();
        let place = ask_and_confirm(&mut events, &[(31, "1")], 5, |_| {});
        edit!(events, place + 1, DepositRecorded, |f| f.exchange_sig = Some(bad_signature()));
        assert_root(&forge(events).report(), rule, place + 1, "1", &[]);
        // One of two confirmed coins is kept silent about.
        let mut events = shop_events();
        let place = ask_and_confirm(&mut events, &[(31, "1"), (32, "0.5")], 5, |_| {});
        events.truncate(place + 2);
        assert_root(&forge(events).report(), rule, place, "0.5", &[]);
        // A deposit that no exchange confirmed.
        let mut events = shop_events();
        append(&mut events, CLAIMED, deposit(41, "1"));
        assert_root(&forge(events.clone()).report(), rule, events.len() - 1, "1", &[]);
    }
}

pub(super) const RULES_FORGED: &[&str] = FORGED;

#[test]
fn an_offer_that_is_not_what_its_terms_say() {
    for place in 0..3 {
        let mut events = shop_events();
        let terms = |value: &mut Value| {
            if place == 0 {
                value["nonce"] = json!(nonce());
            }
        };
        append_offer(&mut events, terms, |f| match place {
            1 => f.pay_deadline_s = Timestamp::NEVER,
            2 => f.wire_deadline_s = Timestamp::NEVER,
            _ => {}
        });
        assert_root(
            &forge(events.clone()).report(),
            "order.terms",
            events.len() - 1,
            "2",
            &[],
        );
    }
}

#[test]
fn nothing_happens_to_an_offer_before_its_claim() {
    let mut events = shop_events();
    append(&mut events, OFFERED, deposit(41, "1"));
    assert_root(
        &forge(events.clone()).report(),
        "order.begin",
        events.len() - 1,
        "1",
        &[],
    );
    let mut events = shop_events();
    append(&mut events, SOLD, offer(SOLD, "10"));
    assert_root(
        &forge(events.clone()).report(),
        "order.begin",
        events.len() - 1,
        "10",
        &[],
    );
}

#[test]
fn a_rival_whose_coin_is_kept_is_found() {
    let mut events = shop_events();
    let place = nth(&events, RIVALS, "abort_extended", 0);
    take_out(&mut events, place);
    assert_root(&forge(events).report(), "order.paid", place, "5", &[]);
}

#[test]
fn a_coin_given_back_without_a_payment_is_found() {
    let mut events = shop_events();
    let place = nth(&events, RIVALS, "payment_completed", 0);
    take_out(&mut events, place);
    assert_root(&forge(events).report(), "abort.extended", place - 1, "5", &[]);
}

#[test]
fn an_abort_of_a_coin_that_nobody_asked_for_is_found() {
    let mut events = shop_events();
    let event = abort_in_question(&at_end(&events, CLAIMED), &[(31, Some("1"))]);
    append(&mut events, CLAIMED, event);
    assert_root(
        &forge(events.clone()).report(),
        "abort.state",
        events.len() - 1,
        "",
        &[],
    );
    // Nor does an abort ask for another amount than the batch.
    let mut events = shop_events();
    ask(&mut events, CLAIMED, &[(31, "1")], |_| {});
    let event = abort_in_question(&at_end(&events, CLAIMED), &[(31, Some("0.4"))]);
    append(&mut events, CLAIMED, event);
    assert_root(
        &forge(events.clone()).report(),
        "abort.amount",
        events.len() - 1,
        "0.6",
        &[],
    );
}

#[test]
fn attempts_at_a_batch_grow() {
    let mut events = shop_events();
    let batch = ask(&mut events, CLAIMED, &[(31, "1")], |_| {});
    for attempt in [2, 2] {
        append(
            &mut events,
            CLAIMED,
            refused(batch, attempt, 503, "", Verdict::Later),
        );
    }
    assert_root(
        &forge(events.clone()).report(),
        "exchange.attempt",
        events.len() - 1,
        "1",
        &[],
    );
}

#[test]
fn only_exchanges_that_were_given_confirm_deposits() {
    let mut events = shop_events();
    let place = nth(&events, SOLD, "deposit_replied", 1);
    events.truncate(place + 3);
    let forged = forge(events);
    let other = quittance_taler::MasterPub::from_bytes(secret(44).public_bytes());
    let options = VerifyOptions {
        exchange_keys: vec![other],
        ..forged.options()
    };
    assert_root(&verify(&options).unwrap(), "exchange.pinned", place, "10.02", &[]);
}
