//! `POST orders/$ORDER_ID/abort`: a wallet gives up a payment that failed half-way and asks for the coins that were
//! deposited already. Specification: Taler's merchant API of that name.

use quittance_events::RefundId;
use quittance_events::answer::{self, AbortAnswer};
use quittance_events::facts::{Failure, Verdict};
use quittance_events::order::{AbortedCoin, Attempt};
use quittance_taler::json::objects;
use quittance_taler::{Amount, CoinPub, Currency, ErrorCode, HashCode};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use url::Url;
use warp::reply::Response;

use super::{Call, parse, reply, shape};
use crate::decide::abort::{AbortRequest, decide};
use crate::exchange::{KeysFailure, Unsent};
use crate::paying::too_slow;
use crate::refusal::{Refusal, RequestError};
use crate::settle::{Settled, settle};

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AbortRequest")]
pub(super) struct Request {
    #[schemars(with = "shape::Bytes64")]
    h_contract: HashCode,
    #[serde(deserialize_with = "objects")]
    #[schemars(with = "Vec<Coin>")]
    coins: Vec<Coin>,
}

/// `contribution` (deprecated) and `exchange_url` must have their form and count for nothing: what was deposited
/// where is known here, and a wallet's word must not lead anywhere.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AbortedCoin")]
#[expect(
    clippy::struct_field_names,
    reason = "the members' names are the specification's"
)]
struct Coin {
    #[schemars(with = "shape::Bytes32")]
    coin_pub: CoinPub,
    #[schemars(with = "Option<shape::Amount>")]
    contribution: Option<Amount>,
    #[schemars(with = "shape::HttpUrl")]
    exchange_url: String,
}

pub(super) fn read(body: &[u8], currency: Currency) -> Result<AbortRequest, Refusal> {
    let malformed = |detail: &str| Refusal::new(ErrorCode::GenericJsonInvalid).detail(detail);
    let request: Request = parse(body)?;
    for coin in &request.coins {
        if coin
            .contribution
            .is_some_and(|contribution| contribution.currency() != currency)
        {
            return Err(malformed("contribution is in another currency"));
        }
        if !Url::parse(&coin.exchange_url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            return Err(malformed("exchange_url is no http or https URL"));
        }
    }
    let coins = request.coins.iter().map(|coin| coin.coin_pub).collect();
    let request = AbortRequest {
        h_contract: request.h_contract,
        coins,
        body: body.to_vec(),
    };
    request.check()?;
    Ok(request)
}

pub(super) async fn post(call: &Call) -> Result<Response, RequestError> {
    let service = &call.service;
    let until = Instant::now() + service.times.request;
    let request = read(&call.body, service.currency)?;
    let key = call.order(ErrorCode::MerchantPostOrdersIdAbortContractNotFound)?;

    // A payment's deposits are not overtaken by their refunds: it ends first, and what it brought is decided on.
    let turn = timeout_at(until, service.paying.turn(key)).await;
    let turn = turn.map_err(|_| too_slow().status(408))?;
    let merchant = &call.instance().merchant;
    let order = service
        .decide_and_record(key, |order, _| decide(order, &request, merchant))
        .await?;
    let order = order.ok_or(RequestError::Contended)?;
    drop(turn);

    let is_open = |coin: &&CoinPub| order.aborted(coin).is_some_and(AbortedCoin::is_open);
    let open = request
        .coins
        .iter()
        .filter(is_open)
        .map(|coin| (*coin, RefundId::ABORT))
        .collect();
    let settled = settle(service, &order, open, until).await;

    let build = |order: &_, _| {
        Ok(match answer::abort(order, &request.coins, service.undeposited) {
            AbortAnswer::Recorded(answer) => Ok(answer),
            AbortAnswer::Inconclusive(last) => Err(inconclusive(&settled, last.as_ref())),
        })
    };
    let attempts = |order: &_, at| settled.events(service, order, at);
    let served = service.record_and_answer(key, attempts, build).await??;
    Ok(reply::served(service, served))
}

/// No coin is decided. None of these is final to a wallet: it comes again.
fn inconclusive(settled: &Settled, last: Option<&Attempt>) -> Refusal {
    let timeout = Refusal::new(ErrorCode::MerchantGenericExchangeTimeout);
    let unreached = Refusal::new(ErrorCode::MerchantGenericExchangeConnectFailure).status(502);
    if settled.ran_out {
        return timeout.status(408);
    }
    match (settled.no_keys, last) {
        (Some(KeysFailure::Timeout), _) => timeout.status(504),
        (Some(KeysFailure::Failed), _) => {
            Refusal::new(ErrorCode::MerchantGenericExchangeKeysFailure).status(502)
        }
        (Some(KeysFailure::Unrecorded), _) => Refusal::new(ErrorCode::GenericDbStoreFailed),
        // Nothing was ever recorded of it, and nothing was sent: the exchange is known to be down.
        (None, None) if settled.unsent == Some(Unsent::Down) => unreached,
        (None, None | Some(Attempt::Unreached(Failure::Timeout))) => timeout.status(408),
        (None, Some(Attempt::Unreached(Failure::Connect | Failure::Closed))) => unreached,
        (
            None,
            Some(Attempt::Replied {
                http_status,
                error_code,
                verdict,
                body,
                ..
            }),
        ) => {
            let code = match verdict {
                Verdict::Later => ErrorCode::MerchantGenericExchangeUnexpectedStatus,
                _ => ErrorCode::MerchantGenericExchangeReplyMalformed,
            };
            let mut refusal = Refusal::new(code)
                .status(502)
                .member("exchange_http_status", *http_status);
            if let Some(code) = error_code {
                refusal = refusal.member("exchange_code", *code);
            }
            if let Some(body) = body {
                refusal = refusal.member("exchange_reply", body.as_ref().clone());
            }
            refusal
        }
    }
}
