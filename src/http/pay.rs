//! `POST orders/$ORDER_ID/pay` and `.../paid`: a wallet pays with coins, and shows in another session that it has paid.
//! Specification: Taler's merchant API of those names.

use std::sync::Arc;

use quittance_taler::{EddsaSignature, ErrorCode, HashCode, message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;
use warp::http::StatusCode;
use warp::reply::Response;

use super::{Call, parse, reply, shape};
use crate::decide::pay::{self, Payment};
use crate::paying;
use crate::refusal::{Refusal, RequestError};

/// As `openapi.json` has it; it is read by `quittance_taler::payment`.
#[derive(JsonSchema)]
#[schemars(rename = "PayRequest")]
#[expect(dead_code, reason = "the shape alone counts")]
pub(super) struct Request {
    coins: Vec<Coin>,
    session_id: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename = "PaidCoin")]
#[expect(dead_code, reason = "the shape alone counts")]
#[expect(
    clippy::struct_field_names,
    reason = "the members' names are the specification's"
)]
struct Coin {
    #[schemars(with = "shape::Bytes32")]
    coin_pub: String,
    #[schemars(with = "shape::Bytes64")]
    coin_sig: String,
    ub_sig: CoinSignature,
    #[schemars(with = "shape::Bytes64")]
    h_denom: String,
    #[schemars(with = "shape::Amount")]
    contribution: String,
    #[schemars(with = "shape::HttpUrl")]
    exchange_url: String,
    #[schemars(with = "Option<shape::Bytes32>")]
    h_age_commitment: Option<String>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "the shape alone counts")]
struct CoinSignature {
    cipher: String,
    rsa_signature: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PayReply")]
pub(super) struct Reply {
    /// The merchant's signature over the payment (1104).
    #[schemars(with = "shape::Bytes64")]
    sig: EddsaSignature,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "PaidRequest")]
pub(super) struct Paid {
    #[schemars(with = "shape::Bytes64")]
    sig: EddsaSignature,
    #[schemars(with = "shape::Bytes64")]
    h_contract: HashCode,
    session_id: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PaidReply")]
pub(super) struct Shown {
    /// Whether anything was refunded.
    refunded: bool,
}

pub(super) fn read_paid(body: &[u8]) -> Result<Paid, Refusal> {
    parse(body)
}

pub(super) async fn post(call: &Call) -> Result<Response, RequestError> {
    let service = &call.service;
    let until = Instant::now() + service.times.request;
    let payment = Payment::read(&call.body)?;
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;
    let turn = timeout_at(until, service.paying.turn(key)).await;
    let turn = turn.map_err(|_| paying::too_slow())?;
    // In a task of its own: what was sent is recorded though the wallet's time has run out.
    let instance = Arc::clone(call.open());
    let paid = paying::pay(Arc::clone(service), instance, key.clone(), payment, turn);
    let task = tokio::spawn(paid.in_current_span());
    let ended = timeout_at(until, task).await.map_err(|_| paying::too_slow())?;
    let order = ended.map_err(|_| RequestError::Task)??;
    let sig = call
        .instance()
        .merchant
        .sign(&message::payment_ok(&order.terms.h_contract));
    Ok(reply::json(StatusCode::OK, &Reply { sig }))
}

pub(super) async fn post_paid(call: &Call) -> Result<Response, RequestError> {
    let request = read_paid(&call.body)?;
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;
    let session = pay::session_digest(&request.session_id);
    let folded = call
        .service
        .decide_and_record_sale(key, |order, _| {
            pay::show(order, &request.h_contract, &request.sig, session)
        })
        .await?;
    let (order, _) = pay::sold(folded.as_ref())?;
    let refunded = !order.rows.is_empty();
    Ok(reply::json(StatusCode::OK, &Shown { refunded }))
}
