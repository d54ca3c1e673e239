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
use gstreamer_app::{AppSink, AppSinkCallbacks};
use vedette_core::{CameraId, Clock};

use crate::bus::{Seen, classify, fault_of};
use crate::description::{Description, DescriptionKind};
use crate::nal::NalReader;
use crate::source::Target;
use crate::{Codec, Descriptions, Fault, FaultClass, Item, Packet, SourceConfig, StreamInfo, handshake};

/// Packets that may wait for the camera's thread: five seconds at 25 fps. What comes on top is dropped up to the
/// next keyframe, and counted.
const QUEUE: usize = 128;

/// How long a pipeline may take to stop; measured at most 0.17 s (facts, section 5).
const STOP_DEADLINE: Duration = Duration::from_secs(5);

static LEAKED: AtomicU64 = AtomicU64::new(0);

/// Pipelines that did not stop within 5 s and were left alone, since the process began.
pub fn leaked_pipelines() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

/// What the pipeline's threads share with the receiver.
pub(crate) struct Shared {
    camera: CameraId,
    target: Target,
    clock: Arc<dyn Clock>,
    /// Gone after the fault, so that the channel ends with it.
    outlet: Mutex<Option<Sender<Item>>>,
    dropped: AtomicU64,
    packets: AtomicBool,
    video: AtomicBool,
    /// What the camera offered instead of video that is received.
    offered: Mutex<Vec<String>>,
    /// A read warning came: the EOS that follows means a broken connection.
    read_warning: AtomicBool,
}

impl Shared {
    fn seen(&self) -> Seen {
        Seen { packets: self.packets.load(Ordering::Relaxed), video: self.video.load(Ordering::Relaxed) }
    }

    /// Sends a packet unless the queue is full; false when it was.
    fn offer(&self, packet: Packet) -> bool {
        let outlet = self.outlet.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(outlet) = &*outlet else { return true };
        // One place is left for the fault.
        outlet.len() < QUEUE && outlet.try_send(Item::Packet(packet)).is_ok()
    }

    /// Ends the stream with its first fault.
    fn end(&self, fault: Fault) {
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
        let plan = Plan::new(config, descriptions)?;
        let (outlet, items) = bounded(QUEUE + 1);
        let shared = Arc::new(Shared {
            camera: config.camera.clone(),
            target,
            clock,
            outlet: Mutex::new(Some(outlet)),
            dropped: AtomicU64::new(0),
            packets: AtomicBool::new(false),
            video: AtomicBool::new(false),
            offered: Mutex::new(Vec::new()),
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

    /// Stops the pipeline and waits for it, at most 5 s. False when it did not stop: then it is left alone and
    /// counted in [`leaked_pipelines`].
    pub fn close(mut self) -> bool {
        let stopped = self.stop();
        let clean = stopped.is_none_or(|done| done.recv_timeout(STOP_DEADLINE).is_ok());
        if !clean {
            LEAKED.fetch_add(1, Ordering::Relaxed);
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

/// Which descriptions make up the pipeline.
struct Plan<'a> {
    /// Of kind `source`; absent where the one tail is a whole pipeline.
    head: Option<&'a Description>,
    tails: Vec<&'a Description>,
}

impl<'a> Plan<'a> {
    fn new(config: &SourceConfig, descriptions: &'a Descriptions) -> Result<Self, Fault> {
        use DescriptionKind::{Receive, Source};
        let chosen = descriptions.of_kind(config.pipeline.as_deref().unwrap_or("rtsp"), &[Receive, Source])?;
        let plan = match (chosen.kind, &chosen.source) {
            (Receive, None) => Self { head: None, tails: vec![chosen] },
            (Receive, Some(head)) => {
                Self { head: Some(descriptions.of_kind(head, &[Source])?), tails: vec![chosen] }
            }
            _ => {
                let tail = |codec: Codec| {
                    let own = descriptions.get(&format!("{}-{}", chosen.name, codec.as_str()));
                    own.or_else(|_| descriptions.get(&format!("rtsp-{}", codec.as_str()))).ok()
                };
                Self { head: Some(chosen), tails: Codec::ALL.into_iter().filter_map(tail).collect() }
            }
        };
        plan.head.map_or(Ok(()), Description::check_elements)?;
        Ok(plan)
    }

    fn build(&self, shared: &Arc<Shared>) -> Result<gst::Pipeline, Fault> {
        let Some(head) = self.head else {
            let tail = self.tails[0];
            tail.check_elements()?;
            let pipeline = pipeline_of(launch(tail, shared, |text| gst::parse::launch(text))?)?;
            if let Some(source) = pipeline.by_name("source") {
                configure_source(&source, shared);
            }
            attach_sink(pipeline.upcast_ref(), shared)?;
            return Ok(pipeline);
        };
        let pipeline = pipeline_of(launch(head, shared, |text| gst::parse::launch(text))?)?;
        let source = pipeline.by_name("source").ok_or_else(|| lacks(head, "source"))?;
        configure_source(&source, shared);
        select_video(&source, shared, self.tails.iter().filter_map(|t| t.codec).collect());
        let tails: Vec<Description> = self.tails.iter().map(|&t| t.clone()).collect();
        let (pipe, shared) = (pipeline.downgrade(), Arc::clone(shared));
        source.connect_pad_added(move |_, pad| {
            let Some(pipeline) = pipe.upgrade() else { return };
            if let Err(fault) = link_tail(&pipeline, pad, &tails, &shared) {
                shared.end(fault);
            }
        });
        Ok(pipeline)
    }
}

fn lacks(description: &Description, element: &str) -> Fault {
    let what = format!("pipeline `{}` has no element `{element}`", description.name);
    Fault::new(FaultClass::MissingElement, what, "correct its launch text")
}

/// Parses the launch text of a description.
fn launch<T>(
    description: &Description,
    shared: &Shared,
    parse: impl FnOnce(&str) -> Result<T, gst::glib::Error>,
) -> Result<T, Fault> {
    let wrong = |what: String| {
        let what = format!("pipeline `{}`: {what}", description.name);
        Fault::new(FaultClass::MissingElement, what, "correct its launch text")
    };
    let text = description.filled(&[("protocols", shared.target.transport.as_str())]).map_err(wrong)?;
    parse(&text).map_err(|error| wrong(error.to_string()))
}

/// What the launch parser gave, as a pipeline: it gives a lone element bare.
fn pipeline_of(element: gst::Element) -> Result<gst::Pipeline, Fault> {
    element.downcast::<gst::Pipeline>().or_else(|element| {
        let pipeline = gst::Pipeline::new();
        let added = pipeline.add(&element);
        added.map(|()| pipeline).map_err(|error| internal(&error))
    })
}

fn internal(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(FaultClass::MissingElement, format!("a pipeline cannot be built: {error}"), "run `vedette doctor`")
}

/// Sets address and login as properties, where the source has them: they never stand in a text.
fn configure_source(source: &gst::Element, shared: &Shared) {
    let target = &shared.target;
    if source.has_property("location") {
        source.set_property("location", &target.location);
    }
    if let Some(user) = target.user.as_ref().filter(|_| source.has_property("user-id")) {
        source.set_property("user-id", user);
    }
    if let Some(password) = target.password.as_ref().filter(|_| source.has_property("user-pw")) {
        source.set_property("user-pw", password.reveal());
    }
}

/// Lets `rtspsrc` set up the first video stream alone: audio and metadata cost the camera bandwidth for nothing.
fn select_video(source: &gst::Element, shared: &Arc<Shared>, codecs: Vec<Codec>) {
    if gst::glib::subclass::SignalId::lookup("select-stream", source.type_()).is_none() {
        shared.video.store(true, Ordering::Relaxed);
        return;
    }
    let shared = Arc::clone(shared);
    source.connect("select-stream", false, move |values| {
        let caps = values.get(2).and_then(|v| v.get::<gst::Caps>().ok());
        let (media, encoding) = caps.as_ref().map_or((None, None), rtp_fields);
        let known = encoding.as_deref().and_then(Codec::of_rtp).is_some_and(|c| codecs.contains(&c));
        let wanted = media.as_deref() == Some("video") && known && !shared.video.swap(true, Ordering::Relaxed);
        if !known {
            let name = format!("{} {}", media.unwrap_or_default(), encoding.unwrap_or_default());
            shared.offered.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        }
        Some(wanted.to_value())
    });
}

fn rtp_fields(caps: &gst::Caps) -> (Option<String>, Option<String>) {
    let field = |name| caps.structure(0).and_then(|s| s.get::<String>(name).ok());
    (field("media"), field("encoding-name"))
}

/// Builds the tail that fits the codec of a new pad and links it.
fn link_tail(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    tails: &[Description],
    shared: &Arc<Shared>,
) -> Result<(), Fault> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let (_, encoding) = rtp_fields(&caps);
    let name = encoding.as_deref().unwrap_or("an unknown codec");
    let codec = encoding.as_deref().and_then(Codec::of_rtp);
    let Some(tail) = tails.iter().find(|t| codec.is_some() && t.codec == codec) else {
        let what = format!("{} sends {name}, which this pipeline does not take", shared.target.shown);
        return Err(Fault::new(FaultClass::Codec, what, "leave `pipeline` out or change the camera's codec"));
    };
    tail.check_elements()?;
    let bin = launch(tail, shared, |text| gst::parse::bin_from_description(text, true))?;
    attach_sink(&bin, shared)?;
    pipeline.add(&bin).map_err(|error| internal(&error))?;
    bin.sync_state_with_parent().map_err(|error| internal(&error))?;
    let entry = bin.static_pad("sink").ok_or_else(|| lacks(tail, "that takes input"))?;
    pad.link(&entry).map_err(|error| internal(&error))?;
    Ok(())
}

/// Takes access units from the element `packets`.
fn attach_sink(bin: &gst::Bin, shared: &Arc<Shared>) -> Result<(), Fault> {
    let sink = bin.by_name("packets").and_then(|e| e.downcast::<AppSink>().ok());
    let sink = sink.ok_or_else(|| internal(&"no appsink with name=packets"))?;
    // Packets are wanted when they come, and the last one need not be kept.
    sink.set_sync(false);
    sink.set_enable_last_sample(false);
    sink.set_max_buffers(4);
    let mut unpacker = Unpacker { shared: Arc::clone(shared), nal: NalReader::default(), stream: None, lossy: false };
    let callbacks = AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        unpacker.take(&sample);
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    Ok(())
}

/// Turns samples into packets, on the pipeline's thread.
struct Unpacker {
    shared: Arc<Shared>,
    nal: NalReader,
    stream: Option<(gst::Caps, Arc<StreamInfo>)>,
    /// Something was dropped: nothing makes sense before the next keyframe.
    lossy: bool,
}

impl Unpacker {
    fn take(&mut self, sample: &gst::SampleRef) {
        let arrival = self.shared.clock.now();
        let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps()) else { return };
        let Some(stream) = self.stream_of(caps) else { return };
        let Ok(map) = buffer.map_readable() else { return };
        let keyframe = stream.codec == Codec::Mjpeg || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        self.shared.packets.store(true, Ordering::Relaxed);
        if self.lossy && !keyframe {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let packet = Packet {
            droppable: !keyframe && self.nal.droppable(stream.codec, &map),
            data: Arc::from(map.as_slice()),
            stream_pts: buffer.pts().map(gst::ClockTime::nseconds),
            reference: reference_time(buffer),
            arrival,
            keyframe,
            stream,
        };
        self.lossy = !self.shared.offer(packet);
        if self.lossy {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stream_of(&mut self, caps: &gst::CapsRef) -> Option<Arc<StreamInfo>> {
        if let Some((known, stream)) = &self.stream
            && known.as_ref() == caps
        {
            return Some(Arc::clone(stream));
        }
        let stream = Arc::new(stream_info(caps)?);
        self.stream = Some((caps.to_owned(), Arc::clone(&stream)));
        Some(stream)
    }
}

fn stream_info(caps: &gst::CapsRef) -> Option<StreamInfo> {
    let fields = caps.structure(0)?;
    let pixels = |name| fields.get::<i32>(name).ok().and_then(|v| u32::try_from(v).ok()).unwrap_or(0);
    let fps = fields.get::<gst::Fraction>("framerate").ok().filter(|f| f.numer() > 0 && f.denom() > 0);
    Some(StreamInfo {
        codec: Codec::of_media_type(fields.name())?,
        profile: fields.get::<String>("profile").ok(),
        width: pixels("width"),
        height: pixels("height"),
        fps: fps.map(|f| f64::from(f.numer()) / f64::from(f.denom())),
        caps: caps.to_string(),
    })
}

/// Seconds from 1900, where NTP counts from, to 1970.
const NTP_TO_UNIX: i64 = 2_208_988_800;

/// The camera's wall clock at capture, where a sender report told it.
fn reference_time(buffer: &gst::BufferRef) -> Option<jiff::Timestamp> {
    let ntp = buffer
        .iter_meta::<gst::ReferenceTimestampMeta>()
        .find(|meta| meta.reference().structure(0).is_some_and(|s| s.name() == "timestamp/x-ntp"))?
        .timestamp();
    unix_of_ntp(ntp.nseconds())
}

/// NTP's 32 bits of seconds overflow in 2036: what lies before 1968 is of the era after that (RFC 4330, section 3).
fn unix_of_ntp(nanos: u64) -> Option<jiff::Timestamp> {
    let (seconds, rest) = (i64::try_from(nanos / 1_000_000_000).ok()?, i32::try_from(nanos % 1_000_000_000).ok()?);
    let era = if seconds < 1 << 31 { 1 << 32 } else { 0 };
    jiff::Timestamp::new(seconds + era - NTP_TO_UNIX, rest).ok()
}

/// Listens to the pipeline's messages on the threads that post them; keeps none.
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
            let debug = error.debug().unwrap_or_default();
            let class = classify(&error.error(), &debug, shared.seen());
            let text = error.error().message().to_owned();
            if class == FaultClass::Refused && shared.target.tls {
                explain_refusal(shared, text);
            } else if class == FaultClass::Codec && !shared.seen().video {
                let offered = shared.offered.lock().unwrap_or_else(PoisonError::into_inner).join(", ");
                shared.end_as(class, &format!("it offers: {offered}"));
            } else {
                shared.end_as(class, &text);
            }
        }
        gst::MessageView::Warning(warning) => {
            if warning.error().matches(gst::ResourceError::Read) {
                shared.read_warning.store(true, Ordering::Relaxed);
            }
        }
        gst::MessageView::Eos(_) if shared.read_warning.load(Ordering::Relaxed) => {
            shared.end_as(FaultClass::Read, "end of data");
        }
        gst::MessageView::Eos(_) => shared.end_as(FaultClass::Ended, ""),
        _ => {}
    }
}

/// `rtspsrc` reports a certificate that is not trusted as a refused connection: an own handshake tells them apart,
/// on a thread of its own since it waits for the network.
fn explain_refusal(shared: &Arc<Shared>, text: String) {
    let worker = Arc::clone(shared);
    let spawned = std::thread::Builder::new().name(format!("tls-{}", shared.camera)).spawn(move || {
        let target = &worker.target;
        match handshake::tls_reason(&target.host, target.port, handshake::BUDGET) {
            Some(reason) => worker.end_as(FaultClass::Tls, &reason),
            None => worker.end_as(FaultClass::Refused, &text),
        }
    });
    if spawned.is_err() {
        shared.end_as(FaultClass::Refused, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Transport;
    use crate::testing::{self, TestCamera, TestCameraOptions, config, fault, next_packet, open, with_login};

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
        assert!(packets.windows(2).all(|w| w[0].stream_pts < w[1].stream_pts && w[0].arrival <= w[1].arrival));
        assert!(packets.iter().all(|p| p.data.starts_with(&[0, 0, 0, 1])), "Annex B");
        assert!(receiver.close());
        assert_eq!(leaked_pipelines(), 0);
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
        assert!(fault.message.contains("certificate is not trusted"), "{fault}");
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
        let camera = TestCamera::start(Codec::H264, &TestCameraOptions { udp_only: true, ..Default::default() });
        let refused = fault(&open(&camera.config()));
        assert_eq!(refused.class, FaultClass::Codec, "{refused}");
        assert!(refused.remedy.contains("udp"), "{refused}");
        let receiver = open(&SourceConfig { transport: Transport::Udp, ..camera.config() });
        next_packet(&receiver);
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
        camera.drop_clients();
        let fault = fault(&receiver);
        assert!(matches!(fault.class, FaultClass::Read | FaultClass::Ended), "{fault}");
        assert!(receiver.items().recv_timeout(testing::PATIENCE).is_err(), "nothing after the fault");
    }

    #[test]
    fn who_does_not_take_packets_loses_them_up_to_a_keyframe() {
        let source = testing::encoder(Codec::H264, "ball").replace("videotestsrc", "");
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "about='x'\nkind='receive'\ncodec='h264'\nrequires=[]\nlaunch='''videotestsrc num-buffers=400 {source} \
             ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=packets'''"
        );
        std::fs::write(folder.path().join("whole.toml"), text).unwrap();
        testing::init();
        let descriptions = Descriptions::load(&[folder.path().to_owned()]).unwrap();
        let config = SourceConfig { pipeline: Some("whole".into()), ..config("rtsp://127.0.0.1/x") };
        let receiver = Receiver::open(&config, &descriptions, testing::clock()).unwrap();
        // The fault needs no room: wait until it stands at the end of the full queue.
        let full = || receiver.items().len() > QUEUE;
        let stop = vedette_core::Shutdown::new();
        while !full() {
            assert!(!testing::clock().pause(Duration::from_millis(20), &stop));
        }
        let items: Vec<Item> = receiver.items().iter().collect();
        assert_eq!(items.len(), QUEUE + 1);
        assert!(matches!(&items[QUEUE], Item::Fault(f) if f.class == FaultClass::Ended), "{:?}", items[QUEUE]);
        assert_eq!(receiver.dropped(), 400 - QUEUE as u64);
    }

    #[test]
    fn ntp_becomes_utc_beyond_2036() {
        assert_eq!(unix_of_ntp(2_208_988_800_500_000_000).unwrap().to_string(), "1970-01-01T00:00:00.5Z");
        let wrapped = unix_of_ntp(1_000_000_000).unwrap();
        assert_eq!(wrapped.to_string(), "2036-02-07T06:28:17Z");
    }
}
