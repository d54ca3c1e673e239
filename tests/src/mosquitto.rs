//! A real Mosquitto (Debian's) on free ports of loopback, with password, TLS, access list and persistence as asked.
//!
//! Owns: its process, files and certificates. Does not know: who connects.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use vedette_core::{Clock, Shutdown, SystemClock};

use crate::certificates::Identity;
use crate::ports::{free_port, is_read_out, listens};

/// What the broker asks and offers. Default: everybody may do everything, nothing survives a restart.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The one user and password that it accepts.
    pub login: Option<(&'static str, &'static str)>,
    /// A second, encrypted listener with a certificate for 127.0.0.1 and localhost of its own CA.
    pub tls: bool,
    /// What the encrypted listener shows instead.
    pub identity: Option<Identity>,
    /// Clients of the encrypted listener must show a certificate that this CA (PEM) has signed.
    pub client_ca: Option<PathBuf>,
    /// Mosquitto's access list; what is not listed is refused.
    pub acl: Option<String>,
    /// Sessions, queues and retained messages survive a kill.
    pub persistent: bool,
    /// A further listener for web sockets, encrypted where `tls` is.
    pub web: bool,
}

/// Killed with the value.
pub struct Mosquitto {
    options: Options,
    folder: TempDir,
    port: u16,
    tls_port: u16,
    web_port: u16,
    child: Option<Child>,
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Mosquitto {
    /// Starts it; returns when it accepts connections.
    pub fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder should be there");
        // Started by root, Mosquitto becomes its own user and must still reach its files.
        open_to_all(folder.path());
        let mut broker = Self { options, folder, port: 0, tls_port: 0, web_port: 0, child: None };
        broker.prepare();
        for _ in 0..10 {
            (broker.port, broker.tls_port, broker.web_port) = (free_port(), free_port(), free_port());
            if broker.launch() {
                return broker;
            }
        }
        panic!("mosquitto does not start: {}", broker.log());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn prepare(&self) {
        if let Some((user, password)) = self.options.login {
            run(Command::new("mosquitto_passwd")
                .args(["-b", "-c"])
                .arg(self.path("passwords"))
                .args([user, password]));
            open_to_all(&self.path("passwords"));
        }
        if self.options.tls {
            make_certificates(self.folder.path());
        }
        if let Some(acl) = &self.options.acl {
            self.write_acl(acl);
        }
    }

    fn write_acl(&self, acl: &str) {
        fs::write(self.path("acl"), acl).expect("the folder should be writable");
        open_to_all(&self.path("acl"));
    }

    fn configuration(&self) -> String {
        let folder = self.folder.path().display();
        // Unlimited, since the default of 1,000 drops messages of a burst silently. But 2.0.11 takes the unlimited 0
        // for a quota of none when it refuses a publish, and cuts the connection instead of answering 0x87.
        let queued = if self.options.acl.is_some() { 100_000 } else { 0 };
        // What a subscriber that is there gets is written to it before the publisher's PUBACK, as long as fewer are under
        // way than this: so a kill takes nothing that was acknowledged.
        let port = self.port;
        let mut text = format!(
            "max_queued_messages {queued}\nmax_inflight_messages 1000\nlog_dest file {folder}/log\nlistener {port} 127.0.0.1\n"
        );
        match self.options.login {
            Some(_) => text += &format!("allow_anonymous false\npassword_file {folder}/passwords\n"),
            None => text += "allow_anonymous true\n",
        }
        if self.options.acl.is_some() {
            text += &format!("acl_file {folder}/acl\n");
        }
        if self.options.persistent {
            text += &format!(
                "persistence true\npersistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\n"
            );
        }
        if self.options.tls {
            let (certificate, key) = match &self.options.identity {
                Some(of) => (of.certificate.clone(), of.key.clone()),
                None => (self.path("server.pem"), self.path("server.key")),
            };
            let (port, certificate, key) = (self.tls_port, certificate.display(), key.display());
            text += &format!("listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n");
            if let Some(ca) = &self.options.client_ca {
                text += &format!("cafile {}\nrequire_certificate true\n", ca.display());
            }
        }
        if self.options.web {
            text += &format!("listener {} 127.0.0.1\nprotocol websockets\n", self.web_port);
            if self.options.tls {
                text += &format!("certfile {folder}/server.pem\nkeyfile {folder}/server.key\n");
            }
        }
        text
    }

    /// False when it ended at once or does not listen, as where somebody was faster at one of its ports.
    fn launch(&mut self) -> bool {
        let file = self.path("mosquitto.conf");
        fs::write(&file, self.configuration()).expect("the folder should be writable");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("mosquitto should be installed (apt install mosquitto)");
        let clock = SystemClock::new();
        loop {
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                return false;
            }
            if self.ports().all(|port| listens(child.id(), port)) {
                self.child = Some(child);
                return true;
            }
            if clock.now().0 >= Duration::from_secs(10) {
                // It goes on without the listener for web sockets where somebody has that port.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
            clock.pause(Duration::from_millis(10), &Shutdown::new());
        }
    }

    /// Those that it listens at.
    fn ports(&self) -> impl Iterator<Item = u16> {
        let Options { tls, web, .. } = self.options;
        let tls = tls.then_some(self.tls_port);
        [self.port].into_iter().chain(tls).chain(web.then_some(self.web_port))
    }

    /// What it wrote so far: who connected, and how.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Its plain listener on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its encrypted listener on 127.0.0.1.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Its listener for web sockets on 127.0.0.1.
    pub fn web_port(&self) -> u16 {
        self.web_port
    }

    /// The certificate of its CA (PEM).
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same ports.
    pub fn restart(&mut self) {
        self.kill();
        let clock = SystemClock::new();
        // A connection of somebody else may have one of them for a moment.
        while !self.launch() {
            assert!(
                clock.now().0 < Duration::from_secs(10),
                "mosquitto does not start again: {}",
                self.log()
            );
            clock.pause(Duration::from_millis(50), &Shutdown::new());
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().map(|c| c.id().to_string()).expect("it should run");
        run(Command::new("kill").args([name, &pid]));
    }

    /// It keeps its sockets and does nothing, until it is killed.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Whether its clients have read all that it has written to them; that stays so where it is frozen.
    pub fn is_read_out(&self) -> bool {
        is_read_out(self.port)
    }

    /// Another access list, at once.
    pub fn change_acl(&self, acl: &str) {
        self.write_acl(acl);
        self.signal("-HUP");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("we should own what we made");
}

/// Makes `ca.pem`, and `server.pem` with `server.key` signed by it for 127.0.0.1 and localhost.
pub fn make_certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        run(command.current_dir(folder).args(arguments.split_whitespace()));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    let extensions = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n";
    fs::write(folder.join("extensions"), extensions).expect("the folder should be writable");
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem",
    );
    for file in ["ca.pem", "server.pem", "server.key"] {
        open_to_all(&folder.join(file));
    }
}
