//! The broker inside the daemon, for one box without another: rumqttd as one MQTT 3.1.1 listener on 127.0.0.1.
//!
//! Owns: its threads and their end. Does not know: who publishes and subscribes. Only 3.1.1: rumqttd has listeners
//! of either version, its 5 one hangs a 3.1.1 client, and a 5 publish with properties panics on its way to a 3.1.1
//! subscriber. Nothing that it holds survives a restart; the daemon's worker tells retained values again.
//!
//! rumqttd's own `Broker::start` can neither be stopped nor say that a port is taken. So its two parts are run here:
//! the server, on a runtime of our own thread (dropping that runtime closes the listener and all connections), and
//! the router, a thread of rumqttd's own. The router holds a sender to itself and therefore never ends: after a stop
//! it sleeps, with what it retained, until the process ends. So keep one `EmbeddedBroker` over a reload.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rumqttd::protocol::v4::V4;
use rumqttd::{ConnectionSettings, LinkType, Router, RouterConfig, Server, ServerSettings};
use vedette_core::Shutdown;

/// The port of MQTT.
pub const PORT: u16 = 1883;

/// Before a broker that failed is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Another program listens there.
    #[error(
        "the embedded broker cannot use port {0} of 127.0.0.1, another program has it (see `ss -ltnp`): stop that one, \
         or write its URL, mqtt://127.0.0.1:{0}, in the place of `embedded`"
    )]
    PortTaken(u16),
    /// The system refuses the port or a thread.
    #[error("the embedded broker cannot use port {port} of 127.0.0.1: {source}")]
    System {
        /// Which one.
        port: u16,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The broker at work.
pub struct EmbeddedBroker {
    port: u16,
    stop: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Listens on 127.0.0.1:`port` (0 picks a free one) when this returns.
    ///
    /// # Errors
    /// The port is taken, or the system refuses it.
    pub fn start(port: u16) -> Result<Self, EmbeddedError> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => EmbeddedError::PortTaken(port),
            _ => EmbeddedError::System { port, source },
        };
        // rumqttd binds by itself and tells nobody: try the port first, and learn which one is free.
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
        let port = probe.local_addr().map_err(failed)?.port();
        drop(probe);
        let stop = Shutdown::new();
        let (ready, started) = mpsc::channel();
        let stopped = stop.clone();
        let serve = move || supervise(port, &stopped, &ready);
        let thread =
            std::thread::Builder::new().name("mqtt-broker".to_owned()).spawn(serve).map_err(failed)?;
        let broker = Self { port, stop, thread: Some(thread) };
        match started.recv_timeout(Duration::from_secs(5)) {
            Ok(Ok(())) => Ok(broker),
            Ok(Err(source)) => Err(failed(source)),
            Err(_) => Err(EmbeddedError::System { port, source: std::io::ErrorKind::TimedOut.into() }),
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
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

/// Runs the broker until asked to stop, and again when it ends by itself.
fn supervise(port: u16, stop: &Shutdown, ready: &mpsc::Sender<std::io::Result<()>>) {
    while !stop.is_requested() {
        let served = std::panic::catch_unwind(|| serve(port, stop, ready));
        if stop.is_requested() {
            return;
        }
        let why = match served {
            Ok(Ok(())) => "it ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_owned(),
        };
        // Heard only while `start` waits: the first attempt failed.
        if ready.send(Err(std::io::Error::other(why.clone()))).is_ok() {
            return;
        }
        log::error!("embedded broker, port {port}: {why}; starting it again");
        stop.wait_timeout(PAUSE);
    }
}

fn serve(
    port: u16,
    stop: &Shutdown,
    ready: &mpsc::Sender<std::io::Result<()>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    stop.on_request(move || drop(stopping));
    let router = Router::new(0, router()).spawn();
    // rumqttd's server does not notice when its router has panicked.
    let to_router = router.clone();
    let mut server = Server::new(settings(port), router, V4);
    let ended = runtime.block_on(async {
        let listening = async {
            let address = (Ipv4Addr::LOCALHOST, port);
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let _ = ready.send(Ok(()));
            while !to_router.is_disconnected() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            ended = server.start(LinkType::Remote) => ended.map_err(Into::into),
            () = listening => Err("its router has ended".into()),
            _ = stopped => Ok(()),
        }
    });
    runtime.shutdown_timeout(PAUSE);
    ended
}

fn router() -> RouterConfig {
    RouterConfig {
        max_connections: 1000,
        max_outgoing_packet_count: 200,
        max_segment_size: 10 << 20,
        max_segment_count: 4,
        ..RouterConfig::default()
    }
}

fn settings(port: u16) -> ServerSettings {
    ServerSettings {
        name: "embedded".to_owned(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5000,
            max_payload_size: 1 << 20,
            max_inflight_count: 200,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    }
}
