//! Forgeries of how a sold order was paid, which leave out or make up what nobody signed.

use super::sold::*;
use super::support::selling::*;
use super::*;

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
