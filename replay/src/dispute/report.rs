//! What a dispute file says of its order, as plain data: `report.json`, and the only input of the page for people.
//! A pure function of the other files of the bundle, but for [`Audit`], `made_by` and `Ledger::key_pinned`, which are
//! the exporter's word about a ledger that the reader does not have. Judges nothing itself, reads no file, and has one
//! form: equal input gives equal bytes. Fields and their meaning for readers: `docs/disputes.md`.
//!
//! Amounts are in Taler's output form, times RFC 3339 in UTC or `never`, keys, coins and digests base32, hashes of
//! the tree base64.

use serde::{Deserialize, Serialize};

/// The version of `report.json` that this module writes and reads.
pub const REPORT_FORMAT: u64 = 1;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisputeReport {
    /// [`REPORT_FORMAT`].
    pub format: u64,
    /// Which program made the file. The exporter's word; another version may word what it derives otherwise.
    pub made_by: String,
    /// Whose word it is.
    pub ledger: Ledger,
    /// What it is about.
    pub order: OrderPart,
    /// What the exporter's audit of the whole ledger came to. The exporter's word.
    pub audit: Audit,
    /// What does not hold by this file alone: the order's rules, replayed over the events in it.
    pub findings: Vec<FoundPart>,
    /// What a reader should know and that breaks no rule.
    pub notes: Vec<NotePart>,
    /// How much money.
    pub sums: Sums,
    /// The order's events, by sequence.
    pub timeline: Vec<EventPart>,
    /// Events of the ledger or the instance that the order's rest on, by sequence.
    pub context: Vec<EventPart>,
    /// The order's coins: deposited ones in recorded order, then those that only an abort names.
    pub coins: Vec<CoinPart>,
    /// What wallets were answered, in order.
    pub answers: Vec<AnswerPart>,
    /// The signed tree that the proofs lead to.
    pub checkpoint: CheckpointPart,
    /// Where each event's proof stands, by sequence.
    pub proofs: Vec<ProofPart>,
    /// Signing keys of the order's exchanges that their master keys signed, as far as the ledger had seen them.
    pub exchange_keys: Vec<KeyPart>,
    /// How to read [`Standing`], in words.
    pub standing_rule: Vec<String>,
}

/// The ledger that the order is recorded in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Its name.
    pub origin: String,
    /// The event key of its first event, as VKEY.
    pub event_key: String,
    /// The key that signed the checkpoint, as VKEY.
    pub checkpoint_key: String,
    /// Whether the exporter was given the event key from elsewhere. The exporter's word; otherwise the key is only
    /// what the ledger says of itself.
    pub key_pinned: bool,
}

/// The order as its first event has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderPart {
    /// The merchant instance.
    pub instance: String,
    /// The order's id.
    pub id: String,
    /// The `summary` of the contract terms, where the terms are in the file and have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Hash of the contract terms.
    pub h_contract: String,
    /// What it costs.
    pub amount: String,
    /// When it was made, as the terms say.
    pub made_at: String,
    /// Refunds are promised until here.
    pub refund_deadline: String,
    /// Nothing is refunded for the first time after it.
    pub wire_deadline: String,
    /// The merchant's key.
    pub merchant_pub: String,
    /// Exchanges that the terms name.
    pub exchanges: Vec<ExchangePart>,
}

/// An exchange of the terms. It *is* its master key; the URL is only an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangePart {
    /// Its address.
    pub url: String,
    /// The exchange.
    pub master_pub: String,
}

/// What the audit of the whole ledger came to when the file was made. Nothing of it can be recomputed from the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// No rule was broken anywhere in the ledger.
    pub sound: bool,
    /// In one sentence.
    pub sentence: String,
    /// Events read, hashed and chained.
    pub events: u64,
    /// Event signatures verified.
    pub signatures: u64,
    /// Orders replayed.
    pub orders: u64,
    /// Answers rebuilt and compared.
    pub answers: u64,
    /// Events that the anchor covered, where one was given and held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchored: Option<u64>,
    /// Findings about this order, and about the ledger as a whole.
    pub findings: Vec<FoundPart>,
    /// How many more there are about other orders.
    pub findings_elsewhere: u64,
}

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundPart {
    /// The rule's id, as in `docs/auditing.md`.
    pub rule: String,
    /// `major` or `minor`.
    pub grade: String,
    /// At which event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What is wrong.
    pub text: String,
    /// What follows from the events before; empty where nothing can be said.
    pub expected: String,
    /// What the ledger has.
    pub found: String,
    /// Money at stake, one amount a currency.
    pub at_stake: Vec<String>,
    /// It only follows from the finding before it in the list that is none.
    pub consequence: bool,
}

/// Something to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotePart {
    /// At which event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// In words.
    pub text: String,
}

/// Sums over the order's permissions. `approved` is `confirmed`, `refused`, `open` and `not_asked` together;
/// `given_back` likewise its own three.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// What the payment counts, zero where the order is not paid.
    pub paid: String,
    /// All refunds granted, those taken over from elsewhere included.
    pub approved: String,
    /// Of these, confirmed by an exchange's signature.
    pub confirmed: String,
    /// Of these, finally refused by an exchange.
    pub refused: String,
    /// Of these, asked without a decision so far.
    pub open: String,
    /// Of these, never asked for.
    pub not_asked: String,
    /// Deposits that aborts give back.
    pub given_back: String,
    /// Of these, confirmed by an exchange's signature.
    pub given_back_confirmed: String,
    /// Of these, finally refused.
    pub given_back_refused: String,
    /// Of these, without a decision so far.
    pub given_back_open: String,
}

/// Whose word an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It follows from a signature of another party than the shop, or from the merchant's own where it speaks
    /// against the merchant, and that signature was verified.
    Proven,
    /// Only the shop's word, which its ledger key signed.
    Claimed,
    /// The shop's word about bytes that are erased: nobody can hold the word against them any more.
    Erased,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventPart {
    /// Its place in the ledger.
    pub seq: u64,
    /// The time that it was decided on, to the microsecond. Always the shop's word.
    pub at: String,
    /// Its kind, as `docs/event-format.md` has it.
    pub kind: String,
    /// What happened, in one sentence.
    pub sentence: String,
    /// Whose word it is.
    pub standing: Standing,
    /// Why, in a few words.
    pub because: String,
    /// The event's digest.
    pub digest: String,
    /// Its facts, one a line, `name: value`, lists one line an entry.
    pub facts: Vec<String>,
    /// Bytes behind it.
    pub attachments: Vec<AttachmentPart>,
}

/// What became of an attachment's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentState {
    /// In the file, and as sealed.
    Included,
    /// In the file, and not as sealed.
    Differs,
    /// Left out of this file by its exporter; the ledger had them.
    Redacted,
    /// Erased from the ledger.
    Erased,
    /// Neither there nor accounted for.
    Missing,
}

/// Bytes behind an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentPart {
    /// `terms`, `body`, `reply`, `reason` or `keys`.
    pub name: String,
    /// What became of it.
    pub state: AttachmentState,
    /// The salted digest that the event holds.
    pub digest: String,
    /// Length in bytes, where they are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The file in the bundle, where the bytes are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The text of a `reason`, where it is there, is UTF-8 and not too long to be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A coin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoinPart {
    /// The coin.
    pub coin_pub: String,
    /// Its deposit; absent where only an abort names the coin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deposit: Option<DepositPart>,
    /// Whether the payment counts it.
    pub counted: bool,
    /// Whether an abort names it.
    pub aborted: bool,
    /// Its permissions, in order of their approval.
    pub permissions: Vec<PermissionPart>,
}

/// A deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepositPart {
    /// Its event.
    pub seq: u64,
    /// The exchange.
    pub exchange_master_pub: String,
    /// Its address.
    pub exchange_url: String,
    /// What the coin gave, deposit fee included.
    pub amount_with_fee: String,
    /// Fee for the deposit.
    pub deposit_fee: String,
    /// Fee for each refund.
    pub refund_fee: String,
}

/// Where a permission comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PermissionSource {
    /// The merchant's approval.
    Approval,
    /// Granted elsewhere, before the order was taken over.
    CarriedIn,
    /// An abort gives the deposit back.
    Abort,
}

/// What became of a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An exchange's signature that verifies says that it refunded.
    Confirmed,
    /// The exchange finally refused.
    Refused,
    /// Asked, not decided.
    Open,
    /// Never asked for.
    NotAsked,
}

/// A permission: one merchant-signed refund request for one coin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionPart {
    /// `rtransaction_id`; 0 of an abort.
    pub id: u64,
    /// Where it comes from.
    pub source: PermissionSource,
    /// Refund fee included.
    pub amount: String,
    /// The event that granted it.
    pub approved_seq: u64,
    /// When that was.
    pub approved_at: String,
    /// `execution_time`, as wallets are told; absent of an abort.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_time: Option<String>,
    /// Whether the merchant's signature over it verifies.
    pub merchant_signed: bool,
    /// When it was about to be sent for the first time; absent where that was elsewhere, or never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Recorded attempts that brought nothing conclusive, then the conclusive one, in words, in order.
    pub attempts: Vec<AttemptPart>,
    /// When the exchange decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<String>,
    /// The event of that decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_seq: Option<u64>,
    /// The signing key that confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_by: Option<String>,
}

/// A recorded attempt at a permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptPart {
    /// Its event.
    pub seq: u64,
    /// When.
    pub at: String,
    /// Number of the attempt.
    pub attempt: u64,
    /// HTTP status, where the exchange replied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// What it brought, in words.
    pub result: String,
}

/// What a wallet was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerPart {
    /// Its event; of several parts the last.
    pub seq: u64,
    /// When.
    pub at: String,
    /// `refund` or `abort`.
    pub to: String,
    /// HTTP status.
    pub http_status: u16,
    /// Of a refund's 200: the sum told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refund_amount: Option<String>,
    /// The event of the order that it rests on.
    pub as_of: u64,
    /// Digest of the body served.
    pub body: String,
    /// Whether the body rebuilt from the events of this file has that digest; absent where bytes that it hands on
    /// are erased or left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<bool>,
    /// The first four of the five words of this answer's receipt, `ORIGIN SEQ EVENT BODY`: a wallet's receipt
    /// begins with them. The fifth, a signature, only who was served has.
    pub receipt: String,
    /// When its last byte went out, where that is recorded. The shop's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<String>,
}

/// The checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointPart {
    /// Events in its tree.
    pub size: u64,
    /// Root of the tree.
    pub root: String,
    /// Names on the further signature lines of the note, such as witnesses. Not verified here: that needs their keys.
    pub cosigners: Vec<String>,
    /// Events in this file that are newer than the checkpoint: signed, chained by the ledger, and without a proof.
    pub unproven: u64,
}

/// Where an event's proof stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofPart {
    /// The event.
    pub seq: u64,
    /// Its file; absent where the event is newer than the checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A signing key of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPart {
    /// The key.
    pub key: String,
    /// The exchange whose master key signed it.
    pub master_pub: String,
    /// Signs from here.
    pub start: String,
    /// Stops signing here.
    pub expire: String,
    /// Its signatures bind the exchange until here.
    pub end: String,
    /// The event that told of it first.
    pub seen_seq: u64,
}
