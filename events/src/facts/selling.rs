//! What happens where Quittance sells by itself: accounts, orders before their claim, and the deposits that a payment
//! asks for. Kinds of format version 4. Shapes only; what they add up to is the order's fold. Format: `docs/event-format.md`.

use serde::{Deserialize, Serialize};

use quittance_taler::{
    Amount, ClaimNonce, CoinPub, Digest32, EddsaSignature, ExchangePub, HashCode, MasterPub, MerchantPub,
    Timestamp,
};

use super::{Failure, NamedExchange, Part, Verdict};
use crate::ids::{Seq, TokenId, WebhookId, safe_integer};

facts! {
    /// An instance got an account that exchanges wire to. Attachment `account`: `{"payto_uri","salt"}` as canonical JSON,
    /// whose hash is `h_wire`.
    AccountAdded {
        /// Names the account in contracts and deposits.
        h_wire: HashCode,
        /// The method of its payto URI.
        wire_method: String,
        /// Whose token added it. Absent: the operator, by command.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<TokenId>,
    }

    /// An account is in no new order from here on. Deposits for orders that name it are made all the same.
    AccountClosed {
        /// Which.
        h_wire: HashCode,
        /// Whose token closed it. Absent: the operator, by command.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<TokenId>,
    }

    /// A shop offers something: an order that no wallet has claimed. Attachment `terms`: the contract terms without
    /// nonce as canonical JSON.
    OrderCreated {
        /// What the order costs.
        amount: Amount,
        /// When it was made.
        timestamp_s: Timestamp,
        /// It can be paid until here.
        pay_deadline_s: Timestamp,
        /// Refunds are promised until here.
        refund_deadline_s: Timestamp,
        /// The exchange wires the money here.
        wire_deadline_s: Timestamp,
        /// The merchant.
        merchant_pub: MerchantPub,
        /// Where coins may come from.
        exchanges: Vec<NamedExchange>,
        /// Where the money goes.
        h_wire: HashCode,
        /// Whether a claim must show the order's token. The token itself is nowhere: it is computed from the merchant's key.
        claim_token: bool,
        /// Whose token made it.
        by: TokenId,
    }

    /// A wallet claimed the order, whose `order_recorded` with the complete terms stands right before this, in the same
    /// commit.
    OrderClaimed {
        /// The wallet's.
        nonce: ClaimNonce,
        /// The merchant's signature over the contract (purpose 1101).
        contract_sig: EddsaSignature,
    }

    /// The shop takes an order back that nobody can pay any more. Its name stays used.
    OrderDeleted {
        /// Whose token did.
        by: TokenId,
    }

    /// Members of the contract were forgotten: the attachments `terms` before this one are erased in the same commit, and
    /// the attachment `terms` of this event has their salted hashes in their place, so that the contract's hash stays.
    TermsForgotten {
        /// Whose token did.
        by: TokenId,
    }

    /// One coin of a batch of deposits.
    DepositCoin {
        /// The coin.
        coin_pub: CoinPub,
        /// What it is to give, deposit fee included.
        amount_with_fee: Amount,
        /// Fee for the deposit, of the coin's denomination.
        deposit_fee: Amount,
        /// Fee for each refund, of the coin's denomination.
        refund_fee: Amount,
        /// Its denomination.
        h_denom: HashCode,
        /// Hash of its age commitment, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        h_age_commitment: Option<Digest32>,
        /// Its signature over the deposit (purpose 1201).
        coin_sig: EddsaSignature,
    }

    /// Coins of a wallet's payment are about to be deposited at one exchange for the first time. Attachment `body`: the
    /// wallet's request as received, of the first part.
    DepositRequested {
        /// At which exchange.
        exchange_master_pub: MasterPub,
        /// Its address as the contract names it.
        exchange_url: String,
        /// In which form coins and exchange sign.
        layout: DepositForm,
        /// Hash of what the wallet says to the merchant beside, where it says something.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wallet_data_hash: Option<HashCode>,
        /// In the request's order, which the exchange's signature rests on.
        coins: Vec<DepositCoin>,
        /// Of several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<Part>,
    }

    /// An exchange replied to a batch of deposits. Attachment `reply`: its body as received. Confirmed: the
    /// `deposit_recorded` of each coin stands in the same commit.
    DepositReplied {
        /// The batch: its `deposit_requested` (the first part).
        batch: Seq,
        /// Which attempt at this batch it was, from 1; grows.
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
        /// Of a 200: when the exchange took the deposits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exchange_timestamp_s: Option<Timestamp>,
        /// What the reply proves.
        verdict: Verdict,
    }

    /// An exchange did not reply to a batch of deposits: whether it took them is unknown.
    DepositUnreached {
        /// The batch: its `deposit_requested` (the first part).
        batch: Seq,
        /// Which attempt at this batch it was, from 1; grows.
        #[serde(deserialize_with = "safe_integer")]
        attempt: u64,
        /// How it failed.
        failure: Failure,
    }

    /// A wallet showed in this session that the order is paid.
    SessionPaid {
        /// Digest of the session's id.
        session: Digest32,
    }

    /// The shop's own server was told of a payment or an approved refund, and said 2xx.
    WebhookDelivered {
        /// Which webhook of the instance.
        webhook: WebhookId,
        /// Of what: the `payment_completed` or `refund_approved` (the first part).
        of: Seq,
        /// Which attempt of the running service it was, from 1.
        #[serde(deserialize_with = "safe_integer")]
        attempt: u64,
        /// As replied.
        http_status: u16,
    }

    /// The shop's own server could not be told in time, and is told no more.
    WebhookGivenUp {
        /// Which webhook of the instance.
        webhook: WebhookId,
        /// Of what, as above.
        of: Seq,
        /// Attempts of the running service.
        #[serde(deserialize_with = "safe_integer")]
        attempt: u64,
    }
}

/// In which form coins and exchange sign a deposit; the exchange's protocol decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DepositForm {
    /// Until 2023: each coin has a confirmation of its own.
    PerCoin,
    /// Since: one confirmation for the batch, and the coins sign `wallet_data_hash`, too.
    PerBatch,
}
