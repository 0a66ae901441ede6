//! The small types that every event is made of: sequence numbers and names, each of which can only hold what
//! the format allows. A name that passed its constructor is safe in a path, an SQL row and a log line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest integer that survives every JSON reader, 2^53 - 1.
pub const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Reads a plain integer, or an optional one, of the range that canonical JSON holds: `#[serde(deserialize_with)]`.
pub(crate) fn safe_integer<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Copy + Into<Option<u64>>,
{
    let value = T::deserialize(deserializer)?;
    match value.into() {
        Some(number) if number > SAFE_INTEGER_MAX => {
            Err(serde::de::Error::custom("an integer beyond 2^53-1"))
        }
        _ => Ok(value),
    }
}

/// Reads an optional generation: `#[serde(deserialize_with)]`.
pub(crate) fn generation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match u64::deserialize(deserializer)? {
        generation @ 1..=GENERATION_MAX => Ok(Some(generation)),
        _ => Err(serde::de::Error::custom("a generation is 1 to 2^33-1")),
    }
}

/// A name or number that the event format does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct IdError {
    what: &'static str,
    rule: &'static str,
}

/// Position of an event in its ledger, counted from 1. `Seq::NONE` (0) stands for "no event yet": it is what an
/// order that does not exist was last moved by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

impl Seq {
    /// Before the first event.
    pub const NONE: Seq = Seq(0);
    /// The genesis.
    pub const FIRST: Seq = Seq(1);

    /// # Errors
    /// Beyond 2^53 - 1.
    pub fn new(value: u64) -> Result<Seq, IdError> {
        if value > SAFE_INTEGER_MAX {
            return Err(IdError {
                what: "a sequence number",
                rule: "at most 2^53 - 1",
            });
        }
        Ok(Seq(value))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number as SQLite has it.
    ///
    /// # Panics
    /// Never: a `Seq` is below 2^53.
    #[must_use]
    pub fn sql(self) -> i64 {
        i64::try_from(self.0).expect("a sequence number is below 2^53")
    }

    /// The one after this.
    ///
    /// # Panics
    /// At 2^53 - 1 events, which no disk holds.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq::new(self.0 + 1).expect("a ledger of 2^53 events")
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Seq {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Seq {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Seq, D::Error> {
        Seq::new(u64::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// `rtransaction_id`: tells the refunds of one (order, coin) apart. 0 is an abort's, 1, 2, 3 ... are approvals'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefundId(u64);

/// In a successor after a loss each coin's ids begin at this many times its generation: the lost events may have used
/// those below, and nobody approves that many refunds of one coin.
pub const IDS_PER_GENERATION: u64 = 1 << 20;

/// The last generation whose ids are safe integers.
pub const GENERATION_MAX: u64 = SAFE_INTEGER_MAX / IDS_PER_GENERATION;

impl RefundId {
    /// The id of every abort's permission.
    pub const ABORT: RefundId = RefundId(0);

    /// The least id of an approval in a ledger of this generation (0: nothing was ever lost).
    #[must_use]
    pub fn first_of(generation: u64) -> RefundId {
        RefundId(
            generation
                .min(GENERATION_MAX)
                .saturating_mul(IDS_PER_GENERATION)
                .max(1),
        )
    }

    /// # Errors
    /// Beyond 2^53 - 1, where JavaScript wallets would round it.
    pub fn new(value: u64) -> Result<RefundId, IdError> {
        if value > SAFE_INTEGER_MAX {
            return Err(IdError {
                what: "an rtransaction_id",
                rule: "at most 2^53 - 1",
            });
        }
        Ok(RefundId(value))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number as SQLite has it.
    ///
    /// # Panics
    /// Never: a `RefundId` is below 2^53.
    #[must_use]
    pub fn sql(self) -> i64 {
        i64::try_from(self.0).expect("an rtransaction_id is below 2^53")
    }
}

impl fmt::Display for RefundId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for RefundId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for RefundId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<RefundId, D::Error> {
        RefundId::new(u64::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err(IdError { what: $what, rule: $rule }) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                <std::borrow::Cow<'de, str>>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fn within(text: &str, max: usize, allowed: fn(u8) -> bool) -> bool {
    !text.is_empty() && text.len() <= max && text.bytes().all(allowed)
}

name_type!(
    /// A merchant instance. `default` is the root instance.
    InstanceId,
    "an instance id",
    "1 to 64 of [A-Za-z0-9_.@-], beginning with a letter or digit",
    |text| within(text, 64, |b| b.is_ascii_alphanumeric() || b"_.@-".contains(&b))
        && text.as_bytes()[0].is_ascii_alphanumeric()
);

name_type!(
    /// An order's id as the contract terms give it.
    OrderId,
    "an order id",
    "1 to 64 of [A-Za-z0-9._:-]",
    |text| within(text, 64, |b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
);

name_type!(
    /// Names the bearer token behind an event that a private endpoint caused; never the token itself.
    TokenId,
    "a token id",
    "1 to 32 of [A-Za-z0-9_-]",
    |text| within(text, 32, |b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
);

name_type!(
    /// Names a webhook of an instance; never its secret.
    WebhookId,
    "a webhook id",
    "1 to 64 of [A-Za-z0-9._:-]",
    |text| within(text, 64, |b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
);

impl InstanceId {
    /// The root instance.
    ///
    /// # Panics
    /// Never: the name is a constant that the rule allows.
    #[must_use]
    pub fn root() -> InstanceId {
        "default".parse().expect("`default` is an instance id")
    }
}

impl TokenId {
    /// Stands in `by` of what `quittance import` records: the operator told it, with no token.
    ///
    /// # Panics
    /// Never: the name is a constant that the rule allows.
    #[must_use]
    pub fn of_import() -> TokenId {
        "import".parse().expect("`import` is a token id")
    }
}

/// An order is named by its instance and its id together: two instances may use one id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey {
    /// The merchant instance that sold it.
    pub instance: InstanceId,
    /// Its id there.
    pub order: OrderId,
}

impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.instance, self.order)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn names_hold_only_what_the_format_allows() {
        assert!("2026.325-01".parse::<OrderId>().is_ok());
        assert!("a:b_c".parse::<OrderId>().is_ok());
        for bad in ["", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<OrderId>().is_err(), "{bad:?}");
        }
        assert!(".hidden".parse::<InstanceId>().is_err());
        assert!("..".parse::<InstanceId>().is_err());
        assert_eq!(InstanceId::root().as_str(), "default");
    }

    #[test]
    fn numbers_stay_safe_integers() {
        assert!(Seq::new(SAFE_INTEGER_MAX).is_ok());
        assert!(Seq::new(SAFE_INTEGER_MAX + 1).is_err());
        assert!(serde_json::from_str::<RefundId>("9007199254740992").is_err());
        assert!(serde_json::from_str::<RefundId>("-1").is_err());
    }
}
