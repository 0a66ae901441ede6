//! Time: sequence is the order, and the clock may lag only so far.

use quittance_events::facts::{ClockCorrected, RefundDelivered};
use quittance_events::{Append, AppendError, AttachmentName, Ledger, NewEvent, Stream};
use quittance_taler::Micros;

use crate::support::{
    Home, append, at, deposit, order_key, refund_answer, refunding, terms, try_append, unreached,
};

async fn correct(ledger: &Ledger, to: Micros) {
    let facts = ClockCorrected {
        from_us: ledger.greatest_at(),
        to_us: to,
    };
    let events = vec![NewEvent::with(
        facts,
        AttachmentName::Reason,
        b"the battery was empty".to_vec(),
    )];
    ledger
        .append(Append {
            stream: Stream::Ledger(None),
            at: to,
            events,
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn time_within_an_order_never_runs_backwards() {
    let home = Home::new();
    let ledger = home.open();
    let (a, b) = (order_key("a"), order_key("b"));
    append(&ledger, &a, at(30), vec![terms()]).await;
    let back = try_append(
        &ledger,
        &a,
        Micros::new(at(30).get() - 1).unwrap(),
        vec![deposit(1)],
    )
    .await;
    assert_eq!(back.unwrap_err(), AppendError::Moved);
    append(&ledger, &a, at(30), vec![deposit(1)]).await;
    // Another order has its own time, within the minute.
    append(&ledger, &b, at(29), vec![terms()]).await;
    assert_eq!(ledger.greatest_at(), at(30));
}

#[tokio::test]
async fn a_clock_a_minute_behind_is_borne_and_not_a_moment_more() {
    let home = Home::new();
    let ledger = home.open();
    append(&ledger, &order_key("a"), at(100), vec![terms()]).await;
    append(&ledger, &order_key("b"), at(40), vec![terms()]).await;
    let behind = Micros::new(at(40).get() - 1).unwrap();
    let refused = try_append(&ledger, &order_key("c"), behind, vec![terms()]).await;
    assert_eq!(refused.unwrap_err(), AppendError::ClockBehind { behind_s: 61 });
    let told = Append {
        stream: Stream::Ledger(None),
        at: at(0),
        events: Vec::new(),
    };
    assert_eq!(
        ledger.append(told).await.unwrap_err(),
        AppendError::ClockBehind { behind_s: 100 }
    );
    assert_eq!(home.count(), 3);
    // The bound holds after a restart as well.
    drop(ledger);
    let ledger = home.open();
    assert_eq!(ledger.greatest_at(), at(100));
    let refused = try_append(&ledger, &order_key("c"), behind, vec![terms()]).await;
    assert_eq!(refused.unwrap_err(), AppendError::ClockBehind { behind_s: 61 });
}

#[tokio::test]
async fn a_correction_starts_both_comparisons_anew() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    append(&ledger, &key, at(90_000), vec![terms()]).await;
    assert!(matches!(
        try_append(&ledger, &key, at(10), vec![deposit(1)]).await,
        Err(AppendError::ClockBehind { .. })
    ));
    correct(&ledger, at(10)).await;
    assert_eq!(ledger.greatest_at(), at(10));
    append(&ledger, &key, at(10), vec![deposit(1)]).await;
    assert_eq!(ledger.greatest_at(), at(10));
    // From here on the order's time counts again.
    assert_eq!(
        try_append(&ledger, &key, at(9), vec![deposit(2)])
            .await
            .unwrap_err(),
        AppendError::Moved
    );
    drop(ledger);
    let ledger = home.open();
    assert_eq!(ledger.greatest_at(), at(10));
    append(&ledger, &key, at(11), vec![deposit(2)]).await;
    assert_eq!(ledger.order(&key).unwrap().unwrap().last_at, at(11));
}

#[tokio::test]
async fn what_is_told_of_an_order_takes_the_orders_time_where_that_is_later() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    refunding(&ledger, &key, &[1]).await;
    let told = Append {
        stream: Stream::Told(key.clone()),
        at: at(5),
        events: vec![unreached(1, 1, 1)],
    };
    let order = ledger.append(told).await.unwrap().order().unwrap();
    assert_eq!(order.last_at, at(10));
}

#[tokio::test]
async fn a_delivery_told_after_a_correction_does_not_bring_the_wrong_time_back() {
    let home = Home::new();
    let ledger = home.open();
    let key = order_key("a");
    refunding(&ledger, &key, &[1]).await;
    // The answer was recorded while the clock stood a day ahead ...
    let wrong = at(86_000);
    let order = ledger.order(&key).unwrap().unwrap();
    let answer = append(&ledger, &key, wrong, vec![refund_answer(&order, wrong).0])
        .await
        .answer
        .unwrap();
    correct(&ledger, at(20)).await;
    // ... and is delivered after the operator's word.
    let events = vec![NewEvent::bare(RefundDelivered { answer: answer.seq })];
    let told = Append {
        stream: Stream::Told(key.clone()),
        at: at(21),
        events,
    };
    assert_eq!(ledger.append(told).await.unwrap().seqs.len(), 1);
    assert_eq!(ledger.greatest_at(), at(21));
    append(&ledger, &order_key("b"), at(22), vec![terms()]).await;
}
