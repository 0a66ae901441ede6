//! Metrics on an address of their own: `GET /metrics`, for the operator's Prometheus and nobody else. Its listener shares
//! nothing with the wallets': a flood there does not blind the operator, and a flood here takes no wallet's place. It
//! changes nothing and asks for no token, which is why it must not be reachable from outside.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::limits::{METRICS_CONNECTIONS_MAX, METRICS_TIME};
use crate::service::Service;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Pause after an accept that failed: the usual cause, too many open files, does not pass in a microsecond.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves metrics until `stop` ends, which cuts off who is still reading.
pub async fn serve(listener: TcpListener, service: Arc<Service>, stop: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            // Closed at once: whoever holds the others open gets no further.
            Ok(_) if connections.len() >= METRICS_CONNECTIONS_MAX => {}
            Ok((stream, _)) => {
                let service = Arc::clone(&service);
                let answer = service_fn(move |request| {
                    let response = respond(&service, &request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(METRICS_TIME)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), answer);
                connections.spawn(async move {
                    let ended = tokio::time::timeout(METRICS_TIME, connection).await;
                    if !matches!(ended, Ok(Ok(()))) {
                        tracing::debug!("a connection to the metrics ended early");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the metrics could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn respond(service: &Service, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let reply = |status, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return reply(StatusCode::NOT_FOUND, "metrics are at /metrics\n".into());
    }
    let mut response = if request.method() == Method::GET {
        reply(StatusCode::OK, service.metrics_text())
    } else {
        reply(StatusCode::METHOD_NOT_ALLOWED, String::new())
    };
    let (name, value) = match response.status() {
        StatusCode::OK => (CONTENT_TYPE, OPENMETRICS),
        _ => (ALLOW, "GET"),
    };
    response
        .headers_mut()
        .insert(name, hyper::header::HeaderValue::from_static(value));
    response
}
