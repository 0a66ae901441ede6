//! A past state of a ledger: its first events, up to a sequence or a time. What only the end of a ledger can be
//! compared with - indexes, projections, the anchor - says nothing about it.

use std::str::FromStr;

use chrono::DateTime;
use quittance_events::copy::Copy;
use quittance_taler::Micros;
use serde::Deserialize;

use crate::Unusable;

/// From here on a plain number is a time: no ledger has so many events, and nothing in one is older than 2001.
const FIRST_TIME_S: u64 = 1_000_000_000;

/// Which past state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// After this event.
    Seq(u64),
    /// After the last event whose time is not later than this.
    Time(Micros),
}

/// Text that names no past state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither the number of an event, nor a time like 2026-11-21T12:00:00Z, 1795262400 or @1795262400 (seconds since 1970)"
)]
pub struct AsOfError(String);

impl FromStr for AsOf {
    type Err = AsOfError;

    fn from_str(text: &str) -> Result<AsOf, AsOfError> {
        let error = || AsOfError(text.to_owned());
        let seconds = |s: u64| Micros::from_s(s).map(AsOf::Time).map_err(|_| error());
        if let Some(text) = text.strip_prefix('@') {
            return text.parse().map_err(|_| error()).and_then(seconds);
        }
        if let Ok(number) = text.parse::<u64>() {
            return if number < FIRST_TIME_S {
                Ok(AsOf::Seq(number))
            } else {
                seconds(number)
            };
        }
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| error())?;
        let micros = u64::try_from(time.timestamp_micros()).map_err(|_| error())?;
        Micros::new(micros).map(AsOf::Time).map_err(|_| error())
    }
}

/// The one member that is looked at.
#[derive(Deserialize)]
struct Time {
    at_us: u64,
}

impl AsOf {
    /// The number of the last event of that state.
    pub(crate) fn last(self, copy: &Copy) -> Result<i64, Unusable> {
        let none = |text: String| Unusable::NoSuchState(text);
        let damaged = |e| none(format!("the ledger cannot be read: {e}"));
        match self {
            AsOf::Seq(seq) => {
                let last = copy.last_seq().map_err(damaged)?;
                i64::try_from(seq)
                    .ok()
                    .filter(|seq| (1..=last).contains(seq))
                    .ok_or_else(|| none(format!("the ledger has no event {seq}, its last one is {last}")))
            }
            AsOf::Time(time) => {
                let mut found = None;
                copy.walk_sealed(|seq, sealed| {
                    // Bytes that are no event have no time; that is told when they are judged.
                    if serde_json::from_slice::<Time>(sealed).is_ok_and(|event| event.at_us <= time.get()) {
                        found = Some(seq);
                    }
                })
                .map_err(damaged)?;
                found.ok_or_else(|| none("all events of the ledger are later than the time asked for".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn numbers_and_times_are_told_apart() {
        let at = |us: u64| AsOf::Time(Micros::new(us).unwrap());
        for (text, expected) in [
            ("1", AsOf::Seq(1)),
            ("999999999", AsOf::Seq(999_999_999)),
            ("1000000000", at(1_000_000_000_000_000)),
            ("@17", at(17_000_000)),
            ("2026-11-21T12:00:00Z", at(1_795_262_400_000_000)),
            ("2026-11-21T13:00:00.25+01:00", at(1_795_262_400_250_000)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "-1",
            "@",
            "@x",
            "2026-11-21",
            "yesterday",
            "1e3",
            "1960-01-01T00:00:00Z",
        ] {
            assert!(text.parse::<AsOf>().is_err(), "{text}");
        }
    }
}
