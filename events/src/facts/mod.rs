//! What happened, kind by kind: the facts of event format versions 1 to 3, and in
//! `selling` those of version 4. Facts hold what sums and times need (codes,
//! numbers, keys, token ids) and never free text: texts and raw bytes are attachments, which can be erased for a
//! lawful reason. This module gives each kind its shape; it decides nothing. Format: `docs/event-format.md`.
//!
//! Optional facts are absent, never null; unknown ones are refused. Fields whose names end in `_s` are whole
//! seconds or "never", those in `_us` microseconds.

use serde::{Deserialize, Serialize};

use quittance_taler::{
    Amount, CoinPub, Currency, Digest32, EddsaSignature, ExchangePub, HashCode, MasterPub, MerchantPub,
    Micros, Timestamp,
};

use crate::event::AttachmentName;
use crate::ids::{RefundId, Seq, TokenId, generation, safe_integer};

/// How many rows or coins one event may list, so that a leaf stays below 65,535 bytes; longer lists become
/// consecutive events of one commit.
pub const LIST_MAX: usize = 200;

/// `[i, n]`: this event is part i (from 1) of n that were decided as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part(pub u32, pub u32);

impl Part {
    /// Whether a decision ends with this part. An event without a part is its own last.
    #[must_use]
    pub fn is_last(part: Option<Part>) -> bool {
        part.is_none_or(|Part(i, n)| i == n)
    }
}

macro_rules! facts {
    ($( $(#[$doc:meta])* $name:ident { $( $(#[$meta:meta])* $field:ident : $type:ty ),* $(,)? } )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name { $( $(#[$meta])* pub $field: $type, )* }
        )*
    };
}

mod selling;
pub use selling::{
    AccountAdded, AccountClosed, DepositCoin, DepositForm, DepositReplied, DepositRequested,
    DepositUnreached, OrderClaimed, OrderCreated, OrderDeleted, SessionPaid, TermsForgotten,
    WebhookDelivered, WebhookGivenUp,
};

facts! {
    /// The first event: who signs and under which name.
    LedgerOpened {
        /// The ledger's name in checkpoints and keys, a schema-less URL.
        origin: String,
        /// Signs events and receipts.
        event_key: Digest32,
        /// Signs checkpoints.
        checkpoint_key: Digest32,
        /// May name a new event key when the old one is lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery_key: Option<Digest32>,
        /// The ledger that this one continues.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        predecessor: Option<Predecessor>,
    }

    /// Where a successor ledger takes over.
    Predecessor {
        /// Its name.
        origin: String,
        /// Events in it.
        #[serde(deserialize_with = "safe_integer")]
        size: u64,
        /// Root of its tree at that size.
        root: Digest32,
        /// How often events were lost on the way here: ids of approvals begin at 2^20 times this. Absent: never.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "generation")]
        generation: Option<u64>,
    }

    /// A merchant instance was opened. One open instance per merchant key.
    InstanceAdded {
        /// The merchant's key.
        merchant_pub: MerchantPub,
        /// Where wallets reach it.
        base_url: String,
        /// The currency it sells in.
        currency: Currency,
        /// Whose token opened it. Absent: the operator, by command. Of version 4.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<TokenId>,
    }

    /// A merchant instance was closed.
    InstanceClosed {
        /// The merchant's key.
        merchant_pub: MerchantPub,
        /// Where wallets reached it.
        base_url: String,
        /// The currency it sold in.
        currency: Currency,
        /// Whose token closed it. Absent: the operator, by command. Of version 4.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<TokenId>,
    }

    /// An exchange's online signing key, as its master key signed it.
    SignKey {
        /// The key.
        key: ExchangePub,
        /// Signs from here.
        start_s: Timestamp,
        /// Stops signing here.
        expire_s: Timestamp,
        /// Its signatures count until here.
        end_s: Timestamp,
        /// The master key's signature over the four.
        master_sig: EddsaSignature,
    }

    /// An exchange's `/keys` told of other signing keys than before. Attachment `keys`: the reply as received.
    ExchangeKeysSeen {
        /// The exchange.
        master_pub: MasterPub,
        /// Where it was asked.
        url: String,
        /// Those that the master key really signed.
        signkeys: Vec<SignKey>,
    }

    /// An exchange that contract terms name.
    NamedExchange {
        /// Its address, which is only an address.
        url: String,
        /// The exchange.
        master_pub: MasterPub,
    }

    /// An order's contract became known. Attachment `terms`: the contract terms as canonical JSON.
    OrderRecorded {
        /// Hash of the contract terms.
        h_contract: HashCode,
        /// What the order costs.
        amount: Amount,
        /// When it was made.
        timestamp_s: Timestamp,
        /// Refunds are promised until here.
        refund_deadline_s: Timestamp,
        /// The exchange wires the money here; nothing is refunded for the first time after it.
        wire_deadline_s: Timestamp,
        /// The merchant.
        merchant_pub: MerchantPub,
        /// Where coins may come from.
        exchanges: Vec<NamedExchange>,
        /// Which of the contract's choices was taken.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "safe_integer")]
        choice_index: Option<u64>,
        /// Whose token told it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<TokenId>,
    }

    /// One coin was deposited for the order.
    DepositRecorded {
        /// The coin.
        coin_pub: CoinPub,
        /// At which exchange.
        exchange_master_pub: MasterPub,
        /// Its address as the deposit's teller had it.
        exchange_url: String,
        /// What the coin gave, deposit fee included.
        amount_with_fee: Amount,
        /// Fee for the deposit, given back when all is refunded.
        deposit_fee: Amount,
        /// Fee for each refund.
        refund_fee: Amount,
        /// The coin's denomination.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        h_denom: Option<HashCode>,
        /// The coin's signature over the deposit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        coin_sig: Option<EddsaSignature>,
        /// Who confirmed the deposit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exchange_pub: Option<ExchangePub>,
        /// The exchange's confirmation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exchange_sig: Option<EddsaSignature>,
        /// When the exchange confirmed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exchange_timestamp_s: Option<Timestamp>,
        /// Whose token told it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<TokenId>,
    }

    /// The order was paid.
    PaymentCompleted {
        /// Sum of the coins below, with fees. It caps approvals.
        paid: Amount,
        /// The coins that the payment counts.
        coins: Vec<CoinPub>,
        /// Of several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
        /// Whose token told it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<TokenId>,
    }

    /// A refund that was granted elsewhere before Quittance took the order over.
    CarriedInRow {
        /// The coin.
        coin_pub: CoinPub,
        /// Its id, from 1.
        rtransaction_id: RefundId,
        /// The amount, refund fee included.
        amount: Amount,
        /// When it was approved there.
        execution_s: Timestamp,
        /// The merchant's signature over the refund request.
        merchant_sig: EddsaSignature,
    }

    /// Refunds made elsewhere were taken over.
    RefundCarriedIn {
        /// Them.
        rows: Vec<CarriedInRow>,
        /// Of several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
        /// Whose token told it.
        by: TokenId,
    }

    /// One coin's share of an approval: a permission.
    ApprovedRow {
        /// The coin.
        coin_pub: CoinPub,
        /// Its id, 1, 2, 3 ... within (order, coin).
        rtransaction_id: RefundId,
        /// The amount, refund fee included.
        amount: Amount,
        /// The merchant's signature over the refund request.
        merchant_sig: EddsaSignature,
    }

    /// The merchant granted a refund. Attachment `reason`: why, in UTF-8.
    RefundApproved {
        /// All approved for the order so far, this one included.
        total: Amount,
        /// When: wallets group refunds by it, so each approval of an order has its own second.
        execution_s: Timestamp,
        /// How it is spread over coins.
        rows: Vec<ApprovedRow>,
        /// Of several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
        /// Whose token approved.
        by: TokenId,
    }

    /// Names a permission.
    PermissionName {
        /// The coin.
        coin_pub: CoinPub,
        /// Which of the coin's refunds.
        rtransaction_id: RefundId,
    }

    /// These approved permissions are about to be sent to the exchange for the first time.
    RefundRequested {
        /// Them.
        rows: Vec<PermissionName>,
        /// Of several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
    }

    /// One coin that a wallet's abort names.
    AbortCoin {
        /// The coin.
        coin_pub: CoinPub,
        /// What the ledger knew of it.
        state: AbortCoinState,
        /// Of the recorded deposit, or of the batch that asks for one: what is refunded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<Amount>,
        /// With an amount: the merchant's signature over the refund request with id 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        merchant_sig: Option<EddsaSignature>,
    }

    /// A wallet aborts an order that is not paid. Attachment `body`: the request as received.
    AbortRequested {
        /// In the order of the request.
        coins: Vec<AbortCoin>,
        /// Of several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
    }

    /// A coin that is refunded because its deposit came too late to count.
    ExtendedCoin {
        /// The coin.
        coin_pub: CoinPub,
        /// The recorded deposit.
        amount: Amount,
        /// The merchant's signature over the refund request with id 0.
        merchant_sig: EddsaSignature,
    }

    /// Deposits came after their coin's abort, or after the payment: their money goes back.
    AbortExtended {
        /// Them.
        coins: Vec<ExtendedCoin>,
        /// Of several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
        /// Whose token told of the deposits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<TokenId>,
    }

    /// A wallet's abort was refused because the order is paid.
    AbortRefused {
        /// 412.
        http_status: u16,
        /// 2254.
        error_code: u32,
        /// The coins it named, sorted.
        coins: Vec<CoinPub>,
        /// Of several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
    }

    /// An exchange replied to a permission. Attachment `reply`: its body as received.
    ExchangeReplied {
        /// The permission's coin.
        coin_pub: CoinPub,
        /// The permission's id.
        rtransaction_id: RefundId,
        /// Which attempt at this permission it was, from 1; grows.
        #[serde(deserialize_with = "safe_integer")]
        attempt: u64,
        /// As replied.
        http_status: u16,
        /// The body's `code`, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "safe_integer")]
        error_code: Option<u64>,
        /// Of a 200: who signed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exchange_pub: Option<ExchangePub>,
        /// Of a 200: the confirmation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exchange_sig: Option<EddsaSignature>,
        /// What the reply proves.
        verdict: Verdict,
    }

    /// An exchange did not reply: whether it refunded is unknown.
    ExchangeUnreached {
        /// The permission's coin.
        coin_pub: CoinPub,
        /// The permission's id.
        rtransaction_id: RefundId,
        /// Which attempt at this permission it was, from 1; grows.
        #[serde(deserialize_with = "safe_integer")]
        attempt: u64,
        /// How it failed.
        failure: Failure,
    }

    /// One row of an answer to a wallet's refund request.
    AnsweredRow {
        /// The permission's coin.
        coin_pub: CoinPub,
        /// The permission's id.
        rtransaction_id: RefundId,
        /// As served.
        execution_s: Timestamp,
        /// As served.
        exchange_status: u16,
    }

    /// A wallet's refund request was answered with 200 or 410.
    RefundAnswered {
        /// The order's last event that the answer rests on.
        as_of: Seq,
        /// 200 or 410.
        http_status: u16,
        /// Digest of the body served.
        body: Digest32,
        /// Of a 200: as served.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refund_amount: Option<Amount>,
        /// Of a 200: as served.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rows: Option<Vec<AnsweredRow>>,
        /// Of several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
    }

    /// One coin of an answer to a wallet's abort.
    AnsweredCoin {
        /// The coin.
        coin_pub: CoinPub,
        /// As served.
        #[serde(rename = "type")]
        kind: EntryType,
        /// As served; absent where undeposited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exchange_status: Option<u16>,
    }

    /// A wallet's abort was answered with 200.
    AbortAnswered {
        /// The order's last event that the answer rests on.
        as_of: Seq,
        /// 200.
        http_status: u16,
        /// How undeposited coins were told.
        mode: Undeposited,
        /// Digest of the body served.
        body: Digest32,
        /// As served, in the order of the request.
        coins: Vec<AnsweredCoin>,
        /// Of several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
    }

    /// The last byte of an answer went out without error.
    RefundDelivered {
        /// The sequence of the `refund_answered` (its last part).
        answer: Seq,
    }

    /// The operator says that the clock was wrong. Attachment `reason`: why, in UTF-8.
    ClockCorrected {
        /// The greatest time so far.
        from_us: Micros,
        /// The time from here on.
        to_us: Micros,
    }

    /// All events after this one are of another version, which may have other kinds; a reader that does not know
    /// that version stops here.
    FormatRaised {
        /// The version that follows.
        #[serde(deserialize_with = "safe_integer")]
        version: u64,
    }

    /// Bytes and salt of an attachment were erased in the commit of this event. Attachment `reason`: why, in UTF-8.
    /// Of the order that the attachment's event belongs to, if it belongs to one.
    AttachmentErased {
        /// The event whose attachment it was.
        seq: Seq,
        /// Which of its attachments.
        name: AttachmentName,
    }

    /// One of the ledger's keys gave way to another, which is in force from this event on.
    LedgerKeyRotated {
        /// Which key.
        role: KeyRole,
        /// The key from here on.
        new_key: Digest32,
        /// Who authorised it.
        authorised_by: Authority,
        /// Signature of that key over ledger, sequence, role and new key.
        authorisation: EddsaSignature,
        /// Signature of the new key over the same: whoever rotates holds it.
        possession: EddsaSignature,
    }

    /// A bearer token is taken from here on: by the instance that the event names, or by all where it names none.
    /// Never the token or its hash.
    TokenAdded {
        /// Stands in `by` of what it causes.
        token: TokenId,
        /// What it may do.
        scope: TokenScope,
        /// It is taken no more from here on.
        expire_s: Timestamp,
        /// Whether it may make tokens that outlive it.
        refreshable: bool,
        /// The token that made it. Absent: the operator, by file or command.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<TokenId>,
    }

    /// A bearer token is taken no more.
    TokenRevoked {
        /// Which.
        token: TokenId,
        /// The token that revoked it. Absent: the operator, by file or command.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<TokenId>,
    }
}

/// What a bearer token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenScope {
    /// Look at what the private endpoints tell, and change nothing.
    Read,
    /// Approve refunds.
    Refunds,
    /// Tell of orders, deposits and payments.
    Orders,
    /// Read the ledger's entries, which tell of all instances.
    Audit,
    /// All of an instance: the three above `audit`, and tokens.
    All,
}

impl TokenScope {
    /// All of them.
    pub const EVERY: [TokenScope; 5] = [
        TokenScope::Read,
        TokenScope::Refunds,
        TokenScope::Orders,
        TokenScope::Audit,
        TokenScope::All,
    ];

    /// As in events and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TokenScope::Read => "read",
            TokenScope::Refunds => "refunds",
            TokenScope::Orders => "orders",
            TokenScope::Audit => "audit",
            TokenScope::All => "all",
        }
    }

    /// The scope of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<TokenScope> {
        TokenScope::EVERY.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// What a key of the ledger is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyRole {
    /// Signs events and receipts.
    Event,
    /// Signs checkpoints.
    Checkpoint,
}

impl KeyRole {
    /// As in the event and in what is signed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            KeyRole::Event => "event",
            KeyRole::Checkpoint => "checkpoint",
        }
    }
}

/// Whose signature lets a new key in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// The event key in force before the rotation.
    EventKey,
    /// The recovery key of the first event.
    RecoveryKey,
}

impl LedgerOpened {
    /// How often events were lost on the way to this ledger.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.predecessor
            .as_ref()
            .and_then(|before| before.generation)
            .unwrap_or(0)
    }
}

/// What the ledger knew of a coin when an abort named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbortCoinState {
    /// Deposited: its money goes back.
    Deposited,
    /// Not deposited, as far as the ledger was told.
    Undeposited,
    /// In a batch that its exchange has not decided: if it is deposited, its money goes back. Of version 4.
    Asked,
    /// Already under an earlier abort.
    Known,
}

/// What an exchange's reply proves about a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// 200 with a signature that verifies: refunded.
    Confirmed,
    /// A final 4xx: not refunded, and not asked again.
    Refused,
    /// The exchange is unwell or too busy: asked again.
    Later,
    /// 200 without a valid proof: asked again.
    Unproven,
    /// Anything else: asked again.
    Malformed,
}

impl Verdict {
    /// Whether the exchange has decided.
    #[must_use]
    pub fn is_conclusive(self) -> bool {
        matches!(self, Verdict::Confirmed | Verdict::Refused)
    }
}

/// How a call to an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No connection.
    Connect,
    /// The connection ended before a whole reply had come.
    Closed,
    /// No whole reply in time.
    Timeout,
}

/// The `type` of an entry in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryType {
    /// The exchange confirmed.
    Success,
    /// It did not.
    Failure,
    /// There was nothing to refund.
    Undeposited,
}

/// How a coin without a deposit is told in an abort's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undeposited {
    /// As `{"type":"undeposited"}`.
    Typed,
    /// As a failure with 404 and 1502, for wallets of before that type.
    Failure,
}
