//! The primary host, as far as it was heard of in a session.
//!
//! Owns: whether it is there. Does not know: what follows from it.

use crate::wire::sparkplug::host_state;

/// See the module.
pub(super) struct Host<'a> {
    /// None: nobody is waited for.
    id: Option<&'a str>,
    online: bool,
    /// The time of its last word.
    heard: Option<u64>,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Came,
    Left,
}

impl<'a> Host<'a> {
    pub(super) fn new(id: Option<&'a str>) -> Self {
        Self { id, online: false, heard: None }
    }

    /// Its name, where it is waited for.
    pub(super) fn awaited(&self) -> Option<&'a str> {
        self.id.filter(|_| !self.online)
    }

    /// A message on its topic: strangers' bytes. What is older than its last word is no news (a will that comes late).
    pub(super) fn says(&mut self, payload: &[u8]) -> Option<Change> {
        let said = host_state(payload)?;
        if self.heard.is_some_and(|heard| said.timestamp < heard) {
            return None;
        }
        self.heard = Some(said.timestamp);
        match (std::mem::replace(&mut self.online, said.online), said.online) {
            (false, true) => Some(Change::Came),
            (true, false) => Some(Change::Left),
            _ => None,
        }
    }
}
