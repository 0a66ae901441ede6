//! `POST` and `DELETE private/token`, `GET private/tokens`, `DELETE private/tokens/$SERIAL`: tokens of an instance are
//! made, listed and revoked. Specification: Taler's merchant API of those names; `docs/protocol-choices.md` says what a
//! token may ask for. A token's text is told once, to who asked for it, and kept nowhere.

use quittance_events::facts::TokenScope;
use quittance_events::{InstanceId, TokenId};
use quittance_taler::time::TalerTimestamp;
use quittance_taler::{ErrorCode, Micros, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::http::StatusCode;
use warp::reply::Response;

use super::{Call, parse, reply, shape};
use crate::access::{AccessError, Bearer};
use crate::limits::TOKEN_LIFETIME_S;
use crate::refusal::{Refusal, RequestError};
use crate::token::{self, Grant, Token};
use crate::token_file::{ChangeError, check_description};

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "TokenRequest")]
pub(super) struct Request {
    scope: String,
    duration: Option<Duration>,
    #[serde(default)]
    refreshable: bool,
    #[serde(default)]
    description: String,
}

/// A relative time as Taler writes it.
#[derive(Deserialize, JsonSchema)]
struct Duration {
    d_us: Microseconds,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Microseconds {
    Number(u64),
    Word(Forever),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Forever {
    Forever,
}

/// A token, told once. `token` is the older name of `access_token`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenMade")]
pub(super) struct Made<'a> {
    token: &'a str,
    access_token: &'a str,
    scope: &'static str,
    #[schemars(with = "shape::Timestamp")]
    expiration: TalerTimestamp,
    refreshable: bool,
    serial: u64,
    #[schemars(with = "String")]
    id: &'a TokenId,
}

/// At least one: none at all is 204.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tokens")]
pub(super) struct List {
    tokens: Vec<Entry>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Token")]
struct Entry {
    serial: u64,
    #[schemars(with = "String")]
    id: TokenId,
    scope: &'static str,
    refreshable: bool,
    #[schemars(with = "shape::Timestamp")]
    expiration: TalerTimestamp,
    description: String,
    /// Of tokens from before it was kept, nobody knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Timestamp>")]
    creation_time: Option<TalerTimestamp>,
}

pub(super) async fn post(call: &Call) -> Result<Response, RequestError> {
    let (request, scope) = read(&call.body)?;
    let now = (call.service.clock)();
    let wanted = wanted(&request, scope, now)?;
    let grant = granted(call.bearer(), wanted, &call.instance, now)?;
    if call.service.disk.is_low() {
        return Err(RequestError::DiskLow);
    }
    let access = &call.service.access;
    let made = access
        .make(&call.instance, grant, request.description, call.by())
        .await;
    let (text, token) = made.map_err(refused)?;
    let body = Made {
        token: text.as_str(),
        access_token: text.as_str(),
        scope: grant.scope.as_str(),
        expiration: TalerTimestamp(grant.expire_s),
        refreshable: grant.refreshable,
        serial: token.serial,
        id: &token.id,
    };
    Ok(reply::secret_json(&body))
}

/// Reads the request, with its scope in our words and whether that asks for a refreshable token.
pub(super) fn read(body: &[u8]) -> Result<(Request, (TokenScope, bool)), Refusal> {
    let request: Request = parse(body)?;
    check_description(&request.description).map_err(|e| malformed(&e.to_string()))?;
    let scope = token::scope(&request.scope).ok_or_else(|| malformed("no such scope"))?;
    Ok((request, scope))
}

pub(super) async fn delete(call: &Call) -> Result<Response, RequestError> {
    if call.bearer().is_configured {
        let text =
            "this token is a file that the configuration names: only who runs the service takes it away";
        return Err(Refusal::new(ErrorCode::GenericForbidden).detail(text).into());
    }
    revoke(call, call.by()).await
}

pub(super) async fn delete_of(call: &Call, serial: u64) -> Result<Response, RequestError> {
    let tokens = call.service.access.tokens(&call.instance).await;
    let unknown = || Refusal::new(ErrorCode::MerchantGenericAccessTokenUnknown);
    let named = tokens
        .iter()
        .find(|token| token.serial == serial)
        .ok_or_else(unknown)?;
    revoke(call, &named.id).await
}

async fn revoke(call: &Call, token: &TokenId) -> Result<Response, RequestError> {
    let revoked = call.service.access.revoke(&call.instance, token, call.by()).await;
    revoked.map_err(refused)?;
    Ok(reply::no_content())
}

pub(super) async fn list(call: &Call) -> Result<Response, RequestError> {
    let tokens = call.service.access.tokens(&call.instance).await;
    let tokens: Vec<Entry> = tokens.iter().map(entry).collect();
    Ok(if tokens.is_empty() {
        reply::no_content()
    } else {
        reply::json(StatusCode::OK, &List { tokens })
    })
}

fn entry(token: &Token) -> Entry {
    Entry {
        serial: token.serial,
        id: token.id.clone(),
        scope: token.grant.scope.as_str(),
        refreshable: token.grant.refreshable,
        expiration: TalerTimestamp(token.grant.expire_s),
        description: token.description.clone(),
        creation_time: token.created_s.map(TalerTimestamp),
    }
}

/// What the request asks for, in our words.
fn wanted(
    request: &Request,
    (scope, refreshable): (TokenScope, bool),
    now: Micros,
) -> Result<Grant, Refusal> {
    let expire_s = match request.duration {
        Some(Duration {
            d_us: Microseconds::Word(Forever::Forever),
        }) => Timestamp::NEVER,
        Some(Duration {
            d_us: Microseconds::Number(micros),
        }) => after(now, micros / 1_000_000),
        None => after(now, TOKEN_LIFETIME_S),
    };
    if now.is_past(expire_s) {
        return Err(malformed("a duration is a second or more"));
    }
    Ok(Grant {
        scope,
        expire_s,
        refreshable: refreshable || request.refreshable,
    })
}

/// So many seconds on; never, where no timestamp goes so far.
fn after(now: Micros, seconds: u64) -> Timestamp {
    let at = now.floor_s().seconds().and_then(|now| now.checked_add(seconds));
    at.and_then(|at| Timestamp::from_s(at).ok())
        .unwrap_or(Timestamp::NEVER)
}

/// What the bearer may give of that. Scopes are given as asked for or not at all; a life that is too long is cut short,
/// as the reply then says.
fn granted(bearer: &Bearer, wanted: Grant, instance: &InstanceId, now: Micros) -> Result<Grant, Refusal> {
    let own = bearer.token.grant;
    let insufficient = |why: &str| {
        let refusal = Refusal::new(ErrorCode::GenericTokenPermissionInsufficient);
        Err(refusal.detail(why))
    };
    if own.scope != TokenScope::All && !own.refreshable {
        return insufficient("tokens are made by one that may do everything or is refreshable");
    }
    if !bearer.may(wanted.scope) {
        return insufficient("it would have more scope than the token that asks for it");
    }
    if wanted.scope == TokenScope::Audit && *instance != InstanceId::root() {
        return Err(malformed(
            "the ledger's entries are opened by tokens of the root instance alone",
        ));
    }
    let Some(end) = own.expire_s.seconds() else {
        return Ok(wanted);
    };
    let longest = match (
        own.refreshable,
        bearer.token.created_s.and_then(|at| at.seconds()),
    ) {
        // As long again as it was made for itself.
        (true, Some(created)) => after(now, end.saturating_sub(created)),
        _ => own.expire_s,
    };
    Ok(Grant {
        expire_s: wanted.expire_s.min(longest),
        // Otherwise its child would outlive it.
        refreshable: wanted.refreshable && own.refreshable,
        ..wanted
    })
}

fn malformed(why: &str) -> Refusal {
    Refusal::new(ErrorCode::GenericParameterMalformed).detail(why)
}

pub(super) fn refused(error: AccessError) -> RequestError {
    match error {
        AccessError::Change(error @ ChangeError::Full) => {
            Refusal::new(ErrorCode::GenericForbidden).detail(error).into()
        }
        AccessError::Change(error @ ChangeError::Description) => malformed(&error.to_string()).into(),
        AccessError::Change(ChangeError::Unknown) => {
            Refusal::new(ErrorCode::MerchantGenericAccessTokenUnknown).into()
        }
        AccessError::Change(ChangeError::File(error)) => RequestError::KeyFile(error),
        AccessError::Token(error) => malformed(&error.to_string()).into(),
        AccessError::Append(error) => error.into(),
        AccessError::Task => RequestError::Task,
    }
}
