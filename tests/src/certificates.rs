//! Certificate authorities of tests, and servers of `openssl` that speak TLS as no proper one does.
//!
//! Owns: keys and certificates, the server's process, what was said to it. Does not know: who checks them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use vedette_core::{Clock, Shutdown, SystemClock};

use crate::mosquitto::{open_to_all, run};
use crate::ports::{free_port, listens};

/// From and to, as `openssl ca` writes them: in use today.
pub const NOW: (&str, &str) = ("20240101000000Z", "20991231000000Z");
/// Over.
pub const PAST: (&str, &str) = ("20240101000000Z", "20260102000000Z");
/// Not begun.
pub const FUTURE: (&str, &str) = ("20980102000000Z", "20991231000000Z");

const CA: &str = "[ca]\ndefault_ca = here\n[here]\ndatabase = index\nnew_certs_dir = .\nrand_serial = yes\n\
    default_md = sha256\npolicy = any\nunique_subject = no\n[any]\ncommonName = supplied\n";

/// A certificate (PEM) and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Identity {
    /// Both in one file (PEM), beside the certificate.
    pub fn both(&self) -> PathBuf {
        let read = |path: &Path| fs::read_to_string(path).expect("it should be there");
        let file = self.certificate.with_extension("both");
        fs::write(&file, read(&self.certificate) + &read(&self.key)).expect("the folder should be writable");
        file
    }

    /// SHA-256 of the certificate as `openssl` prints it, without the word before it: pairs of digits and colons.
    pub fn fingerprint(&self) -> String {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(&self.certificate);
        let output = command.output().expect("openssl should be installed (apt install openssl)");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim()
            .split_once('=')
            .map(|(_, print)| print.to_owned())
            .expect("a fingerprint should be printed")
    }
}

/// An authority that signs what it is asked to.
pub struct Authority(TempDir);

impl Authority {
    /// With a name that no other one has.
    pub fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder should be there");
        open_to_all(folder.path());
        for (file, text) in [("ca.cnf", CA), ("index", "")] {
            fs::write(folder.path().join(file), text).expect("the folder should be writable");
        }
        let authority = Self(folder);
        authority.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 \
             -subj /CN={name}"
        ));
        open_to_all(&authority.ca());
        authority
    }

    fn openssl(&self, arguments: &str) {
        run(Command::new("openssl").current_dir(self.0.path()).args(arguments.split_whitespace()));
    }

    /// Its own certificate (PEM).
    pub fn ca(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    /// Signs a certificate for a name such as `DNS:localhost`, valid from and to.
    pub fn sign(&self, name: &str, (from, to): (&str, &str)) -> Identity {
        let path = |suffix: &str| self.0.path().join(format!("{}{suffix}", name.replace(':', "-")));
        let file = |suffix: &str| path(suffix).display().to_string();
        let (key, request, certificate, extensions) =
            (file(".key"), file(".csr"), file(".pem"), file(".ext"));
        fs::write(&extensions, format!("subjectAltName={name}\nbasicConstraints=CA:FALSE\n"))
            .expect("the folder should be writable");
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key} -out {request} -subj /CN=test"
        ));
        self.openssl(&format!(
            "ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in {request} -out {certificate} \
             -startdate {from} -enddate {to} -extfile {extensions}"
        ));
        open_to_all(&path(".pem"));
        open_to_all(&path(".key"));
        Identity { certificate: path(".pem"), key: path(".key") }
    }
}

/// `openssl s_server` on 127.0.0.1: takes what it is sent, answers nothing. Killed with the value.
pub struct TlsServer {
    child: Child,
    port: u16,
    heard: Arc<Mutex<String>>,
}

impl TlsServer {
    /// Starts it with further options, such as `-tls1_1`; returns when it listens.
    pub fn start(identity: &Identity, options: &[&str]) -> Self {
        let started = (0..10).find_map(|_| Self::start_at(free_port(), identity, options));
        started.expect("one of ten ports should stay free until openssl has it")
    }

    /// None when it ended at once, as it does when somebody was faster at that port.
    fn start_at(port: u16, identity: &Identity, options: &[&str]) -> Option<Self> {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-cert"]);
        command.arg(&identity.certificate).arg("-key").arg(&identity.key).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl should be installed (apt install openssl)");
        let mut stdout = child.stdout.take().expect("it should be piped");
        let heard = Arc::<Mutex<String>>::default();
        let said = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
                said.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        let clock = SystemClock::new();
        while !listens(child.id(), port) {
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                return None;
            }
            assert!(clock.now().0 < Duration::from_secs(10), "openssl does not listen: {command:?}");
            clock.pause(Duration::from_millis(10), &Shutdown::new());
        }
        Some(Self { child, port, heard })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it printed: handshakes, and what clients said.
    pub fn heard(&self) -> String {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a client that accepts it, with further options, gets a session.
    pub fn accepts(&self, ca: &Path, options: &[&str]) -> bool {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-verify_return_error", "-connect", &format!("127.0.0.1:{}", self.port)]);
        command.arg("-CAfile").arg(ca).args(options).stdin(Stdio::null());
        command.output().is_ok_and(|output| output.status.success())
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
