//! Attachments that are erased: what is recorded, what is gone, and what the order is afterwards.

use quittance_events::erase::{EraseError, erase};
use quittance_events::facts::Verdict;
use quittance_events::{AttachmentName, Event, Facts, Folded, NewEvent, Seq};

use crate::support::{Home, append, at, keys, order_key, refund_answer, refunding, replied};

const SECRET: &str = "Jane Roe, 12 Elm Street, asked for it by telephone";

fn seq(n: u64) -> Seq {
    Seq::new(n).unwrap()
}

fn erased(home: &Home, target: (u64, AttachmentName)) -> Result<Seq, EraseError> {
    let target = (seq(target.0), target.1);
    erase(
        &home.paths,
        keys().into(),
        target,
        "lawful",
        at(60),
        "test",
        |_, _| None,
    )
}

/// Whether any file of the ledger holds the text.
fn holds(home: &Home, text: &[u8]) -> bool {
    ["ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-shm"]
        .iter()
        .filter_map(|name| std::fs::read(home.beside(name)).ok())
        .any(|content| content.windows(text.len()).any(|window| window == text))
}

/// An order with an approval whose reason is known: events 2 to 6, the approval is 5.
async fn with_reason(reason: &[u8]) -> Home {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    let mut approved = crate::support::approved(1, &[1]);
    approved.attachments[0].1 = reason.to_vec();
    let events = vec![
        crate::support::terms(),
        crate::support::deposit(1),
        crate::support::paid(&[1]),
        approved,
        crate::support::requested(1, &[1]),
    ];
    append(&ledger, &key, at(10), events).await;
    ledger.close();
    home
}

#[tokio::test]
async fn bytes_and_salt_are_gone_from_the_files_and_the_event_says_so() {
    let long = SECRET.repeat(400);
    for reason in [SECRET.as_bytes(), b"short", long.as_bytes()] {
        let home = with_reason(reason).await;
        let salt: Vec<u8> = home
            .stranger()
            .query_row("SELECT salt FROM attachment WHERE seq = 5", [], |row| row.get(0))
            .unwrap();
        let begins = &reason[..reason.len().min(40)];
        assert!(holds(&home, begins) && holds(&home, &salt));
        assert_eq!(erased(&home, (5, AttachmentName::Reason)).unwrap(), seq(8));
        assert!(!holds(&home, &salt));
        assert!(!holds(&home, begins), "{} bytes", reason.len());
        assert!(!home.beside("ledger.sqlite3-wal").exists());
        let events = home.events();
        let kinds: Vec<_> = events[6..].iter().map(|event| event.facts.kind()).collect();
        assert_eq!(kinds, ["format_raised", "attachment_erased"]);
        let (raised, erasure) = (&events[6], &events[7]);
        assert_eq!((raised.order_key(), raised.version), (None, 1));
        assert_eq!((erasure.order_key(), erasure.version), (Some(order_key("a")), 2));
        // Once is enough.
        assert!(matches!(
            erased(&home, (5, AttachmentName::Reason)),
            Err(EraseError::AlreadyErased { .. })
        ));
        assert_eq!(home.events().len(), 8);
    }
}

#[tokio::test]
async fn a_copy_in_an_unused_part_of_the_file_is_found_and_taken_out() {
    let home = with_reason(SECRET.as_bytes()).await;
    // What a page that was split leaves behind: bytes in a page that nothing uses any more.
    home.stranger()
        .execute_batch(
            "PRAGMA secure_delete = OFF; CREATE TABLE stale AS SELECT * FROM attachment; DROP TABLE stale;
             PRAGMA wal_checkpoint(TRUNCATE);",
        )
        .unwrap();
    let twice = std::fs::read(&home.paths.ledger).unwrap();
    let found = twice
        .windows(SECRET.len())
        .filter(|window| *window == SECRET.as_bytes());
    assert_eq!(found.count(), 2);
    erased(&home, (5, AttachmentName::Reason)).unwrap();
    assert!(!holds(&home, SECRET.as_bytes()));
    home.open();
}

#[tokio::test]
async fn the_same_text_elsewhere_stays() {
    let home = with_reason(SECRET.as_bytes()).await;
    let ledger = home.open();
    let mut again = crate::support::approved(2, &[1]);
    again.attachments[0].1 = SECRET.as_bytes().to_vec();
    append(&ledger, &order_key("a"), at(11), vec![again]).await;
    ledger.close();
    erased(&home, (5, AttachmentName::Reason)).unwrap();
    assert!(holds(&home, SECRET.as_bytes()));
    erased(&home, (7, AttachmentName::Reason)).unwrap();
    assert!(!holds(&home, SECRET.as_bytes()));
}

#[tokio::test]
async fn what_is_not_there_or_needed_is_not_erased() {
    let home = with_reason(SECRET.as_bytes()).await;
    for target in [
        (1, AttachmentName::Reason),
        (5, AttachmentName::Terms),
        (77, AttachmentName::Reason),
    ] {
        assert!(matches!(erased(&home, target), Err(EraseError::Unknown { .. })));
    }
    let needed = |order: &Folded, event: &Event| {
        let order = order.order().unwrap();
        assert_eq!((order.key.clone(), event.seq), (order_key("a"), seq(5)));
        Some("for the test".to_owned())
    };
    let target = (seq(5), AttachmentName::Reason);
    let refused = erase(&home.paths, keys().into(), target, "x", at(60), "test", needed).unwrap_err();
    assert!(refused.to_string().contains("needed: for the test"), "{refused}");
    assert_eq!(home.events().len(), 6);
    assert!(holds(&home, SECRET.as_bytes()));
}

#[tokio::test]
async fn an_erased_reply_is_handed_on_no_more_and_moves_nothing() {
    let home = Home::new();
    let key = order_key("a");
    let ledger = home.open();
    refunding(&ledger, &key, &[1]).await;
    let order = append(&ledger, &key, at(11), vec![replied(1, 1, 1, Verdict::Refused)])
        .await
        .order()
        .unwrap();
    let reply = order.moved;
    let (event, body) = refund_answer(&order, at(12));
    assert!(
        String::from_utf8(body.clone())
            .unwrap()
            .contains("exchange_reply")
    );
    append(&ledger, &key, at(12), vec![event]).await;
    ledger.close();
    erased(&home, (reply.get(), AttachmentName::Reply)).unwrap();

    let ledger = home.open();
    let order = ledger.order(&key).unwrap().unwrap();
    assert_eq!(order.moved, reply);
    let (event, bare) = refund_answer(&order, at(61));
    assert_eq!(
        String::from_utf8(bare).unwrap(),
        String::from_utf8(body)
            .unwrap()
            .replace(r#""exchange_reply":{"code":1506,"hint":"no"},"#, "")
    );
    let appended = append(&ledger, &key, at(61), vec![event]).await;
    // In memory the order is what the file makes of it.
    let in_memory = appended.order().unwrap();
    ledger.close();
    assert_eq!(*home.open().order(&key).unwrap().unwrap(), *in_memory);
}

#[tokio::test]
async fn what_belongs_to_no_order_is_erased_too() {
    let home = Home::new();
    let ledger = home.open();
    let correction = quittance_events::facts::ClockCorrected {
        from_us: ledger.greatest_at(),
        to_us: at(5),
    };
    let event = NewEvent::with(correction, AttachmentName::Reason, SECRET.as_bytes().to_vec());
    let stream = quittance_events::Stream::Ledger(None);
    let append = quittance_events::Append {
        stream,
        at: at(5),
        events: vec![event],
    };
    ledger.append(append).await.unwrap();
    ledger.close();
    erased(&home, (2, AttachmentName::Reason)).unwrap();
    assert!(!holds(&home, SECRET.as_bytes()));
    let events = home.events();
    assert!(matches!(&events[3].facts, Facts::AttachmentErased(f) if f.seq == seq(2)));
    assert_eq!((events[3].order_key(), events[3].instance.clone()), (None, None));
    // And so is the reason of an erasure.
    erased(&home, (4, AttachmentName::Reason)).unwrap();
    assert_eq!(home.events().len(), 5);
}
