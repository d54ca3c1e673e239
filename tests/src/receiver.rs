//! The other side of a webhook: Python's own HTTPS server (`receiver.py`), which answers as it is told.
//!
//! Owns: the process, its certificate, what was posted to it. Does not know: what the daemon makes of its answers.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::mosquitto::make_certificates;

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Said {
    lines: Mutex<Vec<Value>>,
    more: Condvar,
}

/// A POST as it came.
#[derive(Clone, Debug)]
pub struct Post(Value);

impl Post {
    /// A header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0["headers"][name].as_str()
    }

    /// The path with its query.
    pub fn path(&self) -> &str {
        self.0["path"].as_str().unwrap_or_default()
    }

    /// What it was answered.
    pub fn answered(&self) -> u64 {
        self.0["answered"].as_u64().unwrap_or_default()
    }

    /// From which port it came: one a connection.
    pub fn port(&self) -> u64 {
        self.0["port"].as_u64().unwrap_or_default()
    }

    /// The bytes.
    pub fn body(&self) -> &str {
        self.0["body"].as_str().unwrap_or_default()
    }

    /// A member of the event.
    pub fn event(&self, key: &str) -> Value {
        serde_json::from_str::<Value>(self.body()).map(|event| event[key].clone()).unwrap_or_default()
    }
}

/// A server on 127.0.0.1.
pub struct Receiver {
    folder: TempDir,
    port: u16,
    child: Option<(Child, ChildStdin)>,
    said: Arc<Said>,
}

impl Receiver {
    /// Starts it, with a certificate of a CA of its own; returns when it listens.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder should be there");
        make_certificates(folder.path());
        fs::write(folder.path().join("receiver.py"), include_str!("receiver.py"))
            .expect("the folder should be writable");
        let mut receiver = Self { folder, port: 0, child: None, said: Arc::default() };
        receiver.launch();
        receiver
    }

    fn launch(&mut self) {
        let mut command = Command::new("python3");
        command.current_dir(self.folder.path()).args(["receiver.py", "server.pem", "server.key"]);
        command.arg(self.port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 should be installed (apt install python3)");
        let stdin = child.stdin.take().expect("it should be piped");
        let stdout = child.stdout.take().expect("it should be piped");
        self.child = Some((child, stdin));
        let said = Arc::clone(&self.said);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_default();
                said.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                said.more.notify_all();
            }
        });
        let listening = |lines: &[Value]| lines.iter().filter(|line| !line["listening"].is_null()).count();
        let before = listening(&self.said.lines.lock().unwrap_or_else(PoisonError::into_inner));
        let lines = self.wait("it to listen", |lines| listening(lines) > before);
        let port = lines.iter().rev().find_map(|line| line["listening"].as_u64()).unwrap_or_default();
        self.port = u16::try_from(port).expect("it should be a port");
    }

    fn wait(&self, what: &str, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let lines = self.said.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, late) = self
            .said
            .more
            .wait_timeout_while(lines, PATIENCE, |lines| !done(lines))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!late.timed_out(), "waited {PATIENCE:?} for {what}: {lines:#?}");
        lines.clone()
    }

    /// Where to post to, on `host`: `localhost` and `127.0.0.1` stand in its certificate.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.port)
    }

    /// The certificate of its CA (PEM).
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Its next answers: statuses, each with what `Retry-After` says behind it, if anything.
    pub fn answer(&mut self, answers: &[&str]) {
        let told = |lines: &[Value]| lines.iter().filter(|line| !line["told"].is_null()).count();
        let before = told(&self.said.lines.lock().unwrap_or_else(PoisonError::into_inner));
        let (_, stdin) = self.child.as_mut().expect("it should run");
        for answer in answers {
            writeln!(stdin, "{answer}").expect("it should run");
        }
        self.wait("it to understand", |lines| told(lines) == before + answers.len());
    }

    /// What was posted, once there are `count`.
    pub fn posts(&self, count: usize) -> Vec<Post> {
        let posts = |lines: &[Value]| -> Vec<Post> {
            lines.iter().filter(|line| !line["path"].is_null()).cloned().map(Post).collect()
        };
        posts(&self.wait(&format!("{count} posts"), |lines| posts(lines).len() >= count))
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        if let Some((mut child, _)) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port.
    pub fn restart(&mut self) {
        self.launch();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.kill();
    }
}
