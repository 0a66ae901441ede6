//! The order's page as a response: who gets one, in which language, and the headers that keep it what it is. What it
//! says is `crate::page`'s. Specification: Taler's merchant API, `GET orders/$ORDER_ID` with `Accept: text/html`,
//! without long polling.

use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::reply;
use crate::page::{Language, OrderState, OrderView, POLICY, Trouble, order_page, trouble_page, wants_page};

const HTML: &str = "text/html; charset=utf-8";

/// The language in which the client wants a page; `None`: it wants JSON.
pub(super) fn wanted(headers: &HeaderMap) -> Option<Language> {
    let all = |name| {
        let values = headers.get_all(name).iter();
        let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        texts.join(",")
    };
    wants_page(&all(header::ACCEPT)).then(|| Language::wanted(&all(header::ACCEPT_LANGUAGE)))
}

/// The page of an order that its reader may see.
pub(super) fn order(view: &OrderView<'_>, language: Language) -> Response {
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
pub(super) fn trouble(error: Response, language: Language) -> Response {
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
