//! The child that plays the demo's camera: `testcam`, built beside this program and not shipped with it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use vedette_core::Secret;

use crate::exit::Failure;
use crate::random::system_seed;

const USER: &str = "demo";
const PASSWORD_VARIABLE: &str = "TESTCAM_PASSWORD";

/// A running `testcam`; it ends when this is dropped, and also when this program dies (its standard input closes).
pub(super) struct DemoCamera {
    child: Child,
    url: String,
    password: Secret,
}

#[derive(serde::Deserialize)]
struct Ready {
    url: String,
}

fn program() -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe().map(|exe| exe.with_file_name("testcam"));
    beside.ok().filter(|p| p.is_file()).ok_or_else(|| {
        Failure::unavailable(
            "`testcam`, which plays the demo's camera, is not beside this program: it comes with the source, not with \
             the package; run `./dev demo` there, or give your own camera with --camera URL",
        )
    })
}

fn clip() -> Result<PathBuf, Failure> {
    let cache = || {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = home.or_else(|| std::env::var_os("HOME").map(|h| Path::new(&h).join(".cache")))?;
        Some(home.join("vedette/clips/demo-1080p25.mp4"))
    };
    let path = std::env::var_os("VEDETTE_DEMO_CLIP").map(PathBuf::from).or_else(cache);
    path.filter(|p| p.is_file()).ok_or_else(|| {
        Failure::unavailable("the demo's clip has not been made yet: run `./dev demo`, which makes it once")
    })
}

/// A password made for this run: the camera is reachable from this machine only, but it is a real login.
fn password() -> Result<Secret, Failure> {
    let seed = system_seed().map_err(Failure::failed)?;
    Ok(Secret::new(seed.iter().take(8).map(|b| format!("{b:02x}")).collect::<String>()))
}

/// Reads what the child remarks, so that it never waits for a reader. Without the thread it would only go on until the
/// pipe is full, which takes more remarks than it has.
fn drain(child: &mut Child) {
    if let Some(mut remarks) = child.stderr.take() {
        let read = move || std::io::copy(&mut remarks, &mut std::io::sink());
        let _ = std::thread::Builder::new().name("testcam-remarks".to_owned()).spawn(read);
    }
}

impl DemoCamera {
    /// Starts it and waits for its address.
    pub(super) fn start() -> Result<Self, Failure> {
        let (program, clip, password) = (program()?, clip()?, password()?);
        let mut child = Command::new(&program)
            .arg("--clip")
            .arg(clip)
            .args(["--user", USER, "--password-env", PASSWORD_VARIABLE, "--auth", "digest"])
            .env(PASSWORD_VARIABLE, password.reveal())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Failure::failed(format!("{}: {e}", program.display())))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            // Ends with the line, or with the child.
            let _ = BufReader::new(out).read_line(&mut line);
        }
        match serde_json::from_str::<Ready>(&line) {
            Ok(ready) => {
                drain(&mut child);
                Ok(Self { child, url: ready.url, password })
            }
            Err(_) => {
                let mut said = String::new();
                let _ = child.kill();
                if let Some(mut err) = child.stderr.take() {
                    let _ = err.read_to_string(&mut said);
                }
                let _ = child.wait();
                Err(Failure::failed(format!("the demo's camera did not start: {}", said.trim())))
            }
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn user(&self) -> &'static str {
        USER
    }

    pub(super) fn password(&self) -> &Secret {
        &self.password
    }
}

impl Drop for DemoCamera {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
