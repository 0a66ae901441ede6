//! What webhooks have still to tell, and whose turn it is: one line for each webhook. A server that is down costs one
//! call per pause, however much there is to tell it; a message that its server never takes holds up none behind it; and
//! no shop has its turn twice while another waits for one. Nothing here reads a clock or calls anybody.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use quittance_events::{InstanceId, OrderKey, Seq, WebhookId};
use quittance_taler::Micros;

use super::EventType;
use crate::limits::{
    WEBHOOK_CALLS_EACH_MAX, WEBHOOK_CALLS_MAX, WEBHOOK_FIRST_S, WEBHOOK_GIVE_UP_S, WEBHOOK_PAUSE_MAX_S,
};

/// A webhook of an instance.
pub(super) type Name = (InstanceId, WebhookId);

/// Something that a webhook has still to tell.
#[derive(Clone)]
pub(super) struct Due {
    pub(super) order: OrderKey,
    pub(super) event_type: EventType,
    /// When it happened.
    pub(super) at: Micros,
    /// Of this process.
    pub(super) attempts: u64,
    /// Of what was tried: not before.
    next: Micros,
    is_under_way: bool,
}

impl Due {
    pub(super) fn new(order: OrderKey, event_type: EventType, at: Micros) -> Due {
        Due {
            order,
            event_type,
            at,
            attempts: 0,
            next: at,
            is_under_way: false,
        }
    }

    pub(super) fn given_up_at(&self) -> Micros {
        self.at.plus_s(WEBHOOK_GIVE_UP_S)
    }
}

/// A server that could not be reached when it was called last.
struct Down {
    /// Calls in a row.
    failures: u64,
    /// When the last of them began.
    at: Micros,
    /// Nobody calls it before.
    until: Micros,
}

#[derive(Default)]
struct Line {
    due: BTreeMap<Seq, Due>,
    /// What was not tried yet. It goes first, so that what is refused again and again holds it up no more than once.
    fresh: BTreeSet<Seq>,
    /// What was tried, and when it is tried again.
    again: BTreeSet<(Micros, Seq)>,
    under_way: usize,
    down: Option<Down>,
    /// Which turn was its last.
    turn: u64,
}

/// A call that is to be made, and holds a place until [`Lines::end`].
pub(super) struct Turn {
    pub(super) name: Name,
    pub(super) of: Seq,
    /// As it is with this attempt.
    pub(super) due: Due,
    /// No call at all: the server was found down when the time for this was over already.
    pub(super) is_over: bool,
}

/// The lines of all webhooks that have something to tell.
#[derive(Default)]
pub(super) struct Lines {
    waiting: BTreeMap<Name, Line>,
    /// Calls under way of each instance that has any.
    calls: HashMap<InstanceId, usize>,
    turns: u64,
}

/// When the next attempt is made after so many failed, the last of which began at this time.
pub(super) fn pause(began: Micros, failed: u64) -> Micros {
    let doublings = u32::try_from(failed.saturating_sub(1)).unwrap_or(u32::MAX);
    let pause = 2u64
        .checked_pow(doublings)
        .and_then(|factor| factor.checked_mul(WEBHOOK_FIRST_S));
    began.plus_s(pause.map_or(WEBHOOK_PAUSE_MAX_S, |pause| pause.min(WEBHOOK_PAUSE_MAX_S)))
}

impl Line {
    fn is_idle(&self) -> bool {
        self.due.is_empty() && self.under_way == 0
    }

    fn forget(&mut self, of: Seq) {
        if let Some(due) = self.due.remove(&of) {
            self.fresh.remove(&of);
            self.again.remove(&(due.next, of));
        }
    }

    fn put_off(&mut self, of: Seq, next: Micros) {
        if let Some(due) = self.due.get_mut(&of) {
            self.again.remove(&(due.next, of));
            due.next = next;
            self.again.insert((next, of));
        }
    }

    /// Clocks are set back: no pause is longer than the longest, so what is later than that was put off before.
    fn forgive(&mut self, now: Micros) {
        let latest = now.plus_s(WEBHOOK_PAUSE_MAX_S);
        while let Some((next, of)) = self.again.last().copied()
            && next > latest
        {
            self.put_off(of, now);
        }
        if let Some(down) = &mut self.down
            && down.until > latest
        {
            down.until = now;
        }
    }

    /// What it may tell now, and whether that is over.
    fn next(&mut self, now: Micros) -> Option<(Seq, bool)> {
        let most = if self.down.is_some() {
            1
        } else {
            WEBHOOK_CALLS_EACH_MAX
        };
        if self.under_way >= most {
            return None;
        }
        self.forgive(now);
        if let Some(down) = &self.down
            && now < down.until
        {
            let (of, oldest) = self.due.iter().find(|(_, due)| !due.is_under_way)?;
            let is_over = oldest.given_up_at() <= down.at && oldest.next <= now;
            return is_over.then_some((*of, true));
        }
        let again = || self.again.first().filter(|(next, _)| *next <= now);
        let of = self.fresh.first().or_else(|| again().map(|(_, of)| of))?;
        Some((*of, false))
    }
}

impl Lines {
    pub(super) fn add(&mut self, webhook: WebhookId, of: Seq, due: Due) {
        let name = (due.order.instance.clone(), webhook);
        let line = self.waiting.entry(name).or_default();
        line.fresh.insert(of);
        line.due.insert(of, due);
    }

    pub(super) fn forget(&mut self, name: &Name, of: Seq) {
        if let Some(line) = self.waiting.get_mut(name) {
            line.forget(of);
            if line.is_idle() {
                self.waiting.remove(name);
            }
        }
    }

    /// Keeps of an instance what its webhooks, which were changed, tell still. Where one leads elsewhere now, how it was
    /// before says nothing.
    pub(super) fn retain(&mut self, instance: &InstanceId, is_told: impl Fn(&WebhookId, &Due) -> bool) {
        for ((_, webhook), line) in self.waiting.iter_mut().filter(|((of, _), _)| of == instance) {
            line.down = None;
            let gone: Vec<Seq> = line
                .due
                .iter()
                .filter(|(_, due)| !is_told(webhook, due))
                .map(|(of, _)| *of)
                .collect();
            for of in gone {
                line.forget(of);
            }
        }
        self.waiting.retain(|_, line| !line.is_idle());
    }

    /// Who is next, if another call may be made: of the instance that has the fewest calls under way, the webhook whose
    /// turn is longest ago.
    pub(super) fn take_next(&mut self, now: Micros) -> Option<Turn> {
        if self.calls.values().sum::<usize>() >= WEBHOOK_CALLS_MAX {
            return None;
        }
        let calls = |instance| self.calls.get(instance).copied().unwrap_or(0);
        let ready = self.waiting.iter_mut().filter_map(|(name, line)| {
            let next = line.next(now)?;
            Some((name, line, next))
        });
        let (name, line, (of, is_over)) =
            ready.min_by_key(|((instance, _), line, _)| (calls(instance), line.turn))?;
        let due = line.due.get_mut(&of)?;
        line.fresh.remove(&of);
        line.again.remove(&(due.next, of));
        due.is_under_way = true;
        due.attempts += u64::from(!is_over);
        self.turns += 1;
        line.turn = self.turns;
        line.under_way += 1;
        let turn = Turn {
            name: name.clone(),
            of,
            due: due.clone(),
            is_over,
        };
        *self.calls.entry(turn.name.0.clone()).or_default() += 1;
        Some(turn)
    }

    /// What a call, which began then, found out about the server.
    pub(super) fn found(&mut self, turn: &Turn, began: Micros, is_down: bool) {
        let Some(line) = self.waiting.get_mut(&turn.name) else {
            return;
        };
        if !is_down {
            line.down = None;
            return;
        }
        let down = line.down.get_or_insert(Down {
            failures: 0,
            at: began,
            until: began,
        });
        if began < down.until {
            // It was under way beside the one that found it down first.
            return;
        }
        down.failures += 1;
        down.at = began;
        down.until = pause(began, down.failures);
        let given_up_at = turn.due.given_up_at();
        if began < given_up_at {
            // The last attempt is made when the time is over.
            down.until = down.until.min(given_up_at);
        }
    }

    /// Gives the place back. What was not told is tried again then.
    pub(super) fn end(&mut self, turn: &Turn, again: Option<Micros>) {
        if let Some(calls) = self.calls.get_mut(&turn.name.0) {
            *calls -= 1;
            if *calls == 0 {
                self.calls.remove(&turn.name.0);
            }
        }
        let Some(line) = self.waiting.get_mut(&turn.name) else {
            return;
        };
        line.under_way -= 1;
        if let Some(due) = line.due.get_mut(&turn.of) {
            due.is_under_way = false;
        }
        match again {
            Some(again) => line.put_off(turn.of, again),
            None => line.forget(turn.of),
        }
        if line.is_idle() {
            self.waiting.remove(&turn.name);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn at(seconds: u64) -> Micros {
        Micros::from_s(1_000_000 + seconds).unwrap()
    }

    /// Something that happened at this time.
    fn add(lines: &mut Lines, instance: &str, webhook: &str, seq: u64, happened: Micros) {
        let order = OrderKey {
            instance: instance.parse().unwrap(),
            order: "a".parse().unwrap(),
        };
        let due = Due::new(order, EventType::Pay, happened);
        lines.add(webhook.parse().unwrap(), Seq::new(seq).unwrap(), due);
    }

    /// What is taken at this time until nothing is.
    fn take(lines: &mut Lines, now: Micros) -> Vec<Turn> {
        std::iter::from_fn(|| lines.take_next(now)).collect()
    }

    fn numbers(turns: &[Turn]) -> Vec<u64> {
        turns.iter().map(|turn| turn.of.get()).collect()
    }

    /// Ends a call that began then and found its server down.
    fn down(lines: &mut Lines, turn: &Turn, began: Micros) {
        lines.found(turn, began, true);
        lines.end(turn, Some(pause(began, turn.due.attempts)));
    }

    fn told(lines: &mut Lines, turn: &Turn) {
        lines.found(turn, at(0), false);
        lines.end(turn, None);
    }

    #[test]
    fn pauses_grow_from_ten_seconds_to_an_hour() {
        let now = at(0);
        let pauses: Vec<u64> = [0, 1, 2, 3, 8, 9, 10, 64, 65, u64::MAX]
            .map(|failed| (pause(now, failed).get() - now.get()) / 1_000_000)
            .into();
        assert_eq!(pauses, [10, 10, 20, 40, 1280, 2560, 3600, 3600, 3600, 3600]);
    }

    #[test]
    fn a_server_that_is_down_costs_one_call_per_pause_and_nobody_else_a_place() {
        let mut lines = Lines::default();
        for seq in 1..=100 {
            add(&mut lines, "a", "dead", seq, at(0));
        }
        let first = take(&mut lines, at(0));
        assert_eq!(numbers(&first), [1, 2]);
        add(&mut lines, "b", "well", 101, at(1));
        let of_b = take(&mut lines, at(1));
        assert_eq!(numbers(&of_b), [101]);
        told(&mut lines, &of_b[0]);

        // Both found the same.
        for turn in &first {
            down(&mut lines, turn, at(0));
        }
        assert!(take(&mut lines, at(9)).is_empty());
        for (begins, next) in [(10, 3), (30, 4), (70, 5)] {
            assert!(take(&mut lines, at(begins - 1)).is_empty());
            let probe = take(&mut lines, at(begins));
            assert_eq!(numbers(&probe), [next]);
            down(&mut lines, &probe[0], at(begins));
        }
        // Well again: all that waits is told, two at a time.
        let probe = take(&mut lines, at(150));
        assert_eq!(numbers(&probe), [6]);
        told(&mut lines, &probe[0]);
        let mut heard = 1;
        loop {
            let turns = take(&mut lines, at(150));
            assert!(turns.len() <= WEBHOOK_CALLS_EACH_MAX);
            for turn in &turns {
                told(&mut lines, turn);
            }
            heard += turns.len();
            if turns.is_empty() {
                break;
            }
        }
        assert_eq!(heard, 100);
        assert!(lines.waiting.is_empty() && lines.calls.is_empty());
    }

    #[test]
    fn slow_servers_of_one_instance_leave_the_next_place_to_another() {
        let mut lines = Lines::default();
        for seq in 0..160 {
            add(&mut lines, "a", &format!("w{}", seq % 16), seq + 1, at(0));
        }
        let slow = take(&mut lines, at(0));
        assert_eq!(slow.len(), WEBHOOK_CALLS_MAX);
        let webhooks: BTreeSet<&WebhookId> = slow.iter().map(|turn| &turn.name.1).collect();
        assert_eq!(webhooks.len(), 16, "each has its turn");
        add(&mut lines, "b", "w", 1000, at(5));
        assert!(take(&mut lines, at(5)).is_empty());
        told(&mut lines, &slow[0]);
        assert_eq!(numbers(&take(&mut lines, at(5))), [1000]);
    }

    #[test]
    fn what_is_refused_again_and_again_holds_up_nothing_behind_it() {
        let mut lines = Lines::default();
        for seq in 1..=4 {
            add(&mut lines, "a", "w", seq, at(0));
        }
        for [one, other] in [[1, 2], [3, 4]] {
            let turns = take(&mut lines, at(0));
            assert_eq!(numbers(&turns), [one, other]);
            for turn in &turns {
                lines.found(turn, at(0), false);
                lines.end(turn, Some(pause(at(0), turn.due.attempts)));
            }
        }
        assert!(take(&mut lines, at(9)).is_empty());
        add(&mut lines, "a", "w", 5, at(10));
        assert_eq!(numbers(&take(&mut lines, at(10))), [5, 1]);
    }

    #[test]
    fn one_failed_call_ends_all_whose_time_was_over_and_no_other() {
        let mut lines = Lines::default();
        for (seq, happened) in [(1, 0), (2, 0), (3, 0), (4, 5000)] {
            add(&mut lines, "a", "w", seq, at(happened));
        }
        let over = at(WEBHOOK_GIVE_UP_S);
        for probe in take(&mut lines, over) {
            lines.found(&probe, over, true);
            lines.end(&probe, None);
        }
        let ended = take(&mut lines, over);
        assert_eq!(numbers(&ended), [3]);
        assert!(ended[0].is_over && ended[0].due.attempts == 0);
        // It could not be recorded, and is not tried on and on.
        lines.end(&ended[0], Some(pause(over, 0)));
        assert!(take(&mut lines, over).is_empty());
    }

    #[test]
    fn the_last_call_is_made_when_the_time_is_over() {
        let mut lines = Lines::default();
        add(&mut lines, "a", "w", 1, at(0));
        let almost = at(WEBHOOK_GIVE_UP_S - 1);
        let turns = take(&mut lines, almost);
        lines.found(&turns[0], almost, true);
        lines.end(&turns[0], Some(at(WEBHOOK_GIVE_UP_S)));
        assert!(take(&mut lines, almost).is_empty());
        let last = take(&mut lines, at(WEBHOOK_GIVE_UP_S));
        assert!(!last[0].is_over && last[0].due.attempts == 2);
    }

    #[test]
    fn a_clock_set_back_puts_nothing_off_for_ever() {
        let mut lines = Lines::default();
        add(&mut lines, "a", "w", 1, at(100_000));
        let turns = take(&mut lines, at(100_000));
        down(&mut lines, &turns[0], at(100_000));
        assert_eq!(numbers(&take(&mut lines, at(0))), [1]);
    }

    #[test]
    fn a_webhook_that_was_changed_is_called_at_once_and_tells_what_it_tells_still() {
        let mut lines = Lines::default();
        for seq in 1..=3 {
            add(&mut lines, "a", "w", seq, at(seq));
        }
        let turns = take(&mut lines, at(3));
        for turn in &turns {
            down(&mut lines, turn, at(3));
        }
        assert!(take(&mut lines, at(4)).is_empty());
        let instance: InstanceId = "a".parse().unwrap();
        lines.retain(&instance, |_, due| due.at > at(2));
        let turns = take(&mut lines, at(4));
        assert_eq!(numbers(&turns), [3]);
        // Taken away while a call is under way: its place comes back all the same.
        lines.retain(&instance, |_, _| false);
        lines.end(&turns[0], Some(at(5)));
        assert!(lines.waiting.is_empty() && lines.calls.is_empty());
    }
}
