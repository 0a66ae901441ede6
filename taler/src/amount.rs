//! Amounts of money: a currency, a whole value up to 2^52 and a fraction in units of 10^-8. Integers
//! throughout.
//!
//! An amount is never negative, and amounts of two currencies are never added or compared: both are errors,
//! which is why `Amount` has no `PartialOrd`. Reading is stricter than the C library (no blanks, no `EUR:.1`,
//! currency `[A-Z]{3,11}`); writing is the C library's form, without trailing zeros.

use crate::text::serde_as_text;
use std::{cmp::Ordering, fmt, str::FromStr};

/// Units of 10^-8 in one whole.
const UNITS_PER_WHOLE: u32 = 100_000_000;
/// Digits after the dot that 10^-8 allows.
const FRACTION_DIGITS: usize = 8;
/// Taler's field has 12 bytes of which the last is a NUL.
const CURRENCY_FIELD: usize = 12;

/// Why an amount could not be read or computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not of the form CUR:V or CUR:V.F with 1 to 8 digits after the dot.
    #[error("not an amount of the form CUR:V or CUR:V.F with at most 8 decimals")]
    Malformed,
    /// Not 3 to 11 upper-case ASCII letters.
    #[error("not a currency of 3 to 11 letters A to Z")]
    CurrencyMalformed,
    /// The value is above 2^52.
    #[error("amount above 2^52")]
    Overflow,
    /// The difference would be negative.
    #[error("amount would be negative")]
    Underflow,
    /// Two currencies in one computation.
    #[error("amounts of different currencies")]
    CurrencyMismatch,
}

/// A currency: 3 to 11 upper-case ASCII letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; CURRENCY_FIELD]);

impl Currency {
    /// The letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(CURRENCY_FIELD);
        str::from_utf8(&self.0[..length]).unwrap_or_default()
    }
}

impl FromStr for Currency {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Currency, AmountError> {
        let letters = text.as_bytes();
        if !(3..CURRENCY_FIELD).contains(&letters.len()) || !letters.iter().all(u8::is_ascii_uppercase) {
            return Err(AmountError::CurrencyMalformed);
        }
        let mut field = [0; CURRENCY_FIELD];
        field[..letters.len()].copy_from_slice(letters);
        Ok(Currency(field))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

serde_as_text!(Currency, "a currency of 3 to 11 letters A to Z");

/// An amount of money; see the module for its limits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amount {
    currency: Currency,
    value: u64,
    fraction: u32,
}

impl Amount {
    /// The greatest whole value. It may carry any fraction: the C library takes 4503599627370496.99999999.
    pub const MAX_VALUE: u64 = 1 << 52;

    /// Nothing, in that currency.
    #[must_use]
    pub fn zero(currency: Currency) -> Amount {
        Amount {
            currency,
            value: 0,
            fraction: 0,
        }
    }

    /// `value` wholes, at most [`Amount::MAX_VALUE`], and `fraction` units of 10^-8, fewer than 10^8.
    pub fn new(currency: Currency, value: u64, fraction: u32) -> Result<Amount, AmountError> {
        if fraction >= UNITS_PER_WHOLE {
            return Err(AmountError::Malformed);
        }
        if value > Amount::MAX_VALUE {
            return Err(AmountError::Overflow);
        }
        Ok(Amount {
            currency,
            value,
            fraction,
        })
    }

    /// The currency.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// The wholes.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value
    }

    /// The rest, in units of 10^-8.
    #[must_use]
    pub fn fraction(&self) -> u32 {
        self.fraction
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.value == 0 && self.fraction == 0
    }

    /// The sum; `Overflow` above 2^52, `CurrencyMismatch` between currencies.
    pub fn checked_add(self, other: Amount) -> Result<Amount, AmountError> {
        self.same_currency(&other)?;
        let fraction = self.fraction + other.fraction;
        let carry = u64::from(fraction >= UNITS_PER_WHOLE);
        Amount::new(
            self.currency,
            self.value + other.value + carry,
            fraction % UNITS_PER_WHOLE,
        )
    }

    /// The difference; `Underflow` below zero, `CurrencyMismatch` between currencies.
    pub fn checked_sub(self, other: Amount) -> Result<Amount, AmountError> {
        self.same_currency(&other)?;
        let (borrow, fraction) = match self.fraction.checked_sub(other.fraction) {
            Some(fraction) => (0, fraction),
            None => (1, self.fraction + UNITS_PER_WHOLE - other.fraction),
        };
        let value = self
            .value
            .checked_sub(other.value + borrow)
            .ok_or(AmountError::Underflow)?;
        Ok(Amount {
            value,
            fraction,
            ..self
        })
    }

    /// Which is more; `CurrencyMismatch` between currencies.
    pub fn try_cmp(&self, other: &Amount) -> Result<Ordering, AmountError> {
        self.same_currency(other)?;
        Ok((self.value, self.fraction).cmp(&(other.value, other.fraction)))
    }

    /// The whole amount in units of 10^-8.
    #[must_use]
    pub fn units(&self) -> u128 {
        u128::from(self.value) * u128::from(UNITS_PER_WHOLE) + u128::from(self.fraction)
    }

    /// The amount of so many units of 10^-8; `Overflow` above the greatest amount.
    pub fn from_units(currency: Currency, units: u128) -> Result<Amount, AmountError> {
        let whole = u128::from(UNITS_PER_WHOLE);
        let value = u64::try_from(units / whole).map_err(|_| AmountError::Overflow)?;
        let fraction = u32::try_from(units % whole).map_err(|_| AmountError::Overflow)?;
        Amount::new(currency, value, fraction)
    }

    /// The form in signed messages: value and fraction big endian, currency padded with NUL.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.value.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.fraction.to_be_bytes());
        bytes[12..].copy_from_slice(&self.currency.0);
        bytes
    }

    fn same_currency(&self, other: &Amount) -> Result<(), AmountError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(AmountError::CurrencyMismatch)
        }
    }
}

/// The sum of amounts that must all be in `currency`.
pub fn sum(currency: Currency, amounts: impl IntoIterator<Item = Amount>) -> Result<Amount, AmountError> {
    amounts
        .into_iter()
        .try_fold(Amount::zero(currency), Amount::checked_add)
}

/// A non-empty run of ASCII digits as a number.
fn digits(text: &str) -> Result<u64, AmountError> {
    if text.is_empty() {
        return Err(AmountError::Malformed);
    }
    text.bytes().try_fold(0u64, |number, byte| {
        if !byte.is_ascii_digit() {
            return Err(AmountError::Malformed);
        }
        let number = number.checked_mul(10).ok_or(AmountError::Overflow)?;
        number
            .checked_add(u64::from(byte - b'0'))
            .ok_or(AmountError::Overflow)
    })
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Amount, AmountError> {
        let (currency, number) = text.split_once(':').ok_or(AmountError::Malformed)?;
        let currency = currency.parse()?;
        let Some((whole, decimals)) = number.split_once('.') else {
            return Amount::new(currency, digits(number)?, 0);
        };
        if decimals.len() > FRACTION_DIGITS {
            return Err(AmountError::Malformed);
        }
        let missing = (decimals.len()..FRACTION_DIGITS).fold(1, |scale, _| scale * 10);
        let fraction = digits(decimals)? * missing;
        Amount::new(
            currency,
            digits(whole)?,
            u32::try_from(fraction).map_err(|_| AmountError::Malformed)?,
        )
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.currency, self.value)?;
        if self.fraction == 0 {
            return Ok(());
        }
        let (mut fraction, mut width) = (self.fraction, FRACTION_DIGITS);
        while fraction % 10 == 0 {
            fraction /= 10;
            width -= 1;
        }
        write!(f, ".{fraction:0width$}")
    }
}

serde_as_text!(Amount, "an amount of the form CUR:V or CUR:V.F");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    #[test]
    fn reads_and_writes_talers_form() {
        for (read, written) in [
            ("EUR:1", "EUR:1"),
            ("EUR:1.50", "EUR:1.5"),
            ("EUR:0.00000001", "EUR:0.00000001"),
            ("EUR:10.00000000", "EUR:10"),
            ("EUR:007.0", "EUR:7"),
            (
                "TESTKUDOS:4503599627370496.99999999",
                "TESTKUDOS:4503599627370496.99999999",
            ),
            ("ABCDEFGHIJK:0", "ABCDEFGHIJK:0"),
        ] {
            assert_eq!(amount(read).to_string(), written);
            assert_eq!(format!("{:?}", amount(read)), written);
        }
        assert_eq!(
            (amount("EUR:1.5").value(), amount("EUR:1.5").fraction()),
            (1, 50_000_000)
        );
    }

    #[test]
    fn refuses_all_other_forms() {
        use AmountError::{CurrencyMalformed, Malformed, Overflow};
        for (text, error) in [
            ("", Malformed),
            ("EUR", Malformed),
            ("EUR:", Malformed),
            ("EUR:.1", Malformed),
            ("EUR:1.", Malformed),
            ("EUR:.", Malformed),
            ("EUR:1.000000001", Malformed),
            ("EUR:1.0.0", Malformed),
            ("EUR:1,5", Malformed),
            ("EUR:+1", Malformed),
            ("EUR:-1", Malformed),
            ("EUR:1.-1", Malformed),
            ("EUR: 1", Malformed),
            ("EUR:1 ", Malformed),
            ("EUR:1e3", Malformed),
            ("EUR:1:2", Malformed),
            ("EUR:٣", Malformed),
            (":1", CurrencyMalformed),
            (" EUR:1", CurrencyMalformed),
            ("eur:1", CurrencyMalformed),
            ("EU:1", CurrencyMalformed),
            ("ABCDEFGHIJKL:1", CurrencyMalformed),
            ("EU\0:1", CurrencyMalformed),
            ("ÄÖÜ:1", CurrencyMalformed),
            ("EUR:4503599627370497", Overflow),
            ("EUR:99999999999999999999999999", Overflow),
        ] {
            assert_eq!(text.parse::<Amount>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn two_currencies_never_meet() {
        let (a, b) = (amount("EUR:2"), amount("KUDOS:1"));
        assert_eq!(a.checked_add(b), Err(AmountError::CurrencyMismatch));
        assert_eq!(a.checked_sub(b), Err(AmountError::CurrencyMismatch));
        assert_eq!(a.try_cmp(&b), Err(AmountError::CurrencyMismatch));
        assert_eq!(sum(a.currency(), [a, b]), Err(AmountError::CurrencyMismatch));
        assert_ne!(Amount::zero(a.currency()), Amount::zero(b.currency()));
    }

    #[test]
    fn limits() {
        let eur = "EUR".parse().unwrap();
        assert_eq!(
            Amount::new(eur, Amount::MAX_VALUE + 1, 0),
            Err(AmountError::Overflow)
        );
        assert_eq!(Amount::new(eur, 0, UNITS_PER_WHOLE), Err(AmountError::Malformed));
        assert_eq!(Amount::from_units(eur, u128::MAX), Err(AmountError::Overflow));
        let most = Amount::new(eur, Amount::MAX_VALUE, UNITS_PER_WHOLE - 1).unwrap();
        assert_eq!(
            most.checked_add(amount("EUR:0.00000001")),
            Err(AmountError::Overflow)
        );
        assert_eq!(most.checked_add(most), Err(AmountError::Overflow));
        assert_eq!(
            Amount::zero(eur).checked_sub(amount("EUR:0.00000001")),
            Err(AmountError::Underflow)
        );
        assert_eq!(sum(eur, []), Ok(Amount::zero(eur)));
        assert!(Amount::zero(eur).is_zero() && !amount("EUR:0.00000001").is_zero());
    }

    #[test]
    fn bytes_as_signed() {
        let hex = data_encoding::HEXLOWER.encode(&amount("KUDOS:12.30").to_bytes());
        assert_eq!(hex, "000000000000000c01c9c3804b55444f5300000000000000");
    }

    #[test]
    fn json_is_the_text() {
        assert_eq!(serde_json::to_string(&amount("EUR:1.10")).unwrap(), "\"EUR:1.1\"");
        assert_eq!(
            serde_json::from_str::<Amount>("\"EUR:1.1\"").unwrap(),
            amount("EUR:1.1")
        );
        assert!(serde_json::from_str::<Amount>("\"EUR:.1\"").is_err());
        assert!(serde_json::from_str::<Amount>("1").is_err());
        assert_eq!(
            serde_json::from_str::<Currency>("\"EUR\"").unwrap().as_str(),
            "EUR"
        );
        assert!(serde_json::from_str::<Currency>("\"eur\"").is_err());
    }

    const MAX_UNITS: u128 = (1 << 52) * 100_000_000 + 99_999_999;

    fn units() -> impl Strategy<Value = u128> {
        prop_oneof![
            0..=MAX_UNITS,
            0u128..1_000_000_000,
            MAX_UNITS - 1_000_000_000..=MAX_UNITS
        ]
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_integers(a in units(), b in units()) {
            let eur: Currency = "EUR".parse().unwrap();
            let (x, y) = (Amount::from_units(eur, a).unwrap(), Amount::from_units(eur, b).unwrap());
            prop_assert_eq!(x.units(), a);
            let added = if a + b <= MAX_UNITS { Ok(a + b) } else { Err(AmountError::Overflow) };
            prop_assert_eq!(x.checked_add(y).map(|amount| amount.units()), added);
            let subtracted = a.checked_sub(b).ok_or(AmountError::Underflow);
            prop_assert_eq!(x.checked_sub(y).map(|amount| amount.units()), subtracted);
            prop_assert_eq!(x.try_cmp(&y), Ok(a.cmp(&b)));
            prop_assert_eq!(sum(eur, [x, y]), x.checked_add(y));
            prop_assert_eq!(x == y, a == b);
        }

        #[test]
        fn text_round_trip(units in units(), currency in "[A-Z]{3,11}") {
            let amount = Amount::from_units(currency.parse().unwrap(), units).unwrap();
            let text = amount.to_string();
            prop_assert_eq!(text.parse::<Amount>().unwrap(), amount);
            prop_assert!(!text.contains('.') || !text.ends_with('0'), "{}", text);
            let padded = format!("{currency}:{}.{:08}", units / 100_000_000, units % 100_000_000);
            prop_assert_eq!(padded.parse::<Amount>().unwrap(), amount);
        }

        #[test]
        fn any_text_is_read_as_it_says_or_refused(text in "[A-Z]{2,12}:?[0-9.+ -]{0,20}") {
            if let Ok(amount) = text.parse::<Amount>() {
                let written = amount.to_string();
                prop_assert_eq!(written.parse::<Amount>().unwrap(), amount);
                prop_assert!(text.bytes().all(|byte| byte != b'+' && byte != b'-' && byte != b' '));
            }
        }
    }
}
