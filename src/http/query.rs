//! What stands behind the question mark. Names that an endpoint does not know are ignored, as members of a body are;
//! of one that comes twice the first counts.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use quittance_taler::ErrorCode;

use crate::limits::LONG_POLL_MAX;
use crate::refusal::Refusal;

/// The greatest number in a query, either way; `openapi.json` says so. In seconds it is a time within 2^53 microseconds.
const NUMBER_MAX: u64 = 9_007_199_254;

/// A query's parameters.
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// 400/26, for a parameter that is not as it must be.
pub(super) fn malformed(name: &str) -> Refusal {
    Refusal::new(ErrorCode::GenericParameterMalformed).detail(name)
}

impl<'a> Query<'a> {
    pub(super) fn new(query: &'a str) -> Query<'a> {
        Query(url::form_urlencoded::parse(query.as_bytes()).collect())
    }

    /// The parameter as it stands there.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_ref())
    }

    /// The parameter read as a `T`.
    pub(super) fn read<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Refusal> {
        let text = self.text(name);
        text.map(|text| text.parse().map_err(|_| malformed(name)))
            .transpose()
    }

    /// A number from 0.
    pub(super) fn count(&self, name: &'static str) -> Result<Option<u64>, Refusal> {
        let number: Option<u64> = self.read(name)?;
        match number {
            Some(number) if number > NUMBER_MAX => Err(malformed(name)),
            number => Ok(number),
        }
    }

    /// A number of either sign.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<i64>, Refusal> {
        let number: Option<i64> = self.read(name)?;
        match number {
            Some(number) if number.unsigned_abs() > NUMBER_MAX => Err(malformed(name)),
            number => Ok(number),
        }
    }

    /// `yes`, `no` or `all` in either case; `None` for the last and where it is absent.
    pub(super) fn filter(&self, name: &'static str) -> Result<Option<bool>, Refusal> {
        match self.text(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("all") => Ok(None),
            Some("yes") => Ok(Some(true)),
            Some("no") => Ok(Some(false)),
            Some(_) => Err(malformed(name)),
        }
    }

    /// How long the client would wait.
    pub(super) fn timeout(&self) -> Result<Duration, Refusal> {
        let millis = self.count("timeout_ms")?.unwrap_or(0);
        Ok(Duration::from_millis(millis).min(LONG_POLL_MAX))
    }
}
