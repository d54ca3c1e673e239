//! The camera as tests and the demo hold it: a child process that is started, commanded, killed and stopped.
//!
//! Owns: the child. Does not know: how the camera works; it speaks its command line, its ready line and its
//! control protocol.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use vedette_core::Secret;

use super::server::Auth;
use crate::binary::{NotBuilt, beside_this};

/// The environment variable in which the password is handed over: not visible in `ps`.
const PASSWORD: &str = "TESTCAM_PASSWORD";
/// How long a command may take to be answered.
const ANSWER: Duration = Duration::from_secs(10);

/// Why a camera could not be started or commanded.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The binary was not found beside this one.
    #[error(transparent)]
    NotBuilt(#[from] NotBuilt),
    /// The child could not be started or spoken to.
    #[error("testcam {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The child ended before it was ready; its reason is on stderr.
    #[error("testcam did not get ready; it said `{0}`")]
    NotReady(String),
    /// The camera refused a command.
    #[error("testcam answered `{command}` with {answer}")]
    Refused {
        /// The command.
        command: String,
        /// The answer, beginning with `error:`.
        answer: String,
    },
}

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The clip of `/main`.
    pub clip: PathBuf,
    /// The clip of `/sub`.
    pub sub: Option<PathBuf>,
    /// The clip that `size` turns `/main` to.
    pub other: Option<PathBuf>,
    /// Scheme, user and password.
    pub login: Option<(Auth, String, Secret)>,
    /// A PEM file with certificate and key.
    pub tls: Option<PathBuf>,
    /// Whether RTP over TCP is refused.
    pub udp_only: bool,
    /// The encoding that the SDP names, whatever is sent.
    pub announce: Option<String>,
    /// Where the clip is found instead of at `/main`.
    pub path: Option<String>,
    /// RTSP port; 0 takes a free one.
    pub port: u16,
    /// Copies of the main stream: `/main`, `/main-2`, …; 0 counts as 1.
    pub count: usize,
    /// The binary; `None` looks beside this executable and in the folders above it.
    pub binary: Option<PathBuf>,
}

impl Options {
    /// A camera without login that plays `clip` at `/main`.
    pub fn new(clip: impl Into<PathBuf>) -> Self {
        Self { clip: clip.into(), ..Self::default() }
    }

    /// The command line.
    fn arguments(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["--clip".into(), self.clip.clone().into()];
        let mut add = |flag: &str, value: OsString| line.extend([flag.into(), value]);
        add("--port", self.port.to_string().into());
        add("--count", self.count.max(1).to_string().into());
        if self.udp_only {
            line.push("--udp-only".into());
        }
        let mut add = |flag: &str, value: OsString| line.extend([flag.into(), value]);
        if let Some(announce) = &self.announce {
            add("--announce", announce.into());
        }
        if let Some(path) = &self.path {
            add("--path", path.into());
        }
        if let Some(sub) = &self.sub {
            add("--sub", sub.into());
        }
        if let Some(other) = &self.other {
            add("--other", other.into());
        }
        if let Some(tls) = &self.tls {
            add("--tls", tls.into());
        }
        if let Some((auth, user, _)) = &self.login {
            add("--auth", if *auth == Auth::Basic { "basic" } else { "digest" }.into());
            add("--user", user.into());
            add("--password-env", PASSWORD.into());
        }
        line
    }
}

/// What the child prints when it listens.
#[derive(Debug, serde::Deserialize)]
struct Ready {
    rtsp_port: u16,
    control_port: u16,
    urls: Vec<String>,
}

/// A running camera; dropping it kills the child.
#[derive(Debug)]
pub struct TestCam {
    options: Options,
    child: Child,
    ready: Ready,
}

impl TestCam {
    /// Starts a camera and waits until it listens.
    pub fn start(options: Options) -> Result<Self, HarnessError> {
        let binary = options.binary.clone().map_or_else(|| beside_this("testcam"), Ok)?;
        let (child, ready) = launch(&binary, &options)?;
        Ok(Self { options, child, ready })
    }

    /// The main stream, without login: `rtsp://127.0.0.1:PORT/main`.
    pub fn url(&self) -> &str {
        self.ready.urls.first().map_or("", String::as_str)
    }

    /// All streams, main first, without login.
    pub fn urls(&self) -> &[String] {
        &self.ready.urls
    }

    /// The stream of `--sub`, if there is one.
    pub fn sub_url(&self) -> Option<&str> {
        self.ready.urls.iter().map(String::as_str).find(|url| url.ends_with("/sub"))
    }

    /// The RTSP port.
    pub fn port(&self) -> u16 {
        self.ready.rtsp_port
    }

    /// The process id of the child.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one line of the control protocol ([`super::Command`]) and returns the answer.
    pub fn command(&self, line: &str) -> Result<String, HarnessError> {
        let io = |source| HarnessError::Io { what: format!("command `{line}`"), source };
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.ready.control_port)).map_err(io)?;
        stream.set_read_timeout(Some(ANSWER)).map_err(io)?;
        (&stream).write_all(format!("{line}\n").as_bytes()).map_err(io)?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).map_err(io)?;
        let answer = answer.trim_end().to_owned();
        if answer.is_empty() || answer.starts_with("error") {
            return Err(HarnessError::Refused { command: line.to_owned(), answer });
        }
        Ok(answer)
    }

    /// `stats` as JSON: `clients`, `connects`, `units`.
    pub fn stats(&self) -> Result<serde_json::Value, HarnessError> {
        let answer = self.command("stats")?;
        serde_json::from_str(&answer).map_err(|_| HarnessError::Refused { command: "stats".into(), answer })
    }

    /// Kills the process (SIGKILL): the kernel closes its connections.
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        let io = |source| HarnessError::Io { what: "kill".into(), source };
        self.child.kill().map_err(io)?;
        self.child.wait().map_err(io)?;
        Ok(())
    }

    /// Kills the process and starts another one on the same port.
    pub fn restart(&mut self) -> Result<(), HarnessError> {
        self.kill()?;
        self.start_again()
    }

    /// Another camera at the same port, as after somebody has changed its settings.
    pub fn replace(&mut self, options: Options) -> Result<(), HarnessError> {
        self.kill()?;
        self.options = options;
        self.start_again()
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Starts another process on the port of a killed one.
    pub fn start_again(&mut self) -> Result<(), HarnessError> {
        self.options.port = self.ready.rtsp_port;
        let binary = self.options.binary.clone().map_or_else(|| beside_this("testcam"), Ok)?;
        (self.child, self.ready) = launch(&binary, &self.options)?;
        Ok(())
    }

    /// Freezes the process (SIGSTOP): connections stay open, nobody answers.
    pub fn stop_signal(&self) -> Result<(), HarnessError> {
        self.signal("STOP")
    }

    /// Thaws a frozen process (SIGCONT).
    pub fn continue_signal(&self) -> Result<(), HarnessError> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<(), HarnessError> {
        let io = |source| HarnessError::Io { what: format!("kill -{name}"), source };
        let status = std::process::Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status()
            .map_err(io)?;
        if status.success() { Ok(()) } else { Err(io(std::io::Error::other(status.to_string()))) }
    }
}

impl Drop for TestCam {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.kill();
    }
}

/// Starts the child and reads its ready line. It keeps its stdin open: the camera ends when that pipe closes,
/// hence with this process, however that ends.
fn launch(binary: &Path, options: &Options) -> Result<(Child, Ready), HarnessError> {
    let io = |source| HarnessError::Io { what: binary.display().to_string(), source };
    let mut command = std::process::Command::new(binary);
    command.args(options.arguments()).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some((_, _, password)) = &options.login {
        command.env(PASSWORD, password.reveal());
    }
    let mut child = command.spawn().map_err(io)?;
    let mut line = String::new();
    let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
    let ready = match read {
        Some(Ok(_)) => {
            serde_json::from_str(&line).map_err(|_| HarnessError::NotReady(line.trim_end().into()))
        }
        Some(Err(source)) => Err(io(source)),
        None => Err(HarnessError::NotReady(String::new())),
    };
    match ready {
        Ok(ready) => Ok((child, ready)),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}
