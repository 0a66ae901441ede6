//! One run: steps chosen by the seed, the oracles after them, and at the end the exchanges made well and everything
//! open brought to its end.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Result;
use quittance::limits::DEPOSIT_LINGERS;
use quittance::simulation::Told;
use quittance_events::facts::Failure;
use quittance_events::limits::CLOCK_BACK_MAX_S;
use quittance_events::simulation::Fate;
use quittance_sandbox::{Aggregate, FaultKind};
use quittance_taler::Micros;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::network::CallState;
use crate::oracles::{self, Finding, Oracle};
use crate::orders::{Order, Sent, Wish};
use crate::rng::Rng;
use crate::told::AllTold;
use crate::world::{Crash, World};
use crate::{Figures, Options, Outcome};

/// Requests that clients have under way at once.
const IN_FLIGHT_MAX: usize = 12;

/// Rounds of an hour that the end may take: pauses of the background are an hour at the most, and a refund that
/// needs more than a few of them after all faults are gone would not end at all.
const END_ROUNDS: usize = 24;

/// Turns within one round: each lets at least one call or commit go on, and a run has some dozens of them open.
const TURNS_MAX: usize = 400;

struct InFlight {
    number: u64,
    order: usize,
    sent: Sent,
    task: JoinHandle<Told>,
    /// Causes of a failure so far, when it began.
    excuses: u64,
    began: Micros,
}

pub(crate) struct Run<'a> {
    pub(crate) rng: Rng,
    options: &'a Options,
    pub(crate) world: World,
    pub(crate) orders: Vec<Order>,
    recorded: BTreeSet<usize>,
    in_flight: Vec<InFlight>,
    next_request: u64,
    pub(crate) down: Vec<bool>,
    told: AllTold,
    /// Commits that the disk refused, and steps of the clock: what excuses a failure.
    excuses: u64,
    corrections: u64,
    /// Clients get every reply and nobody meets a fault.
    well: bool,
    steps: Vec<String>,
    figures: Figures,
    finding: Option<Finding>,
}

impl<'a> Run<'a> {
    fn new(seed: u64, options: &'a Options) -> Result<Run<'a>> {
        let world = World::new()?;
        Ok(Run {
            rng: Rng::new(seed),
            options,
            down: vec![false; world.network.exchanges.len()],
            world,
            orders: Vec::new(),
            recorded: BTreeSet::new(),
            in_flight: Vec::new(),
            next_request: 0,
            told: AllTold::default(),
            excuses: 0,
            corrections: 0,
            well: false,
            steps: Vec::new(),
            figures: Figures::default(),
            finding: None,
        })
    }

    /// Writes a step down.
    pub(crate) fn log(&mut self, text: impl Into<String>) {
        self.steps.push(text.into());
    }

    fn find(&mut self, oracle: Oracle, what: String) {
        let asked = self.options.only.is_none_or(|only| only == oracle);
        if asked && self.finding.is_none() {
            self.finding = Some(Finding { oracle, what });
        }
    }

    fn find_all(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            self.find(finding.oracle, finding.what);
        }
    }

    /// Lets all go on, takes in what came of it, and asks the oracles that cost little.
    pub(crate) fn go_on(&mut self) {
        if self.world.is_behind() {
            self.excuses += 1;
        }
        self.world.idle();
        let asked = self.world.network.new_refunds();
        self.figures.refund_calls += u64::try_from(asked.len()).unwrap_or(u64::MAX);
        let findings = oracles::sent(&self.world, &self.orders, &asked);
        self.find_all(findings);
        self.collect();
        // Deliveries that were just reported are appended now.
        self.world.idle();
    }

    fn collect(&mut self) {
        for at in (0..self.in_flight.len()).rev() {
            if self.in_flight[at].task.is_finished() {
                let done = self.in_flight.remove(at);
                self.take_reply(done);
            }
        }
    }

    fn take_reply(&mut self, done: InFlight) {
        let InFlight {
            number,
            order,
            sent,
            task,
            excuses,
            began,
        } = done;
        let mut told = match self.world.block_on(task) {
            Ok(told) => told,
            Err(error) => return self.find(Oracle::Conduct, format!("request {number} panicked: {error}")),
        };
        let id = self.orders[order].id.clone();
        if !self.well && self.rng.percent(8) {
            return self.log(format!("  request {number}: the reply ({}) is lost", told.status));
        }
        self.figures.replies += 1;
        self.log(format!("  request {number} on {id} gets {}", told.status));
        let code = serde_json::from_slice::<Value>(&told.body)
            .ok()
            .and_then(|body| body["code"].as_u64());
        let expected = match told.status {
            200 | 204 | 400 | 402 | 403 | 404 | 408 | 409 | 410 | 412 | 502 | 504 => true,
            500 => {
                // A decision that waits for its commit longer than the clock may stand back is too old for it.
                let waited = began.plus_s(CLOCK_BACK_MAX_S) <= self.world.truth();
                let cause = self.excuses > excuses || waited;
                cause && matches!(code, Some(52 | 53))
            }
            _ => false,
        };
        if !expected {
            let body = String::from_utf8_lossy(&told.body).into_owned();
            self.find(
                Oracle::Conduct,
                format!("{} got {} {body}", sent.text, told.status),
            );
        }
        if matches!(sent.wish, Wish::Record) && told.status == 200 {
            self.recorded.insert(order);
        }
        if matches!(sent.wish, Wish::Claim) && told.status == 200 {
            let body: Value = serde_json::from_slice(&told.body).unwrap_or_default();
            self.orders[order].claimed(&body["contract_terms"], &self.world.network.exchanges);
            self.recorded.insert(order);
        }
        let key = self.world.service().ledger.event_key();
        let reply = (told.status, told.body.as_slice(), told.receipt.as_deref());
        // What was taken over late is no breach of a word given before.
        let revised = self.corrections > 0 || self.orders[order].carried_in;
        let exchanges = &self.world.network.exchanges;
        let stays = self
            .told
            .take(&self.orders[order], &sent.wish, reply, &key, exchanges, revised);
        if let Err(what) = stays {
            self.find(Oracle::Told, what);
        }
        if self.well || self.rng.percent(90) {
            self.world.delivered(&mut told);
        }
    }

    /// The auditor looks at the ledger as it lies there.
    fn audit(&mut self, anchored: bool) -> Result<()> {
        self.figures.audits += 1;
        let findings = oracles::audit(&self.world, &self.told, anchored)?;
        self.find_all(findings);
        Ok(())
    }

    fn now_s(&self) -> u64 {
        self.world.now().get() / 1_000_000
    }

    /// A client asks for something.
    pub(crate) fn client(&mut self) {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return;
        }
        let order = self.rng.index(self.orders.len());
        let recorded = self.recorded.contains(&order);
        let wish = self.orders[order].wish(&mut self.rng, recorded);
        self.ask(order, wish);
    }

    fn ask(&mut self, order: usize, wish: Wish) {
        let now_s = self.now_s();
        let exchanges = &self.world.network.exchanges;
        let sent = self.orders[order].send(wish, &mut self.rng, exchanges, now_s);
        self.orders[order].carried_in |= sent.carries_in;
        let task = self
            .world
            .request(sent.private, sent.path.clone(), sent.body.clone());
        self.next_request += 1;
        let number = self.next_request;
        self.log(format!("request {number}: {}", sent.text));
        self.in_flight.push(InFlight {
            number,
            order,
            sent,
            task,
            excuses: self.excuses,
            began: self.world.truth(),
        });
    }

    /// A client hangs up.
    pub(crate) fn hang_up(&mut self) {
        if self.in_flight.is_empty() {
            return;
        }
        let at = self.rng.index(self.in_flight.len());
        let gone = self.in_flight.remove(at);
        gone.task.abort();
        self.log(format!("request {}: the client hangs up", gone.number));
    }

    /// Of a hundred orders, `sold` are the service's own.
    pub(crate) fn new_order(&mut self, sold: u64) {
        let (number, now_s) = (self.orders.len(), self.now_s());
        let exchanges = &self.world.network.exchanges;
        if self.rng.percent(sold) {
            let order = Order::sold(&mut self.rng, number, now_s, exchanges);
            self.log(format!("{} is to be sold", order.id));
            self.orders.push(order);
            return;
        }
        let order = Order::new(&mut self.rng, number, now_s, self.world.merchant_pub, exchanges);
        let coins = order.coins.len();
        self.log(format!("{} is made, for {coins} coins", order.id));
        self.orders.push(order);
    }

    /// A wallet deposits a coin at its exchange.
    pub(crate) fn deposit(&mut self) {
        let at = self.rng.index(self.orders.len());
        let order = &mut self.orders[at];
        let Some(coin) = order.coins.iter().position(|coin| !coin.at_exchange) else {
            return;
        };
        let text = order.deposit(coin, &self.world.network.exchanges, self.world.merchant_pub);
        self.log(text);
    }

    pub(crate) fn calls(&self) -> Vec<CallState> {
        self.world.network.calls()
    }

    /// A request arrives at its exchange, which may be down or in trouble.
    pub(crate) fn arrive(&mut self, call: &CallState, fault: Option<FaultKind>) {
        let what = call.what();
        if self.down[call.exchange] {
            self.world.network.break_off(call.number, Failure::Connect, false);
            return self.log(format!("{what} finds nobody"));
        }
        let twice = if call.answered { " once more" } else { "" };
        self.log(match fault {
            None => format!("{what} arrives{twice}"),
            Some(fault) => format!("{what} arrives{twice} and meets {fault:?}"),
        });
        self.world.network.arrive(call.number, fault);
    }

    pub(crate) fn commit(&mut self, max: usize, fate: Fate) {
        let waiting = self.world.stepper().waiting();
        if waiting == 0 {
            return;
        }
        let count = waiting.min(max);
        self.log(match fate {
            Fate::Refused => format!("the disk refuses a commit of {count} of {waiting}"),
            _ => format!("{count} of {waiting} are committed"),
        });
        self.figures.commits += 1;
        if fate == Fate::Refused {
            self.excuses += 1;
        }
        self.world.stepper().commit(max, fate);
    }

    pub(crate) fn set_clock(&mut self, seconds: u64, back: bool) {
        self.excuses += 1;
        let now = self.world.now();
        let to = if back {
            now.minus_s(seconds)
        } else {
            now.plus_s(seconds)
        };
        let way = if back { "back" } else { "on" };
        self.log(format!("the clock is set {way} by {seconds} s"));
        self.world.set_clock(to);
    }

    pub(crate) fn correct_clock(&mut self) -> Result<()> {
        self.log("the operator says that the clock was wrong");
        self.corrections += 1;
        self.in_flight.clear();
        self.world.correct_clock()
    }

    pub(crate) fn restart(&mut self) -> Result<()> {
        self.log("the service stops in order and starts again");
        self.in_flight.clear();
        self.world.stop();
        self.audit(true)?;
        self.world.start()
    }

    pub(crate) fn crash(&mut self, how: Crash) -> Result<()> {
        self.figures.crashes += 1;
        let waiting = self.world.stepper().waiting();
        self.log(format!("the process dies ({how:?}), {waiting} appends wait"));
        if how == Crash::Now && waiting > 0 && self.rng.percent(50) {
            // The commit during which it dies; who is told before it is on disk is told too early.
            self.commit(usize::MAX, Fate::Refused);
            self.go_on();
        }
        self.in_flight.clear();
        let cut = self.rng.next();
        self.world.crash(how, cut)?;
        self.audit(false)
    }

    pub(crate) fn aggregate(&mut self) {
        let at = self.rng.index(self.down.len());
        let paid = self.world.network.exchanges[at].aggregate(Aggregate::default());
        self.log(format!("exchange {at} pays out {paid} deposits"));
    }

    pub(crate) fn rotate(&mut self) {
        let at = self.rng.index(self.down.len());
        self.world.network.exchanges[at].rotate_signing_key();
        self.log(format!("exchange {at} signs with a new key"));
    }

    /// All faults are gone: what is open ends.
    fn end(&mut self) -> Result<()> {
        self.log("from here on all is well");
        self.well = true;
        self.down.fill(false);
        self.excuses += 1;
        self.world.set_clock(self.world.truth());
        // What waited was decided on the time of before; once it is recorded, the clock may stand behind it.
        self.quiet();
        if self.world.is_behind() {
            self.correct_clock()?;
            self.quiet();
        }
        for order in 0..self.orders.len() {
            let is_claimed = self.recorded.contains(&order) && self.orders[order].sold.is_some();
            if is_claimed && self.rng.percent(50) {
                self.ask(order, Wish::Pay(0));
                self.quiet();
            }
        }
        for round in 0..=END_ROUNDS {
            let open = self.world.service().ledger.open_permissions()?;
            if open.is_empty() {
                break;
            }
            if round == END_ROUNDS {
                let (order, coin, id) = &open[0];
                let what = format!("{} stay open, such as {id} of coin {coin} of {order}", open.len());
                self.find(Oracle::Ends, what);
                return Ok(());
            }
            self.log("an hour passes");
            self.world.pass(3_600_000);
            self.world.settle_due();
            self.quiet();
        }
        for order in 0..self.orders.len() {
            if self.recorded.contains(&order) {
                let is_sold = self.orders[order].sold.is_some();
                self.ask(order, Wish::Fetch);
                let coins: Vec<_> = self.orders[order].coins.iter().map(|coin| coin.key).collect();
                self.ask(order, Wish::Abort(coins));
                self.quiet();
                // What an abort has just asked for waits for a deposit that may be on its way.
                self.log("a minute passes");
                self.world.pass(1_000 * (DEPOSIT_LINGERS.as_secs() + 6));
                self.world.settle_due();
                self.quiet();
                self.ask(order, Wish::Fetch);
                self.quiet();
                self.is_ended(order);
                if is_sold {
                    let findings = oracles::nothing_kept(&self.world, &self.orders[order]);
                    self.find_all(findings);
                }
            }
        }
        Ok(())
    }

    /// Every refund of the order that may have been sent is decided.
    fn is_ended(&mut self, order: usize) {
        let Some(projected) = oracles::projection(&self.world, &self.orders[order]) else {
            return self.find(Oracle::Ends, format!("{} is not there", self.orders[order].id));
        };
        if let Some((coin, id)) = projected.open_permissions().next() {
            self.find(
                Oracle::Ends,
                format!("{id} of coin {coin} of {} stays open", projected.key),
            );
        }
    }

    /// Commits what waits and answers what is asked, until nothing goes on by itself.
    fn quiet(&mut self) {
        for _ in 0..TURNS_MAX {
            self.go_on();
            let waiting = self.world.stepper().waiting();
            let calls = self.calls();
            if waiting == 0 && calls.is_empty() {
                if !self.in_flight.is_empty() {
                    // Some wait for what died with a process before; their time runs out.
                    self.world.pass(1_000);
                    continue;
                }
                return;
            }
            self.commit(usize::MAX, Fate::Told);
            for call in calls {
                if !call.answered {
                    self.arrive(&call, None);
                }
                self.world.network.deliver(call.number);
            }
        }
        self.find(Oracle::Ends, "the service does not come to rest".to_owned());
    }

    fn all(&mut self) -> Result<()> {
        let profile = crate::plan::Profile::choose(&mut self.rng);
        self.log(profile.to_string());
        for step in 0..self.options.steps {
            profile.step(self)?;
            self.go_on();
            if self.options.every_step || step % crate::AUDIT_EVERY == crate::AUDIT_EVERY - 1 {
                self.audit(false)?;
            }
            if self.finding.is_some() {
                return Ok(());
            }
        }
        self.end()?;
        if self.finding.is_none() {
            self.log("the service stops in order");
            self.world.stop();
            self.audit(true)?;
        }
        Ok(())
    }
}

/// Runs a seed.
pub(crate) fn run(seed: u64, options: &Options) -> Result<Outcome> {
    let mut run = Run::new(seed, options)?;
    if let Err(error) = run.all() {
        // What the simulator itself could not go on after: a service that does not start, a ledger that cannot be read.
        let mut what = String::new();
        write!(what, "{error:#}")?;
        run.find(Oracle::Conduct, what);
    }
    run.figures.steps = u64::try_from(run.steps.len())?;
    run.figures.answers = u64::try_from(run.told.receipts().len())?;
    run.figures.granted = u64::try_from(run.world.granted())?;
    run.figures.orders = u64::try_from(run.orders.len())?;
    let Run {
        steps,
        figures,
        finding,
        ..
    } = run;
    Ok(Outcome {
        seed,
        steps,
        figures,
        finding,
    })
}
