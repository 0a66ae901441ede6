//! The front door under overload and attack, over real TCP: each bound, and that whoever keeps to them is served
//! meanwhile. Bounds are shortened; no test waits for the real ones.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/crowd.rs"]
mod load;
#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod bytes;
mod crowd;
mod drain;
mod health;
mod proxies;
mod slow;
mod wire;

use quittance::admission::Bounds;

use support::{Options, Shop};

/// A shop with these bounds that trusts no proxy: its clients' addresses are those of their connections.
async fn open(bounds: Bounds) -> Shop {
    open_trusting(bounds, "none").await
}

async fn open_trusting(bounds: Bounds, trusted: &'static str) -> Shop {
    Shop::open_with(Options {
        bounds,
        trusted_proxies: Some(trusted),
        ..Options::default()
    })
    .await
}
