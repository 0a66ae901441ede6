//! Taler's timestamps (whole seconds or "never") and our own times of decisions (microseconds).
//!
//! Neither reads a clock. Both stay so small that microseconds fit a JSON integer that JavaScript wallets can
//! hold.

use crate::json::Object;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeStruct};
use std::fmt;

/// Greatest integer that every JSON reader keeps exactly: 2^53 - 1.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
const MICROS_PER_SECOND: u64 = 1_000_000;
/// Greatest second whose microseconds are still safe integers (the year 2255).
const MAX_SECONDS: u64 = MAX_SAFE_INTEGER / MICROS_PER_SECOND;
const NEVER_TEXT: &str = "never";
const FOREVER_TEXT: &str = "forever";

/// Why a number is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// More than 2^53 - 1 microseconds after the epoch.
    #[error("time beyond 2^53-1 microseconds after the epoch")]
    OutOfRange,
}

/// A point in time in whole seconds since the epoch, or never, which sorts after all others.
///
/// Its plain serde form, which is that of our events, is the number of seconds or "never".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970 began.
    pub const EPOCH: Timestamp = Timestamp(0);
    /// The end of time.
    pub const NEVER: Timestamp = Timestamp(u64::MAX);

    /// So many seconds after the epoch, at most (2^53 - 1) / 10^6.
    pub fn from_s(seconds: u64) -> Result<Timestamp, TimeError> {
        if seconds <= MAX_SECONDS {
            Ok(Timestamp(seconds))
        } else {
            Err(TimeError::OutOfRange)
        }
    }

    /// Seconds since the epoch; nothing for never.
    #[must_use]
    pub fn seconds(&self) -> Option<u64> {
        (!self.is_never()).then_some(self.0)
    }

    /// Whether it is never.
    #[must_use]
    pub fn is_never(&self) -> bool {
        *self == Timestamp::NEVER
    }

    /// The form in signed messages: microseconds, big endian; never is all ones.
    #[must_use]
    pub fn to_signed_bytes(&self) -> [u8; 8] {
        self.seconds()
            .map_or(u64::MAX, |seconds| seconds * MICROS_PER_SECOND)
            .to_be_bytes()
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.seconds() {
            Some(seconds) => serializer.serialize_u64(seconds),
            None => serializer.serialize_str(NEVER_TEXT),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        struct Seconds;
        impl de::Visitor<'_> for Seconds {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds since the epoch or \"never\"")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Timestamp, E> {
                Timestamp::from_s(seconds).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                if text == NEVER_TEXT {
                    Ok(Timestamp::NEVER)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }
        }
        deserializer.deserialize_any(Seconds)
    }
}

/// Taler's JSON form of a timestamp, `{"t_s": N}` or `{"t_s": "never"}`, for `#[serde(with = "...")]`.
pub mod taler_json {
    use super::Timestamp;
    use crate::json::Object;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Form {
        t_s: Timestamp,
    }

    /// Writes `{"t_s": ...}`.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        Form { t_s: *time }.serialize(serializer)
    }

    /// Reads `{"t_s": ...}`; members besides `t_s` are ignored.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Object::<Form>::deserialize(deserializer).map(|Object(form)| form.t_s)
    }
}

/// A timestamp whose serde form is Taler's `{"t_s": ...}`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TalerTimestamp(#[serde(with = "taler_json")] pub Timestamp);

/// A length of time in microseconds, or forever, in Taler's JSON form `{"d_us": N}` or `{"d_us": "forever"}`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RelativeTime(u64);

impl RelativeTime {
    /// Without end.
    pub const FOREVER: RelativeTime = RelativeTime(u64::MAX);

    /// So many microseconds, at most 2^53 - 1.
    pub fn from_us(micros: u64) -> Result<RelativeTime, TimeError> {
        if micros <= MAX_SAFE_INTEGER {
            Ok(RelativeTime(micros))
        } else {
            Err(TimeError::OutOfRange)
        }
    }

    /// So many seconds, at most (2^53 - 1) / 10^6.
    pub fn from_s(seconds: u64) -> Result<RelativeTime, TimeError> {
        Timestamp::from_s(seconds).and_then(|_| RelativeTime::from_us(seconds * MICROS_PER_SECOND))
    }

    /// Microseconds; nothing for forever.
    #[must_use]
    pub fn micros(&self) -> Option<u64> {
        (*self != RelativeTime::FOREVER).then_some(self.0)
    }
}

impl Timestamp {
    /// So much later, in whole seconds, downwards. What is beyond the greatest time is never.
    #[must_use]
    pub fn after(&self, delay: RelativeTime) -> Timestamp {
        match (self.seconds(), delay.micros()) {
            (Some(seconds), Some(micros)) => {
                Timestamp::from_s(seconds + micros / MICROS_PER_SECOND).unwrap_or(Timestamp::NEVER)
            }
            _ => Timestamp::NEVER,
        }
    }
}

impl Serialize for RelativeTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_struct("RelativeTime", 1)?;
        match self.micros() {
            Some(micros) => members.serialize_field("d_us", &micros)?,
            None => members.serialize_field("d_us", FOREVER_TEXT)?,
        }
        members.end()
    }
}

impl<'de> Deserialize<'de> for RelativeTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RelativeTime, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Length {
            Micros(u64),
            Text(String),
        }
        #[derive(Deserialize)]
        struct Form {
            d_us: Length,
        }
        match Object::<Form>::deserialize(deserializer)?.0.d_us {
            Length::Micros(micros) => RelativeTime::from_us(micros).map_err(de::Error::custom),
            Length::Text(text) if text == FOREVER_TEXT => Ok(RelativeTime::FOREVER),
            Length::Text(text) => Err(de::Error::invalid_value(
                de::Unexpected::Str(&text),
                &"microseconds or \"forever\"",
            )),
        }
    }
}

/// Microseconds since the epoch, at most 2^53 - 1: the time of a decision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Micros(u64);

impl Micros {
    /// So many microseconds after the epoch, at most 2^53 - 1.
    pub fn new(micros: u64) -> Result<Micros, TimeError> {
        if micros <= MAX_SAFE_INTEGER {
            Ok(Micros(micros))
        } else {
            Err(TimeError::OutOfRange)
        }
    }

    /// The start of that second.
    pub fn from_s(seconds: u64) -> Result<Micros, TimeError> {
        seconds
            .checked_mul(MICROS_PER_SECOND)
            .ok_or(TimeError::OutOfRange)
            .and_then(Micros::new)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The second that it lies in.
    #[must_use]
    pub fn floor_s(self) -> Timestamp {
        Timestamp(self.0 / MICROS_PER_SECOND)
    }

    /// So many seconds later, at most the greatest time.
    #[must_use]
    pub fn plus_s(self, seconds: u64) -> Micros {
        Micros(
            self.0
                .saturating_add(seconds.saturating_mul(MICROS_PER_SECOND))
                .min(MAX_SAFE_INTEGER),
        )
    }

    /// So many seconds earlier, at least the epoch.
    #[must_use]
    pub fn minus_s(self, seconds: u64) -> Micros {
        Micros(self.0.saturating_sub(seconds.saturating_mul(MICROS_PER_SECOND)))
    }

    /// Whether the deadline is reached or over. Never is never past.
    #[must_use]
    pub fn is_past(self, deadline: Timestamp) -> bool {
        deadline
            .seconds()
            .is_some_and(|seconds| self.0 >= seconds * MICROS_PER_SECOND)
    }
}

impl TryFrom<u64> for Micros {
    type Error = TimeError;

    fn try_from(micros: u64) -> Result<Micros, TimeError> {
        Micros::new(micros)
    }
}

impl From<Micros> for u64 {
    fn from(time: Micros) -> u64 {
        time.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use serde_json::{from_str, to_string};

    fn second(seconds: u64) -> Timestamp {
        Timestamp::from_s(seconds).unwrap()
    }

    #[test]
    fn limits_keep_microseconds_exact() {
        assert_eq!(
            Timestamp::from_s(9_007_199_254).unwrap().seconds(),
            Some(9_007_199_254)
        );
        assert_eq!(Timestamp::from_s(9_007_199_255), Err(TimeError::OutOfRange));
        assert_eq!(Timestamp::from_s(u64::MAX), Err(TimeError::OutOfRange));
        assert_eq!(Micros::new(1 << 53), Err(TimeError::OutOfRange));
        assert_eq!(Micros::from_s(9_007_199_255), Err(TimeError::OutOfRange));
        assert_eq!(Micros::from_s(u64::MAX), Err(TimeError::OutOfRange));
        assert_eq!(
            Micros::new((1 << 53) - 1).unwrap().floor_s(),
            second(9_007_199_254)
        );
    }

    #[test]
    fn never_is_last_and_signed_as_all_ones() {
        assert!(Timestamp::NEVER > second(MAX_SECONDS));
        assert_eq!(Timestamp::NEVER.seconds(), None);
        assert_eq!(Timestamp::NEVER.to_signed_bytes(), [0xff; 8]);
        assert_eq!(second(0).to_signed_bytes(), [0; 8]);
        assert_eq!(second(1).to_signed_bytes(), [0, 0, 0, 0, 0, 0x0f, 0x42, 0x40]);
    }

    #[test]
    fn plain_json() {
        assert_eq!(to_string(&second(7)).unwrap(), "7");
        assert_eq!(to_string(&Timestamp::NEVER).unwrap(), "\"never\"");
        assert_eq!(from_str::<Timestamp>("7").unwrap(), second(7));
        assert_eq!(from_str::<Timestamp>("\"never\"").unwrap(), Timestamp::NEVER);
        for wrong in [
            "-1",
            "1.0",
            "\"7\"",
            "\"Never\"",
            "null",
            "9007199255",
            "18446744073709551615",
            "{}",
        ] {
            assert!(from_str::<Timestamp>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn talers_json() {
        assert_eq!(to_string(&TalerTimestamp(second(7))).unwrap(), "{\"t_s\":7}");
        assert_eq!(
            to_string(&TalerTimestamp(Timestamp::NEVER)).unwrap(),
            "{\"t_s\":\"never\"}"
        );
        assert_eq!(from_str::<TalerTimestamp>("{\"t_s\":7}").unwrap().0, second(7));
        assert_eq!(
            from_str::<TalerTimestamp>("{\"t_s\":\"never\"}").unwrap().0,
            Timestamp::NEVER
        );
        for wrong in [
            "7",
            "{}",
            "{\"t_ms\":7000}",
            "{\"t_s\":-7}",
            "{\"t_s\":null}",
            "{\"t_s\":7.5}",
        ] {
            assert!(from_str::<TalerTimestamp>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_of_time() {
        let day = RelativeTime::from_s(86_400).unwrap();
        assert_eq!(to_string(&day).unwrap(), "{\"d_us\":86400000000}");
        assert_eq!(
            to_string(&RelativeTime::FOREVER).unwrap(),
            "{\"d_us\":\"forever\"}"
        );
        for length in [day, RelativeTime::FOREVER, RelativeTime::from_us(0).unwrap()] {
            assert_eq!(
                from_str::<RelativeTime>(&to_string(&length).unwrap()).unwrap(),
                length
            );
        }
        for wrong in [
            "7",
            "{}",
            "{\"d_ms\":7}",
            "{\"d_us\":-7}",
            "{\"d_us\":7.0}",
            "{\"d_us\":\"never\"}",
            "{\"d_us\":9007199254740992}",
        ] {
            assert!(from_str::<RelativeTime>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(RelativeTime::from_s(u64::MAX), Err(TimeError::OutOfRange));
        assert_eq!(second(7).after(day), second(86_407));
        assert_eq!(
            second(7).after(RelativeTime::from_us(1_999_999).unwrap()),
            second(8)
        );
        assert_eq!(second(7).after(RelativeTime::FOREVER), Timestamp::NEVER);
        assert_eq!(Timestamp::NEVER.after(day), Timestamp::NEVER);
        assert_eq!(second(MAX_SECONDS).after(day), Timestamp::NEVER);
    }

    #[test]
    fn micros() {
        let time = Micros::new(5_999_999).unwrap();
        assert_eq!(time.floor_s(), second(5));
        assert!(time.is_past(second(5)) && !time.is_past(second(6)));
        assert!(Micros::from_s(6).unwrap().is_past(second(6)));
        assert!(!Micros::new(MAX_SAFE_INTEGER).unwrap().is_past(Timestamp::NEVER));
        assert_eq!(time.plus_s(2).get(), 7_999_999);
        assert_eq!(time.plus_s(u64::MAX).get(), MAX_SAFE_INTEGER);
        assert_eq!(time.minus_s(5).get(), 999_999);
        assert_eq!(time.minus_s(6).get(), 0);
        assert_eq!(to_string(&time).unwrap(), "5999999");
        assert_eq!(from_str::<Micros>("5999999").unwrap(), time);
        assert!(from_str::<Micros>("9007199254740992").is_err());
    }
}
