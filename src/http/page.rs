//! The order's page as a response: who gets one, in which language, and the headers that keep it what it is. What it
//! says is `crate::page`'s. Specification: Taler's merchant API, `GET orders/$ORDER_ID` with `Accept: text/html`,
//! without long polling.

use quittance_events::order::Row;
use quittance_events::{Folded, Order, answer};
use quittance_taler::{Amount, ClaimToken, ErrorCode, HashCode, Micros, Timestamp, amount, uri};
use serde_json::Value;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::query::Query;
use super::{Call, reply};
use crate::page::{Language, OrderState, OrderView, POLICY, Trouble, order_page, trouble_page, wants_page};
use crate::refusal::{Refusal, RequestError};
use crate::selling::{claim_token, session_digest};

/// What pages are.
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// The language in which the client wants a page; `None`: it wants JSON.
pub(super) fn wanted(headers: &HeaderMap) -> Option<Language> {
    let all = |name| {
        let values = headers.get_all(name).iter();
        let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        texts.join(",")
    };
    wants_page(&all(header::ACCEPT)).then(|| Language::wanted(&all(header::ACCEPT_LANGUAGE)))
}

/// The page of an order, for whoever has its token or its contract's hash.
pub(super) async fn get(call: &Call, language: Language) -> Result<Response, RequestError> {
    let service = &call.service;
    let query = Query::new(&call.query);
    let unknown = || Refusal::new(ErrorCode::MerchantGenericOrderUnknown);
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;
    let folded = service.folded(key).await?.filter(|folded| !folded.is_deleted());
    let folded = folded.ok_or_else(unknown)?;
    let instance = call.instance();
    let token = claim_token(&instance.merchant, key);
    check_reader(&folded, &query, &token)?;

    let offer = folded.offer();
    let demanded = offer.is_some_and(|offer| offer.created.claim_token);
    let (base_url, id) = (&instance.base_url, key.order.as_str());
    let session = query
        .text("session_id")
        .filter(|session| !matches!(*session, "." | ".."));
    let pay_uri = uri::pay_uri_with(
        base_url,
        id,
        session.unwrap_or_default(),
        demanded.then_some(&token),
    );
    let refund_uri = uri::refund_uri(base_url, id);
    let now = service.now(Some(&folded));
    let (terms_at, amount) = match &folded {
        Folded::Offered(offer) => (offer.seq, offer.created.amount),
        Folded::Recorded(order) => (order.terms_at, order.terms.amount),
    };
    // Erased terms say nothing; how the order stands is known all the same.
    let terms = service.terms(terms_at).await?.unwrap_or(Value::Null);
    let until = offer.map_or(Timestamp::NEVER, |offer| offer.created.pay_deadline_s);
    let digest = session.map(|session| session_digest(&instance.merchant, key, session));
    let state = match folded.order() {
        Some(order) if order.payment.is_some() => {
            let shown = order.sale.as_ref().and_then(|sale| sale.session);
            if offer.is_some() && digest.is_some() && digest != shown {
                // Paid, but not yet shown to be by whoever reads this; the wallet that paid shows it and pays nothing.
                OrderState::Payable {
                    pay_uri: &pay_uri,
                    until: Timestamp::NEVER,
                }
            } else {
                paid(order, &refund_uri, now)?
            }
        }
        _ if now.is_past(until) => OrderState::Expired,
        Some(_) => OrderState::Claimed {
            pay_uri: &pay_uri,
            until,
        },
        None => OrderState::Payable {
            pay_uri: &pay_uri,
            until,
        },
    };
    Ok(order(
        &OrderView {
            id,
            terms: &terms,
            amount,
            state,
        },
        language,
    ))
}

/// Whoever reads it has the order's token, if it demands one, or its contract's hash.
fn check_reader(folded: &Folded, query: &Query<'_>, token: &ClaimToken) -> Result<(), Refusal> {
    if let (Some(given), Some(order)) = (query.read::<HashCode>("h_contract")?, folded.order()) {
        return if given == order.terms.h_contract {
            Ok(())
        } else {
            Err(Refusal::new(ErrorCode::MerchantGetOrdersIdInvalidContractHash))
        };
    }
    let given = query.read::<ClaimToken>("token")?;
    match folded.offer() {
        Some(offer)
            if !offer.created.claim_token || given.as_ref().is_some_and(|given| given.matches(token)) =>
        {
            Ok(())
        }
        _ => Err(Refusal::new(ErrorCode::MerchantGetOrdersIdInvalidToken)),
    }
}

fn paid<'a>(order: &Order, refund_uri: &'a str, now: Micros) -> Result<OrderState<'a>, RequestError> {
    let status = answer::status(order, now)?;
    let refused = order
        .rows
        .iter()
        .filter(|row| !row.taken && row.outcome.is_refused());
    let sum = |rows: &mut dyn Iterator<Item = &Row>| -> Result<Amount, RequestError> {
        Ok(amount::sum(order.currency(), rows.map(|row| row.amount))?)
    };
    let refused = sum(&mut refused.into_iter())?;
    let waiting = status
        .refund_amount
        .checked_sub(status.refund_taken)?
        .checked_sub(refused)?;
    Ok(if status.refund_pending {
        OrderState::RefundWaiting { refund_uri, waiting }
    } else if status.refund_taken.is_zero() {
        OrderState::Paid
    } else {
        OrderState::Refunded {
            refunded: status.refund_taken,
        }
    })
}

/// The page of an order that its reader may see.
fn order(view: &OrderView<'_>, language: Language) -> Response {
    let (status, uri) = match view.state {
        OrderState::Payable { pay_uri, .. } | OrderState::Claimed { pay_uri, .. } => {
            (StatusCode::PAYMENT_REQUIRED, Some(pay_uri))
        }
        OrderState::Expired => (StatusCode::PAYMENT_REQUIRED, None),
        OrderState::RefundWaiting { refund_uri, .. } => (StatusCode::OK, Some(refund_uri)),
        OrderState::Paid | OrderState::Refunded { .. } => (StatusCode::OK, None),
    };
    let mut response = page(status, order_page(view, language), language);
    if let Some(uri) = uri.and_then(|uri| HeaderValue::from_str(uri).ok()) {
        // What a wallet within the browser looks for.
        response.headers_mut().insert("taler", uri);
    }
    response
}

/// The page in place of an error's JSON, with its status and whatever else it says of itself.
pub(super) fn trouble(error: &Response, language: Language) -> Response {
    let trouble = match error.status() {
        StatusCode::NOT_FOUND => Trouble::Unknown,
        StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => Trouble::Forbidden,
        _ => Trouble::Failed,
    };
    let mut response = page(error.status(), trouble_page(trouble, language), language);
    *response.extensions_mut() = error.extensions().clone();
    if let Some(after) = error.headers().get(header::RETRY_AFTER) {
        response.headers_mut().insert(header::RETRY_AFTER, after.clone());
    }
    response
}

fn page(status: StatusCode, text: String, language: Language) -> Response {
    let mut response = reply::with_body(status, text.into_bytes(), HTML);
    let policy = HeaderValue::from_str(&POLICY).expect("a policy is visible ASCII and spaces");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    for (name, value) in [
        (header::VARY, "Accept, Accept-Language"),
        (header::CACHE_CONTROL, "no-store"),
        // The address has the order's token or hash in it.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
