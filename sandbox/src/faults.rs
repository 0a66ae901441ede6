//! Faults on demand: what goes wrong, how often, and at which requests. Only says which fault a request meets; the
//! server does the damage. It knows neither time nor sockets, and a request meets one fault at most.

use std::time::Duration;

use quittance_taler::CoinPub;
use serde::Deserialize;

/// The longest delay: ten minutes, longer than any client waits.
pub const MAX_DELAY: Duration = Duration::from_mins(10);

/// How many faults may wait for requests at once: more than any test sets, and few enough to search each time.
pub const MAX_PENDING_FAULTS: usize = 1000;

/// GENERIC_INTERNAL_INVARIANT_FAILURE: what a `Status` fault says where nothing else is asked for.
const DEFAULT_CODE: u32 = 60;

/// What goes wrong.
///
/// With `Reset`, `Status` and `Html` the exchange does nothing; with all others it does what it was asked, so that
/// a refund or a deposit stands in its books whatever the client gets to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The reply comes late, by the fault's `delay`, and is right.
    Delay,
    /// No reply: the connection is closed.
    LostReply,
    /// The TCP connection is reset.
    Reset,
    /// An error reply as Taler's programs make it.
    Status {
        /// HTTP status, 400 to 599.
        status: u16,
        /// Taler's error code in the body.
        code: u32,
    },
    /// 502 with a page in HTML, as a proxy in front of the exchange makes it.
    Html,
    /// The status is right, the body is bytes that are not even text.
    Garbage,
    /// The status is right, the body is the first half, and `Content-Length` says it is whole.
    Truncated,
    /// A confirmation's `exchange_sig`, or each of `exchange_sigs`, is wrong by one bit; of `/keys`, every
    /// `master_sig` of a signing key.
    WrongSignature,
    /// A confirmation by a signing key that `/keys` does not list; `/keys` itself leaves the current one out.
    UnknownKey,
}

/// The requests that a fault waits for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultPath {
    /// `POST /coins/$COIN_PUB/refund`
    #[default]
    Refund,
    /// `GET /keys`
    Keys,
    /// `POST /batch-deposit`
    Deposit,
}

/// A fault and the requests that meet it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "FaultOrder")]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// How many requests meet it.
    pub times: u32,
    /// The reply, or the lack of one, comes this much later; with every kind, at most [`MAX_DELAY`].
    pub delay: Duration,
    /// Which requests meet it.
    pub path: FaultPath,
    /// Only refund requests for this coin, or batches that hold it.
    pub coin_pub: Option<CoinPub>,
}

impl Fault {
    /// A fault of the next refund request, whatever its coin.
    #[must_use]
    pub fn new(kind: FaultKind) -> Fault {
        Fault {
            kind,
            times: 1,
            delay: Duration::ZERO,
            path: FaultPath::Refund,
            coin_pub: None,
        }
    }
}

/// Why a fault was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FaultError {
    /// See [`MAX_DELAY`].
    #[error("the delay is above ten minutes")]
    Delay,
    /// A status that is no error, or none at all.
    #[error("the status is not between 400 and 599")]
    Status,
    /// See [`MAX_PENDING_FAULTS`].
    #[error("a thousand faults are waiting for requests already")]
    TooMany,
    /// A fault of `/keys` that names a coin would wait for ever.
    #[error("a fault of /keys cannot be of one coin")]
    CoinOfKeys,
    /// `status` and `code` belong to the kind `status`, which needs the first.
    #[error("the kind status, and no other, has a status and may have a code")]
    StatusOfOther,
}

/// A fault as it is ordered over HTTP.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultOrder {
    kind: KindName,
    #[serde(default = "once")]
    times: u32,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    path: FaultPath,
    coin_pub: Option<CoinPub>,
    status: Option<u16>,
    code: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    Delay,
    LostReply,
    Reset,
    Status,
    Html,
    Garbage,
    Truncated,
    WrongSignature,
    UnknownKey,
}

fn once() -> u32 {
    1
}

impl TryFrom<FaultOrder> for Fault {
    type Error = FaultError;

    fn try_from(order: FaultOrder) -> Result<Fault, FaultError> {
        let kind = match (order.kind, order.status, order.code) {
            (KindName::Status, Some(status), code) => FaultKind::Status {
                status,
                code: code.unwrap_or(DEFAULT_CODE),
            },
            (KindName::Status, None, _) | (_, Some(_), _) | (_, _, Some(_)) => {
                return Err(FaultError::StatusOfOther);
            }
            (KindName::Delay, ..) => FaultKind::Delay,
            (KindName::LostReply, ..) => FaultKind::LostReply,
            (KindName::Reset, ..) => FaultKind::Reset,
            (KindName::Html, ..) => FaultKind::Html,
            (KindName::Garbage, ..) => FaultKind::Garbage,
            (KindName::Truncated, ..) => FaultKind::Truncated,
            (KindName::WrongSignature, ..) => FaultKind::WrongSignature,
            (KindName::UnknownKey, ..) => FaultKind::UnknownKey,
        };
        Ok(Fault {
            kind,
            times: order.times,
            delay: Duration::from_millis(order.delay_ms),
            path: order.path,
            coin_pub: order.coin_pub,
        })
    }
}

/// The faults that still wait for requests, in the order in which they were set.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), FaultError> {
        if fault.delay > MAX_DELAY {
            return Err(FaultError::Delay);
        }
        if let FaultKind::Status { status, .. } = fault.kind
            && !(400..600).contains(&status)
        {
            return Err(FaultError::Status);
        }
        if fault.path == FaultPath::Keys && fault.coin_pub.is_some() {
            return Err(FaultError::CoinOfKeys);
        }
        if self.0.len() >= MAX_PENDING_FAULTS {
            return Err(FaultError::TooMany);
        }
        if fault.times > 0 {
            self.0.push(fault);
        }
        Ok(())
    }

    /// The fault that this request meets: the first one set that waits for it.
    pub(crate) fn take(&mut self, path: FaultPath, coins: &[CoinPub]) -> Option<Fault> {
        let waits =
            |fault: &Fault| fault.path == path && fault.coin_pub.is_none_or(|coin| coins.contains(&coin));
        let at = self.0.iter().position(waits)?;
        let fault = self.0[at];
        if fault.times > 1 {
            self.0[at].times -= 1;
        } else {
            self.0.remove(at);
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn faults_are_met_in_order_as_often_as_asked_and_by_the_coin_that_they_name() {
        let coin = CoinPub::from_bytes([1; 32]);
        let mut faults = Faults::default();
        faults
            .add(Fault {
                coin_pub: Some(coin),
                ..Fault::new(FaultKind::Reset)
            })
            .unwrap();
        faults
            .add(Fault {
                times: 2,
                ..Fault::new(FaultKind::Html)
            })
            .unwrap();
        faults
            .add(Fault {
                path: FaultPath::Keys,
                ..Fault::new(FaultKind::Garbage)
            })
            .unwrap();
        faults
            .add(Fault {
                times: 0,
                ..Fault::new(FaultKind::Delay)
            })
            .unwrap();
        let mut met = |path, coins: &[CoinPub]| faults.take(path, coins).map(|fault| fault.kind);
        let other = CoinPub::from_bytes([2; 32]);
        assert_eq!(met(FaultPath::Deposit, &[other, coin]), None);
        assert_eq!(met(FaultPath::Refund, &[other]), Some(FaultKind::Html));
        assert_eq!(met(FaultPath::Refund, &[other, coin]), Some(FaultKind::Reset));
        assert_eq!(met(FaultPath::Refund, &[coin]), Some(FaultKind::Html));
        assert_eq!(met(FaultPath::Refund, &[coin]), None);
        assert_eq!(met(FaultPath::Keys, &[]), Some(FaultKind::Garbage));
        assert_eq!(met(FaultPath::Keys, &[]), None);
    }

    #[test]
    fn faults_that_could_not_happen_are_refused() {
        let mut faults = Faults::default();
        let status = |status| Fault::new(FaultKind::Status { status, code: 60 });
        let late = Fault {
            delay: MAX_DELAY + Duration::from_millis(1),
            ..Fault::new(FaultKind::Delay)
        };
        assert_eq!(faults.add(late), Err(FaultError::Delay));
        assert_eq!(faults.add(status(399)), Err(FaultError::Status));
        assert_eq!(faults.add(status(600)), Err(FaultError::Status));
        let coin_pub = Some(CoinPub::from_bytes([1; 32]));
        let keys = Fault {
            path: FaultPath::Keys,
            coin_pub,
            ..status(500)
        };
        assert_eq!(faults.add(keys), Err(FaultError::CoinOfKeys));
        for _ in 0..MAX_PENDING_FAULTS {
            faults.add(status(599)).unwrap();
        }
        assert_eq!(faults.add(status(400)), Err(FaultError::TooMany));
    }

    #[test]
    fn faults_read_from_json() {
        let read = |text: &str| serde_json::from_str::<Fault>(text);
        assert_eq!(
            read(r#"{"kind":"lost_reply"}"#).unwrap(),
            Fault::new(FaultKind::LostReply)
        );
        assert_eq!(
            read(r#"{"kind":"status","status":503,"times":3,"delay_ms":20,"path":"keys"}"#).unwrap(),
            Fault {
                times: 3,
                delay: Duration::from_millis(20),
                path: FaultPath::Keys,
                ..Fault::new(FaultKind::Status {
                    status: 503,
                    code: 60
                })
            }
        );
        for bad in [
            r#"{"kind":"status"}"#,
            r#"{"kind":"html","status":500}"#,
            r#"{"kind":"html","code":1}"#,
            r#"{"kind":"flood"}"#,
            r#"{"kind":"html","time":2}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
