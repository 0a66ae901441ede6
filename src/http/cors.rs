//! Which pages in a browser may ask: all, as with Taler's own merchant. A wallet that lives in a browser asks from a page
//! of its own, and without these headers the browser keeps the answer from it. Who may do something is told by tokens and
//! hashes that a page must have, never by what a browser sends by itself. Specification: the Fetch standard, 3.3.

use warp::http::{HeaderMap, HeaderName, HeaderValue, header};
use warp::reply::Response;

use super::reply;
use super::routes::Target;
use quittance_events::receipt::HEADER;

/// Browsers ask at most once in so many seconds.
const MAX_AGE_S: u64 = 86_400;

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).expect("names of headers and methods are visible ASCII");
    headers.insert(name, value);
}

/// An answer that a page may read.
pub(super) fn shared(mut response: Response) -> Response {
    let headers = response.headers_mut();
    set(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(
        headers,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        &format!("{HEADER}, ETag, Taler"),
    );
    response
}

/// What a browser asks for before it lets a page ask.
pub(super) fn preflight(target: &Target<'_>) -> Response {
    let mut response = reply::no_content();
    let headers = response.headers_mut();
    let methods = target.methods().join(", ");
    set(headers, header::ALLOW, &methods);
    set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &methods);
    set(
        headers,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "Authorization, Content-Type, Content-Encoding",
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S.into());
    response
}
