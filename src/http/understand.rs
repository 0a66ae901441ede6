//! What a request says by itself: it is read as its endpoint reads it, and nothing is decided, recorded or asked. For
//! fuzzing the request parsers, which need neither ledger nor network for it.

use quittance_taler::{Currency, ErrorCode};

use super::routes::{decoded, find};
use super::{
    Endpoint, abort, accounts, approve, claim, forget, instance_id, instances, intake, list, order, orders,
    pay, refund, status, token, webhooks,
};
use crate::decide::pay::Payment;
use crate::refusal::Refusal;

/// Finds the endpoint and reads path, query and body as it does, in the service's order as far as neither token nor
/// ledger is needed.
///
/// # Errors
/// The refusal that the endpoint would give.
pub fn understand(
    (method, path, query): (&str, &str, &str),
    body: &[u8],
    currency: Currency,
) -> Result<(), Refusal> {
    let target = find(path).ok_or_else(|| Refusal::new(ErrorCode::GenericEndpointUnknown))?;
    let target = target
        .taking(method)
        .map_err(|_| Refusal::new(ErrorCode::GenericMethodInvalid))?;
    instance_id(target.managed.or(target.instance))
        .ok_or_else(|| Refusal::new(ErrorCode::MerchantGenericInstanceUnknown))?;
    match target.endpoint {
        Endpoint::Accounts if method == "POST" => accounts::read(body).map(drop)?,
        Endpoint::Claim => claim::read(body).map(drop)?,
        Endpoint::Forget => forget::read(body).map(drop)?,
        Endpoint::Orders if method == "POST" => orders::read(body).map(drop)?,
        Endpoint::Orders => list::read(query).map(drop)?,
        Endpoint::Order if method == "DELETE" => order::check_delete(query).map(drop)?,
        Endpoint::Order => order::check(query)?,
        Endpoint::Instances if method == "POST" => instances::read_new(body).map(drop)?,
        Endpoint::Instance if method == "PATCH" => instances::read_change(body)?,
        Endpoint::Auth => instances::read_auth(body).map(drop)?,
        Endpoint::Token if method == "POST" => token::read(body).map(drop)?,
        Endpoint::Webhooks if method == "POST" => webhooks::read(body).map(drop)?,
        Endpoint::Webhook if method == "PATCH" => webhooks::read_change(body).map(drop)?,
        Endpoint::Status => status::read(query, currency).map(drop)?,
        Endpoint::Pay => Payment::read(body).map(drop)?,
        Endpoint::Paid => pay::read_paid(body).map(drop)?,
        Endpoint::Abort => abort::read(body, currency).map(drop)?,
        Endpoint::Refund => refund::read(body).map(drop)?,
        Endpoint::Approve => approve::read(body).map(drop)?,
        Endpoint::RecordOrder => intake::read_order(body).map(drop)?,
        Endpoint::RecordDeposits => intake::read_deposits(body).map(drop)?,
        Endpoint::OpenApi
        | Endpoint::Health
        | Endpoint::Config
        | Endpoint::Front
        | Endpoint::Ledger(_)
        | Endpoint::Webhooks
        | Endpoint::Webhook
        | Endpoint::Accounts
        | Endpoint::Account(_)
        | Endpoint::Instances
        | Endpoint::Instance
        | Endpoint::Token
        | Endpoint::Tokens
        | Endpoint::TokenOf(_) => {}
    }
    match target.order.map(decoded::<quittance_events::OrderId>) {
        Some(None) => Err(Refusal::new(ErrorCode::MerchantGenericOrderUnknown)),
        _ => Ok(()),
    }
}
