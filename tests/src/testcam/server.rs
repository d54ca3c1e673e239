//! The RTSP server of the camera: mounts, login, TLS, clients, and the faults of its connections.
//!
//! Owns: gst-rtsp-server. Does not know: command line, clips on disk, how units are paced.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;
use gstreamer_rtsp_server::{gio, gst_rtsp};
use vedette_core::{Clock, Secret};

use super::clip::{Clip, Codec};
use super::command::{Command, LinkFault, PictureFault};
use super::control;
use super::pacer::{Order, Pacer};
use super::playhead::Playhead;
use super::rtp::PacketFaults;
use super::silence::Silence;

/// The role every client plays: without login by default, else after it.
const ROLE: &str = "viewer";
/// How often sessions of clients that vanished are looked for.
const CLEANUP_SECONDS: u32 = 2;

/// Why the camera does not start.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// GStreamer could not be initialised or lacks something.
    #[error("GStreamer: {0}; install gstreamer1.0-plugins-base, -good and -bad and libgstrtspserver-1.0-0")]
    GStreamer(#[from] glib::Error),
    /// The RTSP port is taken.
    #[error("RTSP port 127.0.0.1:{0} cannot be listened on; stop what uses it, or take --port 0")]
    Port(u16),
    /// The control port is taken.
    #[error("control port 127.0.0.1:{port}: {source}; stop what uses it, or take --control 0")]
    Control {
        /// The port.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file with certificate and key cannot be used.
    #[error("TLS file {path}: {text}; it must hold a certificate and its unencrypted key, both PEM")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        text: String,
    },
    /// Two streams of different codecs cannot take turns in one RTP session.
    #[error("stream {path}: the other clip is {other:?} but the first {first:?}; `size` needs one codec")]
    OtherCodec {
        /// The stream.
        path: String,
        /// The codec of the clip that plays first.
        first: Codec,
        /// The codec of the other.
        other: Codec,
    },
    /// The system has no thread left.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// RFC 7616 with MD5, as cameras do.
    Digest,
    /// RFC 7617.
    Basic,
}

/// Who may watch.
#[derive(Clone, Debug)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// The scheme the server offers, and the only one it takes.
    pub auth: Auth,
}

/// One path of the server.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Beginning with `/`.
    pub path: String,
    /// What plays.
    pub clip: Arc<Clip>,
    /// What `size` turns to: same codec, another resolution.
    pub other: Option<Arc<Clip>>,
    /// Whether a wish for RTP over TCP is refused (461).
    pub udp_only: bool,
    /// The encoding that the SDP names, whatever is sent.
    pub announce: Option<String>,
}

/// What a camera is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// RTSP port on loopback; 0 takes a free one.
    pub port: u16,
    /// Control port on loopback; 0 takes a free one.
    pub control: u16,
    /// `None`: everybody may watch.
    pub login: Option<Login>,
    /// A PEM file with certificate and key makes it `rtsps`.
    pub tls: Option<PathBuf>,
    /// What it serves; the first is the main stream.
    pub streams: Vec<Stream>,
}

/// A camera that listens. Clients are served while [`Camera::run`] runs.
#[derive(Debug)]
pub struct Camera {
    /// Where it listens.
    pub rtsp_port: u16,
    /// Where it takes commands.
    pub control_port: u16,
    /// The addresses of its streams, without login.
    pub urls: Vec<String>,
    main: glib::MainLoop,
}

impl Camera {
    /// Starts the server, the pacing threads and the control port.
    pub fn start(settings: Settings, clock: &Arc<dyn Clock>) -> Result<Self, CameraError> {
        gst::init()?;
        let server = rtsp::RTSPServer::new();
        server.set_address("127.0.0.1");
        let auth = auth(&settings)?;
        server.set_auth(auth.as_ref());
        let scheme = if settings.tls.is_some() { "rtsps" } else { "rtsp" };
        let mut state = State::new(server, settings.port, clock);
        let mut paths = Vec::new();
        for stream in settings.streams {
            paths.push(stream.path.clone());
            state.mount(stream)?;
        }
        state.count_clients();
        state.listen()?;
        let rtsp_port = state.port;
        glib::timeout_add_seconds(CLEANUP_SECONDS, {
            let pool = state.server.session_pool();
            move || {
                if let Some(pool) = &pool {
                    pool.cleanup();
                }
                glib::ControlFlow::Continue
            }
        });
        let state = Mutex::new(state);
        let control_port = control::serve(
            settings.control,
            Arc::new(move |command| state.lock().unwrap_or_else(PoisonError::into_inner).obey(command)),
        )
        .map_err(|source| CameraError::Control { port: settings.control, source })?;
        let urls = paths.iter().map(|path| format!("{scheme}://127.0.0.1:{rtsp_port}{path}")).collect();
        Ok(Self { rtsp_port, control_port, urls, main: glib::MainLoop::new(None, false) })
    }

    /// Serves clients for ever, on this thread.
    pub fn run(&self) {
        self.main.run();
    }
}

/// Login and TLS; `None` where neither is asked for.
fn auth(settings: &Settings) -> Result<Option<rtsp::RTSPAuth>, CameraError> {
    if settings.login.is_none() && settings.tls.is_none() {
        return Ok(None);
    }
    let auth = rtsp::RTSPAuth::new();
    let mut token = rtsp::RTSPToken::builder().field("media.factory.role", ROLE).build();
    match &settings.login {
        None => auth.set_default_token(Some(&mut token)),
        Some(Login { user, password, auth: Auth::Basic }) => {
            auth.set_supported_methods(gst_rtsp::RTSPAuthMethod::Basic);
            auth.add_basic(&rtsp::RTSPAuth::make_basic(user, password.reveal()), &token);
        }
        Some(Login { user, password, auth: Auth::Digest }) => {
            auth.set_supported_methods(gst_rtsp::RTSPAuthMethod::Digest);
            auth.add_digest(user, password.reveal(), &token);
        }
    }
    if let Some(path) = &settings.tls {
        let fail = |text: String| CameraError::Tls { path: path.clone(), text };
        let pem = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        let certificate = gio::TlsCertificate::from_pem(&pem).map_err(|e| fail(e.to_string()))?;
        auth.set_tls_certificate(Some(&certificate));
    }
    Ok(Some(auth))
}

/// One mounted stream, as the control thread sees it.
#[derive(Debug)]
struct Mounted {
    codec: Codec,
    has_other: bool,
    orders: Sender<Order>,
    packets: Arc<PacketFaults>,
}

struct State {
    server: rtsp::RTSPServer,
    port: u16,
    listener: Option<glib::SourceId>,
    /// What stands at the port instead of the server.
    silence: Option<Silence>,
    clock: Arc<dyn Clock>,
    streams: Vec<Mounted>,
    sent: Arc<AtomicU64>,
    connects: Arc<AtomicU64>,
    closed: Arc<AtomicU64>,
}

impl State {
    fn new(server: rtsp::RTSPServer, port: u16, clock: &Arc<dyn Clock>) -> Self {
        Self {
            server,
            port,
            listener: None,
            silence: None,
            clock: Arc::clone(clock),
            streams: Vec::new(),
            sent: Arc::default(),
            connects: Arc::default(),
            closed: Arc::default(),
        }
    }

    fn mount(&mut self, stream: Stream) -> Result<(), CameraError> {
        let codec = stream.clip.codec;
        if let Some(other) = stream.other.as_ref().filter(|other| other.codec != codec) {
            return Err(CameraError::OtherCodec { path: stream.path, first: codec, other: other.codec });
        }
        let (orders, inbox) = crossbeam_channel::unbounded();
        let has_other = stream.other.is_some();
        let pacer = Pacer::new(
            Playhead::new(stream.clip, stream.other),
            self.clock.clone(),
            inbox,
            self.sent.clone(),
        );
        std::thread::Builder::new().name(format!("pace{}", stream.path)).spawn(move || pacer.run())?;
        let packets = Arc::new(PacketFaults::new());
        let factory = factory(codec, stream.announce.as_deref(), &orders, &packets);
        if stream.udp_only {
            factory.set_protocols(gst_rtsp::RTSPLowerTrans::UDP);
        }
        let mounts = self.server.mount_points().unwrap_or_default();
        mounts.add_factory(&stream.path, factory);
        self.server.set_mount_points(Some(&mounts));
        self.streams.push(Mounted { codec, has_other, orders, packets });
        Ok(())
    }

    fn count_clients(&self) {
        let (connects, closed) = (self.connects.clone(), self.closed.clone());
        self.server.connect_client_connected(move |_, client| {
            connects.fetch_add(1, Ordering::Relaxed);
            let closed = closed.clone();
            client.connect_closed(move |_| {
                closed.fetch_add(1, Ordering::Relaxed);
            });
        });
    }

    /// Opens the listening socket; the port stays the same from then on.
    fn listen(&mut self) -> Result<(), CameraError> {
        if self.listener.is_none() {
            self.server.set_service(&self.port.to_string());
            self.listener = Some(self.server.attach(None).map_err(|_| CameraError::Port(self.port))?);
            self.port = u16::try_from(self.server.bound_port()).unwrap_or(self.port);
        }
        Ok(())
    }

    /// Closes the listening socket and every connection; what stands at the port then, if anything.
    fn silence(&mut self, make: fn(u16, &dyn Clock) -> std::io::Result<Silence>) -> Result<(), String> {
        self.refuse();
        let silence = make(self.port, &*self.clock).map_err(|error| error.to_string())?;
        self.silence = Some(silence);
        Ok(())
    }

    fn refuse(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.remove();
        }
        self.drop_clients();
    }

    fn drop_clients(&self) {
        self.server.client_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Remove));
    }

    fn obey(&mut self, command: Command) -> Result<String, String> {
        match command {
            Command::Stats => return Ok(self.stats()),
            Command::Picture(fault) => self.order(fault)?,
            Command::Packet(fault) => self.streams.iter().for_each(|s| s.packets.apply(fault)),
            Command::Link(LinkFault::Drop) => self.drop_clients(),
            Command::Link(LinkFault::Refuse(true)) => self.refuse(),
            Command::Link(LinkFault::Mute(true)) => self.silence(Silence::mute)?,
            Command::Link(LinkFault::Unreachable(true)) => self.silence(Silence::unreachable)?,
            Command::Link(
                LinkFault::Refuse(false) | LinkFault::Mute(false) | LinkFault::Unreachable(false),
            ) => {
                self.silence = None;
                self.listen().map_err(|e| e.to_string())?;
            }
        }
        Ok("ok".into())
    }

    fn order(&self, fault: PictureFault) -> Result<(), String> {
        if fault == PictureFault::Size && !self.streams.iter().any(|s| s.has_other) {
            return Err("`size` needs a second clip: start with --other CLIP".into());
        }
        if matches!(fault, PictureFault::BadSps(_)) && self.streams.iter().all(|s| s.codec == Codec::Mjpeg) {
            return Err("MJPEG has no parameter sets".into());
        }
        for stream in self.streams.iter().filter(|s| s.has_other || fault != PictureFault::Size) {
            stream.orders.send(Order::Fault(fault)).map_err(|_| "a pacing thread has ended".to_owned())?;
        }
        Ok(())
    }

    fn stats(&self) -> String {
        let (connects, closed) = (self.connects.load(Ordering::Relaxed), self.closed.load(Ordering::Relaxed));
        serde_json::json!({
            "clients": connects.saturating_sub(closed),
            "connects": connects,
            "units": self.sent.load(Ordering::Relaxed),
        })
        .to_string()
    }
}

/// One medium for all clients of a path: `appsrc ! payloader`, its units ordered from the pacer.
fn factory(
    codec: Codec,
    announce: Option<&str>,
    orders: &Sender<Order>,
    packets: &Arc<PacketFaults>,
) -> rtsp::RTSPMediaFactory {
    let factory = rtsp::RTSPMediaFactory::new();
    // The server describes the stream by the caps of the element that it finds by this name.
    let payloader = announce.map_or_else(
        || codec.payloader().to_owned(),
        |encoding| {
            let payloader = codec.payloader().replace("name=pay0 ", "");
            let caps = format!("application/x-rtp,encoding-name={encoding}");
            format!("{payloader} ! capssetter name=pay0 caps={caps}")
        },
    );
    // `leaky-type=upstream`: a client that describes and never plays must not fill the memory.
    factory.set_launch(&format!(
        "( appsrc name=units is-live=true format=time max-bytes=0 max-time=5000000000 leaky-type=upstream \
         ! {payloader} )"
    ));
    factory.set_shared(true);
    factory.add_role_from_structure(
        &gst::Structure::builder(ROLE)
            .field("media.factory.access", true)
            .field("media.factory.construct", true)
            .build(),
    );
    let (orders, packets) = (orders.clone(), packets.clone());
    factory.connect_media_configure(move |_, media| {
        let Ok(bin) = media.element().downcast::<gst::Bin>() else { return };
        let source = bin.by_name("units").and_then(|e| e.downcast::<gst_app::AppSrc>().ok());
        let pad = bin.by_name("pay0").and_then(|e| e.static_pad("src"));
        let (Some(source), Some(pad)) = (source, pad) else { return };
        packets.clone().attach(&pad);
        let reports = packets.clone();
        // Its session is there once it is prepared.
        media.connect_prepared(move |media| {
            if let Some(pad) = reports_of(&media.element()) {
                reports.clone().attach_reports(&pad);
            }
        });
        // Fails only when the camera is going down.
        let _ = orders.send(Order::Medium(source));
    });
    factory
}

/// Where the RTCP of a medium leaves its session.
fn reports_of(medium: &gst::Element) -> Option<gst::Pad> {
    let pipeline = medium.parent().and_downcast::<gst::Bin>()?;
    let mut elements = pipeline.iterate_elements().into_iter().flatten();
    let session = elements.find(|e| e.factory().is_some_and(|f| f.name() == "rtpbin"))?;
    session.static_pad("send_rtcp_src_0")
}
