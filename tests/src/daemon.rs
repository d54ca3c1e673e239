//! `vedette run` as a child process with files of its own, as systemd would start it.
//!
//! Owns: the process, its folders and what it logs. Does not know: what stands in the configuration.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use vedette_core::{Clock, Shutdown, SystemClock};

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
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Daemon {
    /// Starts it; does not wait for anything.
    pub fn start(home: &Home) -> Self {
        Self::start_with(home, &[])
    }

    /// … with these variables in its environment.
    pub fn start_with(home: &Home, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(home.config()).arg("--state").arg(home.state());
        for variable in ["NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG_USEC", "VEDETTE_LOG"] {
            command.env_remove(variable);
        }
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stderr = child.stderr.take().expect("stderr should be a pipe");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = lines.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, reader: Some(reader) }
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Processor time of all its threads so far, and resident memory in bytes; both zero once it has ended.
    pub fn usage(&self) -> (Duration, u64) {
        let read =
            |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap_or_default();
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
        self.child.id()
    }

    /// Its command line as everybody on the machine may read it.
    pub fn command_line(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.child.id())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until `done` says yes to what it has logged; fails the test after 60 s.
    pub fn wait_for_log(&self, what: &str, done: impl Fn(&str) -> bool) {
        let (clock, patience) = (SystemClock::new(), Shutdown::new());
        while !done(&self.log()) {
            let log = self.log();
            assert!(clock.now().0 < Duration::from_secs(60), "waited 60 s for {what}; it logged:\n{log}");
            clock.pause(Duration::from_millis(20), &patience);
        }
    }

    /// Sends a signal: `TERM`, `HUP`, `KILL`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()), "kill -{name}");
    }

    /// Waits until it has ended, and for the rest of its log; how it ended and how long that took.
    pub fn wait_end(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let (clock, patience) = (SystemClock::new(), Shutdown::new());
        loop {
            if let Some(status) = self.child.try_wait().expect("a child should be known") {
                let took = clock.now().0;
                if let Some(reader) = self.reader.take() {
                    let _ = reader.join();
                }
                return (status, took);
            }
            let log = self.log();
            assert!(clock.now().0 < within, "still running after {within:?}; it logged:\n{log}");
            clock.pause(Duration::from_millis(10), &patience);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Integration tests run from `target/debug/deps`, the program lies in `target/debug`.
fn binary() -> PathBuf {
    let this = std::env::current_exe().expect("this executable should have a path");
    let found = this.ancestors().skip(1).take(2).map(|f: &Path| f.join("vedette")).find(|p| p.is_file());
    found.unwrap_or_else(|| {
        panic!("vedette is not beside {}: build it with `cargo build -p vedette`", this.display())
    })
}
