//! Which pages in a browser may ask: all, as with Taler's own merchant. A wallet that lives in a browser asks from a page
//! of its own, and without these headers the browser keeps the answer from it. Who may do something is told by tokens and
//! hashes that a page must have, never by what a browser sends by itself. Specification: the Fetch standard, 3.3.

use warp::http::{HeaderValue, header};
use warp::reply::Response;

use super::reply;
use super::routes::Target;

/// Browsers ask at most once in so many seconds.
const MAX_AGE_S: u64 = 86_400;

/// Of an answer's headers, what pages may read beside the usual.
const EXPOSED: &str =
    "Quittance-Receipt, Quittance-Request, Quittance-Webhook-Secret, ETag, Retry-After, Taler";

/// An answer that a page may read.
pub(super) fn shared(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(EXPOSED),
    );
    response
}

/// What a browser asks for before it lets a page ask.
pub(super) fn preflight(target: &Target<'_>) -> Response {
    let mut response = reply::no_content();
    let headers = response.headers_mut();
    let methods = HeaderValue::from_str(&target.methods().join(", ")).expect("methods are plain words");
    headers.insert(header::ALLOW, methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Authorization, Content-Type, Content-Encoding"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S.into());
    response
}

#[cfg(test)]
mod tests {
    #[test]
    fn pages_may_read_what_is_our_own() {
        let exposed: Vec<&str> = super::EXPOSED.split(", ").collect();
        for ours in [
            quittance_events::receipt::HEADER,
            crate::http::observe::HEADER,
            crate::http::webhooks::SECRET,
        ] {
            assert!(
                exposed.iter().any(|name| name.eq_ignore_ascii_case(ours)),
                "{ours}"
            );
        }
    }
}
