//! `GET private/orders/$ORDER_ID`: how an order stands, for the shop. `DELETE` takes it back. Specification: Taler's
//! merchant API of that name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use quittance_events::answer;
use quittance_events::order::Payment;
use quittance_events::sale::Offer;
use quittance_events::{AttachmentName, Folded, Order, OrderKey, Seq};
use quittance_taler::{Amount, ErrorCode, TalerTimestamp};
use serde_json::{Value, json};
use tokio::time::Instant;
use warp::reply::Response;

use super::query::Query;
use super::status::{is_paid_in, paid_before, pay_uri, session};
use super::{Call, reply};
use crate::decide::sale;
use crate::refusal::{Refusal, RequestError};
use crate::selling::claim_token;
use crate::waiters::Topic;

/// What a request asks for.
struct Asked {
    session: Option<String>,
    /// Whether an order of which something was refunded counts as what the customer has already.
    allow_refunded: bool,
    /// Waits until the reply is another than the one of this tag.
    known_as: Option<String>,
    timeout: Duration,
}

fn read(query: &str) -> Result<Asked, Refusal> {
    let query = Query::new(query);
    Ok(Asked {
        session: session(&query)?,
        allow_refunded: query.filter("allow_refunded_for_repurchase")? == Some(true),
        known_as: query
            .text("lp_not_etag")
            .map(|tag| tag.trim_matches('"').to_owned()),
        timeout: query.timeout()?,
    })
}

pub(super) fn check(query: &str) -> Result<(), Refusal> {
    read(query).map(drop)
}

pub(super) async fn get(call: &Call) -> Result<Response, RequestError> {
    let asked = read(&call.query)?;
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;
    let until = Instant::now() + asked.timeout;
    let mut waiter = call.waiter(asked.timeout, || Topic::Order(key.clone()));
    loop {
        let (is_settled, body) = look(call, key, &asked).await?;
        let body = serde_json::to_vec(&body).expect("a reply is plain JSON");
        let tag = reply::tag(&body);
        let is_known = asked.known_as.as_ref() == Some(&tag);
        let is_awaited = match asked.known_as {
            Some(_) => !is_known,
            None => is_settled,
        };
        if is_awaited || !call.wait(&mut waiter, until).await? {
            return Ok(reply::tagged(&tag, (!is_known).then_some(body)));
        }
    }
}

/// Whether the order is paid in this session, or another is that was bought instead; and how it stands.
async fn look(call: &Call, key: &OrderKey, asked: &Asked) -> Result<(bool, Value), RequestError> {
    let session = asked.session.as_deref();
    let folded = known(call, key).await?;
    let paid = folded.order().filter(|order| is_paid_in(order, session));
    match paid.and_then(|order| Some((order, order.payment.as_ref()?))) {
        Some((order, payment)) => Ok((true, paid_body(call, order, payment, session).await?)),
        None => {
            let body = unpaid_body(call, key, &folded, asked).await?;
            Ok((body.get("already_paid_order_id").is_some(), body))
        }
    }
}

async fn known(call: &Call, key: &OrderKey) -> Result<Folded, RequestError> {
    let folded = call.service.folded(key).await?;
    let folded = folded.filter(|folded| !folded.is_deleted());
    Ok(folded.ok_or_else(|| Refusal::new(ErrorCode::MerchantGenericOrderUnknown))?)
}

/// The order's address for a customer, in his session: what is paid from there is paid in it.
fn status_url(call: &Call, key: &OrderKey, folded: &Folded, session: Option<&str>) -> String {
    let mut url = call.instance().base_url.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["orders", key.order.as_str()]);
    }
    let demands_token = folded.offer().is_some_and(|offer| offer.created.claim_token);
    if demands_token {
        let token = claim_token(&call.instance().merchant, key);
        url.query_pairs_mut().append_pair("token", &token.to_string());
    } else if let Some(order) = folded.order() {
        let hash = order.terms.h_contract.to_string();
        url.query_pairs_mut().append_pair("h_contract", &hash);
    }
    if let Some(session) = session {
        url.query_pairs_mut().append_pair("session_id", session);
    }
    url.into()
}

/// To be paid by whoever claims it, or by the wallet that has.
async fn unpaid_body(
    call: &Call,
    key: &OrderKey,
    folded: &Folded,
    asked: &Asked,
) -> Result<Value, RequestError> {
    let session = asked.session.as_deref();
    let mut body = json!({"order_status_url": status_url(call, key, folded, session)});
    let terms = call.service.terms_now(folded).await?;
    match folded {
        Folded::Offered(offer) => {
            describe_unpaid(&mut body, call, key, offer, session, terms.as_ref());
            let url = body["fulfillment_url"].as_str();
            if let Some(order) = paid_before(call, key, session, url, asked.allow_refunded).await? {
                body["already_paid_fulfillment_url"] = body["fulfillment_url"].clone();
                body["already_paid_order_id"] = json!(order);
            }
        }
        // One that is paid in another session, too: a shop makes this one's customer an order of his own.
        Folded::Recorded(_) => {
            body["order_status"] = "claimed".into();
            set(&mut body, "contract_terms", terms);
        }
    }
    Ok(body)
}

fn describe_unpaid(
    body: &mut Value,
    call: &Call,
    key: &OrderKey,
    offer: &Arc<Offer>,
    session: Option<&str>,
    terms: Option<&Value>,
) {
    let created = &offer.created;
    body["order_status"] = "unpaid".into();
    body["taler_pay_uri"] = pay_uri(call, key, offer, session).into();
    body["creation_time"] = json!(TalerTimestamp(created.timestamp_s));
    body["total_amount"] = json!(created.amount);
    body["pay_deadline"] = json!(TalerTimestamp(created.pay_deadline_s));
    let member = |name: &str| terms.and_then(|terms| terms.get(name)).cloned();
    set(body, "summary", member("summary"));
    set(body, "fulfillment_url", member("fulfillment_url"));
}

/// Sets a member where there is something to say: terms may be erased.
fn set(body: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        body[name] = value;
    }
}

async fn paid_body(
    call: &Call,
    order: &Arc<Order>,
    payment: &Payment,
    session: Option<&str>,
) -> Result<Value, RequestError> {
    let folded = Folded::Recorded(Arc::clone(order));
    let now = call.service.now(Some(&folded));
    let status = answer::status(order, now)?;
    let mut body = json!({
        "order_status": "paid",
        "refunded": status.refunded,
        "refund_pending": status.refund_pending,
        "refund_amount": status.refund_amount,
        "refund_taken": status.refund_taken,
        "deposit_total": payment.paid,
        "last_payment": TalerTimestamp(payment.at.floor_s()),
        "refund_details": refund_details(call, order, now).await?,
        // What the exchange wires to the merchant is not asked for: nothing is known of it.
        "wired": false,
        "wire_details": [],
        "wire_reports": [],
        "exchange_code": 0,
        "exchange_http_status": 0,
        "exchange_ec": 0,
        "exchange_hc": 0,
        "order_status_url": status_url(call, &order.key, &folded, session),
    });
    set(
        &mut body,
        "contract_terms",
        call.service.terms_now(&folded).await?,
    );
    Ok(body)
}

/// One entry for each permission, with the reason of the approval that it is of.
async fn refund_details(
    call: &Call,
    order: &Order,
    now: quittance_taler::Micros,
) -> Result<Vec<Value>, RequestError> {
    let mut reasons: BTreeMap<Seq, String> = BTreeMap::new();
    let mut details = Vec::with_capacity(order.rows.len());
    for row in &order.rows {
        if let Entry::Vacant(unread) = reasons.entry(row.approval) {
            let reason = call.service.attachment(row.approval, AttachmentName::Reason);
            let reason = reason.await?.unwrap_or_default();
            unread.insert(String::from_utf8_lossy(&reason).into_owned());
        }
        details.push(json!({
            "reason": reasons[&row.approval],
            "pending": row.is_pending(now.is_past(order.terms.wire_deadline_s)),
            "timestamp": TalerTimestamp(row.execution_s),
            "amount": row.amount,
        }));
    }
    Ok(details)
}

pub(super) fn check_delete(query: &str) -> Result<bool, Refusal> {
    let query = Query::new(query);
    // Taler's clients write `?force=yes`, and also `?force` alone.
    match query.text("force") {
        Some("") => Ok(true),
        _ => Ok(query.filter("force")? == Some(true)),
    }
}

pub(super) async fn delete(call: &Call) -> Result<Response, RequestError> {
    let force = check_delete(&call.query)?;
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;
    let decide = |folded: Option<&Folded>, now| sale::delete(folded, force, now, call.by());
    call.service.decide_and_record_sale(key, decide).await?;
    Ok(reply::no_content())
}

/// What is given back of an order, at the most what was paid for it.
pub(super) fn is_refundable(order: &Order, refunded: Amount, now: quittance_taler::Micros) -> bool {
    let terms = &order.terms;
    let is_left = |payment: &Payment| {
        refunded
            .try_cmp(&payment.paid)
            .is_ok_and(std::cmp::Ordering::is_lt)
    };
    terms.refund_deadline_s > terms.timestamp_s
        && !now.is_past(terms.refund_deadline_s)
        && order.payment.as_ref().is_some_and(is_left)
}
