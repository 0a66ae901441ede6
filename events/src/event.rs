//! The event: one fact that happened, with its place in the ledger, and its one canonical form in bytes
//! (RFC 8785). This module reads and writes that form; it signs nothing (`seal.rs`) and stores nothing.
//! Format: `docs/event-format.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use quittance_taler::{Digest32, Micros, json};

use crate::facts::{
    AbortAnswered, AbortCoinState, AbortExtended, AbortRefused, AbortRequested, AccountAdded, AccountClosed,
    AttachmentErased, ClockCorrected, DepositRecorded, DepositReplied, DepositRequested, DepositUnreached,
    ExchangeKeysSeen, ExchangeReplied, ExchangeUnreached, FormatRaised, InstanceAdded, InstanceClosed,
    LedgerKeyRotated, LedgerOpened, OrderClaimed, OrderCreated, OrderDeleted, OrderRecorded, Part,
    PaymentCompleted, RefundAnswered, RefundApproved, RefundCarriedIn, RefundDelivered, RefundRequested,
    SessionPaid, TermsForgotten, TokenAdded, TokenRevoked, WebhookDelivered, WebhookGivenUp,
};
use crate::ids::{InstanceId, OrderId, OrderKey, Seq};

/// The version that every ledger begins with.
pub const FIRST_VERSION: u64 = 1;
/// The latest event format that this crate writes and reads; a ledger is raised towards it, one version at a time, by
/// `format_raised`.
pub const FORMAT_VERSION: u64 = 4;

/// The version that first has rotated keys: a ledger with a recovery key is raised to it from the start, so that the
/// recovery key alone can rotate.
pub(crate) const ROTATION_VERSION: u64 = 2;

/// Bytes that are no event of this format.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Not strict JSON.
    #[error("not canonical JSON: {0}")]
    Json(#[from] json::JsonError),
    /// JSON, but not an event's members.
    #[error("not an event: {0}")]
    Shape(String),
    /// A kind that the event's version does not have.
    #[error("unknown kind {0:?}")]
    UnknownKind(String),
    /// Another format version.
    #[error("format version {0}, this program knows {FORMAT_VERSION}")]
    UnknownVersion(u64),
    /// The bytes are an event, but not in its one canonical form.
    #[error("not in canonical form")]
    NotCanonical,
}

macro_rules! kinds {
    ($( $kind:literal $variant:ident ),* $(,)?) => {
        /// What happened, one variant a kind.
        #[expect(clippy::large_enum_variant, reason = "a deposit is the commonest kind and the largest; a box would serve none")]
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Facts {
            $( #[doc = concat!("`", $kind, "`")] $variant($variant), )*
        }

        impl Facts {
            /// Every kind of all versions.
            pub const KINDS: &'static [&'static str] = &[$( $kind ),*];

            /// The kind's name.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $( Facts::$variant(_) => $kind, )* }
            }

            fn read(kind: &str, facts: &RawValue) -> Result<Facts, EventError> {
                match kind {
                    $( $kind => serde_json::from_str(facts.get()).map(Facts::$variant).map_err(|e| shape(&e)), )*
                    other => Err(EventError::UnknownKind(other.to_owned())),
                }
            }
        }

        impl Serialize for Facts {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                match self { $( Facts::$variant(facts) => facts.serialize(s), )* }
            }
        }

        $( impl From<$variant> for Facts { fn from(facts: $variant) -> Facts { Facts::$variant(facts) } } )*
    };
}

fn shape(error: &serde_json::Error) -> EventError {
    EventError::Shape(error.to_string())
}

kinds! {
    "ledger_opened" LedgerOpened,
    "instance_added" InstanceAdded,
    "instance_closed" InstanceClosed,
    "exchange_keys_seen" ExchangeKeysSeen,
    "order_recorded" OrderRecorded,
    "deposit_recorded" DepositRecorded,
    "payment_completed" PaymentCompleted,
    "refund_carried_in" RefundCarriedIn,
    "refund_approved" RefundApproved,
    "refund_requested" RefundRequested,
    "abort_requested" AbortRequested,
    "abort_extended" AbortExtended,
    "abort_refused" AbortRefused,
    "exchange_replied" ExchangeReplied,
    "exchange_unreached" ExchangeUnreached,
    "refund_answered" RefundAnswered,
    "abort_answered" AbortAnswered,
    "refund_delivered" RefundDelivered,
    "clock_corrected" ClockCorrected,
    "format_raised" FormatRaised,
    "attachment_erased" AttachmentErased,
    "ledger_key_rotated" LedgerKeyRotated,
    "token_added" TokenAdded,
    "token_revoked" TokenRevoked,
    "account_added" AccountAdded,
    "account_closed" AccountClosed,
    "order_created" OrderCreated,
    "order_claimed" OrderClaimed,
    "order_deleted" OrderDeleted,
    "terms_forgotten" TermsForgotten,
    "deposit_requested" DepositRequested,
    "deposit_replied" DepositReplied,
    "deposit_unreached" DepositUnreached,
    "session_paid" SessionPaid,
    "webhook_delivered" WebhookDelivered,
    "webhook_given_up" WebhookGivenUp,
}

impl Facts {
    /// The version that first has the kind of this name.
    #[must_use]
    pub fn first_version(kind: &str) -> u64 {
        match kind {
            "attachment_erased" | "ledger_key_rotated" => ROTATION_VERSION,
            "token_added" | "token_revoked" => 3,
            "account_added" | "account_closed" | "order_created" | "order_claimed" | "order_deleted"
            | "terms_forgotten" | "deposit_requested" | "deposit_replied" | "deposit_unreached"
            | "session_paid" | "webhook_delivered" | "webhook_given_up" => 4,
            _ => FIRST_VERSION,
        }
    }

    /// The version that first has these facts: some kinds have learned more since their first one.
    #[must_use]
    pub fn needed_version(&self) -> u64 {
        match self {
            Facts::AbortRequested(f) if f.coins.iter().any(|coin| coin.state == AbortCoinState::Asked) => 4,
            Facts::InstanceAdded(InstanceAdded { by: Some(_), .. })
            | Facts::InstanceClosed(InstanceClosed { by: Some(_), .. }) => 4,
            facts => Facts::first_version(facts.kind()),
        }
    }

    /// Which part of a longer decision this is.
    #[must_use]
    pub fn part(&self) -> Option<Part> {
        match self {
            Facts::PaymentCompleted(f) => f.part,
            Facts::RefundCarriedIn(f) => f.part,
            Facts::RefundApproved(f) => f.part,
            Facts::RefundRequested(f) => f.part,
            Facts::AbortRequested(f) => f.part,
            Facts::AbortExtended(f) => f.part,
            Facts::AbortRefused(f) => f.part,
            Facts::RefundAnswered(f) => f.part,
            Facts::AbortAnswered(f) => f.part,
            Facts::DepositRequested(f) => f.part,
            _ => None,
        }
    }

    /// Whether an order has moved on with this: answers, deliveries and webhooks tell of a state and make none, and an erasure
    /// takes bytes away without changing what happened.
    #[must_use]
    pub fn moves_order(&self) -> bool {
        !matches!(
            self,
            Facts::RefundAnswered(_)
                | Facts::AbortAnswered(_)
                | Facts::RefundDelivered(_)
                | Facts::WebhookDelivered(_)
                | Facts::WebhookGivenUp(_)
                | Facts::AttachmentErased(_)
        )
    }

    /// The body digest, if this is an answer to a wallet.
    #[must_use]
    pub fn answer_body(&self) -> Option<Digest32> {
        match self {
            Facts::RefundAnswered(f) => Some(f.body),
            Facts::AbortAnswered(f) => Some(f.body),
            _ => None,
        }
    }

    /// Sets what an answer rests on; of no effect on other kinds. Only the writer knows it where the answer and
    /// the event that made it possible share a commit.
    pub(crate) fn set_as_of(&mut self, as_of: Seq) {
        match self {
            Facts::RefundAnswered(f) => f.as_of = as_of,
            Facts::AbortAnswered(f) => f.as_of = as_of,
            _ => {}
        }
    }
}

/// Raw bytes behind an event, by the names that the format has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentName {
    /// A merchant's account: payto URI and salt. Of version 4.
    Account,
    /// A request's body.
    Body,
    /// An exchange's `/keys`.
    Keys,
    /// Why the merchant refunds, why the clock was corrected, or why something was erased.
    Reason,
    /// An exchange's reply.
    Reply,
    /// Contract terms.
    Terms,
}

impl AttachmentName {
    /// All of them.
    pub const ALL: [AttachmentName; 6] = [
        Self::Account,
        Self::Body,
        Self::Keys,
        Self::Reason,
        Self::Reply,
        Self::Terms,
    ];

    /// As in the sealed bytes and the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Body => "body",
            Self::Keys => "keys",
            Self::Reason => "reason",
            Self::Reply => "reply",
            Self::Terms => "terms",
        }
    }

    /// The attachment of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<AttachmentName> {
        Self::ALL.into_iter().find(|candidate| candidate.as_str() == name)
    }
}

/// An event that is to be recorded.
#[derive(Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// What happened. Lists may be longer than an event holds; the writer cuts them into parts.
    pub facts: Facts,
    /// Raw bytes behind it.
    pub attachments: Vec<(AttachmentName, Vec<u8>)>,
}

/// Of attachments the length alone: contracts and reasons must not come into a log by mistake.
impl fmt::Debug for NewEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attachments: Vec<(&str, usize)> = self
            .attachments
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.len()))
            .collect();
        f.debug_struct("NewEvent")
            .field("facts", &self.facts)
            .field("attachments", &attachments)
            .finish()
    }
}

impl NewEvent {
    /// An event with nothing behind it.
    pub fn bare(facts: impl Into<Facts>) -> NewEvent {
        NewEvent {
            facts: facts.into(),
            attachments: Vec::new(),
        }
    }

    /// An event with one attachment.
    pub fn with(facts: impl Into<Facts>, name: AttachmentName, bytes: Vec<u8>) -> NewEvent {
        NewEvent {
            facts: facts.into(),
            attachments: vec![(name, bytes)],
        }
    }
}

/// An event with its place in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The time that its decision was made on.
    pub at_us: Micros,
    /// Salted digests of the raw bytes behind it.
    pub attachments: BTreeMap<AttachmentName, Digest32>,
    /// What happened.
    pub facts: Facts,
    /// Whose.
    pub instance: Option<InstanceId>,
    /// The ledger's origin.
    pub ledger: Arc<str>,
    /// Of which order.
    pub order: Option<OrderId>,
    /// Digest of the event before; zeros in the first.
    pub prev: Digest32,
    /// Its place, from 1.
    pub seq: Seq,
    /// The version of the event format that it is in.
    pub version: u64,
}

/// The sealed object. Members stand in the order that RFC 8785 gives them.
#[derive(Serialize)]
struct Sealed<'a> {
    at_us: Micros,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attachments: &'a BTreeMap<AttachmentName, Digest32>,
    facts: &'a Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a InstanceId>,
    kind: &'static str,
    ledger: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<&'a OrderId>,
    prev: Digest32,
    seq: Seq,
    v: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsealed<'a> {
    at_us: Micros,
    #[serde(default)]
    attachments: BTreeMap<AttachmentName, Digest32>,
    #[serde(borrow)]
    facts: &'a RawValue,
    #[serde(default)]
    instance: Option<InstanceId>,
    kind: String,
    ledger: String,
    #[serde(default)]
    order: Option<OrderId>,
    prev: Digest32,
    seq: Seq,
    v: u64,
}

/// The one member that is read where the others cannot be: a newer format may have changed the rest.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

impl Event {
    /// The order that this event belongs to.
    #[must_use]
    pub fn order_key(&self) -> Option<OrderKey> {
        Some(OrderKey {
            instance: self.instance.clone()?,
            order: self.order.clone()?,
        })
    }

    /// The bytes that are hashed and signed: RFC 8785 of the sealed object.
    ///
    /// # Panics
    /// Never: every member is of a type that canonical JSON holds.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        json::to_canonical(&Sealed {
            at_us: self.at_us,
            attachments: &self.attachments,
            facts: &self.facts,
            instance: self.instance.as_ref(),
            kind: self.facts.kind(),
            ledger: &self.ledger,
            order: self.order.as_ref(),
            prev: self.prev,
            seq: self.seq,
            v: self.version,
        })
        .expect("facts hold integers, texts, lists and objects only")
    }

    /// Reads stored bytes. Does not demand the canonical form: see [`Event::parse_canonical`].
    ///
    /// # Errors
    /// Another version, an unknown kind, or members that are not those of the format.
    pub fn parse(sealed: &[u8]) -> Result<Event, EventError> {
        let is_known = |v: u64| (FIRST_VERSION..=FORMAT_VERSION).contains(&v);
        let read: Unsealed = match serde_json::from_slice(sealed) {
            Ok(read) => read,
            // What is of another version may be of another shape: then the version is what is wrong.
            Err(e) => {
                let version: Version = serde_json::from_slice(sealed).map_err(|e| shape(&e))?;
                return Err(if is_known(version.v) {
                    shape(&e)
                } else {
                    EventError::UnknownVersion(version.v)
                });
            }
        };
        if !is_known(read.v) {
            return Err(EventError::UnknownVersion(read.v));
        }
        if read.v < Facts::first_version(&read.kind) {
            return Err(EventError::UnknownKind(read.kind));
        }
        let facts = Facts::read(&read.kind, read.facts)?;
        if read.v < facts.needed_version() {
            return Err(EventError::Shape(format!(
                "a {} of version {} has no such facts",
                read.kind, read.v
            )));
        }
        Ok(Event {
            at_us: read.at_us,
            attachments: read.attachments,
            facts,
            instance: read.instance,
            ledger: read.ledger.into(),
            order: read.order,
            prev: read.prev,
            seq: read.seq,
            version: read.v,
        })
    }

    /// Reads stored bytes and demands that they are the event's one canonical form.
    ///
    /// # Errors
    /// As [`Event::parse`], and where serialising anew gives other bytes.
    pub fn parse_canonical(sealed: &[u8]) -> Result<Event, EventError> {
        let event = Event::parse(sealed)?;
        if event.canonical() == sealed {
            Ok(event)
        } else {
            Err(EventError::NotCanonical)
        }
    }

    /// The facts as a JSON value, for reports.
    ///
    /// # Panics
    /// Never: facts are plain records.
    #[must_use]
    pub fn facts_value(&self) -> Value {
        serde_json::to_value(&self.facts).expect("facts are plain records")
    }
}
