//! Not the same line a thousand times: the first at once, then a count once a minute.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use vedette_core::Mono;

/// Between two reports of the same kind.
const EVERY: Duration = Duration::from_secs(60);

/// Limits values by key. Pure: the time is a parameter.
#[derive(Debug)]
pub struct RateLimit<K, V> {
    held: HashMap<K, Held<V>>,
}

#[derive(Debug)]
struct Held<V> {
    since: Mono,
    count: u32,
    last: Option<V>,
}

impl<K: Eq + Hash, V> Default for RateLimit<K, V> {
    fn default() -> Self {
        Self { held: HashMap::new() }
    }
}

impl<K: Eq + Hash, V> RateLimit<K, V> {
    /// Gives `value` back where it may be said now; else it is counted and the latest kept for [`RateLimit::due`].
    pub fn admit(&mut self, key: K, value: V, now: Mono) -> Option<V> {
        match self.held.entry(key) {
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(Held { since: now, count: 0, last: None });
                Some(value)
            }
            std::collections::hash_map::Entry::Occupied(mut held) => {
                let held = held.get_mut();
                held.count = held.count.saturating_add(1);
                held.last = Some(value);
                None
            }
        }
    }

    /// What was held back for a minute: the latest value of each key and how many there were. A key that was silent
    /// for that minute is free again.
    pub fn due(&mut self, now: Mono) -> Vec<(V, u32)> {
        let mut due = Vec::new();
        self.held.retain(|_, held| {
            if now.since(held.since) < EVERY {
                return true;
            }
            let Some(last) = held.last.take() else { return false };
            due.push((last, std::mem::take(&mut held.count)));
            held.since = now;
            true
        });
        due
    }

    /// How long [`RateLimit::due`] has nothing to say for sure; `None` where nothing is held.
    pub fn next_due(&self, now: Mono) -> Option<Duration> {
        self.held.values().map(|held| EVERY.saturating_sub(now.since(held.since))).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn the_first_at_once_then_a_count_once_a_minute() {
        let mut limit = RateLimit::default();
        assert_eq!(limit.admit("gate lost", 1, at(0)), Some(1));
        assert_eq!(limit.admit("gate lost", 2, at(1)), None);
        assert_eq!(limit.admit("yard lost", 3, at(1)), Some(3), "another camera is not held");
        assert_eq!(limit.admit("gate lost", 4, at(59)), None);
        assert!(limit.due(at(59)).is_empty());
        assert_eq!(limit.next_due(at(59)), Some(Duration::from_secs(1)));
        assert_eq!(limit.due(at(60)), [(4, 2)]);
        assert_eq!(limit.admit("gate lost", 5, at(61)), None, "the next minute counts on");
        assert_eq!(limit.due(at(120)), [(5, 1)]);
    }

    #[test]
    fn silence_frees_a_key() {
        let mut limit = RateLimit::default();
        assert_eq!(limit.admit("k", 1, at(0)), Some(1));
        assert!(limit.due(at(60)).is_empty());
        assert_eq!(limit.next_due(at(60)), None);
        assert_eq!(limit.admit("k", 2, at(61)), Some(2));
    }
}
