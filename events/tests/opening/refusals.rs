//! Files that are not opened, each with its reason, and left as they were.

use quittance_events::create;
use quittance_events::ledger::{Keys, Ledger, OpenError};

use crate::support::{Home, ORIGIN, append, at, copy_file, deposit, keys, keys_of, order_key, terms};

fn refused(home: &Home, keys: Keys) -> OpenError {
    let before = std::fs::read(&home.paths.ledger).ok();
    let error = Ledger::open(&home.paths, keys, "test").err().unwrap();
    // No assert_eq: nobody wants to read two files byte by byte.
    assert!(
        std::fs::read(&home.paths.ledger).ok() == before,
        "a refused ledger is not touched ({error})"
    );
    error
}

#[test]
fn the_keys_and_the_name_are_those_of_the_genesis() {
    let home = Home::new();
    assert!(matches!(
        refused(&home, keys_of(3, 2, ORIGIN)),
        OpenError::ForeignKey("event")
    ));
    assert!(matches!(
        refused(&home, keys_of(1, 3, ORIGIN)),
        OpenError::ForeignKey("checkpoint")
    ));
    let error = refused(&home, keys_of(1, 2, "shop.example/other"));
    let OpenError::ForeignOrigin { configured, recorded } = error else {
        panic!("{error}")
    };
    assert_eq!(
        (configured.as_str(), recorded.as_str()),
        ("shop.example/other", ORIGIN)
    );
    home.open();
}

#[test]
fn what_is_no_ledger_is_neither_opened_nor_changed() {
    let home = Home::empty();
    assert!(matches!(refused(&home, keys()), OpenError::Missing(path) if path == home.paths.ledger));
    assert!(!home.paths.ledger.exists(), "opening never makes a file");
    // Another program's database, which is not in WAL mode.
    home.stranger()
        .execute_batch("CREATE TABLE other (x); INSERT INTO other VALUES (1)")
        .unwrap();
    let error = refused(&home, keys());
    assert!(
        matches!(
            error,
            OpenError::NotALedger {
                application_id: 0,
                user_version: 0,
                ..
            }
        ),
        "{error}"
    );
    // No database at all.
    std::fs::write(&home.paths.ledger, "Dear diary, ".repeat(100)).unwrap();
    assert!(matches!(refused(&home, keys()), OpenError::Store(_)));
    std::fs::write(&home.paths.ledger, "").unwrap();
    assert!(matches!(refused(&home, keys()), OpenError::NotALedger { .. }));
}

#[test]
fn a_newer_layout_is_refused() {
    let home = Home::new();
    home.stranger().execute_batch("PRAGMA user_version = 2").unwrap();
    let error = refused(&home, keys());
    assert!(
        matches!(error, OpenError::NotALedger { user_version: 2, .. }),
        "{error}"
    );
}

#[test]
fn init_touches_nothing_that_exists() {
    let home = Home::new();
    let (ledger, anchor) = (std::fs::read(&home.paths.ledger).unwrap(), home.anchor());
    assert!(matches!(
        create::init(&home.paths, &keys(), at(5)),
        Err(OpenError::Exists(_))
    ));
    // Neither half is made anew where the other is left.
    std::fs::remove_file(&home.paths.anchor).unwrap();
    assert!(
        matches!(create::init(&home.paths, &keys(), at(5)), Err(OpenError::Exists(path)) if path == home.paths.ledger)
    );
    std::fs::write(&home.paths.anchor, &anchor).unwrap();
    std::fs::rename(&home.paths.ledger, home.beside("kept")).unwrap();
    assert!(
        matches!(create::init(&home.paths, &keys(), at(5)), Err(OpenError::Exists(path)) if path == home.paths.anchor)
    );
    assert!(!home.paths.ledger.exists());
    assert_eq!(
        (std::fs::read(home.beside("kept")).unwrap(), home.anchor()),
        (ledger, anchor)
    );
}

#[test]
fn a_second_writer_is_told_of_the_first() {
    let home = Home::new();
    let first = home.open();
    let second = home.try_open().err().unwrap();
    assert!(matches!(second, OpenError::Locked(_)));
    let holder = format!("the ledger is in use by process {} (test)", std::process::id());
    assert_eq!(second.to_string(), holder);
    drop(first);
    home.open();
}

#[tokio::test]
async fn a_ledger_that_lacks_what_was_anchored_is_refused() {
    let home = Home::new();
    let ledger = home.open();
    append(&ledger, &order_key("a"), at(1), vec![terms()]).await;
    ledger.close();
    drop(ledger);
    let behind = |home: &Home, sentence: &str| {
        let error = refused(home, keys());
        let OpenError::BehindAnchor(why) = &error else {
            panic!("{error}")
        };
        assert!(why.contains(sentence), "{why}");
    };
    copy_file(&home.paths.ledger, &home.beside("backup"));
    let backup_anchor = home.anchor();
    let ledger = home.open();
    append(&ledger, &order_key("a"), at(2), vec![deposit(1), deposit(2)]).await;
    ledger.close();
    drop(ledger);
    let anchor = home.anchor();

    copy_file(&home.paths.ledger, &home.beside("whole"));
    copy_file(&home.beside("backup"), &home.paths.ledger);
    behind(&home, "it holds 2 events, the anchor speaks of 4");
    // Continued from the backup under its old anchor, other events stand where the anchored ones stood.
    std::fs::write(&home.paths.anchor, &backup_anchor).unwrap();
    let fork = home.open();
    append(&fork, &order_key("b"), at(3), vec![terms(), deposit(1)]).await;
    fork.close();
    drop(fork);
    std::fs::write(&home.paths.anchor, &anchor).unwrap();
    behind(
        &home,
        "its first 4 events are not those that the anchor speaks of",
    );
    let fork = {
        std::fs::write(&home.paths.anchor, fork_anchor(&home)).unwrap();
        home.open()
    };
    append(&fork, &order_key("b"), at(4), vec![deposit(2)]).await;
    fork.close();
    drop(fork);
    std::fs::write(&home.paths.anchor, &anchor).unwrap();
    behind(
        &home,
        "its first 4 events are not those that the anchor speaks of",
    );

    copy_file(&home.beside("whole"), &home.paths.ledger);
    std::fs::remove_file(&home.paths.anchor).unwrap();
    behind(&home, "there is no anchor at");
    for foreign in [
        "",
        "garbage\n",
        &anchor.replacen(ORIGIN, "shop.example/else", 1),
        &anchor.replacen("\n4\n", "\n3\n", 1),
    ] {
        std::fs::write(&home.paths.anchor, foreign).unwrap();
        behind(&home, "the anchor is not a checkpoint of this ledger");
    }
    let other = Home::empty();
    create::init(&other.paths, &keys_of(1, 7, ORIGIN), at(0)).unwrap();
    copy_file(&other.paths.anchor, &home.paths.anchor);
    behind(&home, "the anchor is not a checkpoint of this ledger");
    // An older anchor than the ledger is no contradiction: the last second may not have been anchored.
    std::fs::write(&home.paths.anchor, &backup_anchor).unwrap();
    home.open();
}

/// The last checkpoint that the file holds.
fn fork_anchor(home: &Home) -> String {
    home.stranger()
        .query_row(
            "SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .unwrap()
}

#[tokio::test]
async fn a_crash_between_commit_and_anchor_is_taken_up() {
    let home = Home::new();
    let anchor = home.anchor();
    let ledger = home.open();
    append(&ledger, &order_key("a"), at(1), vec![terms()]).await;
    ledger.close();
    drop(ledger);
    // As if the process had died after the checkpoint and before the anchor moved.
    std::fs::write(&home.paths.anchor, &anchor).unwrap();
    let ledger = home.open();
    append(&ledger, &order_key("a"), at(2), vec![deposit(1)]).await;
    ledger.close();
    drop(ledger);
    assert!(home.anchor().contains("\n3\n"), "{}", home.anchor());
    home.open();
}

#[test]
fn a_head_that_was_left_behind_is_damage() {
    let home = Home::new();
    for (statement, why) in [
        (
            "UPDATE head SET size = 2",
            "the head says 2 events, the last one is 1",
        ),
        ("UPDATE head SET size = 1, frontier = x'00'", "the head's tree"),
        ("DELETE FROM head", "the head row is missing"),
    ] {
        home.stranger().execute_batch(statement).unwrap();
        let error = home.try_open().err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}
