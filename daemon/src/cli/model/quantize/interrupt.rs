//! ^C and SIGTERM while a model is made.
//!
//! Owns: what a signal means at each moment, and that nothing half-made stays behind. Does not know: what is made.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vedette_core::Shutdown;
use vedette_models::{Draft, ImportError, Manifest, ModelError, Staged};

use crate::cli::{note, say_error};
use crate::exit::{Exit, Failure};
use crate::logging;

/// ^C while cameras are watched says that it is enough; any other signal ends the program.
pub(super) struct Interrupt {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What ^C pulls instead of ending the program.
    enough: Option<Shutdown>,
    /// The folder of a model that is not in its place yet.
    stage: Option<PathBuf>,
    written: bool,
}

impl Interrupt {
    /// Listens from now on.
    pub(super) fn listen() -> Result<Self, Failure> {
        let refused = |e: std::io::Error| Failure::failed(format!("cannot listen for signals: {e}"));
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(refused)?;
        let state = Arc::<Mutex<State>>::default();
        let listener = Self { state: Arc::clone(&state) };
        let listen = move || signals.forever().for_each(|signal| listener.on_signal(signal));
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(refused)?;
        Ok(Self { state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work`; the first ^C meanwhile pulls `stop`.
    pub(super) fn enough<T>(&self, stop: &Shutdown, work: impl FnOnce() -> T) -> T {
        self.state().enough = Some(stop.clone());
        let done = work();
        self.state().enough = None;
        done
    }

    /// Opens a network: the runtime keeps a profile of it in the temporary folder meanwhile, so a signal waits.
    pub(super) fn open<T>(&self, network: impl FnOnce() -> Result<T, ModelError>) -> Result<T, Failure> {
        let _held = self.state();
        network().map_err(Failure::unavailable)
    }

    /// A model in its folder of its own, which goes with the program. A signal waits until it is there.
    pub(super) fn stage(
        &self,
        make: impl FnOnce() -> Result<Staged, ImportError>,
    ) -> Result<Staged, Failure> {
        let mut state = self.state();
        let staged = make().map_err(Failure::failed)?;
        state.stage = staged.manifest().path().parent().map(Path::to_owned);
        Ok(staged)
    }

    /// [`Staged::commit`], wholly before a signal or not at all.
    pub(super) fn commit(&self, staged: Staged, draft: Draft, replace: bool) -> Result<Manifest, Failure> {
        let mut state = self.state();
        let manifest = staged.commit(draft, replace).map_err(Failure::failed)?;
        (state.stage, state.written) = (None, true);
        Ok(manifest)
    }

    fn on_signal(&self, signal: i32) {
        let mut state = self.state();
        if signal == SIGINT
            && let Some(stop) = state.enough.take()
        {
            clear_line();
            note("enough; ^C again ends without a result");
            stop.request();
            return;
        }
        if let Some(stage) = &state.stage {
            // What cannot be removed is only rubbish of ours.
            let _ = std::fs::remove_dir_all(stage);
        }
        clear_line();
        say_error(if state.written { "interrupted" } else { "interrupted: nothing was written" });
        logging::flush(Duration::from_secs(1));
        // At once: libraries are at work on other threads. The lock is held, so nothing comes into its place any more.
        signal_hook::low_level::exit(i32::from(Exit::Failed as u8));
    }
}

/// Of a terminal, where a bar is being drawn.
fn clear_line() {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        // Where stderr is gone there is no bar.
        let _ = write!(stderr, "\r\x1b[2K");
    }
}
