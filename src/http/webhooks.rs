//! `POST` and `GET private/webhooks`, `GET`, `PATCH` and `DELETE private/webhooks/$ID`: where a shop's own server is told
//! of payments and refunds. Specification: Taler's merchant API of those names. The secret that its signatures are
//! checked with is told once, in a header of the answer to `POST`, since that answer has no body.

use quittance_events::WebhookId;
use quittance_taler::ErrorCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::{Call, parse, reply, shape};
use crate::refusal::{Refusal, RequestError};
use crate::webhook::{Details, EventType, Webhook, WebhookError};

/// Bears a new webhook's secret.
pub(super) const SECRET: &str = "quittance-webhook-secret";

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WebhookAdd")]
pub(super) struct Request {
    #[schemars(with = "shape::WebhookId")]
    webhook_id: String,
    #[serde(flatten)]
    details: Change,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WebhookChange")]
pub(super) struct Change {
    #[schemars(with = "shape::WebhookEvent")]
    event_type: String,
    #[schemars(with = "shape::WebhookUrl")]
    url: String,
    #[schemars(with = "shape::WebhookMethod")]
    http_method: String,
    header_template: Option<String>,
    body_template: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Webhooks")]
pub(super) struct List {
    webhooks: Vec<Entry>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookEntry")]
struct Entry {
    #[schemars(with = "String")]
    webhook_id: WebhookId,
    event_type: &'static str,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Webhook")]
pub(super) struct Detail {
    event_type: &'static str,
    url: String,
    http_method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    header_template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_template: Option<String>,
}

impl Change {
    fn read(self) -> Result<Details, Refusal> {
        let event_type = EventType::read(&self.event_type)
            .ok_or_else(|| malformed("event_type is `pay` or `refund`: nothing else is told of"))?;
        let url = self.url.parse().map_err(|_| malformed("url is no URL"))?;
        let details = Details {
            event_type,
            url,
            http_method: self.http_method,
            header_template: self.header_template,
            body_template: self.body_template,
        };
        details.check().map_err(refusal)?;
        Ok(details)
    }
}

/// Reads a request for a new one.
pub(super) fn read(body: &[u8]) -> Result<(WebhookId, Details), Refusal> {
    let request: Request = parse(body)?;
    let id = request.webhook_id.parse().map_err(malformed)?;
    Ok((id, request.details.read()?))
}

/// Reads a request for a change.
pub(super) fn read_change(body: &[u8]) -> Result<Details, Refusal> {
    parse::<Change>(body)?.read()
}

pub(super) async fn all(call: &Call, method: &str) -> Result<Response, RequestError> {
    match method {
        "POST" => post(call).await,
        _ => Ok(list(call)),
    }
}

pub(super) async fn one(call: &Call, method: &str) -> Result<Response, RequestError> {
    match method {
        "PATCH" => patch(call).await,
        "DELETE" => delete(call).await,
        _ => get(call),
    }
}

async fn post(call: &Call) -> Result<Response, RequestError> {
    let (id, details) = read(&call.body)?;
    if let Some(known) = call
        .service
        .webhooks
        .of(&call.instance)
        .iter()
        .find(|known| known.id == id)
        && known.details == details
    {
        // Asked again, as after a lost answer. Its secret is not told twice: who lost it deletes it and makes another.
        return Ok(reply::no_content());
    }
    let now = (call.service.clock)();
    let webhook = Webhook::new(id, details, now).map_err(refusal)?;
    let secret = HeaderValue::from_str(webhook.secret()).expect("base32 is a header's value");
    let webhooks = &call.service.webhooks;
    let add = move |webhooks: &mut Vec<Webhook>| crate::webhook::add(webhooks, webhook);
    webhooks.change(&call.instance, add).await?;
    let mut response = reply::no_content();
    response.headers_mut().insert(SECRET, secret);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn list(call: &Call) -> Response {
    let entry = |webhook: &Webhook| Entry {
        webhook_id: webhook.id.clone(),
        event_type: webhook.details.event_type.as_str(),
    };
    let webhooks = call
        .service
        .webhooks
        .of(&call.instance)
        .iter()
        .map(entry)
        .collect();
    reply::json(StatusCode::OK, &List { webhooks })
}

fn get(call: &Call) -> Result<Response, RequestError> {
    let id = id(call)?;
    let webhooks = call.service.webhooks.of(&call.instance);
    let webhook = webhooks
        .iter()
        .find(|webhook| webhook.id == id)
        .ok_or_else(unknown)?;
    let Details {
        event_type,
        url,
        http_method,
        header_template,
        body_template,
    } = webhook.details.clone();
    let detail = Detail {
        event_type: event_type.as_str(),
        url: url.into(),
        http_method,
        header_template,
        body_template,
    };
    Ok(reply::json(StatusCode::OK, &detail))
}

async fn patch(call: &Call) -> Result<Response, RequestError> {
    let (id, details) = (id(call)?, read_change(&call.body)?);
    let now = (call.service.clock)();
    let change = move |webhooks: &mut Vec<Webhook>| crate::webhook::change(webhooks, &id, details, now);
    call.service.webhooks.change(&call.instance, change).await?;
    Ok(reply::no_content())
}

async fn delete(call: &Call) -> Result<Response, RequestError> {
    let id = id(call)?;
    let delete = move |webhooks: &mut Vec<Webhook>| crate::webhook::remove(webhooks, &id);
    call.service.webhooks.change(&call.instance, delete).await?;
    Ok(reply::no_content())
}

fn id(call: &Call) -> Result<WebhookId, Refusal> {
    call.webhook.clone().ok_or_else(unknown)
}

fn unknown() -> Refusal {
    Refusal::new(ErrorCode::MerchantGenericWebhookUnknown)
}

fn malformed(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::GenericParameterMalformed).detail(why)
}

fn refusal(error: WebhookError) -> Refusal {
    match error {
        WebhookError::Unknown => unknown(),
        WebhookError::Exists => {
            Refusal::new(ErrorCode::MerchantPrivatePostWebhooksConflictWebhookExists).detail(error)
        }
        WebhookError::Full => Refusal::new(ErrorCode::GenericForbidden).detail(error),
        WebhookError::Details(_) => malformed(error),
        // Never of a check; of a change it is told apart below.
        WebhookError::File(_) => Refusal::new(ErrorCode::GenericInternalInvariantFailure),
    }
}

impl From<WebhookError> for RequestError {
    fn from(error: WebhookError) -> RequestError {
        match error {
            WebhookError::File(error) => RequestError::KeyFile(error),
            error => refusal(error).into(),
        }
    }
}
