//! A few seeds in every test run; CI runs hundreds in release, and anybody any number by hand.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use quittance_sim::{Options, run};

#[test]
fn nothing_is_found() {
    for seed in 0..12 {
        let outcome = run(seed, &Options::default()).unwrap();
        assert_eq!(outcome.finding, None, "{}", outcome.steps.join("\n"));
        assert!(outcome.figures.replies > 0 && outcome.figures.audits > 0);
    }
}

#[test]
fn nothing_is_found_after_any_step_of_a_run() {
    let every_step = Options {
        every_step: true,
        ..Options::default()
    };
    let outcome = run(1, &every_step).unwrap();
    assert_eq!(outcome.finding, None, "{}", outcome.steps.join("\n"));
    assert!(outcome.figures.audits > every_step.steps);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let first = run(3, &Options::default()).unwrap();
    assert_eq!(first, run(3, &Options::default()).unwrap());
    assert_ne!(first.steps, run(4, &Options::default()).unwrap().steps);
}
