//! The product as a person uses it: the binary `vedette`, run to its end or held while it works.
//!
//! Owns: finding binaries beside the tests, starting and stopping the product, its environment, deadlines, and what no run
//! may ever print. Does not know: what a verb should say; `tests/it/cli.rs` does.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vedette_core::{Clock, Shutdown, SystemClock};

/// How long a verb may take, however busy the machine is.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(10);

/// A binary that has not been built.
#[derive(Debug, thiserror::Error)]
#[error("{name} is not beside {of}; build it with `cargo build --workspace --bins --examples`", of = .of.display())]
pub struct NotBuilt {
    /// Which.
    pub name: &'static str,
    /// The executable beside which it was looked for.
    pub of: PathBuf,
}

/// Integration tests run from `target/debug/deps`, the product from `target/debug`: a binary is beside or above.
pub fn beside_this(name: &'static str) -> Result<PathBuf, NotBuilt> {
    // An executable that cannot tell where it lies has nothing beside it.
    let this = std::env::current_exe().unwrap_or_default();
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or(NotBuilt { name, of: this })
}

/// One command line of `vedette`.
#[derive(Debug)]
pub struct Vedette {
    command: Command,
    shown: String,
    secrets: Vec<String>,
}

/// How a run ended, and everything that it printed.
#[derive(Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub shown: String,
    /// Exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Vedette {
    /// `vedette ARGUMENTS…` in `folder`, which also is the home of its state; in an environment without any of Vedette's
    /// variables.
    ///
    /// # Panics
    /// Where the binary has not been built.
    pub fn new<A: Into<OsString>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut vedette = Self::here(arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("VEDETTE_") {
                vedette.command.env_remove(name);
            }
        }
        vedette.command.current_dir(folder);
        vedette
    }

    /// `vedette ARGUMENTS…` in the folder and the environment of this test.
    ///
    /// # Panics
    /// Where the binary has not been built.
    pub fn here<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(beside_this("vedette").unwrap_or_else(|e| panic!("{e}")));
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let words: Vec<_> = arguments.iter().map(|a| a.to_string_lossy()).collect();
        let shown = format!("vedette {}", words.join(" "));
        command.args(&arguments).stdin(Stdio::null());
        Self { command, shown, secrets: Vec::new() }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Takes an environment variable away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Text that must never be printed.
    #[must_use]
    pub fn secret(mut self, text: &str) -> Self {
        self.secrets.push(text.to_owned());
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// Where it does not end in time, or prints what must never be printed.
    pub fn run(self) -> Ran {
        self.start().end(DEADLINE)
    }

    /// Starts it and lets it run.
    ///
    /// # Panics
    /// Where the system does not start it.
    pub fn start(mut self) -> Running {
        let command = self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.shown));
        let out = collected(child.stdout.take());
        let stderr = child.stderr.take().unwrap_or_else(|| panic!("stderr is piped"));
        let log = Arc::<Log>::default();
        let kept = Arc::clone(&log);
        let reader = std::thread::spawn(move || kept.keep(BufReader::new(stderr)));
        let Self { shown, secrets, .. } = self;
        Running { child, shown, secrets, out, log, reader: Some(reader) }
    }
}

/// Reads a stream to its end on a thread: a full pipe would stop the child.
fn collected(stream: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until an error still counts.
        let _ = stream.map(|mut s| s.read_to_end(&mut bytes));
        let _ = tx.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    rx
}

/// What a child says on standard error, as far as it has come.
#[derive(Debug, Default)]
struct Log {
    text: Mutex<String>,
    grown: Condvar,
}

impl Log {
    /// Keeps every whole line until the stream ends.
    fn keep(&self, stream: impl BufRead) {
        for line in stream.split(b'\n').map_while(Result::ok) {
            let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&String::from_utf8_lossy(&line));
            text.push('\n');
            self.grown.notify_all();
        }
    }
}

/// A `vedette` at work; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    shown: String,
    secrets: Vec<String>,
    out: Receiver<String>,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.log.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `look` finds something in what it has logged, and returns that; none where it does not come `within`.
    pub fn look<T>(&self, within: Duration, look: impl Fn(&str) -> Option<T>) -> Option<T> {
        let clock = SystemClock::new();
        let mut text = self.log.text.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = look(&text) {
                return Some(found);
            }
            let left = within.checked_sub(clock.now().0)?;
            // Seldom as well, for what ends without a word.
            let ended = self.reader.as_ref().is_none_or(JoinHandle::is_finished);
            let wait = self.log.grown.wait_timeout(text, left.min(Duration::from_millis(200)));
            text = wait.unwrap_or_else(PoisonError::into_inner).0;
            if ended {
                return look(&text);
            }
        }
    }

    /// Waits for a line of its log that holds all of `words`, and returns that line.
    ///
    /// # Panics
    /// Where none comes in time.
    pub fn wait_for(&self, words: &[&str]) -> String {
        let fits = |line: &&str| words.iter().all(|word| line.contains(word));
        let line = self.look(DEADLINE, |log| log.lines().find(fits).map(str::to_owned));
        line.unwrap_or_else(|| panic!("{} never logged {words:?}; it logged:\n{}", self.shown, self.log()))
    }

    /// Sends a signal by its name, as `kill` knows it.
    ///
    /// # Panics
    /// Where the process is gone.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()), "{}: kill -{name}", self.shown);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where it does not end `within`, or has printed what must never be printed.
    pub fn end(mut self, within: Duration) -> Ran {
        let status = self.wait(within);
        let out = self.out.recv_timeout(DEADLINE).unwrap_or_default();
        let ran = Ran { shown: self.shown.clone(), code: status.code(), out, err: self.log() };
        ran.assert_decent(&self.secrets);
        ran
    }

    /// Waits until it has ended, and for the rest of its log.
    ///
    /// # Panics
    /// Where it does not end `within`.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let (clock, never) = (SystemClock::new(), Shutdown::new());
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    // It only reads.
                    let _ = self.reader.take().map(JoinHandle::join);
                    return status;
                }
                Ok(None) => {}
                Err(error) => panic!("{}: {error}", self.shown),
            }
            let late = clock.now().0 >= within;
            assert!(!late, "{} does not end within {within:?}; it logged:\n{}", self.shown, self.log());
            clock.pause(POLL, &never);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// What no run may print when nothing is a terminal: colours, words of a panic, secrets.
    fn assert_decent(&self, secrets: &[String]) {
        let Self { shown, out, err, .. } = self;
        for (name, text) in [("stdout", out), ("stderr", err)] {
            for word in ["\x1b", "panicked", "RUST_BACKTRACE", "internal error"] {
                assert!(!text.contains(word), "{shown}: {name} holds {word:?}:\n{text}");
            }
            // Not the text itself: it is a secret, and so would the failed test's log be.
            let told = secrets.iter().position(|secret| text.contains(secret.as_str()));
            assert!(told.is_none(), "{shown}: {name} tells secret {told:?}");
        }
    }

    /// Both streams, for messages that may go to either.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Asserts exit code and decisive words, wherever they stand.
    ///
    /// # Panics
    /// Where something else happened.
    pub fn expect(&self, code: i32, words: &[&str]) -> &Self {
        let all = self.all();
        assert_eq!(self.code, Some(code), "{}:\n{all}", self.shown);
        for word in words {
            assert!(all.contains(word), "{}: no {word:?} in:\n{all}", self.shown);
        }
        self
    }

    /// The last line of standard output as JSON.
    ///
    /// # Panics
    /// Where it is none.
    pub fn json(&self) -> serde_json::Value {
        let last = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{}: {e}:\n{}", self.shown, self.all()))
    }
}
