//! `GET orders/$ORDER_ID`: what wallets and customers see of an order: to be paid, somebody else's, or paid, and whether
//! a wallet should come for refunds. Specification: Taler's merchant API of that name. Who waits is woken by what happens
//! to the order, and looks again. The page for a browser is another form of what [`look`] finds.

use std::sync::Arc;
use std::time::Duration;

use quittance_events::answer::{self, Status};
use quittance_events::sale::Offer;
use quittance_events::{Folded, Order, OrderId, OrderKey};
use quittance_taler::{Amount, ClaimToken, Currency, ErrorCode, HashCode, uri};
use serde::Serialize;
use tokio::time::Instant;
use warp::http::StatusCode;
use warp::reply::Response;

use super::query::{Query, malformed};
use super::{Call, page, reply};
use crate::decide::pay::session_digest;
use crate::refusal::{Refusal, RequestError};
use crate::selling::claim_token;
use crate::waiters::Topic;

/// What a request asks for.
pub(super) struct Asked {
    h_contract: Option<HashCode>,
    token: Option<ClaimToken>,
    /// In which session the order is to be paid.
    pub(super) session: Option<String>,
    timeout: Duration,
    /// Waits until no refund is left to be picked up.
    await_refund_obtained: bool,
    /// Waits until more than this is refunded.
    refund: Option<Amount>,
    /// Whether an order of which something was refunded counts as what the customer has already.
    allow_refunded: bool,
}

/// What there is to see.
pub(super) enum Shown {
    Unpaid(Unpaid),
    Elsewhere(Elsewhere),
    Paid(Paid),
}

/// It is to be paid, maybe in this session.
#[derive(Serialize)]
pub(super) struct Unpaid {
    pub(super) taler_pay_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fulfillment_url: Option<String>,
    /// Of the same instance, with the same fulfillment URL, and shown to be paid in this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) already_paid_order_id: Option<OrderId>,
}

/// It is not for who asks, who shows nothing of it; here one can have another.
#[derive(Serialize)]
pub(super) struct Elsewhere {
    pub(super) public_reorder_url: String,
}

/// It is paid.
#[derive(Serialize)]
pub(super) struct Paid {
    #[serde(flatten)]
    pub(super) status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fulfillment_url: Option<String>,
}

pub(super) fn read(query: &str, currency: Currency) -> Result<Asked, Refusal> {
    let query = Query::new(query);
    let refund: Option<Amount> = query.read("refund")?;
    if refund.is_some_and(|refund| refund.currency() != currency) {
        return Err(malformed("refund is in another currency"));
    }
    Ok(Asked {
        h_contract: query.read("h_contract")?,
        token: query.read("token")?,
        session: session(&query)?,
        timeout: query.timeout()?,
        await_refund_obtained: query.filter("await_refund_obtained")? == Some(true),
        refund,
        allow_refunded: query.filter("allow_refunded_for_repurchase")? == Some(true),
    })
}

/// The session that a query names; none where it is empty.
pub(super) fn session(query: &Query<'_>) -> Result<Option<String>, Refusal> {
    match query.text("session_id") {
        None | Some("") => Ok(None),
        // They are steps in a path, and so would be in the wallet's.
        Some("." | "..") => Err(malformed("session_id")),
        Some(session) => Ok(Some(session.to_owned())),
    }
}

/// Where a wallet pays this order of ours, in that session.
pub(super) fn pay_uri(call: &Call, key: &OrderKey, offer: &Offer, session: Option<&str>) -> String {
    let instance = call.instance();
    let token = offer
        .created
        .claim_token
        .then(|| claim_token(&instance.merchant, key));
    let (base_url, order) = (&instance.base_url, key.order.as_str());
    uri::pay_uri_with(base_url, order, session.unwrap_or_default(), token.as_ref())
}

/// Whether the order is paid and, where it was sold here and a session is asked for, in that one.
pub(super) fn is_paid_in(order: &Order, session: Option<&str>) -> bool {
    let is_theirs = match (&order.sale, session) {
        (Some(sale), Some(session)) => sale.session == session_digest(session),
        _ => true,
    };
    order.payment.is_some() && is_theirs
}

pub(super) async fn get(call: &Call) -> Result<Response, RequestError> {
    if let Some(language) = call.page {
        return page::get(call, language).await;
    }
    let asked = read(&call.query, call.service.currency)?;
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;
    let until = Instant::now() + asked.timeout;
    let mut waiter = call.waiter(asked.timeout, || Topic::Order(key.clone()));
    let shown = loop {
        let shown = look(call, key, &asked).await?;
        if is_awaited(&shown, &asked) || !call.wait(&mut waiter, until).await? {
            break shown;
        }
    };
    Ok(match &shown {
        Shown::Unpaid(body) => reply::json(StatusCode::PAYMENT_REQUIRED, body),
        Shown::Elsewhere(body) => reply::json(StatusCode::ACCEPTED, body),
        Shown::Paid(body) => reply::json(StatusCode::OK, body),
    })
}

/// Whether this is what the request would wait for.
fn is_awaited(shown: &Shown, asked: &Asked) -> bool {
    let status = match shown {
        Shown::Paid(Paid { status, .. }) => status,
        Shown::Elsewhere(_) => return true,
        // What was bought before is not going to be paid.
        Shown::Unpaid(unpaid) => return unpaid.already_paid_order_id.is_some(),
    };
    let is_above = |floor: &Amount| {
        let compared = status.refund_amount.try_cmp(floor);
        compared.is_ok_and(std::cmp::Ordering::is_gt)
    };
    asked.refund.as_ref().is_none_or(is_above) && !(asked.await_refund_obtained && status.refund_pending)
}

fn wrong_token() -> Refusal {
    Refusal::new(ErrorCode::MerchantGetOrdersIdInvalidToken)
}

/// What there is to see of an order, for who shows by contract or token that it concerns him.
pub(super) async fn look(call: &Call, key: &OrderKey, asked: &Asked) -> Result<Shown, RequestError> {
    let folded = call.service.folded(key).await?;
    let folded = folded.filter(|folded| !folded.is_deleted());
    let folded = folded.ok_or_else(|| Refusal::new(ErrorCode::MerchantGenericOrderUnknown))?;
    let wrong_contract = || Refusal::new(ErrorCode::MerchantGetOrdersIdInvalidContractHash);
    let shows_token = folded.offer().map(|offer| {
        let merchant = &call.instance().merchant;
        match (&asked.token, offer.created.claim_token) {
            (Some(token), true) => Some(token.matches(&claim_token(merchant, key))),
            (Some(_), false) => Some(false),
            (None, true) => None,
            // Whoever knows its id may have it.
            (None, false) => Some(true),
        }
    });
    let order = match &folded {
        Folded::Offered(offer) => {
            if asked.h_contract.is_some() {
                return Err(wrong_contract().into());
            }
            return match shows_token.flatten() {
                Some(true) => unpaid(call, key, offer, &folded, asked).await,
                Some(false) => Err(wrong_token().into()),
                None => elsewhere(call, &folded).await,
            };
        }
        Folded::Recorded(order) => order,
    };
    match (&asked.h_contract, shows_token.flatten()) {
        (Some(hash), _) if *hash == order.terms.h_contract => {}
        (Some(_), _) => return Err(wrong_contract().into()),
        (None, Some(true)) => {}
        (None, None) if order.sale.is_some() => return elsewhere(call, &folded).await,
        (None, _) => return Err(wrong_token().into()),
    }
    if !is_paid_in(order, asked.session.as_deref()) {
        let Some(sale) = &order.sale else {
            let taler_pay_uri = uri::pay_uri(&call.instance().base_url, key.order.as_str());
            return Ok(Shown::Unpaid(Unpaid {
                taler_pay_uri,
                fulfillment_url: None,
                already_paid_order_id: None,
            }));
        };
        return unpaid(call, key, &sale.offer, &folded, asked).await;
    }
    let now = call.service.now(Some(&Folded::Recorded(Arc::clone(order))));
    // Who has the contract knows where it leads.
    let fulfillment_url = match asked.h_contract {
        Some(_) => None,
        None => member(call, &folded, "fulfillment_url").await?,
    };
    Ok(Shown::Paid(Paid {
        status: answer::status(order, now)?,
        fulfillment_url,
    }))
}

/// For who shows nothing: where one gets an order of one's own, if the terms say so.
async fn elsewhere(call: &Call, folded: &Folded) -> Result<Shown, RequestError> {
    let url = member(call, folded, "public_reorder_url").await?;
    let public_reorder_url = url.ok_or_else(wrong_token)?;
    Ok(Shown::Elsewhere(Elsewhere { public_reorder_url }))
}

async fn unpaid(
    call: &Call,
    key: &OrderKey,
    offer: &Offer,
    folded: &Folded,
    asked: &Asked,
) -> Result<Shown, RequestError> {
    let session = asked.session.as_deref();
    let fulfillment_url = member(call, folded, "fulfillment_url").await?;
    let already_paid_order_id = paid_before(
        call,
        key,
        session,
        fulfillment_url.as_deref(),
        asked.allow_refunded,
    )
    .await?;
    Ok(Shown::Unpaid(Unpaid {
        taler_pay_uri: pay_uri(call, key, offer, session),
        fulfillment_url,
        already_paid_order_id,
    }))
}

/// Another order that leads to the same, and that its customer has shown to be paid in this session: he has bought that
/// already, and his wallet said so rather than to pay for it again.
pub(super) async fn paid_before(
    call: &Call,
    key: &OrderKey,
    session: Option<&str>,
    fulfillment_url: Option<&str>,
    allow_refunded: bool,
) -> Result<Option<OrderId>, RequestError> {
    let (Some(session), Some(url)) = (session, fulfillment_url) else {
        return Ok(None);
    };
    let digest = session_digest(session);
    let known = digest.map(|digest| call.service.sessions.orders(&key.instance, digest));
    for id in known.unwrap_or_default() {
        let other = OrderKey {
            instance: key.instance.clone(),
            order: id,
        };
        if other == *key {
            continue;
        }
        let Some(order) = call.service.order(&other).await? else {
            continue;
        };
        let is_whole = allow_refunded || order.approved()?.is_zero();
        // Terms are read for those alone that could be it.
        if is_whole && is_paid_in(&order, Some(session)) {
            let leads_to = member(call, &Folded::Recorded(order), "fulfillment_url").await?;
            if leads_to.as_deref() == Some(url) {
                return Ok(Some(other.order));
            }
        }
    }
    Ok(None)
}

/// A text of the terms; `None` where they have none of that name, or are erased.
async fn member(call: &Call, folded: &Folded, name: &str) -> Result<Option<String>, RequestError> {
    let terms = call.service.terms_now(folded).await?;
    let text = terms.as_ref().and_then(|terms| terms[name].as_str());
    Ok(text.map(str::to_owned))
}
