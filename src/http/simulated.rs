//! Requests without a server: handed over as the server hands over those that it read, and answered with what it
//! would write. Compiled with the feature `simulation` only.

use std::sync::Arc;

use bytes::Bytes;
use quittance_events::receipt::HEADER;
use warp::http::{HeaderMap, HeaderValue, header};

use super::door::UnderWay;
use super::reply::Delivery;
use crate::service::Service;

/// A reply on its way to the client.
pub struct Told {
    /// Status.
    pub status: u16,
    /// The receipt, if it bears one.
    pub receipt: Option<String>,
    /// Body.
    pub body: Vec<u8>,
    delivery: Option<Delivery>,
}

impl Told {
    /// Its last byte went out.
    pub fn delivered(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            delivery.delivered(UnderWay::of_nobody());
        }
    }
}

/// Answers a request. Dropped, it is a client that hung up.
///
/// # Panics
/// The token is not visible ASCII.
pub async fn request(
    service: Arc<Service>,
    method: &'static str,
    path: String,
    token: Option<String>,
    body: Vec<u8>,
) -> Told {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a token is visible ASCII");
        headers.insert(header::AUTHORIZATION, value);
    }
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path.to_owned(), query.to_owned()),
        None => (path, String::new()),
    };
    let body = futures_util::stream::iter([Ok::<_, warp::Error>(Bytes::from(body))]);
    let mut response = super::respond(service, method, super::find(&path), query, &headers, None, body).await;
    let delivery = response.extensions_mut().remove::<Delivery>();
    let receipt = response.headers().get(HEADER);
    let receipt = receipt.map(|value| value.to_str().expect("a receipt is visible ASCII").to_owned());
    let status = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body()).await;
    let body = body.expect("a reply's body is in memory").to_bytes().to_vec();
    Told {
        status,
        receipt,
        body,
        delivery,
    }
}
