//! Bytes that are too many, or no HTTP.

use std::time::Duration;

use quittance::admission::Bounds;

use crate::open;
use crate::wire::{Wire, get, get_with, post};

fn bounds() -> Bounds {
    Bounds {
        linger_time: Duration::from_millis(200),
        ..Bounds::default()
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_431() {
    let mut shop = open(bounds()).await;
    let most = Bounds::default().head;
    let fits = get_with("config", &format!("x: {}\r\n", "y".repeat(most - 500)));
    assert_eq!(Wire::to(&shop).await.ask(fits).await.status, 200);
    for request in [
        get_with("config", &format!("x: {}\r\n", "y".repeat(most))),
        // Sent on although it was refused long ago: the answer is read all the same.
        get_with("config", &format!("x: {}\r\n", "y".repeat(20 * most))),
        get(&"z".repeat(most)),
    ] {
        let mut wire = Wire::to(&shop).await;
        let answer = wire.ask(request).await;
        assert_eq!(answer.status, 431, "{answer:?}");
        wire.ends().await;
    }
    shop.stop().await;
}

#[tokio::test]
async fn too_many_header_fields_are_431() {
    let mut shop = open(bounds()).await;
    let most = Bounds::default().header_fields;
    // `host` is one of them.
    let fits = get_with("config", &"x: y\r\n".repeat(most - 1));
    assert_eq!(Wire::to(&shop).await.ask(fits).await.status, 200);
    let mut wire = Wire::to(&shop).await;
    let answer = wire.ask(get_with("config", &"x: y\r\n".repeat(most))).await;
    assert_eq!(answer.status, 431, "{answer:?}");
    wire.ends().await;
    shop.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_413_told_or_not() {
    let mut shop = open(bounds()).await;
    let long = " ".repeat(300 * 1024);
    let told = post("orders/a/refund", &long);
    let chunked = format!(
        "POST /orders/a/refund HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    for request in [told, chunked] {
        let mut wire = Wire::to(&shop).await;
        // All of it is sent before the answer is read: the answer must have survived that.
        let answer = wire.ask(request).await;
        assert_eq!((answer.status, &answer.json()["code"]), (413, &32.into()));
        wire.ends().await;
    }
    shop.stop().await;
}

#[tokio::test]
async fn garbage_is_refused_and_harms_nobody() {
    let mut shop = open(bounds()).await;
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice();
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    let mut noise = Vec::new();
    let mut seed = 1_u32;
    for _ in 0..4096 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.push(seed.to_be_bytes()[0]);
    }
    for bytes in [
        tls_hello,
        http2,
        noise.as_slice(),
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /config HTTP/9.9\r\n\r\n",
        b"GET /config HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /orders/a/refund HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /orders/a/refund HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /orders/a/refund HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        let mut wire = Wire::to(&shop).await;
        wire.say(bytes).await;
        if let Some(answer) = wire.next().await {
            assert_eq!(
                answer.status,
                400,
                "{:?} {answer:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        wire.ends().await;
    }
    // A chunk without end, after a sound head, is a body that is no JSON.
    let mut wire = Wire::to(&shop).await;
    let head = "POST /orders/a/refund HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = wire.ask(format!("{head}zz\r\n")).await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &22.into()));
    wire.ends().await;
    assert_eq!(Wire::to(&shop).await.ask(get("health")).await.status, 200);
    shop.stop().await;
}

#[tokio::test]
async fn requests_that_come_in_one_go_are_answered_in_order() {
    let mut shop = open(bounds()).await;
    let mut wire = Wire::to(&shop).await;
    let go = [
        get("config"),
        post("orders/a/refund", "{"),
        get("nothing"),
        get("health"),
    ]
    .concat();
    wire.say(go.repeat(50)).await;
    for _ in 0..50 {
        for status in [200, 400, 404, 200] {
            assert_eq!(wire.answer().await.status, status);
        }
    }
    shop.stop().await;
}
