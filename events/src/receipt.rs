//! Receipts: what a client can keep to prove an answer. A receipt names the answer's event and the digest of the
//! body, signed by the event key, so that whoever kept one can show an answer that a ledger no longer has. It
//! proves nothing about answers that were never recorded. Format: `docs/event-format.md`.

use std::fmt;
use std::str::FromStr;

use quittance_taler::{Digest32, EddsaSignature};

use crate::ids::Seq;
use crate::order::RecordedAnswer;
use crate::seal::{EventKey, EventPub};

/// The HTTP header that carries a receipt.
pub const HEADER: &str = "Quittance-Receipt";

const DOMAIN: &str = "quittance/receipt/v1\n";

/// A receipt's five words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The ledger's name.
    pub origin: String,
    /// The answer's event (its last part).
    pub seq: Seq,
    /// That event's digest.
    pub event: Digest32,
    /// Digest of the body served.
    pub body: Digest32,
    /// The event key's signature over the four.
    pub signature: EddsaSignature,
}

/// Text that is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a receipt is `ORIGIN SEQ EVENT BODY SIG`, single spaces between")]
pub struct ReceiptError;

impl Receipt {
    /// The receipt of a recorded answer.
    #[must_use]
    pub fn sign(origin: &str, key: &EventKey, answer: &RecordedAnswer) -> Receipt {
        let words = words(origin, answer.seq, &answer.event, &answer.body);
        Receipt {
            origin: origin.to_owned(),
            seq: answer.seq,
            event: answer.event,
            body: answer.body,
            signature: key.sign(format!("{DOMAIN}{words}").as_bytes()),
        }
    }

    /// Whether this key signed the receipt.
    #[must_use]
    pub fn verify(&self, key: &EventPub) -> bool {
        let words = words(&self.origin, self.seq, &self.event, &self.body);
        key.verify(format!("{DOMAIN}{words}").as_bytes(), &self.signature)
    }
}

fn words(origin: &str, seq: Seq, event: &Digest32, body: &Digest32) -> String {
    format!("{origin} {seq} {event} {body}")
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            words(&self.origin, self.seq, &self.event, &self.body),
            self.signature
        )
    }
}

impl FromStr for Receipt {
    type Err = ReceiptError;
    fn from_str(text: &str) -> Result<Receipt, ReceiptError> {
        let words: Vec<&str> = text.split(' ').collect();
        let [origin, seq, event, body, signature] = words.as_slice() else {
            return Err(ReceiptError);
        };
        let receipt = Receipt {
            origin: (*origin).to_owned(),
            seq: seq
                .parse()
                .ok()
                .and_then(|seq| Seq::new(seq).ok())
                .ok_or(ReceiptError)?,
            event: event.parse().map_err(|_| ReceiptError)?,
            body: body.parse().map_err(|_| ReceiptError)?,
            signature: signature.parse().map_err(|_| ReceiptError)?,
        };
        // One receipt has one text: what was kept is compared as it was given.
        if receipt.to_string() == text {
            Ok(receipt)
        } else {
            Err(ReceiptError)
        }
    }
}
