//! What is known of one permission at the exchange: the last recorded attempt, and what it proves. Part of the order
//! projection.

use std::sync::Arc;

use serde_json::Value;

use quittance_taler::{EddsaSignature, ExchangePub, Micros, json};

use crate::facts::{ExchangeReplied, ExchangeUnreached, Failure, Verdict};
use crate::ids::Seq;

/// Longest exchange reply that is handed on to a wallet. A conflict's history can be long; a wallet has no use
/// for more, and an answer with 512 coins must stay servable.
pub const REPLY_HANDED_ON_MAX: usize = 16_384;

/// The exchange's final codes that mean "this deposit does not exist": denomination unknown (which old exchanges
/// say of an unknown coin), coin not found, deposit not found. Such a coin counts for no payment.
pub const NO_DEPOSIT_CODES: [u64; 3] = [1005, 1500, 1502];

/// What is known of one permission at the exchange. The last recorded attempt speaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Number of the last recorded attempt, 0 where none is.
    pub attempt: u64,
    /// What it brought.
    pub last: Option<Attempt>,
    /// The event of the reply that speaks; [`Seq::NONE`] where none does.
    pub reply: Seq,
    /// When it was first to be sent, for those who watch how long it stays open; no answer tells it.
    pub since: Option<Micros>,
}

/// What a recorded attempt brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The exchange replied.
    Replied {
        /// Its status.
        http_status: u16,
        /// Its body's code.
        error_code: Option<u64>,
        /// What that proves.
        verdict: Verdict,
        /// Of a confirmation: key and signature.
        proof: Option<(ExchangePub, EddsaSignature)>,
        /// The body, where it may be handed on to a wallet.
        body: Option<Arc<Value>>,
    },
    /// It did not.
    Unreached(Failure),
}

impl Outcome {
    pub(crate) fn open_since(at: Micros) -> Outcome {
        Outcome {
            since: Some(at),
            ..Outcome::default()
        }
    }

    /// Key and signature, where the exchange confirmed.
    #[must_use]
    pub fn confirmation(&self) -> Option<(ExchangePub, EddsaSignature)> {
        match self.last {
            Some(Attempt::Replied {
                verdict: Verdict::Confirmed,
                proof,
                ..
            }) => proof,
            _ => None,
        }
    }

    /// Whether the exchange finally refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(
            self.last,
            Some(Attempt::Replied {
                verdict: Verdict::Refused,
                ..
            })
        )
    }

    /// Whether the exchange has decided, one way or the other.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        self.is_refused() || self.confirmation().is_some()
    }

    /// Whether it refused because there is no such deposit.
    #[must_use]
    pub fn says_no_deposit(&self) -> bool {
        matches!(self.last, Some(Attempt::Replied { verdict: Verdict::Refused, http_status: 404, error_code: Some(code), .. })
            if NO_DEPOSIT_CODES.contains(&code))
    }
}

impl Outcome {
    pub(crate) fn unreached(&mut self, f: &ExchangeUnreached) {
        if !self.is_conclusive() {
            *self = Outcome {
                attempt: f.attempt,
                last: Some(Attempt::Unreached(f.failure)),
                reply: Seq::NONE,
                since: self.since,
            };
        }
    }

    pub(crate) fn replied(&mut self, seq: Seq, f: &ExchangeReplied, reply: Option<&[u8]>) {
        // The first confirmation counts; a repeat may carry another key without being wrong.
        if self.is_conclusive() {
            return;
        }
        *self = Outcome {
            attempt: f.attempt,
            last: Some(Attempt::Replied {
                http_status: f.http_status,
                error_code: f.error_code,
                verdict: f.verdict,
                proof: f.exchange_pub.zip(f.exchange_sig),
                body: reply.and_then(handed_on).map(Arc::new),
            }),
            reply: seq,
            since: self.since,
        };
    }

    /// The bytes of this event's reply are gone: status and code stay, the body is handed on no more.
    pub(crate) fn erased(&mut self, seq: Seq) {
        if let Some(Attempt::Replied { body, .. }) = &mut self.last
            && self.reply == seq
        {
            *body = None;
        }
    }
}

/// A reply's body, where it is a JSON object within our number rules and short enough to hand on.
fn handed_on(reply: &[u8]) -> Option<Value> {
    if reply.len() > REPLY_HANDED_ON_MAX {
        return None;
    }
    json::parse_strict(reply).ok().filter(Value::is_object)
}
