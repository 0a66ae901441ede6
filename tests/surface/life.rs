//! The life of a ledger through the program: keys that rotate, a key that is lost, attachments that are erased.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use quittance::commands;
use quittance_events::event::AttachmentName;
use quittance_events::receipt::Receipt;
use quittance_events::seal::EventPub;
use quittance_events::{Facts, Seq};
use quittance_replay::{VerifyOptions, print_report, verify};
use quittance_sandbox::{Fault, FaultKind};
use quittance_taler::Digest32;
use quittance_tlog::VerifierKey;

use crate::cli::Home;
use crate::support::{Coin, Options, Shop, coin};

/// A shop whose clock starts where the program's own is.
async fn shop() -> Shop {
    let start_s = quittance::clock::system()().get() / 1_000_000;
    Shop::open_with(Options {
        start_s,
        ..Options::default()
    })
    .await
}

fn run(shop: &Shop, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quittance"))
        .args(arguments)
        .arg("-c")
        .arg(shop.folder.path().join("quittance.conf"))
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn ok(shop: &Shop, arguments: &[&str]) -> String {
    let output = run(shop, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(shop: &Shop, arguments: &[&str], words: &[&str]) {
    let output = run(shop, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {word:?} is not in {said}");
    }
}

/// `ROLE VKEY`, a line each.
fn printed(text: &str) -> Vec<(String, VerifierKey)> {
    let line = |line: &str| {
        let (role, vkey) = line.split_once(' ').unwrap();
        (role.to_owned(), vkey.parse().unwrap())
    };
    text.lines().map(line).collect()
}

fn public(vkey: &VerifierKey) -> EventPub {
    EventPub::new(Digest32::from_bytes(*vkey.public_key()))
}

fn one(number: u8) -> Vec<Coin> {
    vec![coin(number, "KUDOS:10", "KUDOS:0.1")]
}

#[tokio::test]
async fn keys_rotate_and_the_shop_sells_on() {
    let mut shop = shop().await;
    let first = shop.sell("first", "KUDOS:10", &one(1), true).await;
    shop.approve("first", "KUDOS:4").await.expect(200);
    let before = shop.fetch("first", first).await;
    shop.check_receipt(&before);
    fails(&shop, &["rotate-key"], &["in use", "serve"]);
    shop.stop().await;

    let keys = printed(&ok(&shop, &["rotate-key"]));
    let roles: Vec<&str> = keys.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["event", "checkpoint"]);
    shop.clock.advance_s(20);
    shop.start().await;
    // What was answered before is answered as before, under the key of then.
    let again = shop.fetch("first", first).await;
    assert_eq!((again.body, again.receipt), (before.body, before.receipt.clone()));
    let second = shop.sell("second", "KUDOS:10", &one(2), true).await;
    shop.approve("second", "KUDOS:5").await.expect(200);
    let after = shop.fetch("second", second).await;
    let receipt = shop.check_receipt(&after);
    let old: VerifierKey = shop.vkey.parse().unwrap();
    assert!(receipt.verify(&public(&keys[0].1)) && !receipt.verify(&public(&old)));
    let receipt: Receipt = before.receipt.unwrap().parse().unwrap();
    assert!(receipt.verify(&public(&old)));

    // One role alone, and an auditor who has the newest key.
    shop.stop().await;
    let event = printed(&ok(&shop, &["rotate-key", "--role", "event"]));
    assert_eq!((event.len(), event[0].0.as_str()), (1, "event"));
    let report = verify(&VerifyOptions {
        ledger: shop.ledger(),
        anchor: Some(shop.config.anchor.clone()),
        ledger_key: Some(event[0].1.clone()),
        predecessor: None,
        exchange_keys: Vec::new(),
        ..VerifyOptions::default()
    });
    let report = report.unwrap();
    assert!(report.is_sound(), "{}", print_report(&report));
    assert_eq!(
        report
            .notes
            .iter()
            .filter(|note| note.text.contains("from here on"))
            .count(),
        3
    );
    shop.audit().await;
    let kinds = shop.kinds();
    assert_eq!(kinds.iter().filter(|kind| **kind == "format_raised").count(), 1);
}

fn names(home: &Home) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(home.path("keys"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("instance"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_lost_event_key_is_replaced_with_the_recovery_key() {
    let home = Home::new();
    let path = home.path("offline.key");
    let file = path.to_str().unwrap().to_owned();
    let recover = || -> Output {
        // By its bare name, as the key ceremony has it.
        Command::new(env!("CARGO_BIN_EXE_quittance"))
            .args(["recovery-key", "--out", "offline.key"])
            .current_dir(home.path(""))
            .output()
            .unwrap()
    };
    let made = recover();
    assert!(made.status.success(), "{made:?}");
    assert_eq!(recover().status.code(), Some(1), "never over another file");
    let public = String::from_utf8(made.stdout).unwrap();
    let vkey = home.ok(&["init", "--recovery-key", public.trim()]);
    home.ok(&["instance", "add", "--id", "default"]);

    fs::remove_file(home.path("keys/event.key")).unwrap();
    home.fails(&["serve"], 1, &["event.key"]);
    home.fails(&["rotate-key"], 1, &["event.key"]);
    let rotate = ["rotate-key", "--role", "event", "--recovery-key", &file];
    let printed = printed(&home.ok(&rotate));
    assert_eq!(printed.len(), 1);
    assert_eq!(names(&home), ["checkpoint.key", "event.key"]);
    home.serve().ends_well();
    home.audit(&vkey);
    home.audit(&printed[0].1.to_string());
    // Not with any key, and not where the first event named none.
    fs::copy(home.path("keys/checkpoint.key"), home.path("other.key")).unwrap();
    let other = home.path("other.key");
    let other = other.to_str().unwrap();
    home.fails(
        &["rotate-key", "--recovery-key", other],
        1,
        &["not the recovery key"],
    );
    let (plain, _) = Home::ready();
    plain.fails(&["rotate-key", "--recovery-key", other], 1, &["no recovery key"]);
    // What stands in the place of a lost key is not taken for it.
    fs::copy(home.path("keys/checkpoint.key"), home.path("keys/event.key")).unwrap();
    home.fails(&rotate, 1, &["event.key", "move it away"]);
    fs::remove_file(home.path("keys/event.key")).unwrap();
    home.ok(&rotate);
    home.serve().ends_well();
}

#[test]
fn a_rotation_that_is_cut_short_leaves_a_ledger_that_opens() {
    let (home, _) = Home::ready();
    let key = |name: &str| home.path(&format!("keys/{name}"));
    let content = |path: PathBuf| fs::read(path).unwrap();
    // Before the event: a new key that nothing names, and half of one.
    let second = content(home.path("keys/instance-default.key"));
    fs::copy(key("instance-default.key"), key("event-new.key")).unwrap();
    fs::write(key("checkpoint-new.half"), "AB").unwrap();
    home.serve().ends_well();
    assert_eq!(content(key("event-new.key")), second);
    // The next rotation takes it up.
    let first = content(key("event.key"));
    home.ok(&["rotate-key"]);
    // Events: genesis, instance, raise, event key, checkpoint key.
    let settled = [
        "checkpoint-before-5.key",
        "checkpoint.key",
        "event-before-4.key",
        "event.key",
    ];
    assert_eq!(names(&home), settled);
    assert_eq!(content(key("event.key")), second);
    assert_eq!(content(key("event-before-4.key")), first);
    // After the event, before any file was renamed; and between the two renames.
    fs::rename(key("event.key"), key("event-new.key")).unwrap();
    fs::rename(key("checkpoint.key"), key("checkpoint-new.key")).unwrap();
    fs::rename(key("event-before-4.key"), key("event.key")).unwrap();
    home.serve().ends_well();
    assert_eq!(names(&home), settled);
    assert_eq!(content(key("event.key")), second);
    // Or it is the next rotation that finds it so.
    fs::rename(key("event.key"), key("event-new.key")).unwrap();
    home.ok(&["rotate-key", "--role", "event"]);
    assert_eq!(content(key("event-before-6.key")), second);
    home.serve().ends_well();
}

/// The place of the first event that fits.
fn place(shop: &Shop, fits: impl Fn(&Facts) -> bool) -> u64 {
    let found = shop.events().into_iter().find(|event| fits(&event.facts));
    found.expect("there is such an event").seq.get()
}

fn holds(shop: &Shop, text: &str) -> bool {
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", shop.ledger().display()));
    ["", "-wal", "-shm"]
        .iter()
        .filter_map(|suffix| fs::read(beside(suffix)).ok())
        .any(|content| {
            content
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        })
}

fn fail(shop: &Shop, coin: &Coin, kind: FaultKind) {
    let mut fault = Fault::new(kind);
    fault.coin_pub = Some(coin.coin_pub);
    shop.sandbox.fault(fault).unwrap();
}

#[tokio::test]
async fn a_reason_is_erased_and_the_answers_stay() {
    let mut shop = shop().await;
    let hash = shop.sell("boots", "KUDOS:10", &one(1), true).await;
    let reason = "Jane Roe of 12 Elm Street has sent them back";
    let body = serde_json::json!({ "refund": "KUDOS:4", "reason": reason });
    shop.post_private("private/orders/boots/refund", &body)
        .await
        .expect(200);
    let before = shop.fetch("boots", hash).await;
    fails(
        &shop,
        &["erase", "--attachment", "1:reason", "--reason", "x"],
        &["in use", "serve"],
    );
    shop.stop().await;
    let approved = place(&shop, |facts| matches!(facts, Facts::RefundApproved(_)));
    let target = format!("{approved}:reason");
    let erase = [
        "erase",
        "--attachment",
        &target,
        "--reason",
        "asked for on 2026-11-20",
    ];
    assert!(holds(&shop, reason));
    ok(&shop, &erase);
    assert!(!holds(&shop, reason));
    fails(&shop, &erase, &["erased already"]);
    fails(
        &shop,
        &["erase", "--attachment", "1:terms", "--reason", "x"],
        &["event 1 has no attachment terms"],
    );
    let recorded = place(&shop, |facts| matches!(facts, Facts::OrderRecorded(_)));
    let terms = format!("{recorded}:terms");
    fails(
        &shop,
        &["erase", "--attachment", &terms, "--reason", "x"],
        &["still needed", "wire deadline"],
    );
    let report = shop.audit().await;
    assert_eq!(
        (report.checked.erased, report.checked.answers_not_checkable),
        (1, 0)
    );

    shop.clock.advance_s(20);
    shop.start().await;
    let again = shop.fetch("boots", hash).await;
    assert_eq!((again.body, again.receipt), (before.body, before.receipt));
    // Past the deadline the contract may go too, and the wallet is answered all the same.
    shop.clock.advance_s(200_000);
    shop.stop().await;
    let clock = shop.clock.clock();
    let target = (Seq::new(recorded).unwrap(), AttachmentName::Terms);
    commands::erase(&shop.config, &clock, target, "the contract is over").unwrap();
    assert!(!holds(&shop, "merchant_base_url"));
    shop.start().await;
    shop.fetch("boots", hash).await.expect(200);
    shop.approve("boots", "KUDOS:5").await;
    let report = shop.audit().await;
    assert_eq!(report.checked.erased, 2);
    let story = quittance_replay::show(&shop.ledger(), "default", "boots", None).unwrap();
    assert!(
        story.contains(&format!("attachment reason of event {approved} was erased")),
        "{story}"
    );
}

#[tokio::test]
async fn a_reply_is_kept_while_it_is_open_and_no_longer_handed_on_after() {
    let mut shop = shop().await;
    let coins = one(1);
    let hash = shop.sell("boots", "KUDOS:10", &coins, true).await;
    shop.approve("boots", "KUDOS:4").await.expect(200);
    let unwell = FaultKind::Status {
        status: 500,
        code: 60,
    };
    fail(&shop, &coins[0], unwell);
    shop.fetch("boots", hash).await.expect(200);
    shop.stop().await;
    let is_reply = |facts: &Facts| matches!(facts, Facts::ExchangeReplied(_));
    let open = format!("{}:reply", place(&shop, is_reply));
    let erase = ["erase", "--attachment", &open, "--reason", "x"];
    fails(&shop, &erase, &["still needed", "until the refund", "is decided"]);
    // A decided one may go: the exchange refuses.
    let conflict = FaultKind::Status {
        status: 409,
        code: 1501,
    };
    fail(&shop, &coins[0], conflict);
    shop.clock.advance_s(10);
    shop.start().await;
    let mut before = None;
    shop.until("a refusal", async || {
        let reply = shop.fetch("boots", hash).await;
        let refused = reply.json()["refunds"][0]["exchange_status"] == 409;
        before = Some(reply);
        refused
    })
    .await;
    let before = before.unwrap();
    assert_eq!(before.json()["refunds"][0]["exchange_reply"]["code"], 1501);
    shop.stop().await;
    let refused = place(
        &shop,
        |facts| matches!(facts, Facts::ExchangeReplied(f) if f.http_status == 409),
    );
    ok(&shop, &erase);
    let target = format!("{refused}:reply");
    ok(&shop, &["erase", "--attachment", &target, "--reason", "x"]);

    shop.clock.advance_s(20);
    shop.start().await;
    let after = shop.fetch("boots", hash).await;
    let mut expected = before.json();
    let entry = expected["refunds"][0].as_object_mut().unwrap();
    assert!(entry.remove("exchange_reply").is_some());
    assert_eq!(after.json(), expected);
    let (old, new) = (shop.check_receipt(&before), shop.check_receipt(&after));
    assert!(old.seq < new.seq && old.body != new.body);
    let report = shop.audit().await;
    assert_eq!(report.checked.erased, 2);
    assert!(report.checked.answers > 0 && report.checked.answers_not_checkable > 0);
}

#[tokio::test]
async fn an_aborts_request_is_kept_until_the_exchange_has_decided() {
    let mut shop = shop().await;
    let coins = one(1);
    let hash = shop.sell("half", "KUDOS:20", &coins, false).await;
    fail(
        &shop,
        &coins[0],
        FaultKind::Status {
            status: 500,
            code: 60,
        },
    );
    assert_eq!(shop.abort("half", hash, &coins).await.status, 502);
    shop.stop().await;
    let requested = place(&shop, |facts| matches!(facts, Facts::AbortRequested(_)));
    let target = format!("{requested}:body");
    let erase = ["erase", "--attachment", &target, "--reason", "x"];
    fails(&shop, &erase, &["still needed", "abort's refund", "not decided"]);
    shop.start().await;
    let before = shop.abort("half", hash, &coins).await;
    before.expect(200);
    shop.stop().await;
    ok(&shop, &erase);
    shop.clock.advance_s(20);
    shop.start().await;
    let again = shop.abort("half", hash, &coins).await;
    assert_eq!((again.body, again.receipt), (before.body, before.receipt));
    shop.audit().await;
}
