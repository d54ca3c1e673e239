//! A better way to run a network that takes minutes to make: made by a thread of its own while another one serves, and
//! taken over between two inferences.
//!
//! Owns: the thread and its result, and what of a network may be read while another thread runs it. Does not know: what
//! is made (TensorRT's engines, at present).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::profile::ProviderReport;

/// Something that is being made. Dropping it lets the thread go on; what it makes is then dropped too.
pub(crate) struct Upgrade<T>(Option<JoinHandle<Result<T, String>>>);

impl<T: Send + 'static> Upgrade<T> {
    /// Begins to make it, in a thread of this `name`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(
        name: &str,
        build: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> std::io::Result<Self> {
        Ok(Self(Some(std::thread::Builder::new().name(name.to_owned()).spawn(build)?)))
    }

    /// What was made, or why it could not be: once, as soon as it is there. Never waits.
    pub(crate) fn poll(&mut self) -> Option<Result<T, String>> {
        let thread = self.0.take_if(|thread| thread.is_finished())?;
        Some(thread.join().unwrap_or_else(|_| Err("its thread ended by an internal error".to_owned())))
    }
}

impl<T> fmt::Debug for Upgrade<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Upgrade(in the making)" } else { "Upgrade(made)" })
    }
}

/// What runs a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// SHA-256 of the model file, lower-case hex.
    pub sha256: String,
    /// Who runs it: wished, registered, measured.
    pub report: ProviderReport,
}

/// Tells what runs a network at the moment, also while another thread runs it. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Serving(Arc<Mutex<Served>>);

impl Serving {
    pub(crate) fn new(served: Served) -> Self {
        Self(Arc::new(Mutex::new(served)))
    }

    pub(crate) fn set(&self, served: Served) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = served;
    }

    /// As it is now.
    pub fn now(&self) -> Served {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn wait<T: Send + 'static>(upgrade: &mut Upgrade<T>) -> Result<T, String> {
        loop {
            if let Some(result) = upgrade.poll() {
                return result;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn nothing_is_there_while_it_is_being_made_and_once_it_is_made_it_comes_once() {
        let (go, gate) = channel::<()>();
        let mut upgrade =
            Upgrade::start("slow", move || gate.recv().map(|()| 7).map_err(|e| e.to_string())).unwrap();
        assert!(upgrade.poll().is_none());
        assert!(upgrade.poll().is_none());
        go.send(()).unwrap();
        assert_eq!(wait(&mut upgrade), Ok(7));
        assert!(upgrade.poll().is_none(), "it came already");
    }

    #[test]
    fn a_failure_and_a_panic_come_as_reasons() {
        let mut failing = Upgrade::<u8>::start("failing", || Err("no memory".to_owned())).unwrap();
        assert_eq!(wait(&mut failing), Err("no memory".to_owned()));
        let mut panicking =
            Upgrade::<u8>::start("panicking", || std::panic::resume_unwind(Box::new(()))).unwrap();
        assert!(wait(&mut panicking).unwrap_err().contains("internal error"));
    }

    #[test]
    fn dropping_it_does_not_wait_and_drops_what_is_made() {
        let (go, gate) = channel::<()>();
        let (made, dropped) = channel::<()>();
        let upgrade =
            Upgrade::start("left", move || gate.recv().map(|()| made).map_err(|e| e.to_string())).unwrap();
        drop(upgrade);
        go.send(()).unwrap();
        assert!(dropped.recv().is_err(), "its last sender is gone");
    }
}
