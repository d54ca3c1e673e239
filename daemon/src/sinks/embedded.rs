//! The broker inside the daemon, for one box without another: rumqttd as one MQTT 3.1.1 listener, on 127.0.0.1 unless
//! the configuration gives another address with a login.
//!
//! Owns: its threads, their end and their next start. Does not know: who publishes and subscribes. Only 3.1.1: rumqttd
//! has listeners of either version, its 5 one hangs a 3.1.1 client, and a 5 publish with properties panics on its way to
//! a 3.1.1 subscriber. It keeps everything in memory: its PUBACK means handed over, not stored, and nothing that it holds
//! survives its end; the daemon's worker connects again and tells retained values first.
//!
//! rumqttd's own `Broker::start` can neither be stopped nor say that a port is taken. So its two parts are run here:
//! the server, on a runtime of our own thread (dropping that runtime closes the listener and all connections), and
//! the router, a thread of rumqttd's own. The router holds a sender to itself and therefore never ends: after a stop
//! it sleeps, with what it retained, until the process ends. So keep one `EmbeddedBroker` over a reload.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rumqttd::protocol::v4::V4;
use rumqttd::{ConnectionSettings, LinkType, Router, RouterConfig, Server, ServerSettings};
use vedette_core::{Clock, Secret, Shutdown, SystemClock};

use super::backoff::Backoff;

/// The port of MQTT.
pub const PORT: u16 = 1883;

/// Clients at a time, the daemon's own included. One more is hung up on.
pub const MAX_CLIENTS: usize = 200;

/// How often the router is looked at; also how long connections get to close.
const PAUSE: Duration = Duration::from_secs(1);

/// A broker that ran so long was a good one: its next end is a new story.
const GOOD: Duration = Duration::from_secs(60);

/// Why the broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Another program listens there.
    #[error(
        "the embedded broker cannot use {0}, another program has that port (see `ss -ltnp`): stop that one, or write its \
         URL, such as mqtt://127.0.0.1:{port}, in the place of `embedded`", port = .0.port()
    )]
    PortTaken(SocketAddr),
    /// The system refuses the address or a thread.
    #[error("the embedded broker cannot use {listen}: {source}")]
    System {
        /// Which one.
        listen: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What the broker is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The user and password that every client must give; none: everybody who reaches it may do everything.
    pub login: Option<(String, Secret)>,
}

impl EmbeddedConfig {
    /// On 127.0.0.1, for everybody on this box.
    pub fn loopback(port: u16) -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), login: None }
    }

    /// Where it is reached from this box.
    pub fn reached(&self) -> SocketAddr {
        let ip = match self.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.listen.port())
    }
}

/// Runs a broker until the latch asks it to stop or it ends by itself; calls back once it listens.
pub type Serve = dyn Fn(&EmbeddedConfig, &Shutdown, &dyn Fn()) -> Result<(), String> + Send + Sync;

/// The broker at work.
pub struct EmbeddedBroker {
    wanted: EmbeddedConfig,
    config: EmbeddedConfig,
    ends: Arc<AtomicU64>,
    /// How many of them [`EmbeddedBroker::news_of_ends`] has told.
    told: AtomicU64,
    stop: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Listens when this returns.
    ///
    /// # Errors
    /// The port is taken, or the system refuses the address.
    pub fn start(config: EmbeddedConfig) -> Result<Self, EmbeddedError> {
        Self::supervise(config, Arc::new(serve))
    }

    /// As [`EmbeddedBroker::start`], with what `serve` makes of it: started again, after a growing pause, whenever it
    /// returns or panics unasked.
    ///
    /// # Errors
    /// As [`EmbeddedBroker::start`].
    pub fn supervise(wanted: EmbeddedConfig, serve: Arc<Serve>) -> Result<Self, EmbeddedError> {
        let listen = wanted.listen;
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => EmbeddedError::PortTaken(listen),
            _ => EmbeddedError::System { listen, source },
        };
        // rumqttd binds by itself and tells nobody: try the port first, and learn which one is free.
        let probe = TcpListener::bind(listen).map_err(failed)?;
        let config = EmbeddedConfig { listen: probe.local_addr().map_err(failed)?, ..wanted.clone() };
        drop(probe);
        let (stop, ends) = (Shutdown::new(), Arc::new(AtomicU64::new(0)));
        let (ready, started) = mpsc::channel();
        let supervisor =
            Supervisor { config: config.clone(), stop: stop.clone(), ends: Arc::clone(&ends), serve };
        let thread = std::thread::Builder::new().name("mqtt-broker".to_owned());
        let thread = thread.spawn(move || supervisor.run(&ready)).map_err(failed)?;
        let broker = Self { wanted, config, ends, told: AtomicU64::new(0), stop, thread: Some(thread) };
        match started.recv_timeout(Duration::from_secs(5)) {
            Ok(Ok(())) => Ok(broker),
            Ok(Err(source)) => Err(failed(std::io::Error::other(source))),
            Err(_) => Err(failed(std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// Where it is reached from this box.
    pub fn address(&self) -> SocketAddr {
        self.config.reached()
    }

    /// The port of [`EmbeddedBroker::address`].
    pub fn port(&self) -> u16 {
        self.config.listen.port()
    }

    /// What it was started with.
    pub fn wanted(&self) -> &EmbeddedConfig {
        &self.wanted
    }

    /// How often it ended unasked since [`EmbeddedBroker::start`].
    pub fn ends(&self) -> u64 {
        self.ends.load(Ordering::Relaxed)
    }

    /// How often it ended unasked since this was asked last, by whomever: a reload keeps the broker, and tells no end a
    /// second time.
    pub fn news_of_ends(&self) -> u64 {
        let ends = self.ends();
        ends.saturating_sub(self.told.swap(ends, Ordering::Relaxed))
    }

    /// Closes all connections and waits for its threads.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.request();
        if let Some(thread) = self.thread.take() {
            // It panics only outside the part that is supervised, and that is logged by the hook.
            let _ = thread.join();
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.end();
    }
}

struct Supervisor {
    config: EmbeddedConfig,
    stop: Shutdown,
    ends: Arc<AtomicU64>,
    serve: Arc<Serve>,
}

impl Supervisor {
    /// Runs the broker until asked to stop, and again when it ends by itself.
    fn run(self, ready: &mpsc::Sender<Result<(), String>>) {
        let (clock, mut backoff) = (SystemClock::new(), Backoff::default());
        while !self.stop.is_requested() {
            let began = clock.now();
            // Nobody listens any more once `start` has returned.
            let listening = || drop(ready.send(Ok(())));
            let served = std::panic::catch_unwind(AssertUnwindSafe(|| {
                (self.serve)(&self.config, &self.stop, &listening)
            }));
            if self.stop.is_requested() {
                return;
            }
            let why = match served {
                Ok(Ok(())) => "it ended".to_owned(),
                Ok(Err(error)) => error,
                Err(_) => "it panicked".to_owned(),
            };
            // Heard only while `start` waits: the first attempt failed.
            if ready.send(Err(why.clone())).is_ok() {
                return;
            }
            self.ends.fetch_add(1, Ordering::Relaxed);
            log::error!("embedded broker, {}: {why}; starting it again", self.config.listen);
            if clock.now().since(began) > GOOD {
                backoff.reset();
            }
            self.stop.wait_timeout(backoff.next());
        }
    }
}

/// Runs rumqttd: see [`Serve`].
///
/// # Errors
/// Why it ended although nobody asked it to.
pub fn serve(config: &EmbeddedConfig, stop: &Shutdown, ready: &dyn Fn()) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    stop.on_request(move || drop(stopping));
    let router = Router::new(0, router()).spawn();
    // rumqttd's server does not notice when its router has panicked.
    let to_router = router.clone();
    let mut server = Server::new(settings(config), router, V4);
    let ended = runtime.block_on(async {
        let listening = async {
            while tokio::net::TcpStream::connect(config.reached()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            ready();
            while !to_router.is_disconnected() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            ended = server.start(LinkType::Remote) => ended.map_err(|error| error.to_string()),
            () = listening => Err("its router has ended".to_owned()),
            _ = stopped => Ok(()),
        }
    });
    runtime.shutdown_timeout(PAUSE);
    ended
}

fn router() -> RouterConfig {
    RouterConfig {
        // It accepts and fails without a pause when no file can be opened any more: far below the 1,024 that a shell
        // gives a process, which cameras and the store need too.
        max_connections: MAX_CLIENTS,
        max_outgoing_packet_count: 200,
        max_segment_size: 10 << 20,
        max_segment_count: 4,
        ..RouterConfig::default()
    }
}

fn settings(config: &EmbeddedConfig) -> ServerSettings {
    let login = config.login.as_ref();
    ServerSettings {
        name: "embedded".to_owned(),
        listen: config.listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5000,
            // More than the largest payload of the dialect `custom`: it would hang up at that event again and again.
            max_payload_size: 2 << 20,
            max_inflight_count: 200,
            auth: login.map(|(user, password)| HashMap::from([(user.clone(), password.reveal().to_owned())])),
            external_auth: None,
            dynamic_filters: false,
        },
    }
}
