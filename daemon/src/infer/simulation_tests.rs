//! The sessions under three times the load they can bear, on a simulated clock: the code that serves is the daemon's,
//! the thread and the wall clock are not there.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use vedette_core::SimulatedClock;
use vedette_core::{ClockSource, Moment, Pts};

use super::session::Session;
use super::*;
use vedette_core::Mono;

fn frame() -> Frame {
    let moment =
        Moment { pts: Pts::ZERO, wall: jiff::Timestamp::UNIX_EPOCH, wall_ok: true, clock: ClockSource::Host };
    Frame::packed_i420(moment, (16, 16), vec![128_u8; 16 * 16 * 3 / 2]).unwrap()
}

/// Takes `cost` of the simulated clock for each request.
struct Fake {
    clock: Arc<SimulatedClock>,
    cost: Duration,
}

impl Model for Fake {
    fn role(&self) -> Role {
        Role::Detector
    }

    fn name(&self) -> &str {
        "fake"
    }

    fn run(&mut self, requests: &[model::Request<'_>]) -> Vec<Result<AnswerValue, String>> {
        self.clock.advance(self.cost * u32::try_from(requests.len()).unwrap());
        requests.iter().map(|_| Ok(AnswerValue::Detections(Vec::new()))).collect()
    }
}

struct Camera {
    id: CameraId,
    next: Duration,
    live: bool,
    replies: Receiver<Reply>,
    reply: Sender<Reply>,
}

fn job(camera: &Camera, purpose: Purpose, lane: Lane, frame: &Frame) -> Job {
    let (role, view, reply) = (Role::Detector, View::WHOLE, camera.reply.clone());
    Job { camera: camera.id.clone(), role, purpose, lane, frame: frame.clone(), view, reply }
}

struct Site {
    clock: Arc<SimulatedClock>,
    session: Session,
    cameras: Vec<Camera>,
    period: Duration,
    frame: Frame,
    /// Hand-over to answer of every frame of a live camera, by camera.
    latency: Vec<Vec<Duration>>,
}

impl Site {
    fn new(cameras: usize, catching_up: usize, period: Duration) -> Self {
        let clock = Arc::new(SimulatedClock::new(jiff::Timestamp::UNIX_EPOCH));
        let session = Session::new(Role::Detector, "fake", Batch::ONE, clock.clone());
        let camera = |n: usize| {
            let (reply, replies) = unbounded();
            // Cameras are not in step with each other.
            let next = period.mul_f64((n as f64 * 0.618).fract());
            Camera {
                id: CameraId::new(format!("c{n}").as_str()).unwrap(),
                next,
                live: n >= catching_up,
                replies,
                reply,
            }
        };
        let cameras: Vec<_> = (0..cameras).map(camera).collect();
        let latency = vec![Vec::new(); cameras.len()];
        Self { clock, session, cameras, period, frame: frame(), latency }
    }

    /// Everything that was handed over until now. A camera that catches up hands over as much as it may.
    fn hand_over(&mut self) {
        let now = self.clock.now().0;
        for camera in &mut self.cameras {
            if !camera.live {
                while self.session.submit(job(camera, Purpose::Frame, Lane::InOrder, &self.frame))
                    == Submitted::Queued
                {}
            }
            while camera.live && camera.next <= now {
                self.session.submit(job(camera, Purpose::Frame, Lane::Latest, &self.frame));
                camera.next += self.period;
            }
        }
    }

    fn run(&mut self, model: &mut dyn Model, length: Duration) {
        while self.clock.now().0 < length {
            self.hand_over();
            if !self.session.serve_next(model) {
                self.clock.advance(Duration::from_millis(1));
            }
            for (camera, latency) in self.cameras.iter().zip(&mut self.latency) {
                latency.extend(camera.replies.try_iter().map(|reply| reply.waited + reply.took));
            }
        }
    }

    fn served(&self) -> Vec<usize> {
        self.latency.iter().map(Vec::len).collect()
    }

    fn assert_equal_and_prompt(&self) {
        let served = self.served();
        let (most, least) = (*served.iter().max().unwrap() as f64, *served.iter().min().unwrap() as f64);
        assert!(least > 0.0 && most / least <= 1.05, "{served:?}");
        for (camera, latency) in self.cameras.iter().zip(&self.latency).filter(|(camera, _)| camera.live) {
            let worst = latency.iter().max().unwrap();
            assert!(*worst <= self.period * 2, "{}: {worst:?}", camera.id);
        }
    }
}

/// 5 fps each; the model's cost is such that a third of it can be served.
fn overloaded(cameras: usize, catching_up: usize) -> (Site, Fake) {
    let period = Duration::from_millis(200);
    let site = Site::new(cameras, catching_up, period);
    let cost = period * 3 / u32::try_from(cameras).unwrap();
    let fake = Fake { clock: Arc::clone(&site.clock), cost };
    (site, fake)
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn at_three_times_the_capacity_cameras_share_equally_and_promptly() {
    for cameras in [4, 9, 16, 50] {
        let (mut site, mut fake) = overloaded(cameras, 0);
        site.run(&mut fake, MINUTE);
        site.assert_equal_and_prompt();
        let stats = site.session.stats();
        assert!(stats.busy > 0.99, "{}", stats.busy);
        let of = &stats.cameras[&site.cameras[0].id];
        assert_eq!(of.served + of.replaced + of.waiting as u64, 300, "{of:?}");
        assert!(site.session.overload(&site.cameras[0].id).is_some());
    }
}

#[test]
fn a_camera_that_catches_up_gets_its_share_and_no_more() {
    let (mut site, mut fake) = overloaded(12, 2);
    site.run(&mut fake, MINUTE);
    site.assert_equal_and_prompt();
    assert!(site.session.stats().cameras[&site.cameras[0].id].refused > 0);
}

#[test]
fn every_want_is_answered_served_or_not() {
    let (mut site, mut fake) = overloaded(4, 0);
    let camera = &site.cameras[0];
    let now = site.clock.now().0;
    for n in 0..20 {
        let by = Mono(now + Duration::from_millis(400));
        site.session.submit(job(camera, Purpose::Want(WantId(n)), Lane::Want { by }, &site.frame));
    }
    while site.session.serve_next(&mut fake) {}
    let replies: Vec<_> = camera.replies.try_iter().collect();
    let served = replies.iter().filter(|reply| reply.result.is_ok()).count();
    // 150 ms each: at 0, 150 and 300 ms they are in time.
    assert_eq!((replies.len(), served), (20, 3));
    assert_eq!(site.session.stats().cameras[&camera.id].expired, 17);
    site.session.submit(job(camera, Purpose::Want(WantId(99)), Lane::Want { by: Mono(MINUTE) }, &site.frame));
    site.session.close();
    assert!(camera.replies.try_recv().unwrap().result.is_err());
    site.run(&mut fake, Duration::from_secs(5));
    assert!(site.served().iter().all(|frames| *frames == 0));
}

/// Processor time of this thread so far: what others do on the machine is not in it.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

/// What the median inference takes of the simulated clock.
const NOMINAL: Duration = Duration::from_millis(20);

/// The real detector; the simulated clock goes on by the processor time that it took, in units of its own recent
/// median. So every inference counts by what it cost beside its neighbours, and a shared machine that changes its speed
/// in the middle changes nothing: the load stays what the test says it is.
struct Real {
    detector: vedette_models::Detector,
    clock: Arc<SimulatedClock>,
    recent: std::collections::VecDeque<Duration>,
}

impl Real {
    fn open(clock: Arc<SimulatedClock>) -> Result<Self, String> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(std::path::PathBuf::from)
            .or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        let place = std::env::var_os("VEDETTE_ONNXRUNTIME")
            .map(std::path::PathBuf::from)
            .or_else(|| Some(cache?.join("vedette/onnxruntime")));
        let runtime = vedette_models::Runtime::load(place.as_deref(), &[]).map_err(|e| e.to_string())?;
        let manifest = vedette_models::Manifest::load(&[root.join("models/manifests")], "nanodet-g-416");
        let options = vedette_models::DetectorOptions::default();
        let detector =
            vedette_models::Detector::open(runtime, &manifest.map_err(|e| e.to_string())?, &options)
                .map_err(|e| e.to_string())?;
        Ok(Self { detector, clock, recent: std::collections::VecDeque::new() })
    }
}

impl Real {
    /// Within half a median and three: a machine that stood still, or whose other guests went away a moment ago, is no
    /// property of a model; a median later it is the new measure.
    fn nominal(&mut self, took: Duration) -> Duration {
        self.recent.truncate(14);
        self.recent.push_front(took);
        let mut sorted: Vec<_> = self.recent.iter().copied().collect();
        sorted.sort();
        let median = sorted[sorted.len() / 2].max(Duration::from_micros(1));
        NOMINAL.mul_f64((took.as_secs_f64() / median.as_secs_f64()).clamp(0.5, 3.0))
    }
}

impl Model for Real {
    fn role(&self) -> Role {
        Role::Detector
    }

    fn name(&self) -> &str {
        self.detector.name()
    }

    fn run(&mut self, requests: &[model::Request<'_>]) -> Vec<Result<AnswerValue, String>> {
        let before = processor_time().unwrap();
        let answers = Model::run(&mut self.detector, requests);
        let took = processor_time().unwrap().saturating_sub(before);
        let of_clock = self.nominal(took);
        self.clock.advance(of_clock);
        answers
    }
}

/// The picture of the test data that the real model looks at.
fn street() -> Option<Frame> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("VEDETTE_DATA").map_or(root, std::path::PathBuf::from);
    let mut pictures: Vec<_> =
        std::fs::read_dir(data.join("coco-mini/unseen/images")).ok()?.flatten().collect();
    pictures.sort_by_key(std::fs::DirEntry::path);
    vedette_models::read_picture(&pictures.first()?.path()).ok()
}

/// Twelve cameras, three times too fast for what this machine can do.
#[test]
fn the_real_model_is_shared_equally_and_promptly_too() {
    const CAMERAS: u32 = 12;
    let Some(picture) = street() else {
        eprintln!("skipped: no test data; set VEDETTE_DATA");
        return;
    };
    let mut site = Site::new(CAMERAS as usize, 0, NOMINAL * CAMERAS / 3);
    let mut real = match Real::open(Arc::clone(&site.clock)) {
        Ok(real) => real,
        Err(reason) => {
            eprintln!("skipped: {reason}");
            return;
        }
    };
    site.frame = picture;
    site.run(&mut real, NOMINAL * CAMERAS * 60);
    let served = site.served();
    eprintln!("{:?} an inference, served {served:?}", real.recent[0]);
    let offered = site.clock.now().0.as_secs_f64() / site.period.as_secs_f64();
    assert!(*served.iter().max().unwrap() as f64 * 2.9 < offered, "{offered} frames offered by each camera");
    site.assert_equal_and_prompt();
}

/// Panics in its first runs.
struct Frail {
    panics: usize,
    good: Fake,
}

impl Model for Frail {
    fn role(&self) -> Role {
        Role::Detector
    }

    fn name(&self) -> &str {
        "frail"
    }

    fn run(&mut self, requests: &[model::Request<'_>]) -> Vec<Result<AnswerValue, String>> {
        if let Some(left) = self.panics.checked_sub(1) {
            self.panics = left;
            panic!("out of bounds");
        }
        self.good.run(requests)
    }
}

#[test]
fn a_model_that_panics_answers_with_errors_and_is_given_up_after_three() {
    let site = Site::new(1, 0, Duration::from_millis(200));
    let camera = &site.cameras[0];
    let fake = || Fake { clock: site.clock.clone(), cost: Duration::from_millis(10) };
    let lane = Lane::Want { by: Mono(MINUTE) };
    let want = |n| site.session.submit(job(camera, Purpose::Want(WantId(n)), lane, &site.frame));
    let answer = || camera.replies.try_recv().unwrap().result;

    // Two panics and a run that ends: forgiven.
    let mut frail = Frail { panics: 2, good: fake() };
    for n in 0..3 {
        assert_eq!(want(n), Submitted::Queued);
        assert!(site.session.serve_next(&mut frail));
        assert_eq!(answer().is_ok(), n == 2, "{n}");
    }
    assert_eq!(site.session.overload(&camera.id), None);

    // Three in a row: closed, what still waits is answered, and the status says why.
    let mut frail = Frail { panics: 3, good: fake() };
    for n in 3..7 {
        assert_eq!(want(n), Submitted::Queued);
    }
    (0..3).for_each(|_| assert!(site.session.serve_next(&mut frail)));
    let mut said: Vec<_> = (3..7).map(|_| answer().unwrap_err()).collect();
    said.sort();
    let panicked = "the model panicked";
    assert_eq!(said, [panicked, panicked, panicked, "the model panicked too often"]);
    assert_eq!(want(7), Submitted::Unavailable);
    assert!(site.session.overload(&camera.id).unwrap().contains("`fake` panicked too often"));
}
