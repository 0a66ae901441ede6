//! What is seen of a request from outside of it: a span around all that it does, a line and metrics at its end, and its
//! id, by which a client's report of an error is found in the log. Neither path nor query nor headers nor bodies go into
//! any of these: endpoint and instance are named only where the service knows them.

use std::fmt::{self, Display, Formatter};
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::Instrument;
use warp::http::HeaderValue;
use warp::reply::Response;

use crate::service::Service;

/// Names the request of an error.
pub(super) const HEADER: &str = "quittance-request";

/// What an answer to a path that is no endpoint is counted under.
const NO_ENDPOINT: &str = "none";

/// Taler's code of an error body, on the response that bears it.
#[derive(Clone, Copy)]
pub(super) struct Code(pub(super) u32);

/// A number that no other request of this process has. It tells nobody how many there were, and repeats no text of a
/// client.
#[derive(Clone, Copy)]
struct RequestId(u64);

impl RequestId {
    fn next() -> RequestId {
        static FIRST: OnceLock<u64> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let first = FIRST.get_or_init(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).expect("the system has randomness");
            u64::from_le_bytes(bytes)
        });
        RequestId(mixed(first.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed))))
    }
}

impl Display for RequestId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The last step of SplitMix64, which maps no two numbers to one.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Answers a request, and tells log and metrics of it.
pub(super) async fn observed(
    service: &Service,
    method: &str,
    endpoint: Option<&'static str>,
    answer: impl Future<Output = Response>,
) -> Response {
    let began = Instant::now();
    let id = RequestId::next();
    let endpoint = endpoint.unwrap_or(NO_ENDPOINT);
    let method = match method {
        "GET" => "GET",
        "POST" => "POST",
        "DELETE" => "DELETE",
        _ => "other",
    };
    // Of the highest level, so that no filter takes it away from the errors inside.
    let span = tracing::error_span!("request", %id, method, endpoint, instance = tracing::field::Empty);
    let mut response = answer.instrument(span.clone()).await;
    let took = began.elapsed();
    let status = response.status().as_u16();
    let code = response.extensions().get::<Code>().map_or(0, |code| code.0);
    service.metrics.answered(endpoint, status, code, took);
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(parent: &span, status, code, took_us, "answered");
    if status >= 400 {
        let id = HeaderValue::from_str(&id.to_string()).expect("hexadecimal digits are a header's value");
        response.headers_mut().insert(HEADER, id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_apart_and_do_not_count() {
        let ids: Vec<u64> = (0..1000).map(|_| RequestId::next().0).collect();
        let different: std::collections::BTreeSet<&u64> = ids.iter().collect();
        assert_eq!(different.len(), ids.len());
        assert!(ids.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 1000));
        assert_eq!(RequestId(7).to_string(), "0000000000000007");
    }
}
