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
use quittance_taler::{Amount, AmountError, ErrorCode, Micros, TalerTimestamp, Timestamp, json, sum};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use warp::http::StatusCode;
use warp::reply::Response;

use super::order::is_refundable;
use super::query::{Query, malformed};
use super::{Call, reply, shape};
use crate::limits::{LIST_ORDERS_MAX, LIST_ROWS_MAX, LISTED_MAX};
use crate::refusal::{Refusal, RequestError};
use crate::waiters::Topic;

/// Of Taler's filters, those that would need an index of their own.
const NOT_FILTERED_BY: [&str; 3] = ["session_id", "fulfillment_url", "summary_filter"];
/// Where a request does not say how many it wants.
const DEFAULT_LIMIT: i64 = -20;

/// What a request asks for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    paid: Option<bool>,
    refunded: Option<bool>,
    date: Option<Timestamp>,
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
    let unsupported = |detail: &str| Refusal::new(ErrorCode::GenericFeatureNotImplemented).detail(detail);
    if let Some(name) = NOT_FILTERED_BY.iter().find(|name| query.text(name).is_some()) {
        return Err(unsupported(name));
    }
    if query.filter("wired")? == Some(true) {
        return Err(unsupported("what an exchange has wired is not known here"));
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
        let list = look(call, asked).await?;
        if !list.orders.is_empty() || !call.wait(&mut waiter, until).await? {
            break list;
        }
    };
    Ok(reply::json(StatusCode::OK, &list))
}

async fn look(call: &Call, asked: Asked) -> Result<List, RequestError> {
    let now = (call.service.clock)();
    // A thread that reads would come back at a moment of its own.
    #[cfg(feature = "simulation")]
    if call.service.ledger.is_stepped() {
        return Ok(walk(&call.service.ledger, &call.instance, asked, now)?);
    }
    let (ledger, instance) = (Arc::clone(&call.service.ledger), call.instance.clone());
    let read = tokio::task::spawn_blocking(move || walk(&ledger, &instance, asked, now)).await;
    Ok(read.map_err(|_| RequestError::Task)??)
}

fn walk(ledger: &Ledger, instance: &InstanceId, asked: Asked, now: Micros) -> Result<List, StoreError> {
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
            orders.push(found.listed(ledger, row, key, now)?);
        }
        Ok(if orders.len() == asked.limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(List { orders, next_offset })
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
    fn of(folded: &Folded, asked: Asked) -> Result<Option<Found<'_>>, StoreError> {
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
            && asked.refunded.is_none_or(|wanted| wanted != refunded.is_zero());
        Ok(is_wanted.then_some(Found {
            folded,
            amount,
            timestamp,
            refunded,
        }))
    }

    fn listed(
        &self,
        ledger: &Ledger,
        row_id: u64,
        key: &OrderKey,
        now: Micros,
    ) -> Result<Listed, StoreError> {
        let terms = match self.folded {
            Folded::Offered(offer) => ledger.attachment(offer.seq, AttachmentName::Terms)?,
            Folded::Recorded(order) => ledger.contract(order)?,
        };
        let terms: Option<Value> = terms.and_then(|terms| json::parse_strict(&terms).ok());
        let summary = terms.as_ref().and_then(|terms| terms["summary"].as_str());
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

/// What wallets may still get of the order's refunds.
fn pending(order: &Order, now: Micros) -> Result<Amount, AmountError> {
    let past = now.is_past(order.terms.wire_deadline_s);
    let rows = order.rows.iter().filter(|row| row.is_pending(past));
    sum(order.currency(), rows.map(|row| row.amount))
}
