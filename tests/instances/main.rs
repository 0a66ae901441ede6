//! Instances and their accounts as shops and operators make them through the API and from the command line.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod clients;
mod managing;

use quittance::token::Grant;
use quittance::token_commands::{self, NewToken};
use quittance_events::InstanceId;
use quittance_events::facts::TokenScope;
use quittance_taler::Timestamp;
use support::Shop;

/// A token of the root instance, as `quittance token add` makes it.
pub(crate) fn token(shop: &Shop, scope: TokenScope, expire_s: Timestamp) -> String {
    let new = NewToken {
        instance: InstanceId::root(),
        grant: Grant {
            scope,
            expire_s,
            refreshable: false,
        },
        description: String::new(),
    };
    let (text, _) = token_commands::add_token(&shop.config, &shop.clock.clock(), &new).unwrap();
    text.to_string()
}
