//! The service as the simulator drives it: no socket, no thread, no timer of its own. Requests go in where the server
//! would hand them over, exchanges are called over a simulated network, and the writer and the background work when
//! they are told to. Everything between is the service's own code. Compiled with the feature `simulation` only.

use std::sync::Arc;

use quittance_events::simulation::Stepper;

pub use crate::client::{Reply, Wire};
pub use crate::http::simulated::{Told, request};
pub use crate::settle::settle_due;

use crate::admission::Bounds;
use crate::app::{StartError, open_stepped, service};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::exchange::{Exchanges, Times};
use crate::service::Service;

/// Starts the service on its ledger as `serve` does, up to the listening.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    config: &Config,
    clock: &Clock,
    wire: &Arc<dyn Wire>,
) -> Result<(Arc<Service>, Stepper), StartError> {
    let (ledger, stepper) = open_stepped(config)?;
    let (ledger, times, bounds) = (Arc::new(ledger), Times::default(), Bounds::default());
    let clocks = (Arc::clone(clock), clock::steady());
    let over = |exchanges: Exchanges| exchanges.over(wire);
    let service = service(config, ledger, clocks, times, bounds, over).await?;
    // The machine's own disk is no part of a run.
    service.disk.measure_by(Arc::new(|| Ok(u64::MAX)));
    service.take_up_open_permissions()?;
    Ok((service, stepper))
}

/// [`SecondId`](quittance_events::broken::Fault::SecondId).
#[cfg(feature = "broken")]
pub(crate) fn under_second_id(
    service: &Service,
    order: &quittance_events::Order,
    coin: &quittance_taler::CoinPub,
    attempt: u64,
    mut request: crate::exchange::RefundRequest,
) -> crate::exchange::RefundRequest {
    use quittance_events::broken::{Fault, is};
    if let (true, true, Ok(id)) = (
        is(Fault::SecondId),
        attempt > 1,
        quittance_events::RefundId::new(request.rtransaction_id + 1000 * attempt),
    ) {
        let instance = service.instances.get(&order.key.instance);
        let merchant = &instance.expect("the simulator closes no instance").merchant;
        let amount = &request.refund_amount;
        request.merchant_sig = crate::decide::permit(merchant, &request.h_contract_terms, coin, id, amount);
        request.rtransaction_id = id.get();
    }
    request
}
