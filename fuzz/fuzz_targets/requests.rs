//! Requests of every endpoint: the first line is `METHOD PATH[?QUERY]`, the rest the body. It is read as the handlers
//! read it; whatever comes, there is an endpoint's answer to it, and a refusal has a client's status.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance::http::understand::understand;
use quittance_fuzz::{bounded, text};

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (head, body) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let Some((method, target)) = text(head).and_then(|head| head.split_once(' ')) else {
        return;
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let currency = "KUDOS".parse().expect("a currency");
    bounded(data.len(), 512, || {
        let found = understand((method, path, query), body, currency);
        assert_eq!(found, understand((method, path, query), body, currency));
        if let Err(refusal) = found {
            let status = refusal.http_status.unwrap_or_else(|| refusal.code.http_status());
            assert!((400..500).contains(&status), "{refusal:?}");
            assert!(refusal.events.is_empty());
        }
    });
});
