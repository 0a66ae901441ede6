//! The HTTP surface: which path is which endpoint, and the checks that all share, in this order: method and path,
//! token, instance, size. The endpoints' own checks are in their files, named after them. No other module knows
//! warp. Specification: Taler's merchant API for the endpoints it has, `docs/protocol-choices.md` for the rest.

mod abort;
mod accounts;
mod approve;
mod body;
mod claim;
mod config;
mod cors;
mod delivery;
pub mod door;
mod error;
mod forget;
mod health;
mod instances;
mod intake;
mod ledger;
mod list;
mod observe;
pub mod openapi;
mod order;
mod orders;
mod page;
mod pay;
mod query;
mod refund;
mod reply;
mod routes;
pub mod scrape;
pub(crate) mod shape;
#[cfg(feature = "simulation")]
pub mod simulated;
mod status;
mod stream;
mod token;
pub mod understand;
mod webhooks;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use body::{Received, read};
use bytes::Buf;
use door::Ticket;
use futures_util::Stream;
use quittance_events::{InstanceId, OrderKey, TokenId, WebhookId};
use quittance_taler::json::read_object;
use quittance_taler::{ErrorCode, HashCode};
use routes::{Demand, Target, decoded, find};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::Instrument;
use warp::Filter;
use warp::http::{HeaderMap, Method, header};
use warp::reply::Response;

use crate::access::Bearer;
use crate::instance::Instance;
use crate::page::Language;
use crate::refusal::{Refusal, RequestError};
use crate::service::Service;
use crate::waiters::{Topic, Waiter};

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    OpenApi,
    Health,
    Config,
    /// Of an instance, as a browser would ask for it.
    Front,
    Status,
    Pay,
    Paid,
    Abort,
    Refund,
    Approve,
    RecordOrder,
    RecordDeposits,
    Claim,
    /// The instance's orders.
    Orders,
    /// One of them, for the shop.
    Order,
    Forget,
    Ledger(ledger::File),
    /// The token that the request bears.
    Token,
    Tokens,
    /// By serial.
    TokenOf(u64),
    Accounts,
    /// `None`: the path has no hash.
    Account(Option<HashCode>),
    Webhooks,
    Webhook,
    /// All of the service.
    Instances,
    /// One, whether the path or the manager names it.
    Instance,
    Auth,
}

impl Endpoint {
    /// In logs and metrics.
    fn name(self) -> &'static str {
        match self {
            Endpoint::OpenApi => "openapi",
            Endpoint::Health => "health",
            Endpoint::Config => "config",
            Endpoint::Front => "front",
            Endpoint::Status => "status",
            Endpoint::Pay => "pay",
            Endpoint::Paid => "paid",
            Endpoint::Abort => "abort",
            Endpoint::Refund => "refund",
            Endpoint::Approve => "approve",
            Endpoint::RecordOrder => "record_order",
            Endpoint::RecordDeposits => "record_deposits",
            Endpoint::Claim => "claim",
            Endpoint::Orders => "orders",
            Endpoint::Order => "order",
            Endpoint::Forget => "forget",
            Endpoint::Token => "token",
            Endpoint::Tokens | Endpoint::TokenOf(_) => "tokens",
            Endpoint::Accounts | Endpoint::Account(_) => "accounts",
            Endpoint::Webhooks | Endpoint::Webhook => "webhooks",
            Endpoint::Instances => "instances",
            Endpoint::Instance => "instance",
            Endpoint::Auth => "auth",
            Endpoint::Ledger(file) => file.name(),
        }
    }

    /// What a ledger that fails is called: the specification names another code for the wallet's refund.
    fn storage_code(self) -> ErrorCode {
        match self {
            Endpoint::Refund | Endpoint::Status | Endpoint::Order | Endpoint::Ledger(_) => {
                ErrorCode::GenericDbFetchFailed
            }
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
        .and(warp::ext::optional())
        .and(warp::body::stream())
        .then(
            |service: Arc<Service>,
             method: Method,
             path: warp::path::FullPath,
             query,
             headers,
             ticket,
             body| async move {
                let (method, target) = (method.as_str(), find(path.as_str()));
                let endpoint = target.as_ref().map(|target| target.endpoint.name());
                let answer = respond(
                    Arc::clone(&service),
                    method,
                    target,
                    query,
                    &headers,
                    ticket,
                    body,
                );
                cors::shared(observe::observed(&service, method, endpoint, answer).await)
            },
        )
}

async fn respond(
    service: Arc<Service>,
    method: &str,
    target: Option<Target<'_>>,
    query: String,
    headers: &HeaderMap,
    ticket: Option<Ticket>,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Response {
    let Some(target) = target else {
        // A method that no path takes is refused before the path is looked at.
        let methods = routes::methods();
        if !methods.contains(&method) {
            return error::wrong_method(&methods);
        }
        return error::refused(&Refusal::new(ErrorCode::GenericEndpointUnknown));
    };
    if method == "OPTIONS" {
        return cors::preflight(&target);
    }
    let endpoint = target.endpoint;
    let target = match target.taking(method) {
        Ok(target) => target,
        Err(methods) => return error::wrong_method(&methods),
    };
    match answer(service, &target, query, headers, ticket, body).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = error::response(&error, endpoint.storage_code());
            if endpoint == Endpoint::Status
                && let Some(language) = page::wanted(headers)
            {
                response = page::trouble(&response, language);
            }
            if matches!(endpoint, Endpoint::Ledger(_) | Endpoint::Health) {
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
    ticket: Option<Ticket>,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<Response, RequestError> {
    if target.endpoint == Endpoint::Health {
        return health::get(&service).await;
    }
    let private = target.demand != Demand::Nothing;
    let admission = &service.admission;
    if let Endpoint::Ledger(file) = target.endpoint {
        // One ledger serves all instances: of their tokens the root instance's alone may be for it.
        bearer(&service, Some(&InstanceId::root()), target.demand, headers).await?;
        read(admission, private, headers, body).await?;
        let _place = admission.work(private)?;
        return ledger::get(&service, file).await;
    }
    if target.endpoint == Endpoint::OpenApi {
        read(admission, private, headers, body).await?;
        return Ok(openapi::get());
    }
    let id = instance_id(target.managed.or(target.instance));
    let open = id.as_ref().and_then(|id| service.instances.get(id));
    // Who runs the service manages its instances, or who has all of the root instance.
    let doorkeeper = if target.manages {
        Some(InstanceId::root())
    } else {
        id.clone()
    };
    let bearer = bearer(&service, doorkeeper.as_ref(), target.demand, headers).await?;
    let Some(id) = id.filter(|_| open.is_some() || target.endpoint == Endpoint::Instances) else {
        return Err(Refusal::new(ErrorCode::MerchantGenericInstanceUnknown).into());
    };
    tracing::Span::current().record("instance", id.as_str());
    let Received { bytes: body, large } = read(admission, private, headers, body).await?;
    // Taken only now: who sends his body slowly must not keep others out.
    let place = admission.work(private)?;
    let order = target.order.and_then(decoded).map(|order| OrderKey {
        instance: id.clone(),
        order,
    });
    let call = Call {
        service,
        instance: id,
        open,
        order,
        webhook: target.webhook.and_then(decoded),
        page: page::wanted(headers),
        bearer,
        query,
        body,
        place: Mutex::new(Some(place)),
    };
    let (method, endpoint) = (target.method, target.endpoint);
    // In a task of its own: a client that hangs up must not stop a decision half-way.
    let work = async move {
        let answer = match endpoint {
            Endpoint::Config => Ok(config::get(&call)),
            Endpoint::Front => Ok(config::front(&call)),
            Endpoint::Status => status::get(&call).await,
            Endpoint::Pay => pay::post(&call).await,
            Endpoint::Paid => pay::post_paid(&call).await,
            Endpoint::Abort => abort::post(&call).await,
            Endpoint::Refund => refund::post(&call).await,
            Endpoint::Approve => approve::post(&call).await,
            Endpoint::RecordOrder => intake::post_order(&call).await,
            Endpoint::RecordDeposits => intake::post_deposits(&call).await,
            Endpoint::Claim => claim::post(&call).await,
            Endpoint::Orders if method == "POST" => orders::post(&call).await,
            Endpoint::Orders => list::get(&call).await,
            Endpoint::Order if method == "DELETE" => order::delete(&call).await,
            Endpoint::Order => order::get(&call).await,
            Endpoint::Forget => forget::patch(&call).await,
            Endpoint::Token if method == "DELETE" => token::delete(&call).await,
            Endpoint::Token => token::post(&call).await,
            Endpoint::Tokens => token::list(&call).await,
            Endpoint::TokenOf(serial) => token::delete_of(&call, serial).await,
            Endpoint::Accounts if method == "POST" => accounts::post(&call).await,
            Endpoint::Accounts => accounts::list(&call).await,
            Endpoint::Instances if method == "POST" => instances::post(&call).await,
            Endpoint::Instances => Ok(instances::list(&call)),
            Endpoint::Instance => match method {
                "PATCH" => instances::patch(&call).await,
                "DELETE" => instances::delete(&call).await,
                _ => Ok(instances::get(&call).await),
            },
            Endpoint::Auth => instances::auth(&call).await,
            Endpoint::Account(h_wire) => match method {
                "PATCH" => accounts::patch(&call, h_wire),
                "DELETE" => accounts::delete(&call, h_wire).await,
                _ => accounts::get(&call, h_wire).await,
            },
            Endpoint::Webhooks => webhooks::all(&call, method).await,
            Endpoint::Webhook => webhooks::one(&call, method).await,
            Endpoint::OpenApi | Endpoint::Health | Endpoint::Ledger(_) => {
                unreachable!("they are answered without an instance")
            }
        };
        drop((call, large, ticket));
        answer
    };
    let task = tokio::spawn(work.in_current_span());
    // Who only looks leaves nothing half-way, and may have hung up long before what he waits for comes.
    let _looking = (method == "GET").then(|| UntilDropped(task.abort_handle()));
    task.await.map_err(|_| RequestError::Task)?
}

/// A request that passed the checks that all endpoints share.
struct Call {
    service: Arc<Service>,
    instance: InstanceId,
    /// As it was when the request came; it is `None` only where all instances are meant.
    open: Option<Arc<Instance>>,
    /// `None`: the path names no order that could exist.
    order: Option<OrderKey>,
    /// `None`: the path names no webhook that could exist.
    webhook: Option<WebhookId>,
    /// The language of the page that the client would have rather than JSON.
    page: Option<Language>,
    /// Who calls, on private endpoints.
    bearer: Option<Bearer>,
    query: String,
    body: Vec<u8>,
    /// Its place among the requests that are worked on, while it is.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

/// A task that ends with whoever asked for it.
struct UntilDropped(AbortHandle);

impl Drop for UntilDropped {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Call {
    /// Begins to wait, where the client would and may.
    fn waiter(&self, timeout: Duration, topic: impl FnOnce() -> Topic) -> Option<Waiter> {
        if timeout.is_zero() {
            None
        } else {
            self.service.waiters.begin(topic())
        }
    }

    /// Waits for something to happen, without a place among the requests that are worked on. Whether it did by then.
    async fn wait(&self, waiter: &mut Option<Waiter>, until: Instant) -> Result<bool, Refusal> {
        let Some(waiter) = waiter else {
            return Ok(false);
        };
        // Plain data, whole before anything can panic.
        let place = || self.place.lock().unwrap_or_else(PoisonError::into_inner);
        drop(place().take());
        let happened = waiter.wait(until).await;
        if happened {
            *place() = Some(self.service.admission.work(self.bearer.is_some())?);
        }
        Ok(happened)
    }

    fn instance(&self) -> &Instance {
        self.open()
    }

    fn open(&self) -> &Arc<Instance> {
        self.open
            .as_ref()
            .expect("endpoints of an instance come here with it open")
    }

    fn order(&self, unknown: ErrorCode) -> Result<&OrderKey, Refusal> {
        self.order.as_ref().ok_or_else(|| Refusal::new(unknown))
    }

    fn bearer(&self) -> &Bearer {
        self.bearer
            .as_ref()
            .expect("private endpoints come here with a token only")
    }

    fn by(&self) -> &TokenId {
        &self.bearer().token.id
    }
}

/// Whose token the request bears, where the endpoint demands one that may do what it does. The text is compared where
/// the server holds it and never copied.
async fn bearer(
    service: &Service,
    instance: Option<&InstanceId>,
    demand: Demand,
    headers: &HeaderMap,
) -> Result<Option<Bearer>, Refusal> {
    if demand == Demand::Nothing {
        return Ok(None);
    }
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|given| given.to_str().ok());
    let given = given.and_then(|text| text.split_once(' '));
    let Some((_, text)) = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(Refusal::new(ErrorCode::GenericUnauthorized));
    };
    let bearer = service.access.find(instance, text.trim()).await;
    let bearer = bearer.ok_or_else(|| Refusal::new(ErrorCode::GenericTokenUnknown))?;
    if bearer.token.is_expired((service.clock)()) {
        return Err(Refusal::new(ErrorCode::GenericTokenExpired));
    }
    let scopes = demand.scopes();
    if scopes.is_empty() || scopes.iter().any(|scope| bearer.may(*scope)) {
        return Ok(Some(bearer));
    }
    let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
    Err(Refusal::new(ErrorCode::GenericTokenPermissionInsufficient)
        .detail(format!("it needs scope {}", scopes.join(" or "))))
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
            ("orders/a/pay", Endpoint::Pay, Some("a")),
            ("orders/a/paid", Endpoint::Paid, Some("a")),
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
            "/instances/shop/health",
            "/health/",
            "/orders",
            "/orders/a/",
            "/orders/a/pays",
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
