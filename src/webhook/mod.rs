//! Webhooks: a shop's own server is told when an order is paid and when a refund is approved. Which ones there are stands
//! in the files `webhooks-ID.json` under KEYS, since they hold secrets; the ledger tells only what was delivered or given
//! up. A request goes to the address that the shop gave, as given, and to no other. Specification: Taler's merchant API,
//! `private/webhooks`; the signature is ours (`docs/operating.md`).

pub mod deliver;
mod lines;
pub mod template;

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use quittance_events::{InstanceId, Seq, WebhookId};
use quittance_taler::{Micros, base32};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use url::Url;
use zeroize::Zeroizing;

use crate::instance::{KeyFileError, KeyFolder, read_private, remove_file, replace};
use crate::limits::{
    WEBHOOK_BODY_MAX, WEBHOOK_HEADERS_MAX, WEBHOOK_TEMPLATE_MAX, WEBHOOK_URL_MAX, WEBHOOKS_MAX,
};
use template::{Place, Template};

/// Bears the signature.
pub const SIGNATURE: &str = "quittance-signature";
/// Names the event that is told of: the same in every attempt, so that a shop can tell a repeat.
pub const EVENT: &str = "quittance-event";

/// Headers that are the connection's own, or ours.
const RESERVED: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "quittance-webhook",
];

/// What a webhook tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// An order is paid.
    Pay,
    /// A refund is approved.
    Refund,
}

impl EventType {
    /// As Taler writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Pay => "pay",
            EventType::Refund => "refund",
        }
    }

    /// Reads Taler's word.
    #[must_use]
    pub fn read(word: &str) -> Option<EventType> {
        [EventType::Pay, EventType::Refund]
            .into_iter()
            .find(|event_type| event_type.as_str() == word)
    }
}

mod as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use url::Url;

    pub(super) fn serialize<S: Serializer>(url: &Url, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(url.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Url, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// What a shop says of a webhook.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// What it tells of.
    pub event_type: EventType,
    /// Where it goes.
    #[serde(with = "as_text")]
    pub url: Url,
    /// How: one of [`METHODS`].
    pub http_method: String,
    /// `Name: value` lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_template: Option<String>,
    /// The body; where there is none, what happened as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_template: Option<String>,
}

/// Methods that a webhook may have.
pub const METHODS: [&str; 4] = ["GET", "PATCH", "POST", "PUT"];

/// A webhook, with its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Its name among the instance's.
    pub id: WebhookId,
    /// What the shop says of it.
    #[serde(flatten)]
    pub details: Details,
    /// The key of its signatures, as the shop has it.
    secret: String,
    /// When it began to tell of what it tells of: of nothing that was before.
    pub created_us: Micros,
}

#[derive(Default, Serialize, Deserialize)]
struct File {
    webhooks: Vec<Webhook>,
}

/// Why webhooks are not as asked.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// No place for another.
    #[error("the instance has {WEBHOOKS_MAX} webhooks, which is the most: delete one first")]
    Full,
    /// Another one has that name.
    #[error("another webhook has this id")]
    Exists,
    /// There is none of that name.
    #[error("the instance has no such webhook")]
    Unknown,
    /// What is said of it cannot be.
    #[error("{0}")]
    Details(String),
}

impl Details {
    /// Whether requests can be made of it.
    ///
    /// # Errors
    /// Which member is wrong, and what would do.
    pub fn check(&self) -> Result<(), WebhookError> {
        let wrong = |what: String| Err(WebhookError::Details(what));
        if self.url.as_str().len() > WEBHOOK_URL_MAX {
            return wrong(format!("url has at most {WEBHOOK_URL_MAX} bytes"));
        }
        if !matches!(self.url.scheme(), "http" | "https") || self.url.host_str().is_none_or(str::is_empty) {
            return wrong("url is http or https with a host".into());
        }
        if !self.url.username().is_empty() || self.url.password().is_some() || self.url.fragment().is_some() {
            return wrong(
                "url has neither user nor password nor fragment; a header can bear a password".into(),
            );
        }
        if !METHODS.contains(&self.http_method.as_str()) {
            return wrong(format!("http_method is one of {}", METHODS.join(", ")));
        }
        for template in [&self.header_template, &self.body_template].into_iter().flatten() {
            if template.len() > WEBHOOK_TEMPLATE_MAX {
                return wrong(format!("a template has at most {WEBHOOK_TEMPLATE_MAX} bytes"));
            }
        }
        self.headers().map_err(WebhookError::Details)?;
        match self.body_template.as_deref().map(Template::read) {
            Some(Err(error)) => wrong(format!("body_template: {error}")),
            _ => Ok(()),
        }
    }

    /// The lines of the header template.
    fn headers(&self) -> Result<Vec<(HeaderName, Template)>, String> {
        let mut headers = Vec::new();
        let lines = self.header_template.as_deref().unwrap_or_default().lines();
        for line in lines.filter(|line| !line.trim().is_empty()) {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| "header_template: a line is `Name: value`".to_owned())?;
            let name: HeaderName = name
                .trim()
                .parse()
                .map_err(|_| "header_template: a name is not one of a header".to_owned())?;
            if RESERVED.contains(&name.as_str()) || name == SIGNATURE || name == EVENT {
                return Err(format!("header_template: {name} is not for a template"));
            }
            let value = Template::read(value.trim()).map_err(|error| format!("header_template: {error}"))?;
            headers.push((name, value));
        }
        if headers.len() > WEBHOOK_HEADERS_MAX {
            return Err(format!("header_template has at most {WEBHOOK_HEADERS_MAX} lines"));
        }
        Ok(headers)
    }
}

/// Adds one.
///
/// # Errors
/// Another has its name, or there is no place.
pub(crate) fn add(webhooks: &mut Vec<Webhook>, webhook: Webhook) -> Result<(), WebhookError> {
    if webhooks.iter().any(|known| known.id == webhook.id) {
        return Err(WebhookError::Exists);
    }
    if webhooks.len() >= WEBHOOKS_MAX {
        return Err(WebhookError::Full);
    }
    webhooks.push(webhook);
    Ok(())
}

/// Has one be as is said now; its secret stays. One that tells of another thing from now on is as new: what happened
/// before was not for it.
///
/// # Errors
/// It is not there.
pub(crate) fn change(
    webhooks: &mut [Webhook],
    id: &WebhookId,
    details: Details,
    now: Micros,
) -> Result<(), WebhookError> {
    let webhook = webhooks.iter_mut().find(|webhook| webhook.id == *id);
    let webhook = webhook.ok_or(WebhookError::Unknown)?;
    if webhook.details.event_type != details.event_type {
        webhook.created_us = now;
    }
    webhook.details = details;
    Ok(())
}

/// Takes one away, with what it still had to tell.
///
/// # Errors
/// It is not there.
pub(crate) fn remove(webhooks: &mut Vec<Webhook>, id: &WebhookId) -> Result<(), WebhookError> {
    let before = webhooks.len();
    webhooks.retain(|webhook| webhook.id != *id);
    if webhooks.len() == before {
        return Err(WebhookError::Unknown);
    }
    Ok(())
}

/// What is signed is time, event and body, so that neither can be put to another.
fn signature(secret: &str, seconds: u64, of: Seq, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{seconds}.{of}.").as_bytes());
    mac.update(body);
    let mac = mac.finalize().into_bytes();
    let hex = data_encoding::HEXLOWER.encode(mac.as_slice());
    format!("t={seconds},v1={hex}")
}

impl Webhook {
    /// A new one, with a new secret.
    ///
    /// # Errors
    /// [`Details::check`].
    ///
    /// # Panics
    /// The system has no randomness.
    pub fn new(id: WebhookId, details: Details, now: Micros) -> Result<Webhook, WebhookError> {
        details.check()?;
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).expect("the system has randomness");
        Ok(Webhook {
            id,
            details,
            secret: base32::encode(bytes.as_slice()),
            created_us: now,
        })
    }

    /// Whether it tells of something of this sort that happened then.
    fn tells_of(&self, event_type: EventType, at: Micros) -> bool {
        self.details.event_type == event_type && self.created_us <= at
    }

    /// What its signatures are checked with: told once, to who made it.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The request that tells of this event at this time. `None`: its templates come to more than a request may be.
    fn request(&self, values: &Value, of: Seq, now: Micros) -> Option<Request<Full<Bytes>>> {
        let details = &self.details;
        let method = Method::from_bytes(details.http_method.as_bytes()).ok()?;
        let body = match &details.body_template {
            Some(text) => Template::read(text)
                .ok()?
                .fill(values, Place::Body, WEBHOOK_BODY_MAX)?,
            None if method == Method::GET => String::new(),
            None => {
                let mut short = values.clone();
                if let Some(members) = short.as_object_mut() {
                    members.remove("contract_terms");
                }
                short.to_string()
            }
        };
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = method;
        *request.uri_mut() = details.url.as_str().parse().ok()?;
        let headers = request.headers_mut();
        if !body.is_empty() {
            headers.insert(
                hyper::header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
        }
        headers.insert(
            hyper::header::USER_AGENT,
            HeaderValue::from_static(concat!("quittance/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, template) in details.headers().ok()? {
            let value = template.fill(values, Place::Header, WEBHOOK_TEMPLATE_MAX)?;
            headers.insert(name, HeaderValue::from_str(value.trim()).ok()?);
        }
        let seconds = now.get() / 1_000_000;
        let signature = signature(&self.secret, seconds, of, body.as_bytes());
        for (name, value) in [
            (SIGNATURE, signature),
            (EVENT, of.to_string()),
            ("quittance-webhook", self.id.to_string()),
        ] {
            headers.insert(name, HeaderValue::from_str(&value).ok()?);
        }
        *request.body_mut() = Full::new(Bytes::from(body));
        Some(request)
    }
}

impl KeyFolder {
    fn webhooks_path(&self, id: &InstanceId) -> PathBuf {
        self.0.join(format!("webhooks-{id}.json"))
    }

    /// Reads an instance's webhooks.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, or it is something else.
    pub fn read_webhooks(&self, id: &InstanceId) -> Result<Vec<Webhook>, KeyFileError> {
        let path = self.webhooks_path(id);
        let bytes = match read_private(&path) {
            Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            read => read?,
        };
        let file: Result<File, _> = serde_json::from_slice(&bytes);
        let what = "an instance's webhooks";
        file.map(|file| file.webhooks)
            .map_err(|_| KeyFileError::Content { path, what })
    }

    /// Takes an instance's webhooks away. When this returns, the file is gone from the disk.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove_webhooks(&self, id: &InstanceId) -> Result<(), KeyFileError> {
        let _lock = self.lock_tokens()?;
        remove_file(&self.webhooks_path(id))
    }

    /// Changes an instance's webhooks and gives them; when this returns, the change is on disk.
    ///
    /// # Errors
    /// `change` refuses, or the file cannot be read, locked or written; then nothing is changed.
    fn change_webhooks(
        &self,
        id: &InstanceId,
        change: impl FnOnce(&mut Vec<Webhook>) -> Result<(), WebhookError>,
    ) -> Result<Vec<Webhook>, WebhookError> {
        let _lock = self.lock_tokens()?;
        let mut webhooks = self.read_webhooks(id)?;
        let before = webhooks.clone();
        change(&mut webhooks)?;
        if webhooks == before {
            return Ok(webhooks);
        }
        let json = serde_json::to_vec_pretty(&File {
            webhooks: webhooks.clone(),
        });
        let json = Zeroizing::new(json.expect("webhooks are plain JSON"));
        replace(&self.webhooks_path(id), &json)?;
        Ok(webhooks)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;

    fn details(url: &str) -> Details {
        Details {
            event_type: EventType::Pay,
            url: url.parse().unwrap(),
            http_method: "POST".into(),
            header_template: None,
            body_template: None,
        }
    }

    #[test]
    fn a_signature_is_what_any_library_makes_of_the_same() {
        // printf '1795226400.7.{"a":1}' | openssl dgst -sha256 -hmac SECRET
        let made = signature("SECRET", 1_795_226_400, Seq::new(7).unwrap(), br#"{"a":1}"#);
        assert_eq!(
            made,
            "t=1795226400,v1=1b49033369e9943dd40a9d796d15df971ed05217123a4a18a468423c521805a8"
        );
    }

    #[test]
    fn what_no_request_can_be_made_of_is_refused() {
        details("https://shop.example/hook?a=b").check().unwrap();
        details("http://127.0.0.1:8080/").check().unwrap();
        let with = |change: &dyn Fn(&mut Details)| {
            let mut details = details("https://shop.example/");
            change(&mut details);
            details.check()
        };
        for url in [
            "ftp://shop.example/",
            "https://u@shop.example/",
            "https://:p@shop.example/",
            "https://a/#b",
            "mailto:a@b",
        ] {
            details(url).check().unwrap_err();
        }
        with(&|d| d.http_method = "DELETE".into()).unwrap_err();
        with(&|d| d.http_method = "post".into()).unwrap_err();
        with(&|d| d.body_template = Some("{{#a}}".into())).unwrap_err();
        with(&|d| d.body_template = Some("x".repeat(WEBHOOK_TEMPLATE_MAX + 1))).unwrap_err();
        for line in [
            "no colon",
            "Host: a",
            "content-length: 1",
            "Quittance-Signature: x",
            "a b: c",
            ": c",
            "X: {{",
        ] {
            with(&|d| d.header_template = Some(line.into())).unwrap_err();
        }
        with(&|d| d.header_template = Some("A: 1\n".repeat(WEBHOOK_HEADERS_MAX + 1))).unwrap_err();
        with(&|d| d.header_template = Some("Authorization: Bearer {{order_id}}\r\n\nX-A:b\n".into()))
            .unwrap();
    }

    #[test]
    fn a_request_says_what_happened_and_no_value_makes_another_header() {
        let mut details = details("https://shop.example/hook?a=b");
        details.header_template = Some("X-Summary: {{contract_terms.summary}}".into());
        let webhook = Webhook::new("w".parse().unwrap(), details, Micros::from_s(1).unwrap()).unwrap();
        let values = json!({"order_id": "a", "contract_terms": {"summary": "boots\r\nHost: evil"}});
        let request = webhook
            .request(
                &values,
                Seq::new(7).unwrap(),
                Micros::from_s(1_795_226_400).unwrap(),
            )
            .unwrap();
        assert_eq!(request.uri(), "https://shop.example/hook?a=b");
        let header = |name| request.headers()[name].to_str().unwrap();
        assert_eq!(header("x-summary"), "boots??Host: evil");
        assert_eq!((header(EVENT), header("content-type")), ("7", "application/json"));
        let seven = Seq::new(7).unwrap();
        let expected = signature(webhook.secret(), 1_795_226_400, seven, br#"{"order_id":"a"}"#);
        assert_eq!(header(SIGNATURE), expected);
        assert!(!request.headers().contains_key("host"));
    }
}
