//! Group commit: who is answered when, and what a refusal or a failed commit leaves behind.

use std::sync::Arc;

use quittance_events::facts::{ExchangeKeysSeen, InstanceAdded};
use quittance_events::{AppendError, Ledger, NewEvent, Seq, Stream};
use quittance_taler::{MasterPub, MerchantPub};

use crate::support::{
    Home, append, at, deposit, on, order_key, paid, replied, terms, try_append, unreached, until,
};
use quittance_events::facts::Verdict;

/// Commits that the file has seen: SQLite counts them in the header of its shared memory.
fn commits(home: &Home) -> u32 {
    let header = std::fs::read(home.beside("ledger.sqlite3-shm")).unwrap();
    u32::from_ne_bytes(header[8..12].try_into().unwrap())
}

fn checkpoints(home: &Home) -> u32 {
    home.stranger()
        .query_row("SELECT count(*) FROM checkpoint", [], |row| row.get(0))
        .unwrap()
}

/// The writer has taken up an append and waits for the file.
async fn writer_is_stuck(ledger: &Arc<Ledger>) -> tokio::task::JoinHandle<()> {
    let ledger = Arc::clone(ledger);
    let stuck = tokio::spawn(async move {
        let first = ledger
            .append(on(&order_key("first"), Seq::NONE, at(1), vec![terms()]))
            .await;
        assert_eq!(first.unwrap().seqs.len(), 1);
    });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!stuck.is_finished());
    stuck
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_wait_share_one_commit_and_none_is_answered_before_it() {
    let home = Home::new();
    let ledger = Arc::new(home.open());
    let hold = home.hold();
    let (commits_before, checkpoints_before) = (commits(&home), checkpoints(&home));
    let stuck = writer_is_stuck(&ledger).await;
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..100 {
        let ledger = Arc::clone(&ledger);
        callers.spawn(async move {
            let key = order_key(&format!("order-{number}"));
            ledger
                .append(on(&key, Seq::NONE, at(1), vec![terms(), deposit(1)]))
                .await
                .unwrap()
        });
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(callers.try_join_next().is_none(), "answered before the commit");
    assert_eq!(home.count(), 1);
    drop(hold);
    stuck.await.unwrap();
    let mut seqs: Vec<u64> = Vec::new();
    while let Some(appended) = callers.join_next().await {
        let appended = appended.unwrap();
        // What was answered can be read by anybody at that moment.
        assert!(home.count() >= appended.seqs[1].get());
        assert_eq!(appended.seqs[1], appended.seqs[0].next());
        assert_eq!(appended.order().unwrap().moved, appended.seqs[1]);
        seqs.extend(appended.seqs.iter().map(|seq| seq.get()));
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (3..=202).collect::<Vec<u64>>());
    let made = commits(&home) - commits_before - (checkpoints(&home) - checkpoints_before);
    assert_eq!(made, 2, "one for the first, one for all others");
}

#[tokio::test]
async fn an_append_on_an_outdated_state_is_refused_and_nothing_recorded() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    let first = append(&ledger, &key, at(1), vec![terms()]).await;
    append(&ledger, &key, at(1), vec![deposit(1)]).await;
    let before = ledger.order(&key).unwrap().unwrap();
    for outdated in [Seq::NONE, first.seqs[0], Seq::new(9).unwrap()] {
        let refused = ledger.append(on(&key, outdated, at(2), vec![deposit(2)])).await;
        assert_eq!(refused.unwrap_err(), AppendError::Moved);
    }
    let unborn = ledger
        .append(on(&order_key("b"), first.seqs[0], at(2), vec![terms()]))
        .await;
    assert_eq!(unborn.unwrap_err(), AppendError::Moved);
    assert_eq!(ledger.order(&key).unwrap().unwrap(), before);
    assert_eq!(ledger.order(&order_key("b")).unwrap(), None);
    assert_eq!(home.count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_decisions_on_one_state_only_the_first_is_recorded() {
    let home = Home::new();
    let ledger = Arc::new(home.open());
    let key = order_key("a");
    let moved = append(&ledger, &key, at(1), vec![terms()]).await.seqs[0];
    let hold = home.hold();
    let stuck = writer_is_stuck(&ledger).await;
    let mut rivals = tokio::task::JoinSet::new();
    for number in 0..16 {
        let (ledger, key) = (Arc::clone(&ledger), key.clone());
        rivals.spawn(async move { ledger.append(on(&key, moved, at(2), vec![deposit(number)])).await });
    }
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    drop(hold);
    stuck.await.unwrap();
    let (won, lost): (Vec<_>, Vec<_>) = rivals.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(
        lost.iter()
            .all(|lost| *lost.as_ref().unwrap_err() == AppendError::Moved)
    );
    assert_eq!(home.count(), 4);
    assert_eq!(ledger.order(&key).unwrap().unwrap().deposits.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_append_leaves_its_batch_mates_whole() {
    let home = Home::new();
    let ledger = Arc::new(home.open());
    let key = order_key("a");
    let moved = append(&ledger, &key, at(1), vec![terms()]).await.seqs[0];
    let hold = home.hold();
    let stuck = writer_is_stuck(&ledger).await;
    let long = InstanceAdded {
        merchant_pub: MerchantPub::from_bytes([4; 32]),
        base_url: "x".repeat(70_000),
        currency: "KUDOS".parse().unwrap(),
        by: None,
    };
    let appends = [
        // Good, and the second decides on what the first leaves.
        on(&key, moved, at(2), vec![deposit(1)]),
        on(&key, moved, at(2), vec![deposit(2)]),
        // Its first events fit, its last does not: none is recorded.
        on(
            &order_key("b"),
            Seq::NONE,
            at(2),
            vec![terms(), deposit(1), unreached(1, 0, 1)],
        ),
        on(&order_key("c"), Seq::NONE, at(2), vec![deposit(1)]),
        quittance_events::Append {
            stream: Stream::Ledger(Some("shop".parse().unwrap())),
            at: at(2),
            events: vec![NewEvent::bare(long)],
        },
        on(
            &order_key("d"),
            Seq::NONE,
            at(2),
            vec![terms(), deposit(1), paid(&[1])],
        ),
    ];
    let mut results = Vec::new();
    for append in appends {
        let ledger = Arc::clone(&ledger);
        results.push(tokio::spawn(async move { ledger.append(append).await }));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(hold);
    stuck.await.unwrap();
    let mut answers = Vec::new();
    for result in results {
        answers.push(result.await.unwrap().map(|appended| appended.seqs.len()));
    }
    assert_eq!(answers[0], Ok(1));
    assert_eq!(answers[1], Err(AppendError::Moved));
    assert!(
        matches!(answers[2], Err(AppendError::Unfit(_))),
        "{:?}",
        answers[2]
    );
    assert!(
        matches!(answers[3], Err(AppendError::Unfit(_))),
        "{:?}",
        answers[3]
    );
    assert!(
        matches!(&answers[4], Err(AppendError::TooLarge { kind: "instance_added", bytes }) if *bytes > 70_000)
    );
    assert_eq!(answers[5], Ok(3));
    for (name, exists) in [("b", false), ("c", false), ("d", true)] {
        assert_eq!(
            ledger.order(&order_key(name)).unwrap().is_some(),
            exists,
            "{name}"
        );
    }
    assert!(ledger.book().instances.is_empty());
    ledger.close();
    let events = home.events();
    let kinds: Vec<&str> = events.iter().map(|event| event.facts.kind()).collect();
    assert_eq!(
        kinds,
        [
            "ledger_opened",
            "order_recorded",
            "order_recorded",
            "deposit_recorded",
            "order_recorded",
            "deposit_recorded",
            "payment_completed"
        ]
    );
    for (before, after) in events.iter().zip(&events[1..]) {
        assert_eq!(after.seq, before.seq.next());
        assert_eq!(
            after.prev,
            quittance_events::seal::event_digest(&before.canonical())
        );
    }
}

#[tokio::test]
async fn an_event_that_no_leaf_holds_is_refused_and_the_largest_list_fits() {
    let home = Home::new();
    let ledger = home.open();
    let keys = |url: String| quittance_events::Append {
        stream: Stream::Ledger(None),
        at: at(1),
        events: vec![NewEvent::bare(ExchangeKeysSeen {
            master_pub: MasterPub::from_bytes([9; 32]),
            url,
            signkeys: Vec::new(),
        })],
    };
    let refused = ledger.append(keys("y".repeat(65_535))).await.unwrap_err();
    let AppendError::TooLarge {
        kind: "exchange_keys_seen",
        bytes,
    } = refused
    else {
        panic!("{refused}")
    };
    // The same event at exactly the bound fits, a byte more does not.
    let most = 65_535 - (bytes - 65_535);
    assert!(matches!(
        ledger.append(keys("y".repeat(most + 1))).await,
        Err(AppendError::TooLarge { bytes: 65_536, .. })
    ));
    assert_eq!(
        ledger.append(keys("y".repeat(most))).await.unwrap().seqs,
        [Seq::new(2).unwrap()]
    );
}

#[tokio::test]
async fn a_commit_that_fails_is_told_and_leaves_the_last_state() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    append(&ledger, &key, at(1), vec![terms()]).await;
    let before = ledger.order(&key).unwrap().unwrap();
    let stranger = home.stranger();
    stranger
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'disk full'); END",
        )
        .unwrap();
    let failed = try_append(&ledger, &key, at(2), vec![deposit(1)])
        .await
        .unwrap_err();
    assert!(
        matches!(&failed, AppendError::Storage(why) if why.contains("disk full")),
        "{failed}"
    );
    assert_eq!(ledger.order(&key).unwrap().unwrap(), before);
    assert_eq!(ledger.greatest_at(), at(1));
    stranger.execute_batch("DROP TRIGGER full").unwrap();
    let seqs = append(&ledger, &key, at(2), vec![deposit(1)]).await.seqs;
    assert_eq!(seqs, [before.moved.next()]);
    let (order, keep) = (ledger.order(&key).unwrap().unwrap(), ledger);
    keep.close();
    drop(keep);
    assert_eq!(*home.open().order(&key).unwrap().unwrap(), *order);
}

#[tokio::test]
async fn what_a_caller_who_left_had_handed_in_is_recorded() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    {
        let append = ledger.append(on(&key, Seq::NONE, at(1), vec![terms()]));
        let mut append = std::pin::pin!(append);
        // Polled once, so that it is handed in, and dropped.
        std::future::poll_fn(|cx| {
            assert!(append.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    }
    until("the commit", || home.count() == 2);
    assert!(ledger.order(&key).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_records_what_waits_and_refuses_what_comes_later() {
    let home = Home::new();
    let ledger = Arc::new(home.open());
    let hold = home.hold();
    let stuck = writer_is_stuck(&ledger).await;
    let waiting = {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            ledger
                .append(on(&order_key("a"), Seq::NONE, at(1), vec![terms()]))
                .await
        })
    };
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let closing = {
        let ledger = Arc::clone(&ledger);
        tokio::task::spawn_blocking(move || ledger.close())
    };
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let late = ledger
        .append(on(&order_key("b"), Seq::NONE, at(1), vec![terms()]))
        .await;
    assert_eq!(late.unwrap_err(), AppendError::Closed);
    drop(hold);
    stuck.await.unwrap();
    waiting.await.unwrap().unwrap();
    closing.await.unwrap();
    ledger.close();
    assert_eq!(
        std::fs::metadata(home.beside("ledger.sqlite3-wal")).map_or(0, |wal| wal.len()),
        0
    );
    assert_eq!(home.events().len(), 3);
}

#[tokio::test]
async fn the_tables_refuse_changes_but_let_an_attachment_be_erased() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    let order = append(
        &ledger,
        &key,
        at(1),
        vec![
            terms(),
            deposit(1),
            crate::support::aborted(&[(1, quittance_events::facts::AbortCoinState::Deposited)]),
            replied(1, 0, 1, Verdict::Refused),
        ],
    )
    .await;
    ledger.close();
    drop(ledger);
    let conn = home.stranger();
    for (statement, why) in [
        (
            "UPDATE event SET sealed = x'00' WHERE seq = 2",
            "events are never changed",
        ),
        ("UPDATE event SET signature = x'00'", "events are never changed"),
        (
            "UPDATE event SET seq = 77 WHERE seq = 2",
            "events are never changed",
        ),
        ("DELETE FROM event WHERE seq = 2", "events are never deleted"),
        (
            "UPDATE attachment SET bytes = x'00'",
            "attachments are never changed, only erased",
        ),
        (
            "UPDATE attachment SET salt = NULL",
            "attachments are never changed, only erased",
        ),
        (
            "UPDATE attachment SET name = 'keys', salt = NULL, bytes = NULL",
            "attachments are never changed, only erased",
        ),
        (
            "UPDATE attachment SET seq = 77, salt = NULL, bytes = NULL",
            "attachments are never changed, only erased",
        ),
        ("DELETE FROM attachment", "attachments are never deleted"),
        ("UPDATE checkpoint SET note = ''", "checkpoints are never changed"),
        ("DELETE FROM checkpoint", "checkpoints are never deleted"),
    ] {
        let refused = conn.execute(statement, []).unwrap_err().to_string();
        assert!(refused.contains(why), "{statement}: {refused}");
    }
    assert_eq!(
        conn.execute(
            "UPDATE attachment SET salt = NULL, bytes = NULL WHERE name = 'terms'",
            []
        )
        .unwrap(),
        1
    );
    // Once erased, nothing comes back.
    conn.execute(
        "UPDATE attachment SET salt = x'00', bytes = x'00' WHERE name = 'terms'",
        [],
    )
    .unwrap_err();
    drop(conn);
    let ledger = home.open();
    assert_eq!(ledger.order(&key).unwrap(), order.order());
}
