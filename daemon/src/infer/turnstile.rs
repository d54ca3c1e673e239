//! Which session may compute next, where several share the machine's cores. The order is pure; the lock is small.
//!
//! Owns: the permits. Does not know: models, cameras, queues. Each request has a due moment, its arrival plus a
//! handicap by role; the earliest is served. So a detector goes before features before pose, and none starves: what has
//! waited longer than its handicap goes before every newer request.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use vedette_core::{Mono, Role};

/// How much later a request of the next lower rank counts: about a period at 10 frames a second.
const HANDICAP: Duration = Duration::from_millis(100);

/// 0 goes first.
fn rank(role: Role) -> u32 {
    match role {
        Role::Detector => 0,
        Role::Features | Role::Classifier => 1,
        Role::Pose => 2,
    }
}

/// The permits and who waits for one. Pure.
#[derive(Debug)]
struct Order {
    free: usize,
    waiting: Vec<(Duration, u64)>,
    next: u64,
}

impl Order {
    fn new(permits: usize) -> Self {
        Self { free: permits.max(1), waiting: Vec::new(), next: 0 }
    }

    fn ask(&mut self, role: Role, now: Mono) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.waiting.push((now.0 + HANDICAP * rank(role), ticket));
        ticket
    }

    /// Whether this ticket may pass now; it holds a permit then.
    fn pass(&mut self, ticket: u64) -> bool {
        let first = self.waiting.iter().min().map(|(_, first)| *first);
        if self.free == 0 || first != Some(ticket) {
            return false;
        }
        self.free -= 1;
        self.waiting.retain(|(_, other)| *other != ticket);
        true
    }

    fn give_back(&mut self) {
        self.free += 1;
    }
}

/// Lets as many sessions compute at once as it has permits.
pub(super) struct Turnstile {
    order: Mutex<Order>,
    moved: Condvar,
}

/// Given back when dropped.
pub(super) struct Permit<'a>(&'a Turnstile);

impl Turnstile {
    /// At least one permit.
    pub(super) fn new(permits: usize) -> Self {
        Self { order: Mutex::new(Order::new(permits)), moved: Condvar::new() }
    }

    /// Waits for a permit. `now` is the moment of asking.
    pub(super) fn enter(&self, role: Role, now: Mono) -> Permit<'_> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = order.ask(role, now);
        while !order.pass(ticket) {
            order = self.moved.wait(order).unwrap_or_else(PoisonError::into_inner);
        }
        drop(order);
        // With several permits free, the one behind may pass too.
        self.moved.notify_all();
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.order.lock().unwrap_or_else(PoisonError::into_inner).give_back();
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(Duration::from_millis(ms))
    }

    #[test]
    fn detectors_go_before_features_before_pose() {
        let mut order = Order::new(1);
        let pose = order.ask(Role::Pose, at(0));
        let features = order.ask(Role::Features, at(1));
        let detector = order.ask(Role::Detector, at(2));
        for ticket in [detector, features, pose] {
            let others: Vec<_> = [pose, features, detector].into_iter().filter(|o| *o != ticket).collect();
            assert!(others.iter().all(|other| !order.pass(*other)));
            assert!(order.pass(ticket));
            order.give_back();
        }
    }

    /// Three detectors that ask anew as soon as they are served keep the one core busy; pose is served all the same.
    #[test]
    fn nothing_starves_behind_detectors_that_never_pause() {
        let mut order = Order::new(1);
        let mut detectors: Vec<_> = (0..3).map(|_| order.ask(Role::Detector, at(0))).collect();
        let mut pose = (order.ask(Role::Pose, at(0)), at(0));
        let (mut served, mut longest) = (0, Duration::ZERO);
        for now in (0..60_000).step_by(15) {
            if order.pass(pose.0) {
                longest = longest.max(at(now).since(pose.1));
                served += 1;
                pose = (order.ask(Role::Pose, at(now)), at(now));
            } else {
                let winner = detectors.iter().position(|ticket| order.pass(*ticket)).unwrap();
                detectors[winner] = order.ask(Role::Detector, at(now));
            }
            order.give_back();
        }
        assert!(served > 200, "{served}");
        // Its handicap, the three that waited then, and its own slot.
        assert!(longest <= HANDICAP * 2 + Duration::from_millis(15 * 4), "{longest:?}");
    }

    #[test]
    fn no_more_pass_than_there_are_permits() {
        let mut order = Order::new(2);
        let tickets: Vec<_> = (0..3).map(|ms| order.ask(Role::Detector, at(ms))).collect();
        assert!(order.pass(tickets[0]) && order.pass(tickets[1]) && !order.pass(tickets[2]));
        order.give_back();
        assert!(order.pass(tickets[2]));
    }
}
