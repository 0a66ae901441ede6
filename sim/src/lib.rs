//! A simulator that finds the worst minute. One seed decides everything that happens to a service: which client asks
//! for what, when each commit happens and whether the disk takes it, when each request reaches an exchange and what
//! comes back, how clocks jump, where the process dies. The service is the real one, on a real ledger file; only
//! network, time, threads and the moment of each commit are the simulator's. After the steps the oracles are asked.
//!
//! The same seed gives the same run, step for step. Not a part of any program that serves; `docs/simulation.md`.

use anyhow::Result;

mod network;
mod oracles;
mod orders;
mod plan;
mod rng;
mod run;
mod sold;
mod told;
mod world;

pub use oracles::{Finding, Oracle};

/// Steps between two audits where nothing else asks for one. Each crash and each stop is audited too.
pub const AUDIT_EVERY: u64 = 60;

/// Steps of a run, unless asked otherwise.
pub const STEPS: u64 = 180;

/// How to run a seed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Steps before all is made well.
    pub steps: u64,
    /// Audit the ledger after every step, and not only after crashes, stops and every sixtieth.
    pub every_step: bool,
    /// Ask this oracle alone.
    pub only: Option<Oracle>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            steps: STEPS,
            every_step: false,
            only: None,
        }
    }
}

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Lines of the step list.
    pub steps: u64,
    /// Orders.
    pub orders: u64,
    /// Commits, refused ones too.
    pub commits: u64,
    /// Crashes.
    pub crashes: u64,
    /// Refund requests that were sent to exchanges.
    pub refund_calls: u64,
    /// Refunds that exchanges granted.
    pub granted: u64,
    /// Replies that reached a client.
    pub replies: u64,
    /// Of these, recorded answers with a receipt.
    pub answers: u64,
    /// Audits of the whole ledger.
    pub audits: u64,
}

impl Figures {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Figures) -> Figures {
        Figures {
            steps: self.steps + other.steps,
            orders: self.orders + other.orders,
            commits: self.commits + other.commits,
            crashes: self.crashes + other.crashes,
            refund_calls: self.refund_calls + other.refund_calls,
            granted: self.granted + other.granted,
            replies: self.replies + other.replies,
            answers: self.answers + other.answers,
            audits: self.audits + other.audits,
        }
    }
}

/// What a seed came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// All that happened, in order.
    pub steps: Vec<String>,
    /// How much.
    pub figures: Figures,
    /// The first thing that an oracle saw.
    pub finding: Option<Finding>,
}

/// Runs a seed.
///
/// # Errors
/// The machine does not let it: no folder, no memory. What goes wrong in the service is a finding.
pub fn run(seed: u64, options: &Options) -> Result<Outcome> {
    run::run(seed, options)
}
