//! Reads an exchange's `/keys`: which online signing keys its master key vouches for. Pure. Specification: Taler's
//! exchange API, `GET /keys`, and the signed message 1024.

use quittance_events::facts::{ExchangeKeysSeen, SignKey};
use quittance_taler::json::{objects, read_object};
use quittance_taler::{EddsaSignature, ExchangePub, MasterPub, TalerTimestamp, message};
use serde::Deserialize;

use super::Reply;
use crate::config::ExchangeConfig;
use crate::limits::SIGNKEYS_MAX;

/// The refund request has had its present form since this exchange protocol (2021-12).
const PROTOCOL_MIN: u64 = 12;

/// Why a `/keys` is not usable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Anything but 200.
    #[error("status {0}")]
    Status(u16),
    /// No JSON object with these members.
    #[error("not a /keys: {0}")]
    Shape(String),
    /// Another exchange's.
    #[error("its master key is {0}, not the configured one")]
    Foreign(MasterPub),
    /// Too old, or no version.
    #[error("it speaks protocol {0:?}; {PROTOCOL_MIN} or later is needed")]
    Protocol(String),
    /// More than an event holds.
    #[error("{0} signing keys; {SIGNKEYS_MAX} is the most")]
    TooMany(usize),
    /// None that can be relied on.
    #[error("no signing key that the master key signed")]
    NoKeys,
}

#[derive(Deserialize)]
struct Keys {
    version: String,
    master_public_key: MasterPub,
    #[serde(deserialize_with = "objects")]
    signkeys: Vec<ListedKey>,
}

#[derive(Deserialize)]
struct ListedKey {
    key: ExchangePub,
    stamp_start: TalerTimestamp,
    stamp_expire: TalerTimestamp,
    stamp_end: TalerTimestamp,
    master_sig: EddsaSignature,
}

/// Reads a reply: the signing keys that the configured master key signed, in one order.
///
/// # Errors
/// See [`KeysError`].
pub fn read(reply: &Reply, config: &ExchangeConfig) -> Result<ExchangeKeysSeen, KeysError> {
    if reply.http_status != 200 {
        return Err(KeysError::Status(reply.http_status));
    }
    let keys: Keys = read_object(&reply.body).map_err(|e| KeysError::Shape(e.to_string()))?;
    if keys.master_public_key != config.master_key {
        return Err(KeysError::Foreign(keys.master_public_key));
    }
    let current = keys
        .version
        .split(':')
        .next()
        .and_then(|current| current.parse::<u64>().ok());
    if current.is_none_or(|current| current < PROTOCOL_MIN) {
        return Err(KeysError::Protocol(keys.version));
    }
    if keys.signkeys.len() > SIGNKEYS_MAX {
        return Err(KeysError::TooMany(keys.signkeys.len()));
    }
    let mut signkeys: Vec<SignKey> = keys
        .signkeys
        .into_iter()
        .map(|listed| SignKey {
            key: listed.key,
            start_s: listed.stamp_start.0,
            expire_s: listed.stamp_expire.0,
            end_s: listed.stamp_end.0,
            master_sig: listed.master_sig,
        })
        .filter(|key| {
            let message = message::signing_key_validity(key.start_s, key.expire_s, key.end_s, &key.key);
            config.master_key.verify(&message, &key.master_sig)
        })
        .collect();
    if signkeys.is_empty() {
        return Err(KeysError::NoKeys);
    }
    // In one order, so that a list told in another order is no change.
    signkeys.sort_by_key(|key| (key.start_s, key.key));
    Ok(ExchangeKeysSeen {
        master_pub: config.master_key,
        url: config.base_url.to_string(),
        signkeys,
    })
}
