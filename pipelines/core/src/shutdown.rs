//! The wish to stop, seen by blocking threads and by tasks alike.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    requested: bool,
    hooks: Vec<Hook>,
}

/// A latch: once requested, it stays requested. Clones share it.
#[derive(Clone, Default)]
pub struct Shutdown {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl std::fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shutdown").field("requested", &self.is_requested()).finish()
    }
}

impl Shutdown {
    /// A latch that nobody has pulled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everybody who watches this latch to stop; wakes all waiters and runs all hooks, once.
    pub fn request(&self) {
        let (state, wake) = &*self.shared;
        let hooks = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.requested = true;
            std::mem::take(&mut state.hooks)
        };
        wake.notify_all();
        for hook in hooks {
            hook();
        }
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).requested
    }

    /// Waits until it is asked for or `length` is over; true when it was asked for.
    pub fn wait_timeout(&self, length: Duration) -> bool {
        let (state, wake) = &*self.shared;
        let guard = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) =
            wake.wait_timeout_while(guard, length, |s| !s.requested).unwrap_or_else(PoisonError::into_inner);
        guard.requested
    }

    /// Runs `hook` when it is asked for (at once if it already was): the way into channels, tasks and `select!`.
    pub fn on_request(&self, hook: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.requested {
            drop(state);
            hook();
        } else {
            state.hooks.push(Box::new(hook));
        }
    }

    /// A latch of its own that is pulled with this one: stops one camera without the others.
    pub fn child(&self) -> Self {
        let child = Self::new();
        let pulled = child.clone();
        self.on_request(move || pulled.request());
        child
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_stops_with_its_parent_but_not_the_other_way() {
        let parent = Shutdown::new();
        let (one, two) = (parent.child(), parent.child());
        one.request();
        assert!(one.is_requested() && !two.is_requested() && !parent.is_requested());
        parent.request();
        assert!(two.wait_timeout(Duration::ZERO));
    }

    #[test]
    fn hooks_run_once_also_when_late() {
        let stop = Shutdown::new();
        let (tx, rx) = std::sync::mpsc::channel();
        let early = tx.clone();
        stop.on_request(move || early.send(1).unwrap());
        stop.request();
        stop.request();
        stop.on_request(move || tx.send(2).unwrap());
        assert_eq!(rx.into_iter().collect::<Vec<_>>(), [1, 2]);
    }
}
