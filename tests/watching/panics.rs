//! A panic's message may quote what was being worked on, so a line says where it was and no more.

use std::process::Command;

use quittance::config::LogFormat;
use quittance::logs;
use serde_json::Value;

const QUOTED: &str = "secret-token:quoted-in-a-panic";

/// Run as a process of its own by the test below: a panic hook is the whole process's.
#[test]
#[ignore = "only what another test starts"]
fn process_that_panics() {
    logs::start(LogFormat::Json);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let quoted = String::from(QUOTED);
    runtime.block_on(async {
        let failed: Result<u64, _> = quoted.parse::<u64>().map_err(|_| quoted.clone());
        let first = tokio::spawn(async move { failed.expect("words") });
        assert!(first.await.unwrap_err().is_panic());
        let second = tokio::spawn(async move { panic!("working on {quoted}") });
        let second = second.await.unwrap_err();
        assert!(
            second.to_string().contains(QUOTED),
            "which is why it is not logged"
        );
        assert!(!logs::ended(&second).contains(QUOTED));
        let third = tokio::spawn(async { panic!("words of the source") });
        assert!(third.await.unwrap_err().is_panic());
    });
}

#[test]
fn a_panic_is_a_line_that_quotes_nothing() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "panics::process_that_panics",
            "--ignored",
            "--nocapture",
        ])
        .env("QUITTANCE_LOG", "trace")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(!log.contains(QUOTED), "{log}");
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let panics: Vec<Value> = lines.filter(|line| line["message"] == "a panic").collect();
    assert_eq!(panics.len(), 3, "{log}");
    for panic in &panics {
        assert_eq!(panic["level"], "ERROR");
        assert!(
            panic["location"]
                .as_str()
                .unwrap()
                .contains("tests/watching/panics.rs:")
        );
    }
    assert_eq!(panics[2]["words"], "words of the source");
}
