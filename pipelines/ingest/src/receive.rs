//! One connection to one camera: packets until a fault, never both afterwards.
//!
//! Owns: building the receive pipeline, its bus and its end. Does not know: reconnecting (the caller drops this and
//! opens another), decoding, the time line. Nothing here blocks one of GStreamer's threads: packets and messages go
//! through one bounded channel by `try_send`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use vedette_core::{CameraId, Clock, Shutdown};

use crate::assemble::Plan;
use crate::bus::{Seen, classify, detail, fault_of, no_datagrams, refused_way, unresolved};
use crate::source::Target;
use crate::{Descriptions, Fault, FaultClass, Item, Local, Packet, SourceConfig, Transport, handshake};

/// Packets that may wait for the camera's thread: five seconds at 25 fps. What comes on top is dropped up to the
/// next keyframe, and counted.
const QUEUE: usize = 128;

/// How long a pipeline may take to stop; measured at most 0.17 s (facts, section 5).
const STOP_DEADLINE: Duration = Duration::from_secs(5);

static LEAKED: AtomicU64 = AtomicU64::new(0);

/// A pipeline was left alone.
pub(crate) fn count_leaked() {
    LEAKED.fetch_add(1, Ordering::Relaxed);
}

/// Pipelines that did not stop within 5 s and were left alone, since the process began.
pub fn leaked_pipelines() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

/// What the pipeline's threads share with the receiver.
pub(crate) struct Shared {
    camera: CameraId,
    pub(crate) target: Target,
    pub(crate) clock: Arc<dyn Clock>,
    /// Gone after the fault, so that the channel ends with it.
    outlet: Mutex<Option<Sender<Item>>>,
    pub(crate) dropped: AtomicU64,
    pub(crate) packets: AtomicBool,
    pub(crate) video: AtomicBool,
    pub(crate) linked: AtomicBool,
    /// What the camera offered instead of video that is received.
    pub(crate) offered: Mutex<Vec<String>>,
    /// Why the camera's certificate was refused.
    pub(crate) untrusted: Mutex<Option<Fault>>,
    /// A read warning came: the EOS that follows means a broken connection.
    read_warning: AtomicBool,
}

impl Shared {
    fn seen(&self) -> Seen {
        let read = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        Seen { packets: read(&self.packets), video: read(&self.video), linked: read(&self.linked) }
    }

    /// A packet came: the way it took works.
    pub(crate) fn note_packet(&self) {
        if !self.packets.swap(true, Ordering::Relaxed)
            && let Some(route) = &self.target.route
        {
            route.works(self.target.transport);
        }
    }

    /// Whether the fault has been told, or the receiver is being closed.
    fn has_ended(&self) -> bool {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Whether datagrams were asked for and none has come.
    fn lacks_datagrams(&self) -> bool {
        self.target.transport == Transport::Udp && !self.packets.load(Ordering::Relaxed)
    }

    /// Sends a packet unless the queue is full; false when it was.
    pub(crate) fn offer(&self, packet: Packet) -> bool {
        let outlet = self.outlet.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(outlet) = &*outlet else { return true };
        // One place is left for the fault.
        outlet.len() < QUEUE && outlet.try_send(Item::Packet(packet)).is_ok()
    }

    /// Ends the stream with its first fault.
    pub(crate) fn end(&self, fault: Fault) {
        let outlet = self.outlet.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(outlet) = outlet {
            // Cannot be full: packets leave one place free. A receiver that is gone does not want it.
            let _ = outlet.try_send(Item::Fault(fault));
        }
    }

    fn end_as(&self, class: FaultClass, detail: &str) {
        self.end(fault_of(class, &self.target, detail, self.seen()));
    }
}

/// One connection to one camera. Dropping it stops the pipeline in the background; [`Receiver::close`] waits for it.
pub struct Receiver {
    pipeline: Option<gst::Pipeline>,
    shared: Arc<Shared>,
    items: crossbeam_channel::Receiver<Item>,
}

impl Receiver {
    /// Builds the pipeline and starts to connect; does not wait for the camera. What goes wrong later comes as
    /// [`Item::Fault`]; an address, description or element that cannot work is an error here.
    pub fn open(
        config: &SourceConfig,
        descriptions: &Descriptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Fault> {
        let target = Target::new(config)?;
        let plan = Plan::new(config, &target, descriptions)?;
        let (outlet, items) = bounded(QUEUE + 1);
        let shared = Arc::new(Shared {
            camera: config.camera.clone(),
            target,
            clock,
            outlet: Mutex::new(Some(outlet)),
            dropped: AtomicU64::new(0),
            packets: AtomicBool::new(false),
            video: AtomicBool::new(false),
            linked: AtomicBool::new(false),
            offered: Mutex::new(Vec::new()),
            untrusted: Mutex::new(None),
            read_warning: AtomicBool::new(false),
        });
        let pipeline = plan.build(&shared)?;
        let receiver = Self { pipeline: Some(pipeline.clone()), shared, items };
        watch_bus(&pipeline, &receiver.shared);
        if pipeline.set_state(gst::State::Playing).is_err() {
            // The bus handler ran on this thread and knows more, where an element gave a reason.
            return Err(match receiver.items.try_recv() {
                Ok(Item::Fault(fault)) => fault,
                _ => fault_of(FaultClass::Read, &receiver.shared.target, "does not start", Seen::default()),
            });
        }
        Ok(receiver)
    }

    /// Packets, then one fault, then the channel is disconnected.
    pub fn items(&self) -> &crossbeam_channel::Receiver<Item> {
        &self.items
    }

    /// Packets that were dropped because the camera's thread did not take them in time: always up to a keyframe.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// A fault that the caller has found (a stall, packets that nothing can decode), in words and with the address.
    pub fn fault(&self, class: FaultClass) -> Fault {
        if class == FaultClass::Stalled && self.shared.lacks_datagrams() {
            return no_datagrams(&self.shared.target);
        }
        fault_of(class, &self.shared.target, "found by the watchdog", self.shared.seen())
    }

    /// Stops the pipeline and waits for it, at most 5 s. False when it did not stop: then it is left alone and
    /// counted in [`leaked_pipelines`].
    pub fn close(mut self) -> bool {
        let stopped = self.stop();
        let clean = stopped.is_none_or(|done| done.recv_timeout(STOP_DEADLINE).is_ok());
        if !clean {
            count_leaked();
            log::warn!(camera = self.shared.camera.as_str(); "pipeline does not stop: it is left alone");
        }
        clean
    }

    /// Begins to stop on a thread of its own: `rtspsrc` may hang there.
    fn stop(&mut self) -> Option<crossbeam_channel::Receiver<()>> {
        let pipeline = self.pipeline.take()?;
        drop(self.shared.outlet.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (done, stopped) = bounded(1);
        let name = format!("stop-{}", self.shared.camera);
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            // A failed change to Null leaves nothing to repair: GStreamer frees what it can.
            let _ = pipeline.set_state(gst::State::Null);
            drop(pipeline);
            let _ = done.send(());
        });
        if let Err(error) = spawned {
            log::error!(camera = self.shared.camera.as_str(); "no thread to stop a pipeline: {error}");
        }
        Some(stopped)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

/// Listens to the pipeline's messages on the threads that post them; keeps none. Latency messages need no answer:
/// the sink does not wait for a clock.
fn watch_bus(pipeline: &gst::Pipeline, shared: &Arc<Shared>) {
    let Some(bus) = pipeline.bus() else { return };
    let shared = Arc::clone(shared);
    bus.set_sync_handler(move |_, message| {
        on_message(message, &shared);
        gst::BusSyncReply::Drop
    });
}

fn on_message(message: &gst::Message, shared: &Arc<Shared>) {
    match message.view() {
        gst::MessageView::Error(error) => {
            // One fault a connection: an element may say it in several messages.
            if shared.has_ended() {
                return;
            }
            let debug = error.debug().unwrap_or_default();
            let (class, seen) = (classify(&error.error(), &debug, shared.seen()), shared.seen());
            let text = detail(error.error().message(), &debug).to_owned();
            let untrusted = shared.untrusted.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(fault) = untrusted {
                shared.end(fault);
            } else if class == FaultClass::Refused && shared.target.wants_a_closer_look() {
                explain_refusal(shared, text);
            } else if class == FaultClass::Codec
                && seen.video
                && !seen.linked
                && shared.target.local.is_none()
            {
                shared.end(refused_way(&shared.target));
            } else if shared.lacks_datagrams() && debug.contains("UDP packets") {
                shared.end(no_datagrams(&shared.target));
            } else if class == FaultClass::Codec && !seen.video {
                let offered = shared.offered.lock().unwrap_or_else(PoisonError::into_inner).join(", ");
                shared.end_as(class, &format!("it offers: {offered}"));
            } else {
                shared.end_as(class, &text);
            }
        }
        gst::MessageView::Warning(warning) if warning.error().matches(gst::ResourceError::Read) => {
            shared.read_warning.store(true, Ordering::Relaxed);
        }
        gst::MessageView::Eos(_) if shared.read_warning.load(Ordering::Relaxed) => {
            shared.end_as(FaultClass::Read, "end of data");
        }
        gst::MessageView::Eos(_) if shared.target.local.as_ref().is_some_and(Local::repeats) => {
            begin_again(message, shared);
        }
        gst::MessageView::Eos(_) => shared.end_as(FaultClass::Ended, ""),
        _ => {}
    }
}

/// `rtspsrc` reports a name without an address and a certificate that is not trusted as a refused connection: a look
/// of our own tells them apart, on a thread of its own since it waits for the network.
fn explain_refusal(shared: &Arc<Shared>, text: String) {
    let worker = Arc::clone(shared);
    let spawned = std::thread::Builder::new().name(format!("look-{}", shared.camera)).spawn(move || {
        let target = &worker.target;
        if !handshake::has_address(&target.host, target.port) {
            return worker.end(unresolved(target));
        }
        match target
            .tls
            .then(|| handshake::tls_reason(&target.host, target.port, handshake::BUDGET))
            .flatten()
        {
            Some(reason) => worker.end_as(FaultClass::Tls, &reason),
            None => worker.end_as(FaultClass::Refused, &text),
        }
    });
    if spawned.is_err() {
        shared.end_as(FaultClass::Refused, "");
    }
}

/// Between the last picture of a file and its first: a file of a single picture, whose end comes at once, must not spin.
const TURN: Duration = Duration::from_millis(40);

/// A file came to its end: plays it from its beginning, by a thread of its own since seeking waits for the one that
/// tells of the end.
fn begin_again(end: &gst::Message, shared: &Arc<Shared>) {
    let pipeline = end.src().and_then(|source| source.clone().downcast::<gst::Pipeline>().ok());
    let worker = Arc::clone(shared);
    let spawned = std::thread::Builder::new().name(format!("turn-{}", shared.camera)).spawn(move || {
        worker.clock.pause(TURN, &Shutdown::new());
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
        if pipeline.is_none_or(|p| p.seek_simple(flags, gst::ClockTime::ZERO).is_err()) {
            worker.end_as(FaultClass::Ended, "");
        }
    });
    if spawned.is_err() {
        shared.end_as(FaultClass::Ended, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, TestCamera, TestCameraOptions, config, fault, next_packet, open, with_login};
    use crate::{Codec, Transport};

    const DIGEST: TestCameraOptions = TestCameraOptions { digest: true, tls: false, udp_only: false };

    #[test]
    fn h264_with_a_digest_login_comes_through() {
        let camera = TestCamera::start(Codec::H264, &DIGEST);
        let receiver = open(&with_login(camera.config(), "viewer", "geheim"));
        let packets: Vec<Packet> = (0..60).map(|_| next_packet(&receiver)).collect();
        let first = packets.iter().position(|p| p.keyframe).unwrap();
        let stream = &packets[first].stream;
        assert_eq!((stream.codec, stream.width, stream.height), (Codec::H264, 320, 240));
        assert!(stream.profile.is_some() && stream.caps.contains("byte-stream"), "{stream:?}");
        assert_eq!(packets[first..].iter().filter(|p| p.keyframe).count(), (60 - first).div_ceil(25));
        assert!(
            packets.windows(2).all(|w| w[0].stream_pts < w[1].stream_pts && w[0].arrival <= w[1].arrival)
        );
        assert!(packets.iter().all(|p| p.data.starts_with(&[0, 0, 0, 1])), "Annex B");
        assert!(receiver.close());
    }

    #[test]
    fn a_camera_s_packets_become_frames_on_its_line() {
        let camera = TestCamera::start(Codec::H264, &TestCameraOptions::default());
        let receiver = open(&camera.config());
        let (mut line, mut decoder, mut frames) = (crate::TimeLine::new(), None, Vec::new());
        while frames.len() < 30 {
            let packet = next_packet(&receiver);
            let placed = line.place(&packet, jiff::Timestamp::UNIX_EPOCH, true);
            let decoder = decoder.get_or_insert_with(|| {
                crate::open_decoder(&testing::descriptions(), &packet.stream, &crate::Masks::none()).unwrap()
            });
            decoder.push(&packet, placed.moment).unwrap();
            frames.extend(decoder.frames().try_iter());
        }
        assert!(frames.windows(2).all(|w| w[0].moment().pts < w[1].moment().pts));
        assert!(frames[0].plane(0).unwrap().row(100).iter().all(|&v| v > 220), "a white picture");
    }

    #[test]
    fn h265_and_mjpeg_come_through_too() {
        for codec in [Codec::H265, Codec::Mjpeg] {
            let camera = TestCamera::start(codec, &TestCameraOptions::default());
            let receiver = open(&camera.config());
            let packet = (0..60).map(|_| next_packet(&receiver)).find(|p| p.keyframe).unwrap();
            assert_eq!((packet.stream.codec, packet.stream.width), (codec, 320));
            assert!(receiver.close());
        }
    }

    #[test]
    fn the_rtp_clock_may_overflow() {
        // 32 bits of 90 kHz last 13 hours: this one is two seconds before its end.
        let pay = "rtph264pay name=pay0 pt=96 config-interval=-1 timestamp-offset=4294787296";
        let text =
            format!("( videotestsrc is-live=true {} ! {pay} )", testing::encoder(Codec::H264, "white"));
        let camera = TestCamera::launch(&text, &TestCameraOptions::default());
        let receiver = open(&camera.config());
        let mut line = crate::TimeLine::new();
        let placed: Vec<_> = (0..100)
            .map(|_| line.place(&next_packet(&receiver), jiff::Timestamp::UNIX_EPOCH, true))
            .collect();
        assert!(placed.windows(2).all(|w| w[0].moment.pts < w[1].moment.pts && !w[1].gap));
        let took = placed[99].moment.pts.secs_since(placed[0].moment.pts);
        assert!((took - 3.96).abs() < 0.1, "{took} s");
    }

    #[test]
    fn credentials_in_the_address_work() {
        let camera = TestCamera::start(Codec::H264, &DIGEST);
        let receiver = open(&config(&format!("rtsp://viewer:geheim@127.0.0.1:{}/main", camera.port)));
        next_packet(&receiver);
    }

    #[test]
    fn configuration_faults_are_told_apart() {
        let camera = TestCamera::start(Codec::H264, &DIGEST);
        let open_camera = TestCamera::start(Codec::H264, &TestCameraOptions::default());
        let wrong_path = config(&format!("rtsp://127.0.0.1:{}/other", open_camera.port));
        let secure = config(&format!("rtsps://127.0.0.1:{}/main", open_camera.port));
        let h265 = SourceConfig { pipeline: Some("rtsp-h265".into()), ..open_camera.config() };
        struct Case(SourceConfig, FaultClass, &'static str);
        let cases = [
            Case(camera.config(), FaultClass::Auth, "vedette.secrets"),
            Case(with_login(camera.config(), "viewer", "falsch"), FaultClass::Auth, "refuses user"),
            Case(wrong_path, FaultClass::NotFound, "path"),
            Case(secure, FaultClass::Tls, "does not speak TLS"),
            Case(h265, FaultClass::Codec, "H264"),
        ];
        for Case(config, expected, word) in cases {
            let fault = fault(&open(&config));
            assert_eq!(fault.class, expected, "{}: {fault}", config.url);
            assert!(fault.is_configuration() && fault.to_string().contains(word), "{fault}");
            assert!(!fault.to_string().contains("falsch"));
        }
    }

    #[test]
    fn a_certificate_nobody_signed_is_a_tls_fault() {
        let camera = TestCamera::start(Codec::H264, &TestCameraOptions { tls: true, ..Default::default() });
        let fault = fault(&open(&config(&format!("rtsps://127.0.0.1:{}/main", camera.port))));
        assert_eq!(fault.class, FaultClass::Tls, "{fault}");
        assert!(fault.message.contains("is signed by no CA that this system knows"), "{fault}");
    }

    #[test]
    fn a_codec_that_is_not_received_is_named() {
        let text = "( videotestsrc is-live=true ! video/x-raw,width=160,height=120 ! vp8enc deadline=1 ! rtpvp8pay name=pay0 )";
        let camera = TestCamera::launch(text, &TestCameraOptions::default());
        let fault = fault(&open(&camera.config()));
        assert_eq!(fault.class, FaultClass::Codec);
        assert!(fault.message.contains("VP8"), "{fault}");
    }

    #[test]
    fn a_server_that_refuses_tcp_is_received_by_udp() {
        // Two, since the server answers 503 while it takes down what the first connection had asked for.
        let options = TestCameraOptions { udp_only: true, ..Default::default() };
        let [refusing, camera] = [(); 2].map(|()| TestCamera::start(Codec::H264, &options));
        let refused = fault(&open(&refusing.config()));
        assert_eq!(refused.class, FaultClass::Codec, "{refused}");
        assert!(refused.message.contains("over TCP") && refused.remedy.contains("udp"), "{refused}");
        let receiver = open(&SourceConfig { transport: Transport::Udp, ..camera.config() });
        next_packet(&receiver);
    }

    #[test]
    fn where_tcp_is_refused_udp_is_next_if_that_is_left_open() {
        let camera =
            TestCamera::start(Codec::H264, &TestCameraOptions { udp_only: true, ..Default::default() });
        let auto = SourceConfig { transport: Transport::Auto, ..camera.config() };
        let refused = fault(&open(&auto));
        assert_eq!(
            (refused.class, refused.remedy.as_str()),
            (FaultClass::Transport, "trying UDP"),
            "{refused}"
        );
        assert!(!refused.is_configuration());
        // The server may answer 503 while it takes down what the first connection had asked for.
        while auto.route.worked().is_none() {
            let receiver = open(&auto);
            match receiver.items().recv_timeout(testing::PATIENCE).unwrap() {
                Item::Packet(_) => break,
                Item::Fault(fault) => assert_eq!(fault.class, FaultClass::Read, "{fault}"),
            }
        }
        assert_eq!(auto.route.worked(), Some(Transport::Udp));
    }

    #[test]
    fn where_no_datagram_arrives_tcp_is_next() {
        let camera = testing::Promises::start();
        let auto = SourceConfig { transport: Transport::Auto, ..config(&camera.url) };
        auto.route.works(Transport::Udp);
        let silent = fault(&open(&auto));
        assert_eq!((silent.class, silent.remedy.as_str()), (FaultClass::Transport, "trying TCP"), "{silent}");
        let fixed = fault(&open(&SourceConfig { transport: Transport::Udp, ..auto }));
        assert_eq!(fixed.class, FaultClass::Stalled, "{fixed}");
        assert!(fixed.message.contains("nothing arrives") && fixed.remedy.contains("\"tcp\""), "{fixed}");
    }

    #[test]
    fn link_faults_are_told_apart() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rtsp://127.0.0.1:{}/main", free.local_addr().unwrap().port());
        let silent = fault(&open(&config(&url)));
        assert!(matches!(silent.class, FaultClass::Timeout | FaultClass::Read), "{silent}");
        drop(free);
        let refused = fault(&open(&config(&url)));
        assert_eq!(refused.class, FaultClass::Refused, "{refused}");
        assert!(!refused.is_configuration());
    }

    #[test]
    fn a_server_that_closes_ends_the_stream_and_the_channel() {
        let camera = TestCamera::start(Codec::H264, &TestCameraOptions::default());
        let receiver = open(&camera.config());
        next_packet(&receiver);
        let stalled = receiver.fault(FaultClass::Stalled).to_string();
        assert!(stalled.starts_with("stalled: rtsp://127.0.0.1"), "{stalled}");
        camera.drop_clients();
        let fault = fault(&receiver);
        assert!(matches!(fault.class, FaultClass::Read | FaultClass::Ended), "{fault}");
        assert!(receiver.items().recv_timeout(testing::PATIENCE).is_err(), "nothing after the fault");
    }

    /// A receive pipeline that needs no camera: `launch` ends in an H.264 encoder.
    fn open_whole(launch: &str) -> Receiver {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "about='x'\nkind='receive'\ncodec='h264'\nrequires=[]\nlaunch='''{launch} \
             ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=packets'''"
        );
        std::fs::write(folder.path().join("whole.toml"), text).unwrap();
        testing::init();
        let descriptions = Descriptions::load(&[folder.path().to_owned()]).unwrap();
        let config = SourceConfig { pipeline: Some("whole".into()), ..config("rtsp://127.0.0.1/x") };
        Receiver::open(&config, &descriptions, testing::clock()).unwrap()
    }

    #[test]
    fn a_pipeline_that_does_not_stop_is_left_alone_and_counted() {
        // The element sleeps for a minute within the streaming thread, as a hung driver would.
        let encoder = testing::encoder(Codec::H264, "ball");
        let receiver = open_whole(&format!("videotestsrc {encoder} ! identity sleep-time=60000000"));
        let before = leaked_pipelines();
        // The source has begun to run when the pipeline is not asked to pause any more.
        let pipeline = receiver.pipeline.clone().unwrap();
        let _ = pipeline.state(gst::ClockTime::from_mseconds(500));
        assert!(!receiver.close());
        assert_eq!(leaked_pipelines(), before + 1);
    }

    #[test]
    fn who_does_not_take_packets_loses_them_up_to_a_keyframe() {
        let receiver =
            open_whole(&format!("videotestsrc num-buffers=400 {}", testing::encoder(Codec::H264, "ball")));
        // The fault needs no room: wait until it stands at the end of the full queue.
        let full = || receiver.items().len() > QUEUE;
        let stop = vedette_core::Shutdown::new();
        while !full() {
            assert!(!testing::clock().pause(Duration::from_millis(20), &stop));
        }
        let items: Vec<Item> = receiver.items().iter().collect();
        assert_eq!(items.len(), QUEUE + 1);
        assert!(
            matches!(&items[QUEUE], Item::Fault(f) if f.class == FaultClass::Ended),
            "{:?}",
            items[QUEUE]
        );
        assert_eq!(receiver.dropped(), 400 - QUEUE as u64);
    }
}
