//! The HTTP surface: which path is which endpoint, and the checks that all share, in this order: method and path,
//! token, instance, size. The endpoints' own checks are in their files, named after them. No other module knows
//! warp. Specification: Taler's merchant API for the endpoints it has, `docs/protocol-choices.md` for the rest.

mod abort;
mod approve;
mod config;
mod error;
mod intake;
mod ledger;
pub mod openapi;
mod refund;
mod reply;
mod routes;
pub mod server;
pub(crate) mod shape;
mod status;
pub mod understand;

use std::pin::pin;
use std::sync::Arc;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use quittance_events::{InstanceId, OrderKey, TokenId};
use quittance_taler::ErrorCode;
use quittance_taler::json::read_object;
use routes::{Target, decoded, find};
use warp::Filter;
use warp::http::{HeaderMap, Method, header};
use warp::reply::Response;

use crate::instance::Instance;
use crate::limits::{BODY_MAX, BODY_TIME};
use crate::refusal::{Refusal, RequestError};
use crate::service::Service;
use crate::token::Token;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    OpenApi,
    Config,
    Status,
    Abort,
    Refund,
    Approve,
    RecordOrder,
    RecordDeposits,
    Ledger(ledger::File),
}

impl Endpoint {
    fn is_private(self) -> bool {
        matches!(
            self,
            Endpoint::Approve | Endpoint::RecordOrder | Endpoint::RecordDeposits
        )
    }

    /// What a ledger that fails is called: the specification names another code for the wallet's refund.
    fn storage_code(self) -> ErrorCode {
        match self {
            Endpoint::Refund | Endpoint::Status | Endpoint::Ledger(_) => ErrorCode::GenericDbFetchFailed,
            _ => ErrorCode::GenericDbStoreFailed,
        }
    }
}

/// `default` and `admin` name the root instance.
fn instance_id(segment: Option<&str>) -> Option<InstanceId> {
    match segment {
        None | Some("default" | "admin") => Some(InstanceId::root()),
        Some(segment) => decoded(segment),
    }
}

/// All routes of the service.
pub fn routes(
    service: Arc<Service>,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::any()
        .map(move || Arc::clone(&service))
        .and(warp::method())
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(
            |service, method: Method, path: warp::path::FullPath, query, headers, body| async move {
                respond(service, method.as_str(), path.as_str(), query, &headers, body).await
            },
        )
}

async fn respond(
    service: Arc<Service>,
    method: &str,
    path: &str,
    query: String,
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Response {
    let methods = routes::methods();
    if !methods.contains(&method) {
        return error::wrong_method(&methods);
    }
    let Some(target) = find(path) else {
        return error::refused(&Refusal::new(ErrorCode::GenericEndpointUnknown));
    };
    let endpoint = target.endpoint;
    if !target.methods.contains(&method) {
        return error::wrong_method(&target.methods);
    }
    match answer(service, &target, query, headers, body).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = error::response(&error, endpoint.storage_code());
            if matches!(endpoint, Endpoint::Ledger(_)) {
                ledger::cache(&mut response, ledger::CACHE_NOT);
            }
            response
        }
    }
}

async fn answer(
    service: Arc<Service>,
    target: &Target<'_>,
    query: String,
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<Response, RequestError> {
    if let Endpoint::Ledger(file) = target.endpoint {
        if file.is_for_auditors() {
            token(service.auditor.iter().chain(&service.admin), headers)?;
        }
        read(headers, body).await?;
        return ledger::get(&service, file).await;
    }
    if target.endpoint == Endpoint::OpenApi {
        read(headers, body).await?;
        return Ok(openapi::get());
    }
    let id = instance_id(target.instance);
    let instance = id.as_ref().and_then(|id| service.instances.get(id));
    let by = if target.endpoint.is_private() {
        let tokens = instance.map_or(&[][..], |instance| instance.tokens.as_slice());
        Some(token(tokens.iter().chain(&service.admin), headers)?)
    } else {
        None
    };
    let (Some(id), Some(_)) = (id, instance) else {
        return Err(Refusal::new(ErrorCode::MerchantGenericInstanceUnknown).into());
    };
    let body = read(headers, body).await?;
    let order = target.order.and_then(decoded).map(|order| OrderKey {
        instance: id.clone(),
        order,
    });
    let call = Call {
        service,
        instance: id,
        order,
        by,
        query,
        body,
    };
    let endpoint = target.endpoint;
    // In a task of its own: a client that hangs up must not stop a decision half-way.
    let task = tokio::spawn(async move {
        match endpoint {
            Endpoint::Config => Ok(config::get(&call)),
            Endpoint::Status => status::get(&call).await,
            Endpoint::Abort => abort::post(&call).await,
            Endpoint::Refund => refund::post(&call).await,
            Endpoint::Approve => approve::post(&call).await,
            Endpoint::RecordOrder => intake::post_order(&call).await,
            Endpoint::RecordDeposits => intake::post_deposits(&call).await,
            Endpoint::OpenApi | Endpoint::Ledger(_) => unreachable!("it is answered without an instance"),
        }
    });
    task.await.map_err(|_| RequestError::Task)?
}

/// A request that passed the checks that all endpoints share.
struct Call {
    service: Arc<Service>,
    instance: InstanceId,
    /// `None`: the path names no order that could exist.
    order: Option<OrderKey>,
    /// Whose token, on private endpoints.
    by: Option<TokenId>,
    query: String,
    body: Vec<u8>,
}

impl Call {
    fn instance(&self) -> &Instance {
        &self.service.instances[&self.instance]
    }

    fn order(&self, unknown: ErrorCode) -> Result<&OrderKey, Refusal> {
        self.order.as_ref().ok_or_else(|| Refusal::new(unknown))
    }

    fn by(&self) -> &TokenId {
        self.by
            .as_ref()
            .expect("private endpoints come here with a token only")
    }
}

/// Which of these tokens the request bears.
fn token<'a>(mut tokens: impl Iterator<Item = &'a Token>, headers: &HeaderMap) -> Result<TokenId, Refusal> {
    let unauthorized = Refusal::new(ErrorCode::GenericUnauthorized);
    let given = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| unauthorized.clone())?;
    let given = given.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((scheme, text)) = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(unauthorized);
    };
    debug_assert!(!scheme.is_empty());
    tokens
        .find(|token| token.is(text.trim()))
        .map(|token| token.id.clone())
        .ok_or_else(|| Refusal::new(ErrorCode::GenericTokenUnknown))
}

/// Reads the body, which may be no longer and no slower than the limits say.
async fn read(
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<Vec<u8>, Refusal> {
    let too_long =
        || Refusal::new(ErrorCode::GenericUploadExceedsLimit).detail(format!("at most {BODY_MAX} bytes"));
    let told = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| usize::try_from(told).is_ok_and(|told| told > BODY_MAX)) {
        return Err(too_long());
    }
    let collect = async {
        let mut body = pin!(body);
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            let mut chunk = chunk
                .map_err(|_| Refusal::new(ErrorCode::GenericJsonInvalid).detail("the body broke off"))?;
            if bytes.len() + chunk.remaining() > BODY_MAX {
                return Err(too_long());
            }
            while chunk.has_remaining() {
                let part = chunk.chunk();
                bytes.extend_from_slice(part);
                let taken = part.len();
                chunk.advance(taken);
            }
        }
        Ok(bytes)
    };
    tokio::time::timeout(BODY_TIME, collect)
        .await
        .unwrap_or_else(|_| {
            Err(Refusal::new(ErrorCode::GenericJsonInvalid).detail("the body came too slowly"))
        })
}

/// Reads a request's JSON. Members that the endpoint does not know are ignored.
fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    read_object(body).map_err(|e| Refusal::new(ErrorCode::GenericJsonInvalid).detail(e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn every_endpoint_is_found_with_and_without_an_instance() {
        for (path, endpoint, order) in [
            ("config", Endpoint::Config, None),
            ("orders/a", Endpoint::Status, Some("a")),
            ("orders/a/abort", Endpoint::Abort, Some("a")),
            ("orders/a/refund", Endpoint::Refund, Some("a")),
            ("private/orders/a/refund", Endpoint::Approve, Some("a")),
            ("private/ledger/orders", Endpoint::RecordOrder, None),
            (
                "private/ledger/orders/a/deposits",
                Endpoint::RecordDeposits,
                Some("a"),
            ),
        ] {
            for (instance, prefix) in [(None, "/"), (Some("shop"), "/instances/shop/")] {
                let address = format!("{prefix}{path}");
                let found = find(&address).unwrap();
                assert_eq!(
                    (found.endpoint, found.instance, found.order),
                    (endpoint, instance, order)
                );
            }
        }
        for path in [
            "",
            "/",
            "/orders",
            "/orders/a/",
            "/orders/a/pay",
            "/instances/shop",
            "/private/orders/a",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn the_ledgers_files_are_found_at_the_root_in_their_one_form() {
        let endpoint = |path: &str| find(path).map(|target| target.endpoint);
        let tile = |path: &str| {
            let file = ledger::File::Tile(path.parse().unwrap());
            Some(Endpoint::Ledger(file))
        };
        assert_eq!(
            endpoint("/ledger/checkpoint"),
            Some(Endpoint::Ledger(ledger::File::Checkpoint))
        );
        assert_eq!(endpoint("/ledger/tile/0/000"), tile("tile/0/000"));
        assert_eq!(
            endpoint("/ledger/tile/1/x001/067.p/8"),
            tile("tile/1/x001/067.p/8")
        );
        assert_eq!(
            endpoint("/ledger/tile/entries/000.p/1"),
            tile("tile/entries/000.p/1")
        );
        for path in [
            "/ledger",
            "/ledger/",
            "/ledger/checkpoint/",
            "/ledger/tile",
            "/ledger/tile/0",
            "/ledger/tile/0/0",
            "/ledger/tile/0/000/",
            "/ledger/tile/00/000",
            "/ledger/tile/0/x000/000",
            "/ledger/tile/0/000.p/0",
            "/ledger/tile/0/000.p/256",
            "/ledger/tile/0/000.p/08",
            "/ledger/tile/-1/000",
            "/ledger/tile/8/000",
            "/ledger/tile/entries/000.p/",
            "/ledger/tile/%30/000",
            "//ledger/checkpoint",
            "/instances/default/ledger/checkpoint",
            "/instances/shop/ledger/tile/0/000",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn the_root_instance_has_three_names() {
        for name in [None, Some("default"), Some("admin")] {
            assert_eq!(instance_id(name), Some(InstanceId::root()));
        }
        assert_eq!(instance_id(Some("sh%6Fp")), "shop".parse().ok());
        assert_eq!(instance_id(Some("..")), None);
    }
}
