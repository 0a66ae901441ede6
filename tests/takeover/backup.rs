//! Backups of a running service.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use quittance::app::StartError;
use quittance::commands;
use quittance_events::backup::BackupError;
use quittance_replay::{Report, VerifyOptions, verify};

use crate::support::{Shop, coin};

fn report(ledger: &Path, anchor: &Path) -> Report {
    verify(&VerifyOptions {
        ledger: ledger.to_owned(),
        anchor: Some(anchor.to_owned()),
        ..VerifyOptions::default()
    })
    .unwrap()
}

#[tokio::test]
async fn a_backup_of_a_running_service_is_sound_by_itself() {
    let mut shop = Shop::open().await;
    let coins = [coin(1, "KUDOS:10", "KUDOS:0.02")];
    let h_contract = shop.sell("first", "KUDOS:10", &coins, true).await;
    shop.approve("first", "KUDOS:3").await.expect(200);
    shop.fetch("first", h_contract).await.expect(200);
    let out = shop.folder.path().join("backup.sqlite3");
    let made = commands::back_up(&shop.config, &out).unwrap();
    // Served on: the copy is of its moment.
    shop.approve("first", "KUDOS:4").await.expect(200);
    assert!(made.covered <= made.events);
    for file in [&out, &made.checkpoint] {
        assert_eq!(
            std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let report = report(&out, &made.checkpoint);
    assert!(report.is_sound(), "{}", quittance_replay::print_report(&report));
    assert_eq!(
        (report.checked.events, report.anchored),
        (made.events, Some(made.covered))
    );
    assert_eq!(report.checked.approvals, 1);
    assert!(
        !report.notes.iter().any(|note| note.text.contains("WAL")),
        "{:?}",
        report.notes
    );
    let kept = std::fs::read(&out).unwrap();

    // Nothing is ever overwritten, and a try leaves nothing.
    let exists = |error| matches!(error, StartError::Backup(BackupError::Exists(_)));
    assert!(exists(commands::back_up(&shop.config, &out).unwrap_err()));
    assert_eq!(std::fs::read(&out).unwrap(), kept);
    let second = shop.folder.path().join("second.sqlite3");
    std::fs::write(shop.folder.path().join("second.sqlite3.checkpoint"), "mine").unwrap();
    assert!(exists(commands::back_up(&shop.config, &second).unwrap_err()));
    assert!(!second.exists() && !shop.folder.path().join("second.sqlite3.new").exists());
    assert_eq!(
        std::fs::read(shop.folder.path().join("second.sqlite3.checkpoint")).unwrap(),
        b"mine"
    );

    // Of a stopped service: the checkpoint covers all of it.
    shop.audit().await;
    let third = shop.folder.path().join("third.sqlite3");
    let made = commands::back_up(&shop.config, &third).unwrap();
    assert_eq!(made.covered, made.events);
    let anchor = std::fs::read(&shop.config.anchor).unwrap();
    assert_eq!(std::fs::read(&made.checkpoint).unwrap(), anchor);
}

#[tokio::test]
async fn what_is_no_ledger_is_not_backed_up() {
    let mut shop = Shop::open().await;
    shop.stop().await;
    let out = shop.folder.path().join("backup.sqlite3");
    let other = shop.folder.path().join("other.sqlite3");
    rusqlite::Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE mine (n INTEGER)")
        .unwrap();
    let before = std::fs::read(&other).unwrap();
    shop.config.ledger.clone_from(&other);
    let refused = commands::back_up(&shop.config, &out).unwrap_err();
    assert!(
        matches!(refused, StartError::Backup(BackupError::NotALedger(_))),
        "{refused}"
    );
    assert_eq!(std::fs::read(&other).unwrap(), before);
    shop.config.ledger = shop.folder.path().join("nowhere.sqlite3");
    let refused = commands::back_up(&shop.config, &out).unwrap_err();
    assert_eq!(refused.exit_code(), 1);
    assert!(refused.to_string().contains("there is no ledger"), "{refused}");
    assert!(!out.exists() && !shop.folder.path().join("backup.sqlite3.new").exists());
}
