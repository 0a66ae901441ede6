//! GNU Taler's encodings and signed messages, as far as refunds and aborts need them: amounts, times, base32,
//! keys, the hash of contract terms, the messages that a merchant and an exchange sign, error codes and
//! `taler://` URIs.
//!
//! Nothing in here reads a file, a socket or a clock, and nothing knows of the service that uses it. The C
//! library and the wallet are the specification: the tests recompute what they produced.

pub mod amount;
pub mod base32;
pub mod contract;
pub mod error_code;
pub mod json;
mod kdf;
pub mod keys;
pub mod message;
pub mod strict;
mod text;
pub mod time;
pub mod uri;

pub use amount::{Amount, AmountError, Currency, sum};
pub use base32::Base32Error;
pub use contract::{ContractError, ContractTerms, TermsExchange, contract_hash};
pub use error_code::ErrorCode;
pub use json::JsonError;
pub use keys::{
    CoinPub, Digest32, EddsaPrivateKey, EddsaSignature, ExchangePub, HashCode, KeyError, MasterPub,
    MerchantPub,
};
pub use strict::StrictKey;
pub use time::{Micros, TalerTimestamp, TimeError, Timestamp};
