//! `POST` and `GET private/accounts`, `GET`, `PATCH` and `DELETE private/accounts/$H_WIRE`: where exchanges wire an
//! instance's money. Specification: Taler's merchant API of those names. A bank's facade, through which Taler's merchant
//! would look for incoming transfers, is not used and not kept.

use quittance_taler::payto::PaytoUri;
use quittance_taler::{ErrorCode, HashCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::http::StatusCode;
use warp::reply::Response;

use super::{Call, parse, reply, shape};
use crate::refusal::{Refusal, RequestError};

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AccountAdd")]
pub(super) struct Request {
    #[schemars(with = "shape::Payto")]
    payto_uri: String,
}

/// What a wire transfer's subject and a look at the bank would need; nothing of it is kept.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AccountChange")]
pub(super) struct Change {}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AccountAdded")]
pub(super) struct Added {
    #[schemars(with = "shape::Bytes64")]
    h_wire: HashCode,
    /// 16 bytes in Crockford base32.
    salt: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Accounts")]
pub(super) struct List {
    accounts: Vec<Entry>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AccountEntry")]
struct Entry {
    #[schemars(with = "shape::Bytes64")]
    h_wire: HashCode,
    /// Absent where it was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    payto_uri: Option<String>,
    /// Whether new orders may name it.
    active: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Account")]
pub(super) struct Detail {
    #[schemars(with = "shape::Bytes64")]
    h_wire: HashCode,
    /// Absent where it was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    payto_uri: Option<String>,
    /// 16 bytes in Crockford base32; absent where it was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    /// Whether new orders may name it.
    active: bool,
}

pub(super) async fn post(call: &Call) -> Result<Response, RequestError> {
    let payto_uri = read(&call.body)?;
    let account = call
        .service
        .add_account(&call.instance, payto_uri, call.by())
        .await?;
    let added = Added {
        h_wire: account.h_wire(),
        salt: account.salt.to_string(),
    };
    Ok(reply::json(StatusCode::OK, &added))
}

/// Reads the request.
pub(super) fn read(body: &[u8]) -> Result<PaytoUri, Refusal> {
    let request: Request = parse(body)?;
    let payto_uri = request.payto_uri.parse();
    payto_uri.map_err(|e| Refusal::new(ErrorCode::GenericPaytoUriMalformed).detail(e))
}

pub(super) async fn list(call: &Call) -> Result<Response, RequestError> {
    let book = call.service.ledger.book();
    let mut accounts = Vec::new();
    for account in book.accounts(&call.instance) {
        let known = call.service.account_of(account.seq).await?;
        accounts.push(Entry {
            h_wire: account.added.h_wire,
            payto_uri: known.map(|known| known.payto_uri.to_string()),
            active: account.open,
        });
    }
    Ok(reply::json(StatusCode::OK, &List { accounts }))
}

pub(super) async fn get(call: &Call, h_wire: Option<HashCode>) -> Result<Response, RequestError> {
    let book = call.service.ledger.book();
    let account = h_wire
        .and_then(|h_wire| book.account(&call.instance, &h_wire))
        .ok_or_else(unknown)?;
    let known = call.service.account_of(account.seq).await?;
    let detail = Detail {
        h_wire: account.added.h_wire,
        payto_uri: known.as_ref().map(|known| known.payto_uri.to_string()),
        salt: known.map(|known| known.salt.to_string()),
        active: account.open,
    };
    Ok(reply::json(StatusCode::OK, &detail))
}

pub(super) fn patch(call: &Call, h_wire: Option<HashCode>) -> Result<Response, RequestError> {
    let Change {} = parse(&call.body)?;
    let book = call.service.ledger.book();
    match h_wire.and_then(|h_wire| book.account(&call.instance, &h_wire)) {
        Some(account) if account.open => Ok(reply::no_content()),
        _ => Err(unknown().into()),
    }
}

pub(super) async fn delete(call: &Call, h_wire: Option<HashCode>) -> Result<Response, RequestError> {
    let h_wire = h_wire.ok_or_else(unknown)?;
    call.service
        .close_account(&call.instance, &h_wire, call.by())
        .await?;
    Ok(reply::no_content())
}

fn unknown() -> Refusal {
    Refusal::new(ErrorCode::MerchantGenericAccountUnknown)
}
