//! The order's page as a response: who gets one, in which language, and the headers that keep it what it is. What it
//! says is `crate::page`'s. Specification: Taler's merchant API, `GET orders/$ORDER_ID` with `Accept: text/html`,
//! without long polling.

use quittance_events::answer::Status;
use quittance_events::{Folded, Order};
use quittance_taler::{ErrorCode, Timestamp, amount, uri};
use serde_json::Value;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::status::{self, Shown, Unpaid};
use super::{Call, reply};
use crate::page::{
    Language, OrderState, OrderView, POLICY, Trouble, elsewhere_page, order_page, trouble_page, wants_page,
    web_address,
};
use crate::refusal::{Refusal, RequestError};

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

/// The page of an order, for whoever may see it: of what JSON would say, and with the same status.
pub(super) async fn get(call: &Call, language: Language) -> Result<Response, RequestError> {
    let service = &call.service;
    let asked = status::read(&call.query, service.currency)?;
    let unknown = || Refusal::new(ErrorCode::MerchantGenericOrderUnknown);
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;
    let shown = status::look(call, key, &asked).await?;
    if let Shown::Unpaid(Unpaid {
        already_paid_order_id: Some(_),
        fulfillment_url: Some(url),
        ..
    }) = &shown
        && let Some(url) = web_address(url)
    {
        // His wallet has shown that he bought it before: nothing is to be paid or seen here.
        let mut response = page(StatusCode::FOUND, String::new(), language);
        let url = HeaderValue::from_str(url.as_str()).expect("a URL is visible ASCII");
        response.headers_mut().insert(header::LOCATION, url);
        return Ok(response);
    }
    let folded = service.folded(key).await?.ok_or_else(unknown)?;
    let amount = match &folded {
        Folded::Offered(offer) => offer.created.amount,
        Folded::Recorded(order) => order.terms.amount,
    };
    let until = folded
        .offer()
        .map_or(Timestamp::NEVER, |offer| offer.created.pay_deadline_s);
    let refund_uri = uri::refund_uri(&call.instance().base_url, key.order.as_str());
    let state = match (&shown, folded.order()) {
        (Shown::Elsewhere(elsewhere), _) => {
            return Ok(page(
                StatusCode::ACCEPTED,
                elsewhere_page(&elsewhere.public_reorder_url, language),
                language,
            ));
        }
        (Shown::Paid(paid), Some(order)) => standing(order, &paid.status, &refund_uri)?,
        // Paid, but not shown to be in the reader's session: the wallet that paid shows it there, and pays nothing.
        (Shown::Unpaid(unpaid), Some(order)) if order.payment.is_some() => OrderState::Payable {
            pay_uri: &unpaid.taler_pay_uri,
            until: Timestamp::NEVER,
        },
        _ if service.now(Some(&folded)).is_past(until) => OrderState::Expired,
        (Shown::Unpaid(unpaid), Some(_)) => OrderState::Claimed {
            pay_uri: &unpaid.taler_pay_uri,
            until,
        },
        (Shown::Unpaid(unpaid), None) => OrderState::Payable {
            pay_uri: &unpaid.taler_pay_uri,
            until,
        },
        (Shown::Paid(_), None) => return Err(RequestError::Contended),
    };
    // Erased terms say nothing; how the order stands is known all the same.
    let terms = service.terms_now(&folded).await?.unwrap_or(Value::Null);
    let id = key.order.as_str();
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

/// How a paid order stands with its refunds.
fn standing<'a>(order: &Order, status: &Status, refund_uri: &'a str) -> Result<OrderState<'a>, RequestError> {
    let refused = order
        .rows
        .iter()
        .filter(|row| !row.taken && row.outcome.is_refused());
    let refused = amount::sum(order.currency(), refused.map(|row| row.amount))?;
    let left = status.refund_amount.checked_sub(status.refund_taken)?;
    Ok(if status.refund_pending {
        OrderState::RefundWaiting {
            refund_uri,
            waiting: left.checked_sub(refused)?,
        }
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
