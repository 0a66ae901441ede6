//! Checkpoints and the anchor: how often, in which order, and whose.

use std::time::Instant;

use quittance_tlog::checkpoint::Checkpoint;

use crate::support::{Home, append, at, keys, order_key, terms, until};

fn stored(home: &Home) -> Vec<(u64, String)> {
    let conn = home.stranger();
    let mut statement = conn
        .prepare("SELECT size, note FROM checkpoint ORDER BY size")
        .unwrap();
    let rows = statement
        .query_map([], |row| {
            Ok((row.get::<_, i64>(0)?.try_into().unwrap(), row.get(1)?))
        })
        .unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn opened(note: &str) -> Checkpoint {
    Checkpoint::open(note, &keys().checkpoint.verifier()).unwrap()
}

#[tokio::test]
async fn closing_signs_and_anchors_all_that_is_recorded() {
    let home = Home::new();
    let first = home.anchor();
    let ledger = home.open();
    // Nothing new: nothing signed.
    ledger.close();
    drop(ledger);
    assert_eq!((home.anchor(), stored(&home).len()), (first, 1));
    let ledger = home.open();
    for number in 0..7 {
        append(&ledger, &order_key(&number.to_string()), at(1), vec![terms()]).await;
    }
    ledger.close();
    let (size, note) = stored(&home).pop().unwrap();
    assert_eq!((size, note.as_str()), (8, home.anchor().as_str()));
    let checkpoint = opened(&note);
    assert_eq!(
        (checkpoint.origin.as_str(), checkpoint.size),
        (crate::support::ORIGIN, 8)
    );
    // The root is that of the leaves as stored, each checkpoint's and not only the last.
    let mut leaves = Vec::new();
    quittance_events::copy::Copy::open(&home.paths.ledger)
        .unwrap()
        .walk::<quittance_events::copy::CopyError>(|event| {
            let event = event.unwrap();
            leaves.push(quittance_tlog::leaf_hash(
                &[event.sealed, event.signature].concat(),
            ));
            Ok(())
        })
        .unwrap();
    for (size, note) in stored(&home) {
        let upto = usize::try_from(size).unwrap();
        assert_eq!(opened(&note).root, quittance_tlog::root_of(&leaves[..upto]));
    }
}

#[tokio::test]
async fn at_most_one_a_second_while_events_come_and_one_after_they_end() {
    let home = Home::new();
    let ledger = home.open();
    let start = Instant::now();
    for number in 0..40 {
        append(&ledger, &order_key(&number.to_string()), at(1), vec![terms()]).await;
    }
    let signed = u64::try_from(stored(&home).len()).unwrap();
    // The genesis has one, the first commit after a start gets one at once.
    assert!(
        signed <= start.elapsed().as_secs() + 2,
        "{signed} in {:?}",
        start.elapsed()
    );
    // Nobody appends, and the last events are anchored all the same.
    until("the anchor of the last event", || {
        opened(&home.anchor()).size == 41
    });
    let sizes = stored(&home).len();
    assert!(u64::try_from(sizes).unwrap() <= start.elapsed().as_secs() + 2);
    ledger.close();
    assert_eq!(stored(&home).len(), sizes, "nothing new since");
}

#[tokio::test]
async fn an_anchor_that_somebody_else_wrote_is_left_alone() {
    let home = Home::new();
    let ledger = home.open();
    std::fs::write(&home.paths.anchor, "not ours\n").unwrap();
    // The ledger itself is sound, so events are still recorded; the contradiction stays to be seen.
    append(&ledger, &order_key("a"), at(1), vec![terms()]).await;
    ledger.close();
    assert_eq!(home.anchor(), "not ours\n");
    assert_eq!(stored(&home).last().unwrap().0, 2);
    drop(ledger);
    let refused = home.try_open().err().unwrap();
    assert!(
        matches!(refused, quittance_events::ledger::OpenError::BehindAnchor(_)),
        "{refused}"
    );
}

#[tokio::test]
async fn an_anchor_that_could_not_be_moved_is_moved_once_its_disk_is_well_though_no_event_comes() {
    let home = Home::new();
    let ledger = home.open();
    // The new anchor cannot be written where a folder stands.
    let blocker = home.paths.anchor.with_extension("anchor.new");
    std::fs::create_dir(&blocker).unwrap();
    append(&ledger, &order_key("a"), at(1), vec![terms()]).await;
    until("the checkpoint in the ledger", || stored(&home).len() == 2);
    assert_eq!(opened(&home.anchor()).size, 1);
    std::fs::remove_dir(&blocker).unwrap();
    until("the anchor", || opened(&home.anchor()).size == 2);
    ledger.close();
}

#[tokio::test]
async fn an_anchor_that_a_crash_left_behind_its_checkpoint_is_moved_at_the_next_start() {
    let home = Home::new();
    let before = home.anchor();
    let ledger = home.open();
    append(&ledger, &order_key("a"), at(1), vec![terms()]).await;
    ledger.close();
    drop(ledger);
    let after = home.anchor();
    // As a crash between the two leaves it.
    std::fs::write(&home.paths.anchor, before).unwrap();
    let ledger = home.open();
    until("the anchor", || home.anchor() == after);
    ledger.close();
    assert_eq!(stored(&home).len(), 2, "none signed anew");
}
