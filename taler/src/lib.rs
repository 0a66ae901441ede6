//! GNU Taler's encodings and signed messages, as far as a merchant needs them: amounts, times, base32, keys, contract
//! terms and their hash, the messages that merchant, wallet and exchange sign, an exchange's keys and the coins that
//! they make, fees, accounts, error codes and `taler://` URIs.
//!
//! Nothing in here reads a file, a socket or a clock, and nothing knows of the service that uses it. The C
//! library and the wallet are the specification: the tests recompute what they produced.

pub mod amount;
pub mod base32;
pub mod contract;
pub mod denomination;
pub mod deposit;
pub mod error_code;
pub mod exchange_keys;
pub mod forget;
pub mod json;
mod kdf;
pub mod keys;
pub mod message;
pub mod order;
pub mod payment;
pub mod payto;
pub mod rsa;
pub mod strict;
mod text;
pub mod time;
pub mod uri;
mod wallet_needs;

pub use amount::{Amount, AmountError, Currency, sum};
pub use base32::Base32Error;
pub use contract::{ContractError, ContractTerms, TermsExchange, contract_hash};
pub use error_code::ErrorCode;
pub use json::JsonError;
pub use keys::{
    ClaimNonce, ClaimToken, CoinPub, Digest32, EddsaPrivateKey, EddsaSignature, ExchangePub, HashCode,
    KeyError, MasterPub, MerchantPub, WireSalt,
};
pub use strict::StrictKey;
pub use time::{Micros, RelativeTime, TalerTimestamp, TimeError, Timestamp};
pub use wallet_needs::wallets_lack;
