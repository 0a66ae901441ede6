//! Answers: recorded once per (state, body), resting on what the writer says they rest on, and delivered once.

use quittance_events::facts::{RefundDelivered, Verdict};
use quittance_events::receipt::Receipt;
use quittance_events::{Append, AppendError, Appended, Facts, Ledger, NewEvent, OrderKey, Seq, Stream};

use crate::support::{
    Home, append, at, on, order_key, refund_answer, refunding, replied, try_append, unreached,
};

async fn answered(ledger: &Ledger, key: &OrderKey, seconds: u64) -> Appended {
    let order = ledger.order(key).unwrap().unwrap();
    append(
        ledger,
        key,
        at(seconds),
        vec![refund_answer(&order, at(seconds)).0],
    )
    .await
}

async fn delivered(ledger: &Ledger, key: &OrderKey, answer: Seq) -> Result<Appended, AppendError> {
    let events = vec![NewEvent::bare(RefundDelivered { answer })];
    ledger
        .append(Append {
            stream: Stream::Told(key.clone()),
            at: at(50),
            events,
        })
        .await
}

#[tokio::test]
async fn an_answer_is_recorded_once_as_long_as_the_order_stands_still() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    let state = refunding(&ledger, &key, &[1]).await.order().unwrap();
    let first = answered(&ledger, &key, 11).await;
    let recorded = first.answer.clone().unwrap();
    assert_eq!(first.seqs, [recorded.seq]);
    assert_eq!(recorded.as_of, state.moved);
    assert_eq!(first.order().unwrap().moved, state.moved);
    // The same again, later: nothing is written, and the answer that stands is handed out.
    let again = answered(&ledger, &key, 12).await;
    assert!(again.seqs.is_empty());
    assert_eq!(again.answer.as_ref(), Some(&recorded));
    // Also after a restart.
    ledger.close();
    drop(ledger);
    let ledger = home.open();
    let again = answered(&ledger, &key, 13).await;
    assert!(again.seqs.is_empty());
    assert_eq!(again.answer.as_ref(), Some(&recorded));
    // The order moves on: the same body is another answer.
    append(&ledger, &key, at(14), vec![unreached(1, 1, 1)]).await;
    let moved = answered(&ledger, &key, 15).await.answer.unwrap();
    assert!(moved.seq > recorded.seq);
    assert_eq!(
        moved.body, recorded.body,
        "an attempt in vain changes no body here"
    );
    assert_eq!(moved.as_of, recorded.seq.next());
}

#[tokio::test]
async fn another_body_on_the_same_state_is_another_answer() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    // Approved and never requested: before the wire deadline the body says 200, past it 410.
    append(
        &ledger,
        &key,
        at(10),
        vec![
            crate::support::terms(),
            crate::support::deposit(1),
            crate::support::paid(&[1]),
            crate::support::approved(1, &[1]),
        ],
    )
    .await;
    let before = answered(&ledger, &key, 20).await.answer.unwrap();
    let past = answered(&ledger, &key, 172_800).await.answer.unwrap();
    assert_ne!(before.body, past.body);
    assert_eq!((before.as_of, past.seq), (past.as_of, before.seq.next()));
    assert!(answered(&ledger, &key, 172_801).await.seqs.is_empty());
}

#[tokio::test]
async fn the_writer_says_what_an_answer_rests_on_also_within_one_commit() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    let order = refunding(&ledger, &key, &[1]).await.order().unwrap();
    let reply = replied(1, 1, 1, Verdict::Confirmed);
    let preview = order.preview(at(11), std::slice::from_ref(&reply)).unwrap();
    let (answer, body) = refund_answer(&preview, at(11));
    let done = append(&ledger, &key, at(11), vec![reply, answer]).await;
    let recorded = done.answer.clone().unwrap();
    assert_eq!(done.seqs, [recorded.as_of, recorded.seq]);
    let now = done.order().unwrap();
    assert_eq!(now.moved, recorded.as_of);
    assert_eq!(
        refund_answer(&now, at(11)).1,
        body,
        "the body follows from the state that it names"
    );
    ledger.close();
    let events = home.events();
    let Some(Facts::RefundAnswered(facts)) = events.last().map(|event| &event.facts) else {
        panic!("an answer comes last")
    };
    assert_eq!(facts.as_of, recorded.as_of);
}

#[tokio::test]
async fn an_answer_on_a_state_that_is_past_is_refused() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    let order = refunding(&ledger, &key, &[1]).await.order().unwrap();
    let answer = refund_answer(&order, at(11)).0;
    append(&ledger, &key, at(11), vec![unreached(1, 1, 1)]).await;
    let late = ledger.append(on(&key, order.moved, at(11), vec![answer])).await;
    assert_eq!(late.unwrap_err(), AppendError::Moved);
}

#[tokio::test]
async fn a_delivery_is_recorded_once_and_only_of_an_answer_that_exists() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    refunding(&ledger, &key, &[1]).await;
    append(&ledger, &key, at(11), vec![replied(1, 1, 1, Verdict::Confirmed)]).await;
    let answer = answered(&ledger, &key, 12).await.answer.unwrap();
    assert!(!answer.is_delivered());
    assert!(!ledger.order(&key).unwrap().unwrap().rows[0].taken);
    let first = delivered(&ledger, &key, answer.seq).await.unwrap();
    assert_eq!(first.seqs.len(), 1);
    assert!(first.order().unwrap().rows[0].taken);
    for unknown in [answer.seq, answer.as_of, Seq::new(99).unwrap()] {
        assert!(delivered(&ledger, &key, unknown).await.unwrap().seqs.is_empty());
    }
    // A delivered answer is still the answer.
    let again = answered(&ledger, &key, 60).await;
    assert!(again.seqs.is_empty() && again.answer.unwrap().is_delivered());
    // An answer to be delivered outlives the next move.
    append(&ledger, &key, at(61), vec![crate::support::approved(2, &[1])]).await;
    let second = answered(&ledger, &key, 62).await.answer.unwrap();
    append(&ledger, &key, at(63), vec![crate::support::requested(2, &[1])]).await;
    let late = Append {
        stream: Stream::Told(key.clone()),
        at: at(63),
        events: vec![NewEvent::bare(RefundDelivered { answer: second.seq })],
    };
    assert_eq!(ledger.append(late).await.unwrap().seqs.len(), 1);
    let unknown = order_key("nobody");
    assert!(matches!(
        delivered(&ledger, &unknown, answer.seq).await,
        Err(AppendError::ClockBehind { .. } | AppendError::Unfit(_))
    ));
}

#[tokio::test]
async fn an_event_that_names_what_the_order_lacks_is_refused() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    refunding(&ledger, &key, &[1]).await;
    for event in [
        crate::support::terms(),
        crate::support::requested(1, &[2]),
        crate::support::requested(2, &[1]),
        replied(2, 1, 1, Verdict::Confirmed),
        unreached(1, 0, 1),
    ] {
        let refused = try_append(&ledger, &key, at(20), vec![event.clone()]).await;
        assert!(
            matches!(refused, Err(AppendError::Unfit(_))),
            "{event:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_receipt_proves_its_answer_and_no_other() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    refunding(&ledger, &key, &[1]).await;
    let recorded = answered(&ledger, &key, 11).await.answer.unwrap();
    let text = ledger.receipt(&recorded).unwrap();
    let again = answered(&ledger, &key, 12).await.answer.unwrap();
    assert_eq!(ledger.receipt(&again), Some(text.clone()));
    let receipt: Receipt = text.parse().unwrap();
    assert!(receipt.verify(&ledger.event_key()));
    assert!(!receipt.verify(&crate::support::keys_of(3, 2, "x.example/y").event.public()));
    assert_eq!(
        (receipt.seq, receipt.event, receipt.body),
        (recorded.seq, recorded.event, recorded.body)
    );
    let words: Vec<&str> = text.split(' ').collect();
    assert_eq!(words[0], crate::support::ORIGIN);
    for (word, other) in [
        (0, "shop.example/tost".to_owned()),
        (1, recorded.seq.next().to_string()),
        (2, recorded.body.to_string()),
        (3, recorded.event.to_string()),
        (
            4,
            quittance_taler::EddsaSignature::from_bytes([1; 64]).to_string(),
        ),
    ] {
        let mut changed = words.clone();
        changed[word] = &other;
        let changed: Receipt = changed.join(" ").parse().unwrap();
        assert!(!changed.verify(&ledger.event_key()), "word {word}");
    }
    // One receipt has one text.
    let zero_led = text.replacen(&format!(" {} ", recorded.seq), &format!(" 0{} ", recorded.seq), 1);
    let (lower, doubled, five) = (
        text.to_lowercase(),
        text.replacen(' ', "  ", 1),
        words[..4].join(" "),
    );
    let longer = format!("{text} x");
    for other in [
        lower.as_str(),
        &doubled,
        &five,
        &longer,
        &zero_led,
        "",
        &format!("{text}\n"),
    ] {
        assert!(other.parse::<Receipt>().is_err(), "{other:?}");
    }
}
