//! The way to one exchange: how many calls are under way at once, and a circuit that opens while the exchange is down,
//! so that wallets get their answer at once instead of each waiting for the same time-out. What it turns away was never
//! sent and is no attempt. It knows nothing of what is called; time is handed in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quittance_events::facts::Failure;
use quittance_taler::Micros;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{CIRCUIT_FAILURES, CIRCUIT_PAUSE_S};

/// Why a call was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// The exchange could not be reached lately, several times in a row, and is left alone for now.
    Down,
    /// As many calls to it as may be were under way all the time.
    Busy,
}

#[derive(Debug, Default)]
struct Circuit {
    /// Calls in a row that did not reach it.
    failures: u32,
    /// Since when it is left alone.
    open_since: Option<Micros>,
    /// Somebody is finding out whether it is back.
    probing: bool,
}

pub(super) struct Gate {
    /// For the log.
    exchange: String,
    places: Arc<Semaphore>,
    wait: Duration,
    circuit: Mutex<Circuit>,
}

/// Leave to make one call.
pub struct Pass {
    gate: Arc<Gate>,
    probe: bool,
    place: Option<OwnedSemaphorePermit>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe {
            self.gate.circuit().probing = false;
        }
    }
}

impl Gate {
    pub(super) fn new(exchange: &str, places: usize, wait: Duration) -> Gate {
        Gate {
            exchange: exchange.to_owned(),
            places: Arc::new(Semaphore::new(places)),
            wait,
            circuit: Mutex::default(),
        }
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        // Plain data, each change of it whole before the next can panic.
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether calls are made as always.
    pub(super) fn is_closed(&self) -> bool {
        self.circuit().open_since.is_none()
    }

    /// Leave to call. While the circuit is open, one caller gets it after each pause, and all others are turned away.
    pub(super) async fn enter(self: &Arc<Gate>, now: Micros) -> Result<Pass, Unsent> {
        let mut pass = Pass {
            gate: Arc::clone(self),
            probe: self.is_probe(now)?,
            place: None,
        };
        let place = Arc::clone(&self.places).acquire_owned();
        match tokio::time::timeout(self.wait, place).await {
            Ok(Ok(place)) => pass.place = Some(place),
            _ => return Err(Unsent::Busy),
        }
        // It may have gone down while this one waited behind those that found out.
        if !pass.probe && !self.is_closed() {
            return Err(Unsent::Down);
        }
        Ok(pass)
    }

    fn is_probe(&self, now: Micros) -> Result<bool, Unsent> {
        let mut circuit = self.circuit();
        let Some(since) = circuit.open_since else {
            return Ok(false);
        };
        // A clock that was set back must not keep it open for ever.
        let rested = now >= since.plus_s(CIRCUIT_PAUSE_S) || now < since;
        if circuit.probing || !rested {
            return Err(Unsent::Down);
        }
        circuit.probing = true;
        Ok(true)
    }
}

impl Pass {
    /// How the call ended, at `now`. A connection that broke off counts as reached: it cost nobody a wait.
    pub(super) fn ended<T>(self, result: &Result<T, Failure>, now: Micros) {
        let mut circuit = self.gate.circuit();
        let exchange = &self.gate.exchange;
        if !matches!(result, Err(Failure::Connect | Failure::Timeout)) {
            if circuit.open_since.is_some() {
                tracing::info!(exchange, "the exchange is back");
            }
            circuit.failures = 0;
            circuit.open_since = None;
            return;
        }
        circuit.failures = circuit.failures.saturating_add(1);
        if circuit.open_since.is_none() && circuit.failures >= CIRCUIT_FAILURES {
            tracing::warn!(
                exchange,
                "the exchange is down: calls are held back, one tries it now and then"
            );
            circuit.open_since = Some(now);
        } else if self.probe {
            circuit.open_since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const DOWN: Result<(), Failure> = Err(Failure::Connect);

    fn at(seconds: u64) -> Micros {
        Micros::from_s(1_000_000 + seconds).unwrap()
    }

    fn gate(places: usize) -> Arc<Gate> {
        Arc::new(Gate::new("test", places, Duration::from_millis(20)))
    }

    async fn fail(gate: &Arc<Gate>, seconds: u64) {
        gate.enter(at(seconds))
            .await
            .ok()
            .unwrap()
            .ended(&Err::<(), _>(Failure::Timeout), at(seconds));
    }

    async fn opened() -> Arc<Gate> {
        let gate = gate(4);
        for _ in 0..CIRCUIT_FAILURES {
            assert!(gate.is_closed());
            fail(&gate, 0).await;
        }
        assert!(!gate.is_closed());
        gate
    }

    async fn turned_away(gate: &Arc<Gate>, seconds: u64) -> Unsent {
        gate.enter(at(seconds)).await.err().unwrap()
    }

    #[tokio::test]
    async fn failures_in_a_row_open_it_and_others_do_not() {
        let gate = gate(4);
        for _ in 0..3 * CIRCUIT_FAILURES {
            for _ in 1..CIRCUIT_FAILURES {
                fail(&gate, 0).await;
            }
            let reached = Err::<(), _>(Failure::Closed);
            gate.enter(at(0)).await.ok().unwrap().ended(&reached, at(0));
            assert!(gate.is_closed());
        }
    }

    #[tokio::test]
    async fn after_a_pause_one_call_finds_out() {
        let gate = opened().await;
        assert_eq!(turned_away(&gate, CIRCUIT_PAUSE_S - 1).await, Unsent::Down);
        let probe = gate.enter(at(CIRCUIT_PAUSE_S)).await.ok().unwrap();
        assert_eq!(turned_away(&gate, CIRCUIT_PAUSE_S).await, Unsent::Down);
        probe.ended(&DOWN, at(CIRCUIT_PAUSE_S + 8));
        assert_eq!(turned_away(&gate, CIRCUIT_PAUSE_S + 9).await, Unsent::Down);
        // A probe that was given up lets the next one try.
        drop(gate.enter(at(2 * CIRCUIT_PAUSE_S + 8)).await.ok().unwrap());
        let probe = gate.enter(at(2 * CIRCUIT_PAUSE_S + 8)).await.ok().unwrap();
        probe.ended(&Ok(()), at(2 * CIRCUIT_PAUSE_S + 8));
        assert!(gate.is_closed());
        gate.enter(at(2 * CIRCUIT_PAUSE_S + 8)).await.ok().unwrap();
    }

    #[tokio::test]
    async fn a_call_from_before_that_succeeds_closes_it_and_a_clock_set_back_does_not_keep_it_open() {
        let gate = opened().await;
        drop(gate.enter(Micros::from_s(999_990).unwrap()).await.ok().unwrap());
        let slow = Pass {
            gate: Arc::clone(&gate),
            probe: false,
            place: None,
        };
        slow.ended(&Ok(()), at(1));
        assert!(gate.is_closed());
    }

    #[tokio::test]
    async fn a_place_is_waited_for_only_so_long() {
        let gate = gate(1);
        let first = gate.enter(at(0)).await.ok().unwrap();
        assert_eq!(turned_away(&gate, 0).await, Unsent::Busy);
        drop(first);
        gate.enter(at(0)).await.ok().unwrap();
    }

    #[tokio::test]
    async fn who_waited_behind_those_that_found_it_down_is_not_sent_either() {
        let gate = gate(1);
        for _ in 1..CIRCUIT_FAILURES {
            fail(&gate, 0).await;
        }
        let last = gate.enter(at(0)).await.ok().unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(at(0)).await.err() }
        });
        tokio::task::yield_now().await;
        last.ended(&DOWN, at(0));
        assert_eq!(waiting.await.unwrap(), Some(Unsent::Down));
    }
}
