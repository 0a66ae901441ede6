//! Clients that take their time: with the head, with the body, with the answer, or for ever.

use std::time::{Duration, Instant};

use quittance::admission::Bounds;
use serde_json::json;

use crate::support::coin;
use crate::wire::{Wire, get, post};
use crate::{open, open_trusting};

fn hurried() -> Bounds {
    Bounds {
        header_time: Duration::from_millis(300),
        body_time: Duration::from_millis(300),
        write_time: Duration::from_millis(300),
        linger_time: Duration::from_millis(50),
        ..Bounds::default()
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let mut shop = open(hurried()).await;
    let mut wire = Wire::to(&shop).await;
    let begun = Instant::now();
    for byte in get_for_ever() {
        if !wire.try_to_say([byte]).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        // Bytes alone do not prolong it.
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    wire.ends().await;
    shop.stop().await;
}

/// A head that never ends.
fn get_for_ever() -> impl Iterator<Item = u8> {
    "GET /config HTTP/1.1\r\nhost: a\r\n"
        .bytes()
        .chain("x: y\r\n".bytes().cycle())
}

#[tokio::test]
async fn a_connection_without_a_request_is_ended_new_or_kept() {
    let mut shop = open(hurried()).await;
    let mut silent = Wire::to(&shop).await;
    let mut kept = Wire::to(&shop).await;
    assert_eq!(kept.ask(get("config")).await.status, 200);
    silent.ends().await;
    kept.ends().await;
    shop.stop().await;
}

#[tokio::test]
async fn a_client_that_closed_its_half_is_let_go() {
    use tokio::io::AsyncWriteExt;
    let bounds = Bounds {
        connections: 1,
        header_time: Duration::from_mins(10),
        ..Bounds::default()
    };
    let mut shop = open(bounds).await;
    let mut wire = Wire::to(&shop).await;
    wire.say("POST /orders/a/refund HTTP/1.1\r\ncontent-le").await;
    wire.stream.shutdown().await.unwrap();
    wire.next().await;
    // Its place is free although nobody waited for the head's time, which is minutes here.
    shop.until("its place", async || {
        Wire::to(&shop).await.ask(get("config")).await.status == 200
    })
    .await;
    shop.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_refused() {
    let mut shop = open(hurried()).await;
    let mut wire = Wire::to(&shop).await;
    let request = post("orders/a/refund", "{\"h_contract\":1}");
    let answer = wire.ask(&request[..request.len() - 3]).await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &22.into()));
    wire.ends().await;
    shop.stop().await;
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_refused() {
    let mut shop = open(hurried()).await;
    let mut wire = Wire::to(&shop).await;
    let head = "POST /orders/a/refund HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
    wire.say(head).await;
    for _ in 0..2000 {
        if !wire.try_to_say(b" ").await {
            break;
        }
        let mut peeked = [0; 1];
        // Refused while it is still coming.
        if matches!(wire.stream.try_read(&mut peeked), Ok(1)) {
            assert_eq!(&peeked, b"H");
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    while wire.try_to_say(b" ").await {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_take_its_answers_is_cut_off_and_others_are_served() {
    let bounds = Bounds {
        connections: 2,
        send_buffer: 4096,
        // Only the reader's slowness may end it.
        header_time: Duration::from_mins(10),
        ..hurried()
    };
    let mut shop = open(bounds).await;
    let mut reader = Wire::with_buffer(1, shop.app().addr(), Some(4096)).await;
    let requests = get("config").repeat(100);
    let said = async {
        // Until the service takes no more, and then until it hangs up.
        while reader.try_to_say(&requests).await {}
    };
    tokio::time::timeout(Duration::from_secs(30), said)
        .await
        .expect("it is cut off");
    shop.until("its place", async || {
        let (mut one, mut two) = (Wire::to(&shop).await, Wire::to(&shop).await);
        one.ask(get("config")).await.status == 200 && two.ask(get("config")).await.status == 200
    })
    .await;
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_a_byte_now_and_then_is_cut_off_too() {
    use tokio::io::AsyncReadExt;
    let bounds = Bounds {
        send_buffer: 4096,
        header_time: Duration::from_mins(10),
        ..hurried()
    };
    let mut shop = open(bounds).await;
    let wire = Wire::with_buffer(1, shop.app().addr(), Some(4096)).await;
    let (mut read, mut write) = wire.stream.into_split();
    let requests = get("config").repeat(100);
    let writing = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while write.write_all(requests.as_bytes()).await.is_ok() {}
    });
    let begun = Instant::now();
    // The writing side learns of it at once; what the kernel holds to be read takes long at this pace.
    while !writing.is_finished() {
        if read.read_u8().await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(begun.elapsed() < Duration::from_secs(30), "it is not cut off");
    }
    writing.await.unwrap();
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_crowd_within_its_bounds_costs_no_wallet_its_answer() {
    let mut shop = open_trusting(
        Bounds {
            connections_per_address: 40,
            ..hurried()
        },
        "127.0.0.1",
    )
    .await;
    let coins = [coin(1, "KUDOS:4", "KUDOS:0.1")];
    let hash = shop.sell("sold", "KUDOS:4", &coins, true).await;
    shop.approve("sold", "KUDOS:1").await.expect(200);
    let addr = shop.app().addr();
    let request = post("orders/sold/refund", &json!({ "h_contract": hash }).to_string());
    let mut crowd = Vec::new();
    for host in 2..6 {
        for number in 0..30 {
            let mut wire = Wire::from(host, addr).await;
            match number % 3 {
                0 => {}
                1 => {
                    wire.try_to_say("GET /config HTTP/1.1\r\nx").await;
                }
                _ => {
                    wire.try_to_say(&request[..request.len() - 2]).await;
                }
            }
            crowd.push(wire);
        }
        let mut wallet = Wire::from(9, addr).await;
        for _ in 0..5 {
            assert_eq!(wallet.ask(&request).await.status, 200);
        }
    }
    drop(crowd);
    shop.audit().await;
}
