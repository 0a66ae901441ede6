//! `payto://` URIs (RFC 8905) as Taler takes them, and the hash of a merchant's account, `h_wire`.
//!
//! Stricter than RFC 8905, as the C library is: a narrow set of characters, and a `receiver-name` wherever money is
//! sent to a bank account. A URI is kept and hashed exactly as written; two spellings of one account are told to be
//! the same by their normalized forms only. Never looks an account up.

use crate::{HashCode, WireSalt, kdf::hkdf, text::serde_as_text};
use std::{fmt, str::FromStr};

/// Length of a URI. Longer than any account with a name; also a bound on what is stored and sent with each deposit.
const MAX_BYTES: usize = 1024;
const PREFIX: &str = "payto://";
/// What may stand in a URI besides letters and digits.
const PUNCTUATION: &[u8] = b"/:$&?!-_.,;=*+%~@()[]";
/// Lengths of IBANs, of which none is shorter than the country, two check digits and one more, or longer than 34.
const IBAN_LENGTHS: std::ops::RangeInclusive<usize> = 5..=34;
const H_WIRE_INFO: &[u8] = b"merchant-wire-signature";

/// Why a text is no account that Taler can send money to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaytoError {
    /// Does not begin with `payto://`, or nothing follows the wire method.
    #[error("not of the form payto://METHOD/ACCOUNT")]
    Form,
    /// Too long.
    #[error("a payto URI of more than {MAX_BYTES} bytes")]
    TooLong,
    /// A character that Taler does not take.
    #[error("byte {0} of the payto URI is none that Taler takes")]
    Character(usize),
    /// A bank account without its owner's name.
    #[error("the payto URI lacks receiver-name")]
    NoReceiver,
    /// An IBAN that is none, by its check digits or otherwise.
    #[error("the payto URI has no valid IBAN")]
    Iban,
    /// The host or the account of an `x-taler-bank`.
    #[error("the payto URI of an x-taler-bank is not payto://x-taler-bank/HOST[:PORT]/[PATH/]ACCOUNT")]
    TalerBank,
}

/// A payto URI as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PaytoUri(String);

impl PaytoUri {
    /// The URI as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How the money is sent, in lower case: `iban`, `x-taler-bank`. What contract terms call `wire_method`.
    #[must_use]
    pub fn method(&self) -> String {
        split(&self.0).map_or_else(String::new, |parts| parts.method.to_ascii_lowercase())
    }

    /// The owner's name, decoded, if there is one that is a text.
    #[must_use]
    pub fn receiver_name(&self) -> Option<String> {
        let query = split(&self.0)?.query;
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name.eq_ignore_ascii_case("receiver-name"))
            .map(|(_, value)| value.into_owned())
    }

    /// The account alone, in the one form that is the same for all its spellings: without parameters; method and host
    /// in lower case; an IBAN in upper case and without BIC.
    #[must_use]
    pub fn normalized(&self) -> String {
        let method = self.method();
        let account = split(&self.0).map_or("", |parts| parts.account);
        let account = match method.as_str() {
            "iban" => account
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_ascii_uppercase(),
            "x-taler-bank" => account.split_once('/').map_or_else(
                || account.to_owned(),
                |(host, path)| format!("{}/{path}", host.to_ascii_lowercase()),
            ),
            "upi" | "ilp" => account.to_ascii_lowercase(),
            _ => account.to_owned(),
        };
        format!("{PREFIX}{method}/{account}")
    }

    /// The hash of this account, which contract terms and deposits name instead of the account. It is over the URI
    /// as written.
    #[must_use]
    pub fn h_wire(&self, salt: &WireSalt) -> HashCode {
        h_wire(&self.0, salt)
    }
}

/// The hash of an account that someone else took for one, whatever it is.
#[must_use]
pub fn h_wire(account: &str, salt: &WireSalt) -> HashCode {
    let account = [account.as_bytes(), &[0]].concat();
    HashCode::from_bytes(hkdf(salt.as_bytes(), &account, H_WIRE_INFO))
}

struct Parts<'a> {
    method: &'a str,
    account: &'a str,
    query: &'a str,
}

fn split(uri: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = uri.split_at_checked(PREFIX.len())?;
    if !scheme.eq_ignore_ascii_case(PREFIX) {
        return None;
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (method, account) = path.split_once('/')?;
    (!method.is_empty() && !account.is_empty()).then_some(Parts {
        method,
        account,
        query,
    })
}

impl FromStr for PaytoUri {
    type Err = PaytoError;

    fn from_str(text: &str) -> Result<PaytoUri, PaytoError> {
        if text.len() > MAX_BYTES {
            return Err(PaytoError::TooLong);
        }
        let foreign = |byte: u8| !byte.is_ascii_alphanumeric() && !PUNCTUATION.contains(&byte);
        if let Some(at) = text.bytes().position(foreign) {
            return Err(PaytoError::Character(at));
        }
        let parts = split(text).ok_or(PaytoError::Form)?;
        let is_bank = if parts.method.eq_ignore_ascii_case("iban") {
            check_iban(parts.account)?;
            true
        } else if parts.method.eq_ignore_ascii_case("x-taler-bank") {
            check_taler_bank(parts.account)?;
            true
        } else {
            false
        };
        let uri = PaytoUri(text.to_owned());
        if is_bank && uri.receiver_name().is_none() {
            return Err(PaytoError::NoReceiver);
        }
        Ok(uri)
    }
}

/// `[BIC/]IBAN`: letters and digits, two letters and two digits first, and check digits that leave 1 modulo 97.
fn check_iban(account: &str) -> Result<(), PaytoError> {
    let iban = match account.split_once('/') {
        Some((bic, iban)) if !bic.is_empty() => iban,
        Some(_) => return Err(PaytoError::Iban),
        None => account,
    };
    let bytes = iban.as_bytes();
    let well_formed = IBAN_LENGTHS.contains(&bytes.len())
        && bytes.iter().all(u8::is_ascii_alphanumeric)
        && bytes[..2].iter().all(u8::is_ascii_alphabetic)
        && bytes[2..4].iter().all(u8::is_ascii_digit);
    if !well_formed {
        return Err(PaytoError::Iban);
    }
    // The first four come last; a letter counts as the two digits 10 to 35.
    let remainder = iban
        .chars()
        .skip(4)
        .chain(iban.chars().take(4))
        .filter_map(|symbol| symbol.to_digit(36))
        .fold(0, |rest, digit| {
            (rest * if digit < 10 { 10 } else { 100 } + digit) % 97
        });
    if remainder == 1 {
        Ok(())
    } else {
        Err(PaytoError::Iban)
    }
}

/// `HOST[:PORT]/[PATH/]ACCOUNT`.
fn check_taler_bank(account: &str) -> Result<(), PaytoError> {
    let (authority, path) = account.split_once('/').ok_or(PaytoError::TalerBank)?;
    let (host, port) = authority
        .split_once(':')
        .map_or((authority, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let good_port = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let named = path.rsplit('/').next().is_some_and(|name| !name.is_empty());
    if !host.starts_with('-') && host.split('.').all(label) && good_port && named {
        Ok(())
    } else {
        Err(PaytoError::TalerBank)
    }
}

impl fmt::Display for PaytoUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(PaytoUri, "a payto URI");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    fn uri(text: &str) -> PaytoUri {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn keeps_what_was_written_and_normalizes_the_account() {
        for (text, method, name, normalized) in [
            (
                "payto://x-taler-bank/localhost/merchant?receiver-name=Test+Merchant",
                "x-taler-bank",
                Some("Test Merchant"),
                "payto://x-taler-bank/localhost/merchant",
            ),
            (
                "PayTo://X-Taler-Bank/Bank.EXAMPLE:8080/Path/User?message=x&Receiver-Name=Gr%C3%BC%C3%9Fe",
                "x-taler-bank",
                Some("Grüße"),
                "payto://x-taler-bank/bank.example:8080/Path/User",
            ),
            (
                "payto://iban/SANDBOXX/de474361?receiver-name=Merchant43",
                "iban",
                Some("Merchant43"),
                "payto://iban/DE474361",
            ),
            (
                "payto://iban/DE89370400440532013000?receiver-name=Foo%20Bar",
                "iban",
                Some("Foo Bar"),
                "payto://iban/DE89370400440532013000",
            ),
            (
                "payto://bitcoin/BC1qAbC?amount=BTC:1",
                "bitcoin",
                None,
                "payto://bitcoin/BC1qAbC",
            ),
            (
                "payto://upi/Alice@Example",
                "upi",
                None,
                "payto://upi/alice@example",
            ),
        ] {
            let uri = uri(text);
            assert_eq!(uri.as_str(), text);
            assert_eq!(uri.method(), method);
            assert_eq!(uri.receiver_name().as_deref(), name);
            assert_eq!(uri.normalized(), normalized);
            assert_eq!(serde_json::from_value::<PaytoUri>(text.into()).unwrap(), uri);
        }
    }

    #[test]
    fn refuses_what_is_no_account() {
        let long = format!(
            "payto://x-taler-bank/localhost/a?receiver-name={}",
            "b".repeat(980)
        );
        for (text, error) in [
            ("", PaytoError::Form),
            ("payto", PaytoError::Form),
            ("https://iban/DE474361?receiver-name=x", PaytoError::Form),
            ("payto://iban", PaytoError::Form),
            ("payto:///DE474361", PaytoError::Form),
            ("payto://iban/?receiver-name=x", PaytoError::Form),
            (
                "payto://iban/DE474361?receiver-name=a b",
                PaytoError::Character(37),
            ),
            ("payto://iban/DE474361?receiver-name=ü", PaytoError::Character(36)),
            ("payto://iban/DE474361\0", PaytoError::Character(21)),
            ("payto://iban/DE474361", PaytoError::NoReceiver),
            ("payto://iban/DE474361?name=x", PaytoError::NoReceiver),
            ("payto://iban/DE484361?receiver-name=x", PaytoError::Iban),
            ("payto://iban/DE47?receiver-name=x", PaytoError::Iban),
            ("payto://iban/4743DE61?receiver-name=x", PaytoError::Iban),
            ("payto://iban//DE474361?receiver-name=x", PaytoError::Iban),
            ("payto://iban/A/B/DE474361?receiver-name=x", PaytoError::Iban),
            ("payto://x-taler-bank/localhost/a", PaytoError::NoReceiver),
            (
                "payto://x-taler-bank/localhost?receiver-name=x",
                PaytoError::TalerBank,
            ),
            (
                "payto://x-taler-bank/localhost/?receiver-name=x",
                PaytoError::TalerBank,
            ),
            ("payto://x-taler-bank//a?receiver-name=x", PaytoError::TalerBank),
            ("payto://x-taler-bank/-a/a?receiver-name=x", PaytoError::TalerBank),
            (
                "payto://x-taler-bank/a..b/a?receiver-name=x",
                PaytoError::TalerBank,
            ),
            ("payto://x-taler-bank/a:/a?receiver-name=x", PaytoError::TalerBank),
            (
                "payto://x-taler-bank/a:0/a?receiver-name=x",
                PaytoError::TalerBank,
            ),
            (
                "payto://x-taler-bank/a:8x/a?receiver-name=x",
                PaytoError::TalerBank,
            ),
            (
                "payto://x-taler-bank/a:99999/a?receiver-name=x",
                PaytoError::TalerBank,
            ),
            (
                "payto://x-taler-bank/a@b/a?receiver-name=x",
                PaytoError::TalerBank,
            ),
            (&long, PaytoError::TooLong),
        ] {
            assert_eq!(text.parse::<PaytoUri>(), Err(error), "{text}");
        }
    }

    #[test]
    fn account_of_a_real_merchant() {
        let salt = WireSalt::from_bytes([
            0x43, 0xab, 0x13, 0x87, 0x60, 0x20, 0x55, 0x51, 0x07, 0x7a, 0x1b, 0x1d, 0x64, 0x03, 0x0c, 0xff,
        ]);
        assert_eq!(
            uri("payto://iban/SANDBOXX/DE474361?receiver-name=Merchant43")
                .h_wire(&salt)
                .to_string(),
            "WZ9XX83RB89A7P63XC813H66BBEYD6PY2YT3897C7APXFSYDFA0HEPW536G79GGN6YZJJMG5RCB6G75YBKMHS7T5HM7AN9MNKNJABF8"
        );
    }

    proptest! {
        #[test]
        fn a_normalized_account_stays_itself(text in "payto://(iban/DE474361|x-taler-bank/[A-Za-z]{1,5}/[A-Za-z/]{0,5}z|[a-z]{3}/[A-Z0-9./]{1,9})\\?receiver-name=[a-z]") {
            let once = uri(&text).normalized();
            prop_assert_eq!(uri(&format!("{once}?receiver-name=other")).normalized(), once);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(payto://(iban|x-taler-bank|x)/)?.{0,40}") {
            if let Ok(uri) = text.parse::<PaytoUri>() {
                prop_assert_eq!(uri.as_str(), &text);
                prop_assert!(!uri.method().is_empty());
            }
        }
    }
}
