//! `management/instances` for who runs the service, `private` and `private/auth` for an instance itself: instances are
//! opened, listed, changed, closed, and get another token. Specification: Taler's merchant API of those names;
//! `docs/protocol-choices.md` says what differs.

use quittance_events::InstanceId;
use quittance_taler::{ErrorCode, MerchantPub, RelativeTime};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};
use warp::http::StatusCode;
use warp::reply::Response;
use zeroize::Zeroizing;

use super::{Call, instance_id, parse, reply, shape};
use crate::instance::Instance;
use crate::managed::NewInstance;
use crate::refusal::{Refusal, RequestError};
use crate::settings::{Contact, Location, Settings};

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "InstanceNew")]
pub(super) struct New {
    id: String,
    #[serde(deserialize_with = "object")]
    auth: Auth,
    #[serde(flatten)]
    about: About,
}

/// Who is let in: `token` with the token, a text of `secret-token:` and at least 22 symbols, or `external` for nobody but
/// the service's own tokens.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "InstanceAuth")]
pub(super) struct Auth {
    method: String,
    token: Option<String>,
}

/// What is absent stays as it is, but for the first four.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "InstanceChange")]
pub(super) struct About {
    name: String,
    #[serde(flatten)]
    contact: Contact,
    #[serde(default, deserialize_with = "some_object")]
    address: Option<Location>,
    #[serde(default, deserialize_with = "some_object")]
    jurisdiction: Option<Location>,
    #[schemars(with = "Option<shape::Duration>")]
    default_pay_delay: Option<RelativeTime>,
    #[schemars(with = "Option<shape::Duration>")]
    default_refund_delay: Option<RelativeTime>,
    #[schemars(with = "Option<shape::Duration>")]
    default_wire_transfer_delay: Option<RelativeTime>,
    use_stefan: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Instances")]
pub(super) struct List {
    instances: Vec<Entry>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InstanceEntry")]
struct Entry {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    website: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logo: Option<String>,
    #[schemars(with = "shape::Bytes32")]
    merchant_pub: MerchantPub,
    /// The wire methods of its accounts.
    payment_targets: Vec<String>,
    deleted: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Instance")]
pub(super) struct Detail {
    name: String,
    #[schemars(with = "shape::Bytes32")]
    merchant_pub: MerchantPub,
    #[serde(flatten)]
    contact: Contact,
    address: Location,
    jurisdiction: Location,
    #[schemars(with = "shape::Duration")]
    default_pay_delay: RelativeTime,
    #[schemars(with = "shape::Duration")]
    default_refund_delay: RelativeTime,
    #[schemars(with = "shape::Duration")]
    default_wire_transfer_delay: RelativeTime,
    use_stefan: bool,
    auth: Method,
}

/// `token` where it has tokens of its own.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InstanceAuthMethod")]
struct Method {
    method: &'static str,
}

/// Structs are read from lists, too; these are objects.
fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    let members = Map::deserialize(deserializer)?;
    serde_json::from_value(Value::Object(members)).map_err(de::Error::custom)
}

fn some_object<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    object(deserializer).map(Some)
}

pub(super) async fn post(call: &Call) -> Result<Response, RequestError> {
    let new = read_new(&call.body)?;
    call.service.open_instance(new, call.by()).await?;
    Ok(reply::no_content())
}

/// Reads a request to open an instance.
pub(super) fn read_new(body: &[u8]) -> Result<NewInstance, Refusal> {
    let New { id, auth, about } = parse(body)?;
    let id: InstanceId = instance_id(Some(&id)).ok_or_else(|| malformed("no instance can have that id"))?;
    let token = token(auth, ErrorCode::MerchantPrivatePostInstancesBadAuth)?;
    let (mut name, mut settings) = (String::new(), Settings::default());
    about.apply(&mut name, &mut settings)?;
    Ok(NewInstance {
        id,
        name,
        settings,
        token,
    })
}

pub(super) fn list(call: &Call) -> Response {
    let book = call.service.ledger.book();
    let entry = |instance: &Instance| {
        let open = book.accounts(&instance.id).iter().filter(|account| account.open);
        let mut payment_targets: Vec<String> =
            open.map(|account| account.added.wire_method.clone()).collect();
        payment_targets.sort_unstable();
        payment_targets.dedup();
        Entry {
            id: instance.id.to_string(),
            name: instance.name.clone(),
            website: instance.settings.contact.website.clone(),
            logo: instance.settings.contact.logo.clone(),
            merchant_pub: instance.merchant.merchant_pub(),
            payment_targets,
            deleted: false,
        }
    };
    let all = call.service.instances.all();
    let instances = all.values().map(|instance| entry(instance)).collect();
    reply::json(StatusCode::OK, &List { instances })
}

pub(super) async fn get(call: &Call) -> Response {
    let instance = call.instance();
    let tokens = call.service.access.tokens(&instance.id).await;
    let settings = instance.settings.clone();
    let detail = Detail {
        name: instance.name.clone(),
        merchant_pub: instance.merchant.merchant_pub(),
        contact: settings.contact,
        address: settings.address,
        jurisdiction: settings.jurisdiction,
        default_pay_delay: settings.default_pay_delay,
        default_refund_delay: settings.default_refund_delay,
        default_wire_transfer_delay: settings.default_wire_transfer_delay,
        use_stefan: settings.use_stefan,
        auth: Method {
            method: if tokens.is_empty() { "external" } else { "token" },
        },
    };
    reply::json(StatusCode::OK, &detail)
}

pub(super) async fn patch(call: &Call) -> Result<Response, RequestError> {
    let about: About = parse(&call.body)?;
    let changed = call
        .service
        .change_instance(&call.instance, |name, settings| about.apply(name, settings));
    changed.await?;
    Ok(reply::no_content())
}

pub(super) async fn delete(call: &Call) -> Result<Response, RequestError> {
    call.service.close_instance(&call.instance, call.by()).await?;
    Ok(reply::no_content())
}

pub(super) async fn auth(call: &Call) -> Result<Response, RequestError> {
    let text = read_auth(&call.body)?;
    if call.service.disk.is_low() && text.is_some() {
        return Err(RequestError::DiskLow);
    }
    let set = call
        .service
        .access
        .set_auth(&call.instance, text, call.by())
        .await;
    set.map_err(super::token::refused)?;
    Ok(reply::no_content())
}

/// Reads a request to set the token; none: nobody but the service's own.
pub(super) fn read_auth(body: &[u8]) -> Result<Option<Zeroizing<String>>, Refusal> {
    let code = ErrorCode::MerchantPrivatePostInstanceAuthBadAuth;
    let text = token(parse(body)?, code)?;
    if let Some(text) = &text {
        crate::token::Token::keep(text).map_err(|e| Refusal::new(code).detail(e))?;
    }
    Ok(text)
}

/// Reads a request to change name or settings.
pub(super) fn read_change(body: &[u8]) -> Result<(), Refusal> {
    let about: About = parse(body)?;
    about.apply(&mut String::new(), &mut Settings::default())
}

fn token(auth: Auth, code: ErrorCode) -> Result<Option<Zeroizing<String>>, Refusal> {
    match (auth.method.as_str(), auth.token) {
        ("token", Some(token)) => Ok(Some(Zeroizing::new(token))),
        ("token", None) => Err(Refusal::new(code).detail("method token comes with a token")),
        ("external", None) => Ok(None),
        ("external", Some(_)) => Err(Refusal::new(code).detail("method external comes without a token")),
        _ => Err(Refusal::new(code).detail("a method is token or external")),
    }
}

/// What is not said stays.
fn set<T>(place: &mut T, told: Option<T>) {
    if let Some(told) = told {
        *place = told;
    }
}

impl About {
    fn apply(self, name: &mut String, settings: &mut Settings) -> Result<(), Refusal> {
        let about = self;
        *name = about.name;
        settings.contact = about.contact;
        set(&mut settings.address, about.address);
        set(&mut settings.jurisdiction, about.jurisdiction);
        set(&mut settings.default_pay_delay, about.default_pay_delay);
        set(&mut settings.default_refund_delay, about.default_refund_delay);
        set(
            &mut settings.default_wire_transfer_delay,
            about.default_wire_transfer_delay,
        );
        set(&mut settings.use_stefan, about.use_stefan);
        settings.check(name).map_err(|e| malformed(&e.to_string()))
    }
}

fn malformed(why: &str) -> Refusal {
    Refusal::new(ErrorCode::GenericParameterMalformed).detail(why)
}
