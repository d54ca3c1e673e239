//! The product as a person uses it: the binary `vedette`, run to its end or held while it works.
//!
//! Owns: finding binaries beside the tests, a clean environment, deadlines, and what no run may ever print. Does not
//! know: what a verb should say; `tests/it/cli.rs` does.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
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

/// One command line of `vedette`, in an environment without any of Vedette's variables.
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
    /// `vedette ARGUMENTS…` in `folder`, which also is the home of its state.
    ///
    /// # Panics
    /// Where the binary has not been built.
    pub fn new<A: Into<OsString>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(beside_this("vedette").unwrap_or_else(|e| panic!("{e}")));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("VEDETTE_") {
                command.env_remove(name);
            }
        }
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let words: Vec<_> = arguments.iter().map(|a| a.to_string_lossy()).collect();
        let shown = format!("vedette {}", words.join(" "));
        command.args(&arguments).current_dir(folder).stdin(Stdio::null());
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
        let (tx, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap_or_else(|| panic!("stderr is piped")));
        std::thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                if tx.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let Self { shown, secrets, .. } = self;
        Running { child, shown, secrets, out, lines, seen: String::new() }
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

/// A `vedette` at work; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    shown: String,
    secrets: Vec<String>,
    out: Receiver<String>,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads its log up to a line that holds all of `words`, and returns that line.
    ///
    /// # Panics
    /// Where none comes in time.
    pub fn wait_for(&mut self, words: &[&str]) -> String {
        let fits = |line: &str| words.iter().all(|word| line.contains(word));
        if let Some(line) = self.seen.lines().find(|line| fits(line)) {
            return line.to_owned();
        }
        let clock = SystemClock::new();
        loop {
            let left = DEADLINE.saturating_sub(clock.now().0);
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if fits(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{} never logged {words:?}; it logged:\n{}", self.shown, self.seen)
                }
            }
        }
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
        self.seen.extend(self.lines.iter().map(|line| line + "\n"));
        let err = std::mem::take(&mut self.seen);
        let ran = Ran { shown: self.shown.clone(), code: status.code(), out, err };
        ran.assert_decent(&self.secrets);
        ran
    }

    fn wait(&mut self, within: Duration) -> ExitStatus {
        let (clock, never) = (SystemClock::new(), Shutdown::new());
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) => {}
                Err(error) => panic!("{}: {error}", self.shown),
            }
            assert!(clock.now().0 < within, "{} does not end within {within:?}", self.shown);
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
