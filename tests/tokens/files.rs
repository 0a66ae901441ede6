//! Who may read the key folder, the command line, and what never stands in debug output.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use quittance::app::App;
use quittance::refusal::{Refusal, RequestError};
use quittance_events::facts::ClockCorrected;
use quittance_events::{AttachmentName, NewEvent};
use quittance_taler::{EddsaPrivateKey, ErrorCode, Micros, base32};

use super::*;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn what_others_may_read_is_not_served_with() {
    let mut shop = Shop::open().await;
    shop.stop().await;
    let keys = shop.config.keys.clone();
    let admin = shop.folder.path().join("admin");
    fs::write(&admin, format!("secret-token:{}", "x".repeat(30))).unwrap();
    chmod(&admin, 0o600);
    shop.config.admin_token_file = Some(admin.clone());
    // A closed instance's files open nothing now, and would the day it is opened again.
    let closed = keys.join("instance-closed.json");
    fs::write(&closed, "{}").unwrap();
    chmod(&closed, 0o600);
    for (path, mode, words) in [
        (keys.join("event.key"), 0o640, "event.key may be read by others"),
        (
            keys.join("checkpoint.key"),
            0o604,
            "checkpoint.key may be read by others",
        ),
        (
            keys.join("instance-default.key"),
            0o660,
            "instance-default.key may be read by others",
        ),
        (
            keys.join("instance-default.json"),
            0o644,
            "instance-default.json may be read by others",
        ),
        (closed, 0o644, "instance-closed.json may be read by others"),
        (admin, 0o644, "admin may be read by others"),
        (keys.clone(), 0o750, "is open to others"),
        (keys.clone(), 0o702, "is open to others"),
    ] {
        let before = fs::metadata(&path).unwrap().permissions().mode();
        chmod(&path, mode);
        let started = App::start(&shop.config, shop.clock.clock(), shop.times).await;
        let error = started.err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
        chmod(&path, before);
    }
    shop.start().await;
    // A file that was opened to others while it is served: what was read before stays, nothing new is taken.
    let known = of_scope(&shop, TokenScope::Refunds);
    assert_eq!(approve(&shop, &known).await, MAY);
    let file = keys.join("instance-default.json");
    fs::copy(&file, keys.join("copy")).unwrap();
    fs::rename(keys.join("copy"), &file).unwrap();
    chmod(&file, 0o644);
    assert_eq!(approve(&shop, &known).await, MAY);
    chmod(&file, 0o600);
    shop.audit().await;
}

fn run(shop: &Shop, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quittance"))
        .args(arguments)
        .arg("-c")
        .arg(shop.folder.path().join("quittance.conf"))
        .output()
        .unwrap()
}

fn printed(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn the_command_line_changes_tokens_of_a_running_service() {
    let mut shop = Shop::open().await;
    let add = [
        "token",
        "add",
        "--scope",
        "order-mgmt:refreshable",
        "--lifetime",
        "30000",
        "--description",
        "till 1",
    ];
    let text = printed(&run(&shop, &add)).trim().to_owned();
    assert!(text.starts_with("secret-token:"), "{text}");
    assert_eq!(approve(&shop, &text).await, MAY);
    let listed = printed(&run(&shop, &["token", "list"]));
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 2, "{listed}");
    assert_eq!(rows[0][3], "never");
    assert_eq!(
        (rows[1][0], rows[1][2], rows[1][4]),
        ("2", "refunds:refreshable", "till 1")
    );
    assert!(
        rows[1][3].ends_with('Z') && !listed.contains("secret"),
        "{listed}"
    );
    printed(&run(&shop, &["token", "revoke", "--id", rows[1][1]]));
    assert_eq!(approve(&shop, &text).await, UNKNOWN);
    for (arguments, code, words) in [
        (&["token", "revoke", "--id", rows[1][1]][..], 1, "no such token"),
        (
            &["token", "add", "--scope", READ, "--instance", "other"],
            1,
            "no instance other",
        ),
        (
            &["token", "add", "--scope", "audit", "--instance", "other"],
            1,
            "root instance",
        ),
        (&["token", "add", "--scope", "everything"], 2, "refunds"),
        (
            &["token", "add", "--scope", READ, "--lifetime", "0"],
            2,
            "lifetime",
        ),
        (
            &["token", "add", "--scope", READ, "--lifetime", "4000000000"],
            1,
            "too many",
        ),
        (
            &["token", "add", "--scope", READ, "--description", "two\nlines"],
            1,
            "description",
        ),
    ] {
        let output = run(&shop, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(
            output.stdout.is_empty() && said.contains(words),
            "{arguments:?}: {said}"
        );
    }
    shop.audit().await;
}

#[tokio::test]
async fn no_secret_and_no_reason_stands_in_debug_output() {
    let mut shop = Shop::open().await;
    let text = make(
        &shop,
        &shop.token,
        &json!({"scope": "all", "description": "for Anna"}),
    )
    .await;
    let bearer = shop
        .app()
        .service
        .access
        .find(Some(&InstanceId::root()), &text)
        .await
        .unwrap();
    let now = Micros::from_s(1).unwrap();
    let facts = ClockCorrected {
        from_us: now,
        to_us: now,
    };
    let event = NewEvent::with(facts, AttachmentName::Reason, b"she broke it".to_vec());
    let refusal = Refusal::new(ErrorCode::GenericForbidden).recording(vec![event.clone()]);
    let key = EddsaPrivateKey::from_bytes([7; 32]);
    let debug = format!(
        "{bearer:?} {event:?} {:?} {:?} {key:?} {:?}",
        RequestError::from(refusal.clone()),
        refusal,
        shop.config,
    );
    assert!(debug.contains("reason"), "{debug}");
    let raw = format!("{:?}", b"she broke it".to_vec());
    let key = format!("{:?}", [7_u8; 32]);
    for hidden in [
        text.strip_prefix("secret-token:").unwrap(),
        "Anna",
        "she broke it",
        raw.trim_matches(['[', ']']),
        key.trim_matches(['[', ']']),
        &base32::encode(&[7; 32]),
    ] {
        assert!(!debug.contains(hidden), "{hidden} in {debug}");
    }
    shop.audit().await;
}
