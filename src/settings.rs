//! What an instance says of itself and what its orders get that do not say otherwise. It stands in the instance's file
//! beside its tokens, not in the ledger: whatever of it matters is in the terms of every order. Specification: the
//! members of these names in Taler's merchant API.

use quittance_taler::order::OrderDefaults;
use quittance_taler::{Amount, Currency, RelativeTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::limits::SETTINGS_MAX;

/// An address, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(
    missing_docs,
    reason = "these are Taler's words for the parts of an address, which say it all"
)]
pub struct Location {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country_subdivision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub district: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub town: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub town_location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub street: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_lines: Option<Vec<String>>,
}

/// How customers reach the merchant; each absent where he does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Contact {
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Telephone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<String>,
    /// Address of his pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website: Option<String>,
    /// A picture as a `data:` URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo: Option<String>,
}

/// What an instance's file says of it beside its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How to reach him.
    #[serde(flatten)]
    pub contact: Contact,
    /// Where he is.
    pub address: Location,
    /// Whose law holds.
    pub jurisdiction: Location,
    /// From an order to its pay deadline.
    pub default_pay_delay: RelativeTime,
    /// From an order to its refund deadline.
    pub default_refund_delay: RelativeTime,
    /// From the later of both to the wire deadline.
    pub default_wire_transfer_delay: RelativeTime,
    /// Whether the merchant bears fees as the exchange's curve says. Kept and told; orders bear what they say.
    pub use_stefan: bool,
}

impl Default for Settings {
    /// Of a shop that says nothing: paid within a day, refunded for two weeks and a day, wired a day after.
    fn default() -> Settings {
        let days = |days: u64| RelativeTime::from_s(days * 86_400).unwrap_or(RelativeTime::FOREVER);
        Settings {
            contact: Contact::default(),
            address: Location::default(),
            jurisdiction: Location::default(),
            default_pay_delay: days(1),
            default_refund_delay: days(15),
            default_wire_transfer_delay: days(1),
            use_stefan: false,
        }
    }
}

/// Settings that do not go into contract terms.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Wallets show it.
    #[error("an instance has a name")]
    NoName,
    /// Every order would carry it.
    #[error("name and settings have at most {SETTINGS_MAX} bytes in all: every order carries them")]
    TooLong,
}

impl Settings {
    /// Whether orders can carry them under this name.
    ///
    /// # Errors
    /// They cannot.
    pub fn check(&self, name: &str) -> Result<(), SettingsError> {
        if name.is_empty() {
            return Err(SettingsError::NoName);
        }
        let shown = self.shown(name).to_string();
        if shown.len() > SETTINGS_MAX {
            return Err(SettingsError::TooLong);
        }
        Ok(())
    }

    /// The merchant as contract terms show him.
    #[must_use]
    pub fn shown(&self, name: &str) -> Value {
        let mut merchant = json!({
            "name": name, "address": self.address, "jurisdiction": self.jurisdiction,
        });
        let Contact {
            email,
            phone_number: _,
            website,
            logo,
        } = &self.contact;
        for (member, value) in [("email", email), ("website", website), ("logo", logo)] {
            if let Some(value) = value {
                merchant[member] = value.as_str().into();
            }
        }
        merchant
    }

    /// What an order gets that does not say otherwise. Of fees the merchant bears none then.
    #[must_use]
    pub fn order_defaults(&self, currency: Currency) -> OrderDefaults {
        OrderDefaults {
            pay_delay: self.default_pay_delay,
            refund_delay: self.default_refund_delay,
            wire_delay: self.default_wire_transfer_delay,
            max_fee: Amount::zero(currency),
            max_wire_fee: None,
            wire_fee_amortization: None,
        }
    }
}
