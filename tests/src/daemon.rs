//! `vedette run` as a child process with files of its own, as systemd would start it.
//!
//! Owns: its folders, and what the kernel says of the process. Does not know: what stands in the configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;
use vedette_core::{Clock, SystemClock};

use crate::binary::{Running, Vedette};

/// The folders of one daemon: they outlive its processes.
pub struct Home(TempDir);

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// Empty folders.
    pub fn new() -> Self {
        let home = Self(tempfile::tempdir().expect("a temporary folder should be there"));
        fs::create_dir_all(home.config()).expect("the folder should be writable");
        home
    }

    /// What `--config` names.
    pub fn config(&self) -> PathBuf {
        self.0.path().join("config")
    }

    /// What `--state` names.
    pub fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// Writes a file of the configuration that only its owner may read.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.config().join(name);
        fs::write(&path, text).expect("the folder should be writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("we should own what we made");
    }
}

/// A running `vedette run`; killed with the value.
pub struct Daemon(Running);

impl Daemon {
    /// Starts it; does not wait for anything.
    pub fn start(home: &Home) -> Self {
        Self::start_with(home, &[])
    }

    /// … with these variables in its environment.
    pub fn start_with(home: &Home, variables: &[(&str, &str)]) -> Self {
        let (config, state) = (home.config().into_os_string(), home.state().into_os_string());
        let mut vedette = Vedette::here(["run".into(), "--config".into(), config, "--state".into(), state]);
        for variable in ["NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG_USEC", "VEDETTE_LOG"] {
            vedette = vedette.without(variable);
        }
        let vedette = variables.iter().fold(vedette, |vedette, (name, value)| vedette.env(name, value));
        Self(vedette.start())
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// Processor time of all its threads so far, and resident memory in bytes; both zero once it has ended.
    pub fn usage(&self) -> (Duration, u64) {
        let read =
            |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.pid())).unwrap_or_default();
        let (stat, status) = (read("stat"), read("status"));
        // Behind the name, which may hold blanks: fields 14 and 15, in ticks of 10 ms as the kernel tells everybody.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        (Duration::from_millis(ticks * 10), kib << 10)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Its command line as everybody on the machine may read it.
    pub fn command_line(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until `done` says yes to what it has logged; fails the test after 60 s.
    pub fn wait_for_log(&self, what: &str, done: impl Fn(&str) -> bool) {
        let (within, yes) = (Duration::from_secs(60), |log: &str| done(log).then_some(()));
        assert!(self.0.look(within, yes).is_some(), "waited for {what}; it logged:\n{}", self.log());
    }

    /// Sends a signal: `TERM`, `HUP`, `KILL`.
    pub fn signal(&self, name: &str) {
        self.0.signal(name);
    }

    /// Waits until it has ended, and for the rest of its log; how it ended and how long that took.
    pub fn wait_end(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let clock = SystemClock::new();
        (self.0.wait(within), clock.now().0)
    }
}
