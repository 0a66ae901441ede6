//! `POST orders/$ORDER_ID/refund`: a wallet fetches what the merchant granted. Specification: Taler's merchant API
//! of that name.

use std::collections::BTreeSet;

use quittance_events::answer::{self, RefundAnswer};
use quittance_events::{Order, OrderKey};
use quittance_taler::{ErrorCode, HashCode, MasterPub};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use warp::reply::Response;

use super::{Call, parse, reply, shape};
use crate::decide::refund::{admit, first_requests};
use crate::exchange::KeysFailure;
use crate::limits::REFUND_ASK_EVERY_S;
use crate::refusal::{Refusal, RequestError};
use crate::service::Service;
use crate::settle::settle;

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "RefundRequest")]
pub(super) struct Request {
    #[schemars(with = "shape::Bytes64")]
    h_contract: HashCode,
}

pub(super) fn read(body: &[u8]) -> Result<HashCode, Refusal> {
    let Request { h_contract } = parse(body)?;
    Ok(h_contract)
}

pub(super) async fn post(call: &Call) -> Result<Response, RequestError> {
    let service = &call.service;
    let until = Instant::now() + service.times.request;
    let h_contract = read(&call.body)?;
    let key = call.order(ErrorCode::MerchantGenericOrderUnknown)?;

    let order = service.order(key).await?;
    let reachable = reachable(call, admit(order.as_deref(), &h_contract)?, until).await?;
    let decide = |order: Option<&Order>, now| {
        Ok(first_requests(
            admit(order, &h_contract)?,
            |exchange| reachable.contains(exchange),
            now,
        ))
    };
    let order = service
        .decide_and_record(key, decide)
        .await?
        .ok_or(RequestError::Contended)?;

    let settled = settle(service, &order, askable(service, key, &order), until).await;

    let build = |order: &Order, now| {
        Ok(match answer::refund(order, now)? {
            RefundAnswer::Recorded(answer) => Ok(answer),
            RefundAnswer::NoContent => Err(()),
        })
    };
    let attempts = |order: &_, at| settled.events(service, order, at);
    Ok(match service.record_and_answer(key, attempts, build).await? {
        Ok(served) => reply::served_refund(service, key, served),
        Err(()) => reply::no_content(),
    })
}

/// The exchanges of permissions that were never sent, as far as their signing keys are known or can be had.
///
/// # Errors
/// Keys came and the ledger could not take them: then it is not the exchange that the wallet is to hear of.
async fn reachable(call: &Call, order: &Order, until: Instant) -> Result<BTreeSet<MasterPub>, Refusal> {
    let service = &call.service;
    let fresh = order.rows.iter().filter(|row| !row.requested);
    let exchanges: BTreeSet<MasterPub> = fresh
        .filter_map(|row| order.deposit(&row.coin_pub))
        .map(|deposit| deposit.exchange_master_pub)
        .collect();
    let asked = exchanges.into_iter().map(|exchange| async move {
        match timeout_at(until, service.exchanges.ready(exchange)).await {
            Ok(Ok(())) => Ok(Some(exchange)),
            Ok(Err(KeysFailure::Unrecorded)) => Err(Refusal::new(ErrorCode::GenericDbFetchFailed)),
            Ok(Err(KeysFailure::Timeout | KeysFailure::Failed)) | Err(_) => Ok(None),
        }
    });
    let reachable: Result<Vec<Option<MasterPub>>, Refusal> =
        futures_util::future::join_all(asked).await.into_iter().collect();
    Ok(reachable?.into_iter().flatten().collect())
}

/// Open permissions that may be asked for now.
fn askable(
    service: &Service,
    key: &OrderKey,
    order: &Order,
) -> Vec<(quittance_taler::CoinPub, quittance_events::RefundId)> {
    let now = (service.clock)();
    order
        .rows
        .iter()
        .filter(|row| row.is_open())
        .map(|row| (row.coin_pub, row.rtransaction_id))
        .filter(|(coin, id)| {
            service
                .settler
                .may_ask(&(key.clone(), *coin, *id), REFUND_ASK_EVERY_S, now)
        })
        .collect()
}
