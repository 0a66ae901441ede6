//! Each oracle sees the fault that it is there for. The faults are in the service's own code, behind the feature
//! `broken`; each is looked for by one oracle alone, with all others silent.
#![cfg(feature = "broken")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use quittance_events::broken::{self, Fault};
use quittance_sim::{Options, Oracle, run};

/// Seeds within which a fault is to be seen.
const SEEDS: u64 = 200;

#[track_caller]
fn seen(fault: Fault, only: Oracle) {
    let options = Options {
        only: Some(only),
        ..Options::default()
    };
    broken::set(Some(fault));
    let found = (0..SEEDS)
        .map(|seed| run(seed, &options).unwrap())
        .find(|run| run.finding.is_some());
    broken::set(None);
    let Some(found) = found else {
        panic!("{only} does not see {fault:?} in {SEEDS} seeds");
    };
    println!("{fault:?}, seed {}: {}", found.seed, found.finding.unwrap());
    // The same seed without the fault: the finding was of the fault.
    assert_eq!(run(found.seed, &options).unwrap().finding, None);
}

#[test]
fn the_audit_sees_what_is_sent_too_late() {
    seen(Fault::Late, Oracle::Audit);
}

#[test]
fn the_books_show_a_refund_under_a_second_id() {
    seen(Fault::SecondId, Oracle::Books);
}

#[test]
fn the_cap_is_missed_where_earlier_refunds_do_not_count() {
    seen(Fault::Uncapped, Oracle::Cap);
}

#[test]
fn wallets_notice_another_execution_time() {
    seen(Fault::Redated, Oracle::Told);
}

#[test]
fn wallets_hold_receipts_of_what_never_reached_the_disk() {
    seen(Fault::ToldFirst, Oracle::Told);
}

#[test]
fn a_refund_that_nobody_asks_for_again_does_not_end() {
    seen(Fault::NotRetried, Oracle::Ends);
}
