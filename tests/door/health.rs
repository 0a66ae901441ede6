//! `GET health` tells whether this service can record, and finds out by itself when it can again.

use quittance::admission::Bounds;
use rusqlite::Connection;

use crate::open;
use crate::support::Shop;
use crate::wire::{Wire, get};

/// Status and reason.
async fn health(shop: &Shop) -> (u16, String) {
    let answer = Wire::to(shop).await.ask(get("health")).await;
    let body = answer.json();
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    if answer.status == 200 {
        assert_eq!(body, serde_json::json!({"status": "ok"}));
        return (200, String::new());
    }
    assert_eq!((&body["status"], &body["code"]), (&"unable".into(), &52.into()));
    assert!(answer.header("retry-after").is_some());
    (answer.status, body["reason"].as_str().unwrap().to_owned())
}

fn unable(reason: &str) -> (u16, String) {
    (503, reason.to_owned())
}

const WELL: (u16, String) = (200, String::new());

#[tokio::test]
async fn it_is_at_the_root_for_everybody_and_takes_get_alone() {
    let mut shop = open(Bounds::default()).await;
    assert_eq!(health(&shop).await, WELL);
    let mut wire = Wire::to(&shop).await;
    assert_eq!(wire.ask(get("instances/default/health")).await.status, 404);
    let answer = wire.ask(crate::wire::post("health", "")).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")));
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_failed_is_told_until_one_succeeds() {
    let mut shop = open(Bounds::default()).await;
    // As a disk that takes nothing more, for the ledger's own writes and for probes.
    let disk = Connection::open(shop.ledger()).unwrap();
    disk.execute_batch(
        "CREATE TRIGGER no_space BEFORE INSERT ON head BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    )
    .unwrap();
    assert_eq!(health(&shop).await, WELL, "nothing has failed yet");
    let terms = shop.terms("one", "KUDOS:4", 600, 1200);
    let told = serde_json::json!({ "contract_terms": terms });
    let refused = shop.post_private("private/ledger/orders", &told).await;
    assert_eq!(refused.error(), (500, 52));
    // However often it is asked and probes.
    for _ in 0..20 {
        assert_eq!(health(&shop).await, unable("ledger_cannot_commit"));
    }
    disk.execute_batch("DROP TRIGGER no_space").unwrap();
    // Nothing is recorded meanwhile: the probe alone finds out.
    shop.until("it can commit again", async || health(&shop).await == WELL)
        .await;
    shop.post_private("private/ledger/orders", &told)
        .await
        .expect(200);
    drop(disk);
    shop.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_anchor_that_did_not_move_is_told_until_it_does() {
    let mut shop = open(Bounds::default()).await;
    let anchor = shop.config.anchor.clone();
    shop.until("the first checkpoint is anchored", async || {
        let covered = std::fs::read_to_string(&anchor).unwrap();
        let stored = shop.app().service.ledger.cosigned_checkpoint().unwrap();
        stored.is_some_and(|stored| stored.starts_with(&covered))
    })
    .await;
    let before = std::fs::read_to_string(&anchor).unwrap();
    std::fs::write(&anchor, "somebody else wrote this\n").unwrap();
    shop.record_order(&shop.terms("one", "KUDOS:4", 600, 1200)).await;
    shop.until("the anchor is missed", async || {
        health(&shop).await == unable("anchor_not_moved")
    })
    .await;
    std::fs::write(&anchor, before).unwrap();
    shop.until("the anchor follows", async || health(&shop).await == WELL)
        .await;
    shop.audit().await;
}

#[tokio::test]
async fn a_ledger_that_is_closed_is_told() {
    let mut shop = open(Bounds::default()).await;
    let ledger = std::sync::Arc::clone(&shop.app().service.ledger);
    tokio::task::spawn_blocking(move || ledger.close()).await.unwrap();
    assert_eq!(health(&shop).await, unable("ledger_writer_gone"));
    shop.stop().await;
}

#[tokio::test]
async fn a_disk_below_its_reserve_is_told_until_there_is_room() {
    let mut shop = open(Bounds::default()).await;
    let disk = &shop.app().service.disk;
    disk.measure_by(std::sync::Arc::new(|| Ok(1024)));
    assert_eq!(health(&shop).await, unable("disk_nearly_full"));
    disk.measure_by(std::sync::Arc::new(|| Ok(u64::MAX)));
    assert_eq!(health(&shop).await, WELL);
    shop.stop().await;
}
