//! What the tests of this crate share: the shipped descriptions, a camera on loopback, packets without a network.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;
use rtsp::{gio, glib};
use vedette_core::{CameraId, ClockSource, Moment, Mono, Pts, Secret, SystemClock};

use crate::{Codec, Descriptions, Item, Packet, Receiver, SourceConfig, StreamInfo, Transport, Trust};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| crate::init().unwrap());
}

pub(crate) fn descriptions_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../descriptions")
}

pub(crate) fn descriptions() -> Descriptions {
    init();
    Descriptions::load(&[descriptions_folder()]).unwrap()
}

pub(crate) fn clock() -> Arc<SystemClock> {
    Arc::new(SystemClock::new())
}

/// The launch text of an encoder with 320x240 at 25 fps, GOP 1 s.
pub(crate) fn encoder(codec: Codec, pattern: &str) -> String {
    let encode = match codec {
        Codec::H264 => "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 threads=1",
        Codec::H265 => "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=25",
        Codec::Mjpeg => "jpegenc",
    };
    format!("pattern={pattern} ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! {encode}")
}

/// A camera on loopback, for one test.
pub(crate) struct TestCamera {
    server: rtsp::RTSPServer,
    context: glib::MainContext,
    main: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
    pub(crate) port: u16,
}

#[derive(Default)]
pub(crate) struct TestCameraOptions {
    pub(crate) digest: bool,
    pub(crate) tls: bool,
    pub(crate) udp_only: bool,
}

impl TestCamera {
    pub(crate) fn start(codec: Codec, options: &TestCameraOptions) -> Self {
        let pay = match codec {
            Codec::H264 => "rtph264pay name=pay0 pt=96 config-interval=-1",
            Codec::H265 => "rtph265pay name=pay0 pt=96 config-interval=-1",
            Codec::Mjpeg => "rtpjpegpay name=pay0 pt=26",
        };
        Self::launch(&format!("( videotestsrc is-live=true {} ! {pay} )", encoder(codec, "white")), options)
    }

    pub(crate) fn launch(text: &str, options: &TestCameraOptions) -> Self {
        init();
        let server = rtsp::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service("0");
        let factory = rtsp::RTSPMediaFactory::new();
        factory.set_launch(text);
        factory.set_shared(true);
        if options.udp_only {
            factory.set_protocols(rtsp::gst_rtsp::RTSPLowerTrans::UDP);
        }
        let auth = rtsp::RTSPAuth::new();
        if options.digest {
            let token = rtsp::RTSPToken::builder().field("media.factory.role", "viewer").build();
            auth.set_supported_methods(rtsp::gst_rtsp::RTSPAuthMethod::Digest);
            auth.add_digest("viewer", "geheim", &token);
            let permission = gst::Structure::builder("viewer")
                .field("media.factory.access", true)
                .field("media.factory.construct", true)
                .build();
            factory.add_role_from_structure(&permission);
        }
        if options.tls {
            auth.set_tls_certificate(Some(&self_signed()));
        }
        if options.digest || options.tls {
            if !options.digest {
                let mut token = rtsp::RTSPToken::builder().field("media.factory.role", "anyone").build();
                auth.set_default_token(Some(&mut token));
                let permission = gst::Structure::builder("anyone")
                    .field("media.factory.access", true)
                    .field("media.factory.construct", true)
                    .build();
                factory.add_role_from_structure(&permission);
            }
            server.set_auth(Some(&auth));
        }
        server.mount_points().unwrap().add_factory("/main", factory);
        let context = glib::MainContext::new();
        let main = glib::MainLoop::new(Some(&context), false);
        // Its socket goes with the context.
        server.attach(Some(&context)).unwrap();
        let port = u16::try_from(server.bound_port()).unwrap();
        let running = main.clone();
        let thread = std::thread::spawn(move || running.run());
        Self { server, context, main, thread: Some(thread), port }
    }

    pub(crate) fn config(&self) -> SourceConfig {
        config(&format!("rtsp://127.0.0.1:{}/main", self.port))
    }

    /// Closes every connection.
    pub(crate) fn drop_clients(&self) {
        let server = self.server.clone();
        self.context.invoke(move || {
            server.client_filter(Some(&mut |_, client| {
                client.close();
                rtsp::RTSPFilterResult::Remove
            }));
        });
    }
}

impl Drop for TestCamera {
    fn drop(&mut self) {
        self.main.quit();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A server that promises a stream, of which nothing ever arrives: as datagrams behind a firewall.
pub(crate) struct Promises {
    pub(crate) url: String,
}

impl Promises {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rtsp://127.0.0.1:{}/main", listener.local_addr().unwrap().port());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || Self::answer(&stream));
            }
        });
        Self { url }
    }

    fn answer(stream: &TcpStream) {
        const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
            a=rtpmap:96 H264/90000\r\na=control:stream=0\r\n";
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        loop {
            let request: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let Some(method) = request.first().and_then(|line| line.split(' ').next()) else { return };
            let header = |name: &str| request.iter().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            let more = match method {
                "OPTIONS" => "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n".to_owned(),
                "DESCRIBE" => {
                    format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len())
                }
                "SETUP" => format!(
                    "Session: 1\r\nTransport: {};server_port=6970-6971\r\n\r\n",
                    header("Transport: ").split(',').next().unwrap_or_default()
                ),
                _ => "Session: 1\r\n\r\n".to_owned(),
            };
            let answer = format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\n{more}", header("CSeq: "));
            let mut stream = stream;
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn self_signed() -> gio::TlsCertificate {
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("both.pem");
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .arg("-keyout")
        .arg(&pem)
        .arg("-out")
        .arg(folder.path().join("cert.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "openssl makes a certificate");
    let both = std::fs::read_to_string(&pem).unwrap()
        + &std::fs::read_to_string(folder.path().join("cert.pem")).unwrap();
    gio::TlsCertificate::from_pem(&both).unwrap()
}

pub(crate) fn config(url: &str) -> SourceConfig {
    SourceConfig {
        camera: CameraId::new("gate").unwrap(),
        url: url.into(),
        user: None,
        password: None,
        transport: Transport::Tcp,
        route: Arc::default(),
        trust: Trust::System,
        pipeline: None,
    }
}

pub(crate) fn with_login(config: SourceConfig, user: &str, password: &str) -> SourceConfig {
    SourceConfig { user: Some(user.into()), password: Some(Secret::new(password)), ..config }
}

pub(crate) fn open(config: &SourceConfig) -> Receiver {
    Receiver::open(config, &descriptions(), clock()).unwrap()
}

/// The next packet, or a failed test.
pub(crate) fn next_packet(receiver: &Receiver) -> Packet {
    match receiver.items().recv_timeout(PATIENCE) {
        Ok(Item::Packet(packet)) => packet,
        other => panic!("expected a packet, got {other:?}"),
    }
}

/// The fault at the end of the stream, or a failed test.
pub(crate) fn fault(receiver: &Receiver) -> crate::Fault {
    loop {
        match receiver.items().recv_timeout(PATIENCE) {
            Ok(Item::Fault(fault)) => return fault,
            Ok(Item::Packet(_)) => {}
            Err(error) => panic!("expected a fault, got {error:?}"),
        }
    }
}

pub(crate) fn moment(pts: Pts) -> Moment {
    Moment { pts, wall: jiff::Timestamp::UNIX_EPOCH, wall_ok: true, clock: ClockSource::Host }
}

pub(crate) fn packet(at: Duration, arrival: Duration, keyframe: bool, bytes: usize) -> Packet {
    Packet {
        data: vec![0; bytes].into(),
        stream_pts: u64::try_from(at.as_nanos()).ok(),
        reference: None,
        arrival: Mono(arrival),
        keyframe,
        droppable: false,
        stream: Arc::new(StreamInfo {
            codec: Codec::H264,
            profile: None,
            width: 320,
            height: 240,
            fps: None,
            caps: "video/x-h264".into(),
        }),
    }
}

/// Encoded access units without a network: a whole receive pipeline as an integrator would write one.
pub(crate) fn encoded(codec: Codec, source: &str, count: usize) -> Vec<Packet> {
    let folder = tempfile::tempdir().unwrap();
    let parse = match codec {
        Codec::H264 => "h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au",
        Codec::H265 => "h265parse config-interval=-1 ! video/x-h265,stream-format=byte-stream,alignment=au",
        Codec::Mjpeg => "jpegparse",
    };
    let text = format!(
        "about = 'test'\nkind = 'receive'\ncodec = '{}'\nrequires = []\n\
         launch = '''videotestsrc num-buffers={count} {source} ! {parse} ! appsink name=packets'''",
        codec.as_str()
    );
    std::fs::write(folder.path().join("whole.toml"), text.replace(['{', '}'], "")).unwrap();
    init();
    let descriptions = Descriptions::load(&[folder.path().to_owned()]).unwrap();
    let config = SourceConfig { pipeline: Some("whole".into()), ..config("rtsp://127.0.0.1/none") };
    let receiver = Receiver::open(&config, &descriptions, clock()).unwrap();
    let mut packets = Vec::new();
    while let Ok(Item::Packet(packet)) = receiver.items().recv_timeout(PATIENCE) {
        packets.push(packet);
    }
    assert_eq!(packets.len(), count);
    packets
}
