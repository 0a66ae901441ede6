//! The answers: what a wallet is served, built from nothing but the order projection and the time of the
//! decision. A body is RFC 8785 JSON of the specification's members, so the same state gives the same bytes on
//! any machine in any year. Never contacts anybody, never records. Specification: Taler's merchant API,
//! `orders/$ORDER_ID/abort`, `orders/$ORDER_ID/refund` and `GET orders/$ORDER_ID`.

use serde::Serialize;
use serde_json::Value;

use quittance_taler::time::TalerTimestamp;
use quittance_taler::{
    Amount, AmountError, CoinPub, Digest32, EddsaSignature, ErrorCode, ExchangePub, MerchantPub, Micros,
    Timestamp, amount, json,
};

use crate::event::Facts;
use crate::facts::{
    AbortAnswered, AnsweredCoin, AnsweredRow, EntryType, Failure, RefundAnswered, Undeposited, Verdict,
};
use crate::ids::{RefundId, Seq};
use crate::order::{Attempt, Order, Outcome, Row};
use crate::seal::answer_digest;

/// The 410's text is part of event format version 1: the recorded digest covers it.
const GONE_HINT: &str = "The wire deadline has passed: it is too late to grant a refund.";

/// An answer that is to be recorded before it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status to serve it with.
    pub http_status: u16,
    /// The body to serve.
    pub body: Vec<u8>,
    /// Digest of the body.
    pub digest: Digest32,
    /// What to record. The writer fills in what it rests on.
    pub facts: Facts,
}

impl Answer {
    fn of(http_status: u16, body: Vec<u8>, digest: Digest32, facts: impl Into<Facts>) -> Box<Answer> {
        Box::new(Answer {
            http_status,
            body,
            digest,
            facts: facts.into(),
        })
    }
}

/// What a wallet's refund request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundAnswer {
    /// 204: nothing was paid, so nothing is refundable. Neither recorded nor receipted.
    NoContent,
    /// 200 or 410.
    Recorded(Box<Answer>),
}

/// What a wallet's abort gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbortAnswer {
    /// 200: the exchange decided on a coin at least, or one was not deposited.
    Recorded(Box<Answer>),
    /// No coin is decided. What the last recorded attempt at the first one brought, if there was any.
    Inconclusive(Option<Attempt>),
}

/// How one permission stands, in the words of the specification.
enum Entry<'a> {
    Success {
        exchange_pub: ExchangePub,
        exchange_sig: EddsaSignature,
    },
    Failure {
        exchange_status: u16,
        exchange_code: u64,
        exchange_reply: Option<&'a Value>,
    },
}

impl Entry<'_> {
    fn exchange_status(&self) -> u16 {
        match self {
            Entry::Success { .. } => 200,
            Entry::Failure { exchange_status, .. } => *exchange_status,
        }
    }
}

fn code(code: ErrorCode) -> u64 {
    u64::from(code.code())
}

/// Failure of a permission that was never sent, or of which nothing is recorded.
fn silent<'a>(exchange_status: u16, of: ErrorCode) -> Entry<'a> {
    Entry::Failure {
        exchange_status,
        exchange_code: code(of),
        exchange_reply: None,
    }
}

/// How a permission stands that may have been sent. Wallets take a 4xx as final, so nothing that may pass is one.
fn sent_entry(outcome: &Outcome) -> Entry<'_> {
    match &outcome.last {
        None | Some(Attempt::Unreached(Failure::Timeout)) => {
            silent(504, ErrorCode::MerchantGenericExchangeTimeout)
        }
        Some(Attempt::Unreached(Failure::Connect | Failure::Closed)) => {
            silent(502, ErrorCode::MerchantGenericExchangeConnectFailure)
        }
        Some(Attempt::Replied {
            http_status,
            error_code,
            verdict,
            proof,
            body,
        }) => {
            let (exchange_status, exchange_code) = match (verdict, proof, error_code) {
                (Verdict::Confirmed, Some((exchange_pub, exchange_sig)), _) => {
                    return Entry::Success {
                        exchange_pub: *exchange_pub,
                        exchange_sig: *exchange_sig,
                    };
                }
                (Verdict::Refused, _, Some(code)) => (*http_status, *code),
                (Verdict::Later, _, _) => {
                    let status = if (500..=599).contains(http_status) {
                        *http_status
                    } else {
                        503
                    };
                    (
                        status,
                        error_code.unwrap_or(code(ErrorCode::MerchantGenericExchangeUnexpectedStatus)),
                    )
                }
                _ => (502, code(ErrorCode::MerchantGenericExchangeReplyMalformed)),
            };
            Entry::Failure {
                exchange_status,
                exchange_code,
                exchange_reply: body.as_deref(),
            }
        }
    }
}

fn row_entry(row: &Row, wire_deadline: Timestamp, now: Micros) -> Entry<'_> {
    if row.requested {
        sent_entry(&row.outcome)
    } else if now.is_past(wire_deadline) {
        silent(410, ErrorCode::ExchangeRefundMerchantAlreadyPaid)
    } else {
        silent(502, ErrorCode::MerchantGenericExchangeKeysFailure)
    }
}

#[derive(Serialize)]
struct EntryJson<'a> {
    #[serde(rename = "type")]
    kind: EntryType,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange_pub: Option<ExchangePub>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange_sig: Option<EddsaSignature>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange_code: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange_reply: Option<&'a Value>,
}

impl<'a> From<Entry<'a>> for EntryJson<'a> {
    fn from(entry: Entry<'a>) -> EntryJson<'a> {
        let exchange_status = Some(entry.exchange_status());
        match entry {
            Entry::Success {
                exchange_pub,
                exchange_sig,
            } => EntryJson {
                kind: EntryType::Success,
                exchange_status,
                exchange_pub: Some(exchange_pub),
                exchange_sig: Some(exchange_sig),
                ..UNDEPOSITED
            },
            Entry::Failure {
                exchange_code,
                exchange_reply,
                ..
            } => EntryJson {
                kind: EntryType::Failure,
                exchange_status,
                exchange_code: Some(exchange_code),
                exchange_reply,
                ..UNDEPOSITED
            },
        }
    }
}

/// A coin that was not deposited: the tag and nothing else.
const UNDEPOSITED: EntryJson<'static> = EntryJson {
    kind: EntryType::Undeposited,
    exchange_status: None,
    exchange_pub: None,
    exchange_sig: None,
    exchange_code: None,
    exchange_reply: None,
};

#[derive(Serialize)]
struct RefundRowJson<'a> {
    #[serde(flatten)]
    entry: EntryJson<'a>,
    rtransaction_id: RefundId,
    coin_pub: CoinPub,
    refund_amount: Amount,
    execution_time: TalerTimestamp,
}

#[derive(Serialize)]
struct RefundJson<'a> {
    refund_amount: Amount,
    refunds: Vec<RefundRowJson<'a>>,
    merchant_pub: MerchantPub,
}

#[derive(Serialize)]
struct AbortJson<'a> {
    refunds: Vec<EntryJson<'a>>,
}

#[derive(Serialize)]
struct GoneJson {
    code: u32,
    hint: &'static str,
}

/// A body's one form.
fn body_of<T: Serialize>(value: &T) -> Vec<u8> {
    json::to_canonical(value).expect("an answer holds texts, safe integers, lists and objects only")
}

/// Answers a wallet's refund request on the order as it stands at `now`.
///
/// # Errors
/// Rows whose sum is no Taler amount, which only a wrong ledger has.
pub fn refund(order: &Order, now: Micros) -> Result<RefundAnswer, AmountError> {
    if order
        .payment
        .as_ref()
        .is_none_or(|payment| payment.paid.is_zero())
    {
        return Ok(RefundAnswer::NoContent);
    }
    let wire_deadline = order.terms.wire_deadline_s;
    if now.is_past(wire_deadline) && !order.rows.iter().any(|row| row.requested) {
        let after = ErrorCode::MerchantPrivatePostRefundAfterWireDeadline;
        let body = body_of(&GoneJson {
            code: after.code(),
            hint: GONE_HINT,
        });
        let digest = answer_digest(&body);
        let facts = RefundAnswered {
            as_of: Seq::NONE,
            http_status: 410,
            body: digest,
            refund_amount: None,
            rows: None,
            part: None,
        };
        return Ok(RefundAnswer::Recorded(Answer::of(410, body, digest, facts)));
    }
    let refund_amount = order.approved()?;
    let mut rows = Vec::with_capacity(order.rows.len());
    let mut refunds = Vec::with_capacity(order.rows.len());
    for row in &order.rows {
        let entry = row_entry(row, wire_deadline, now);
        let execution_s = row.execution_s;
        #[cfg(feature = "broken")]
        let execution_s = crate::broken::redated(execution_s, now);
        rows.push(AnsweredRow {
            coin_pub: row.coin_pub,
            rtransaction_id: row.rtransaction_id,
            execution_s,
            exchange_status: entry.exchange_status(),
        });
        refunds.push(RefundRowJson {
            entry: entry.into(),
            rtransaction_id: row.rtransaction_id,
            coin_pub: row.coin_pub,
            refund_amount: row.amount,
            execution_time: TalerTimestamp(execution_s),
        });
    }
    let body = body_of(&RefundJson {
        refund_amount,
        refunds,
        merchant_pub: order.terms.merchant_pub,
    });
    let digest = answer_digest(&body);
    let facts = RefundAnswered {
        as_of: Seq::NONE,
        http_status: 200,
        body: digest,
        refund_amount: Some(refund_amount),
        rows: Some(rows),
        part: None,
    };
    Ok(RefundAnswer::Recorded(Answer::of(200, body, digest, facts)))
}

/// Answers a wallet's abort that names `coins`, each of which is under an abort of this order.
#[must_use]
pub fn abort(order: &Order, coins: &[CoinPub], mode: Undeposited) -> AbortAnswer {
    let mut answered = Vec::with_capacity(coins.len());
    let mut refunds: Vec<EntryJson> = Vec::with_capacity(coins.len());
    let mut first_open = None;
    let mut conclusive = false;
    for coin in coins {
        let aborted = order.aborted(coin);
        match aborted {
            Some(aborted) if aborted.is_open() => {
                first_open.get_or_insert(aborted);
            }
            _ => conclusive = true,
        }
        let entry = match (aborted, mode) {
            (Some(aborted), _) if aborted.permission.is_some() && !aborted.outcome.says_no_deposit() => {
                sent_entry(&aborted.outcome).into()
            }
            (_, Undeposited::Typed) => UNDEPOSITED,
            (_, Undeposited::Failure) => silent(404, ErrorCode::ExchangeRefundDepositNotFound).into(),
        };
        answered.push(AnsweredCoin {
            coin_pub: *coin,
            kind: entry.kind,
            exchange_status: entry.exchange_status,
        });
        refunds.push(entry);
    }
    if let (false, Some(first)) = (conclusive, first_open) {
        return AbortAnswer::Inconclusive(first.outcome.last.clone());
    }
    let body = body_of(&AbortJson { refunds });
    let digest = answer_digest(&body);
    let facts = AbortAnswered {
        as_of: Seq::NONE,
        http_status: 200,
        mode,
        body: digest,
        coins: answered,
        part: None,
    };
    AbortAnswer::Recorded(Answer::of(200, body, digest, facts))
}

/// What `GET orders/$ORDER_ID` says of a paid order. Not recorded: it grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether anything was refunded.
    pub refunded: bool,
    /// Whether it is worth the wallet's while to ask for refunds.
    pub refund_pending: bool,
    /// All approved.
    pub refund_amount: Amount,
    /// What wallets have certainly got.
    pub refund_taken: Amount,
}

/// The order's status at `now`.
///
/// # Errors
/// As [`refund`].
pub fn status(order: &Order, now: Micros) -> Result<Status, AmountError> {
    let past = now.is_past(order.terms.wire_deadline_s);
    let refund_amount = order.approved()?;
    let taken = order.rows.iter().filter(|row| row.taken).map(|row| row.amount);
    Ok(Status {
        refunded: !refund_amount.is_zero(),
        refund_pending: order.rows.iter().any(|row| row.is_pending(past)),
        refund_amount,
        refund_taken: amount::sum(order.currency(), taken)?,
    })
}
