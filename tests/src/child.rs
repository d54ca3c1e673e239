//! A process that says lines, each of which a test waits for with a deadline.
//!
//! Owns: the process, which ends with the value, and what it has said. Does not know: what the lines mean.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use vedette_core::{Clock, Shutdown, SystemClock};

/// A process is not silent for longer, however busy the machine is.
const SILENCE: Duration = Duration::from_secs(60);
/// Lines that wait to be read; a process that says more waits as well.
const WAITING: usize = 1024;
/// How long a process whose input has ended may take to end, before it is killed.
const ENDING: Duration = Duration::from_secs(10);

/// See the module.
pub struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
}

impl Child {
    /// Starts it, with its stdout for lines.
    pub fn start(command: &mut Command) -> Self {
        let mut process =
            command.stdout(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut out = BufReader::new(process.stdout.take().expect("it should be piped"));
        let (to, lines) = sync_channel(WAITING);
        std::thread::spawn(move || {
            loop {
                let mut line = String::new();
                // A kill may cut the last line.
                if out.read_line(&mut line).is_err() || !line.ends_with('\n') {
                    return;
                }
                if to.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        Self { process, lines }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its stdin, where that is piped and was not taken yet.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.process.stdin.take()
    }

    /// What it says next; none once it has ended, or will never say more.
    ///
    /// # Panics
    /// Where it says nothing for a minute.
    pub fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(SILENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing was said for {SILENCE:?}"),
        }
    }

    /// kill -9, what it still had said, and how it ended.
    pub fn kill(mut self, mut take: impl FnMut(&str)) -> ExitStatus {
        self.process.kill().expect("it should be ours");
        while let Some(line) = self.line() {
            take(&line);
        }
        self.process.wait().expect("it should be ours")
    }

    /// What it still says, until it has ended by itself.
    pub fn end(mut self, mut take: impl FnMut(&str)) -> ExitStatus {
        while let Some(line) = self.line() {
            take(&line);
        }
        self.process.wait().expect("it should be ours")
    }

    /// Gives a process that ends with its input, which has ended, the time to tidy up.
    pub fn let_end(&mut self) {
        let (clock, patience) = (SystemClock::new(), Shutdown::new());
        while matches!(self.process.try_wait(), Ok(None)) && clock.now().0 < ENDING {
            clock.pause(Duration::from_millis(10), &patience);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
