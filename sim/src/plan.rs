//! What happens next. Each seed first chooses its own character: how often things of each kind happen, some never. So
//! some runs are calm but for crashes, others have exchanges that fail all the time, and rare things meet each other.

use std::fmt;

use anyhow::Result;
use quittance_events::facts::Failure;
use quittance_events::simulation::Fate;
use quittance_sandbox::FaultKind;

use crate::rng::Rng;
use crate::run::Run;
use crate::world::Crash;

/// Orders of a run. More would only dilute what happens to each.
const ORDERS_MAX: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Commit,
    CommitSome,
    Arrive,
    Deliver,
    Client,
    NewOrder,
    Deposit,
    Background,
    Pass,
    Checkpoint,
    Break,
    ArriveTwice,
    HangUp,
    Clock,
    Correct,
    Down,
    Rotate,
    Aggregate,
    DiskRefuses,
    Crash,
    Restart,
}

/// Actions that every run has, with their weights.
const USUAL: &[(Action, u64)] = &[
    (Action::Commit, 40),
    (Action::CommitSome, 10),
    (Action::Arrive, 30),
    (Action::Deliver, 40),
    (Action::Client, 40),
    (Action::NewOrder, 6),
    (Action::Deposit, 20),
    (Action::Background, 12),
    (Action::Pass, 12),
    (Action::Checkpoint, 4),
];

/// Actions that a run may have much of, or none.
const UNUSUAL: &[(Action, u64)] = &[
    (Action::Break, 6),
    (Action::ArriveTwice, 4),
    (Action::HangUp, 4),
    (Action::Clock, 2),
    (Action::Down, 3),
    (Action::Rotate, 2),
    (Action::Aggregate, 2),
    (Action::DiskRefuses, 3),
    (Action::Crash, 3),
    (Action::Restart, 1),
];

/// A run's character.
pub(crate) struct Profile {
    weights: Vec<(Action, u64)>,
    /// Of a hundred requests that arrive, so many meet a fault.
    faulty: u64,
    /// Of a hundred orders, so many are sold here.
    sold: u64,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of a hundred calls {} meet a fault, ", self.faulty)?;
        write!(f, "of a hundred orders {} are sold here;", self.sold)?;
        for (action, weight) in &self.weights[USUAL.len()..] {
            write!(f, " {action:?} {weight}")?;
        }
        Ok(())
    }
}

impl Profile {
    pub(crate) fn choose(rng: &mut Rng) -> Profile {
        let mut weights = USUAL.to_vec();
        for (action, weight) in UNUSUAL {
            weights.push((*action, weight * rng.of(&[0, 0, 1, 1, 3])));
        }
        Profile {
            weights,
            faulty: *rng.of(&[0, 10, 30, 60]),
            sold: *rng.of(&[0, 0, 50, 100]),
        }
    }

    /// Does the next thing.
    pub(crate) fn step(&self, run: &mut Run) -> Result<()> {
        if run.orders.is_empty() {
            run.new_order(self.sold);
            return Ok(());
        }
        let waiting = run.world.stepper().waiting() > 0;
        let calls = run.calls();
        let on_the_way = calls.iter().any(|call| !call.answered);
        let answered = calls.iter().any(|call| call.answered);
        let behind = run.world.is_behind();
        let mut possible: Vec<(Action, u64)> = self
            .weights
            .iter()
            .copied()
            .filter(|(action, _)| match action {
                Action::Commit | Action::CommitSome | Action::DiskRefuses => waiting,
                Action::Arrive => on_the_way,
                Action::Deliver | Action::ArriveTwice => answered,
                Action::Break => !calls.is_empty(),
                Action::NewOrder => run.orders.len() < ORDERS_MAX,
                _ => true,
            })
            .collect();
        if behind {
            possible.push((Action::Correct, 10));
        }
        let weights: Vec<u64> = possible.iter().map(|(_, weight)| *weight).collect();
        let chosen = run
            .rng
            .weighted(&weights)
            .map_or(Action::Client, |index| possible[index].0);
        self.act(chosen, run)
    }

    fn act(&self, action: Action, run: &mut Run) -> Result<()> {
        match action {
            Action::Commit => run.commit(usize::MAX, Fate::Told),
            Action::CommitSome => {
                let max = 1 + run.rng.index(3);
                run.commit(max, Fate::Told);
            }
            Action::Arrive => {
                let calls = run.calls();
                let calls: Vec<_> = calls.iter().filter(|call| !call.answered).collect();
                let call = *run.rng.of(&calls);
                let fault = if run.rng.percent(self.faulty) {
                    Some(fault(&mut run.rng))
                } else {
                    None
                };
                run.arrive(call, fault);
            }
            Action::Deliver | Action::ArriveTwice => {
                let calls = run.calls();
                let calls: Vec<_> = calls.iter().filter(|call| call.answered).collect();
                let call = *run.rng.of(&calls);
                if action == Action::ArriveTwice {
                    run.arrive(call, None);
                } else {
                    let heard = if call.awaited { "" } else { "; nobody waits for it" };
                    run.log(format!("the reply to {} comes{heard}", call.what()));
                    run.world.network.deliver(call.number);
                }
            }
            Action::Break => {
                let calls = run.calls();
                let call = run.rng.of(&calls).clone();
                let failure = *run.rng.of(&[Failure::Closed, Failure::Closed, Failure::Connect]);
                let stays = failure == Failure::Closed && run.rng.percent(50);
                let how = if stays { ", and the request goes on" } else { "" };
                run.log(format!(
                    "the connection of {} breaks ({failure:?}){how}",
                    call.what()
                ));
                run.world.network.break_off(call.number, failure, stays);
            }
            Action::Client => run.client(),
            Action::NewOrder => run.new_order(self.sold),
            Action::Deposit => run.deposit(),
            Action::Background => {
                run.log("the background looks for what is due");
                run.world.settle_due();
            }
            Action::Pass => {
                let ms = *run
                    .rng
                    .of(&[200, 1_000, 1_000, 3_000, 5_000, 8_000, 13_000, 70_000, 3_600_000]);
                run.log(format!("{ms} ms pass"));
                run.world.pass(ms);
            }
            Action::Checkpoint => {
                run.log("a checkpoint is signed");
                run.world.stepper().checkpoint();
            }
            Action::HangUp => run.hang_up(),
            Action::Clock => {
                let seconds = *run.rng.of(&[1, 20, 59, 300, 7_200, 100_000]);
                let back = run.rng.percent(50);
                run.set_clock(seconds, back);
            }
            Action::Correct => run.correct_clock()?,
            Action::Down => {
                let at = run.rng.index(run.down.len());
                run.down[at] = !run.down[at];
                let how = if run.down[at] { "goes down" } else { "is back" };
                run.log(format!("exchange {at} {how}"));
            }
            Action::Rotate => run.rotate(),
            Action::Aggregate => run.aggregate(),
            Action::DiskRefuses => run.commit(usize::MAX, Fate::Refused),
            Action::Crash => {
                let how = *run
                    .rng
                    .of(&[Crash::Now, Crash::Torn, Crash::Untold, Crash::Unanchored]);
                run.crash(how)?;
            }
            Action::Restart => run.restart()?,
        }
        Ok(())
    }
}

fn fault(rng: &mut Rng) -> FaultKind {
    let status = |status, code| FaultKind::Status { status, code };
    *rng.of(&[
        FaultKind::LostReply,
        FaultKind::LostReply,
        FaultKind::Reset,
        FaultKind::Html,
        FaultKind::Garbage,
        FaultKind::Truncated,
        FaultKind::WrongSignature,
        FaultKind::UnknownKey,
        status(500, 60),
        status(503, 60),
        status(429, 60),
        // Of what it has, too: the sandbox itself says 1005 or 1502 where it has nothing.
        status(404, 1500),
        status(403, 1506),
        status(410, 1503),
    ])
}
