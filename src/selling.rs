//! What selling needs of an instance beside its orders: who it is in contract terms, the tokens by which wallets claim,
//! and names for what has none. Nothing here is recorded, and no token is kept anywhere: they are computed from the
//! merchant's key.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use quittance_events::OrderKey;
use quittance_events::book::Account;
use quittance_taler::order::{OfferedExchange, OrderDefaults, Seller};
use quittance_taler::{ClaimToken, EddsaPrivateKey, ErrorCode, HashCode, Micros, base32};
use zeroize::Zeroizing;

use crate::decide::sale::refused;
use crate::instance::Instance;
use crate::refusal::{Refusal, RequestError};
use crate::service::Service;

/// Which of our exchanges wallets prefer: none of them.
const PRIORITY: u32 = 1024;

/// What claim tokens are derived for.
const CLAIM_TOKEN: &str = "quittance 2026-11-21 claim token v1";
/// Room for a key and two names: a vector that grows leaves its bytes behind where it was.
const MATERIAL_MAX: usize = 32 + 64 + 1 + 64;

/// The token that a wallet must show to claim this order, where one is demanded.
#[must_use]
pub fn claim_token(merchant: &EddsaPrivateKey, key: &OrderKey) -> ClaimToken {
    let mut material = Zeroizing::new(Vec::with_capacity(MATERIAL_MAX));
    material.extend_from_slice(merchant.as_bytes());
    material.extend_from_slice(key.instance.as_str().as_bytes());
    material.push(0);
    material.extend_from_slice(key.order.as_str().as_bytes());
    let derived = blake3::derive_key(CLAIM_TOKEN, &material);
    let (token, _) = derived.split_first_chunk().expect("16 of 32 bytes");
    ClaimToken::from_bytes(*token)
}

/// An order's id of ours: year, day of the year, 64 random bits.
///
/// # Panics
/// The system has no randomness.
#[must_use]
pub fn new_order_id(now: Micros) -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the system has randomness");
    let micros = i64::try_from(now.get())
        .ok()
        .and_then(DateTime::<Utc>::from_timestamp_micros);
    let mut id = String::new();
    if let Some(time) = micros {
        write!(id, "{}-", time.format("%Y.%j")).expect("a text takes all that is written to it");
    }
    id + &base32::encode(&random)
}

/// A salt for a member that can be forgotten.
///
/// # Panics
/// The system has no randomness.
#[must_use]
pub fn new_salt() -> [u8; 32] {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).expect("the system has randomness");
    salt
}

/// Who sells, and into which account.
pub struct Selling {
    /// What it writes into every order.
    pub seller: Seller,
    /// What an order gets that does not say otherwise.
    pub defaults: OrderDefaults,
    /// The account.
    pub h_wire: HashCode,
}

impl Selling {
    /// An instance as it sells now, into its latest open account, of this wire method where it matters.
    ///
    /// # Errors
    /// It has no such account, or the ledger cannot be read.
    pub async fn of(
        service: &Service,
        instance: &Instance,
        wire_method: Option<&str>,
    ) -> Result<Selling, RequestError> {
        let book = service.ledger.book();
        let fits = |account: &&Account| {
            account.open && wire_method.is_none_or(|method| method == account.added.wire_method)
        };
        let lacking = || Refusal::new(ErrorCode::MerchantPrivatePostOrdersInstanceConfigurationLacksWire);
        let account = book
            .accounts(&instance.id)
            .iter()
            .rfind(fits)
            .ok_or_else(lacking)?;
        // An account that was erased cannot be wired to.
        let wire = service.account_of(account.seq).await?.ok_or_else(lacking)?;
        let exchanges = service.exchange_list.iter().map(|exchange| OfferedExchange {
            url: exchange.base_url.to_string(),
            master_pub: exchange.master_key,
            priority: PRIORITY,
        });
        let seller = Seller::new(
            service.currency,
            &instance.base_url,
            &instance.shown(),
            instance.merchant.merchant_pub(),
            (&wire.payto_uri, &wire.salt),
            exchanges.collect(),
        );
        Ok(Selling {
            seller: seller.map_err(|error| refused(&error))?,
            defaults: instance.settings.order_defaults(service.currency),
            h_wire: account.added.h_wire,
        })
    }
}
