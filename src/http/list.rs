//! `GET private/orders`: the instance's orders, those that were made here and those that the intake told of.
//! Specification: Taler's merchant API of that name. A request looks at a bounded number of orders; where that was not
//! enough, the reply says where to go on.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use quittance_events::listing::Piece;
use quittance_events::order::Order;
use quittance_events::store::StoreError;
use quittance_events::{AttachmentName, Folded, InstanceId, Ledger, OrderKey};
use quittance_taler::{
    Amount, AmountError, Digest32, ErrorCode, Micros, TalerTimestamp, Timestamp, json, sum,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use warp::http::StatusCode;
use warp::reply::Response;

use super::order::is_refundable;
use super::query::{Query, malformed};
use super::{Call, reply, shape};
use crate::decide::pay::session_digest;
use crate::limits::{LIST_ORDERS_MAX, LIST_ROWS_MAX, LISTED_MAX};
use crate::refusal::{Refusal, RequestError};
use crate::waiters::Topic;

/// Where a request does not say how many it wants.
const DEFAULT_LIMIT: i64 = -20;

/// What a request asks for.
#[derive(Clone)]
pub(super) struct Asked {
    paid: Option<bool>,
    refunded: Option<bool>,
    date: Option<Timestamp>,
    /// Shown to be paid in this session last.
    session: Option<Digest32>,
    fulfillment_url: Option<String>,
    /// What the summary must have in it, in lower case.
    summary: Option<String>,
    newest_first: bool,
    limit: usize,
    beyond: Option<u64>,
    timeout: Duration,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Orders")]
pub(super) struct List {
    orders: Vec<Listed>,
    /// Where to go on, if not all orders were looked at for a list as long as was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ListedOrder")]
struct Listed {
    order_id: String,
    row_id: u64,
    #[schemars(with = "shape::Timestamp")]
    timestamp: TalerTimestamp,
    #[schemars(with = "shape::Amount")]
    amount: Amount,
    /// Empty where the terms are erased.
    summary: String,
    refundable: bool,
    paid: bool,
    #[schemars(with = "shape::Amount")]
    refund_amount: Amount,
    #[schemars(with = "shape::Amount")]
    pending_refund_amount: Amount,
}

pub(super) fn read(query: &str) -> Result<Asked, Refusal> {
    let query = Query::new(query);
    if query.filter("wired")? == Some(true) {
        let refusal = Refusal::new(ErrorCode::GenericFeatureNotImplemented);
        return Err(refusal.detail("what an exchange has wired is not known here"));
    }
    // Both names are read, so that neither is wrong unseen.
    let (limit, delta) = (query.number("limit")?, query.number("delta")?);
    let limit = limit.or(delta).unwrap_or(DEFAULT_LIMIT);
    let (offset, start) = (query.count("offset")?, query.count("start")?);
    let beyond = offset.or(start);
    let date = query.count("date_s")?.map(Timestamp::from_s).transpose();
    Ok(Asked {
        paid: query.filter("paid")?,
        refunded: query.filter("refunded")?,
        date: date.map_err(|_| malformed("date_s"))?,
        session: query.text("session_id").and_then(session_digest),
        fulfillment_url: query.text("fulfillment_url").map(str::to_owned),
        summary: query.text("summary_filter").map(str::to_lowercase),
        newest_first: limit < 0,
        limit: usize::try_from(limit.unsigned_abs())
            .unwrap_or(LISTED_MAX)
            .min(LISTED_MAX),
        beyond,
        timeout: query.timeout()?,
    })
}

pub(super) async fn get(call: &Call) -> Result<Response, RequestError> {
    let asked = read(&call.query)?;
    let until = Instant::now() + asked.timeout;
    // Only what is yet to come can be waited for.
    let timeout = if asked.newest_first || asked.limit == 0 {
        Duration::ZERO
    } else {
        asked.timeout
    };
    let mut waiter = call.waiter(timeout, || Topic::Orders(call.instance.clone()));
    let list = loop {
        let mut list = look(call, &asked).await?;
        // What is waited for may be there already, behind what one look takes in.
        while waiter.is_some() && list.orders.is_empty() && Instant::now() < until {
            let Some(beyond) = list.next_offset else {
                break;
            };
            let further = Asked {
                beyond: Some(beyond),
                ..asked.clone()
            };
            list = look(call, &further).await?;
        }
        let is_answer = !list.orders.is_empty() || list.next_offset.is_some();
        if is_answer || !call.wait(&mut waiter, until).await? {
            break list;
        }
    };
    Ok(reply::json(StatusCode::OK, &list))
}

async fn look(call: &Call, asked: &Asked) -> Result<List, RequestError> {
    let now = (call.service.clock)();
    // A thread that reads would come back at a moment of its own.
    #[cfg(feature = "simulation")]
    if call.service.ledger.is_stepped() {
        return Ok(walk(&call.service.ledger, &call.instance, asked, now)?);
    }
    let (ledger, instance) = (Arc::clone(&call.service.ledger), call.instance.clone());
    let asked = asked.clone();
    let read = tokio::task::spawn_blocking(move || walk(&ledger, &instance, &asked, now)).await;
    Ok(read.map_err(|_| RequestError::Task)??)
}

fn walk(ledger: &Ledger, instance: &InstanceId, asked: &Asked, now: Micros) -> Result<List, StoreError> {
    let mut orders = Vec::new();
    if asked.limit == 0 {
        return Ok(List {
            orders,
            next_offset: None,
        });
    }
    let piece = Piece {
        beyond: asked.beyond,
        newest_first: asked.newest_first,
        rows_max: LIST_ROWS_MAX,
        orders_max: LIST_ORDERS_MAX,
    };
    let next_offset = ledger.walk_orders(instance, piece, |row, key, folded| {
        if let Some(found) = Found::of(folded, asked)? {
            let terms = found.terms(ledger)?;
            if asked.is_met_by(terms.as_ref()) {
                orders.push(found.listed(terms.as_ref(), row, key, now)?);
            }
        }
        Ok(if orders.len() == asked.limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(List { orders, next_offset })
}

impl Asked {
    /// Whether terms are such as are asked for. Erased ones meet only who asks for nothing in them.
    fn is_met_by(&self, terms: Option<&Value>) -> bool {
        let text = |name: &str| terms.and_then(|terms| terms[name].as_str());
        let is_there = |url: &String| text("fulfillment_url") == Some(url.as_str());
        let is_within = |part: &String| {
            text("summary").is_some_and(|summary| summary.to_lowercase().contains(part.as_str()))
        };
        self.fulfillment_url.as_ref().is_none_or(is_there) && self.summary.as_ref().is_none_or(is_within)
    }
}

fn unsummed(error: AmountError) -> StoreError {
    StoreError::Damaged(format!("amounts of an order do not add up: {error}"))
}

/// An order that is wanted.
struct Found<'a> {
    folded: &'a Folded,
    amount: Amount,
    timestamp: Timestamp,
    refunded: Amount,
}

impl Found<'_> {
    fn of<'a>(folded: &'a Folded, asked: &Asked) -> Result<Option<Found<'a>>, StoreError> {
        let (amount, timestamp, refunded, is_paid) = match folded {
            Folded::Offered(offer) => {
                let nothing = Amount::zero(offer.created.amount.currency());
                (offer.created.amount, offer.created.timestamp_s, nothing, false)
            }
            Folded::Recorded(order) => {
                let refunded = order.approved().map_err(unsummed)?;
                let terms = &order.terms;
                (terms.amount, terms.timestamp_s, refunded, order.payment.is_some())
            }
        };
        let in_time = asked.date.is_none_or(|date| {
            if asked.newest_first {
                timestamp < date
            } else {
                timestamp > date
            }
        });
        let is_wanted = !folded.is_deleted()
            && in_time
            && asked.paid.is_none_or(|paid| paid == is_paid)
            && asked
                .session
                .is_none_or(|session| session_of(folded) == Some(session))
            && asked.refunded.is_none_or(|wanted| wanted != refunded.is_zero());
        Ok(is_wanted.then_some(Found {
            folded,
            amount,
            timestamp,
            refunded,
        }))
    }

    fn terms(&self, ledger: &Ledger) -> Result<Option<Value>, StoreError> {
        let terms = match self.folded {
            Folded::Offered(offer) => ledger.attachment(offer.seq, AttachmentName::Terms)?,
            Folded::Recorded(order) => ledger.contract(order)?,
        };
        Ok(terms.and_then(|terms| json::parse_strict(&terms).ok()))
    }

    fn listed(
        &self,
        terms: Option<&Value>,
        row_id: u64,
        key: &OrderKey,
        now: Micros,
    ) -> Result<Listed, StoreError> {
        let summary = terms.and_then(|terms| terms["summary"].as_str());
        let order = self.folded.order().map(AsRef::as_ref);
        Ok(Listed {
            order_id: key.order.as_str().to_owned(),
            row_id,
            timestamp: TalerTimestamp(self.timestamp),
            amount: self.amount,
            summary: summary.unwrap_or_default().to_owned(),
            refundable: order.is_some_and(|order| is_refundable(order, self.refunded, now)),
            paid: order.is_some_and(|order| order.payment.is_some()),
            refund_amount: self.refunded,
            pending_refund_amount: order.map_or(Ok(Amount::zero(self.amount.currency())), |order| {
                pending(order, now).map_err(unsummed)
            })?,
        })
    }
}

fn session_of(folded: &Folded) -> Option<Digest32> {
    let sale = folded.order()?.sale.as_ref()?;
    sale.session
}

/// What wallets may still get of the order's refunds.
fn pending(order: &Order, now: Micros) -> Result<Amount, AmountError> {
    let past = now.is_past(order.terms.wire_deadline_s);
    let rows = order.rows.iter().filter(|row| row.is_pending(past));
    sum(order.currency(), rows.map(|row| row.amount))
}
