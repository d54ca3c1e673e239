//! What is masked is black for whoever gets pixels: detector, calibration and gate here, pictures and clips in
//! `evidence`.

use std::sync::Arc;
use std::time::Duration;

use vedette::config;
use vedette::frames::{Gallery, News, Watching, from_cameras};
use vedette_analysis::gate::{PictureGate, Verdict};
use vedette_core::{CameraId, Clock, Frame, Polygon, Shutdown, SystemClock};
use vedette_ingest::{DecoderConfig, Descriptions, Masks, PacketReader};
use vedette_models::Manifest;
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::testcam::{Options, TestCam};

use crate::adaptive::{replay, states};
use crate::cli::{folder, root, write};

/// Calibration and detector see a frame through the same pre-processor: the letterboxed picture of 640x360 has its
/// left half black, and its right half not.
#[test]
fn calibration_sees_nothing_of_what_is_masked() {
    let cam = TestCam::start(Options::new(small_clip(Kind::H264).unwrap())).unwrap();
    let text = format!(
        "[camera.gate]\nurl = \"{}\"\nfps = 5\n\
         [camera.gate.mask]\nhouse = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]\n",
        cam.url()
    );
    let config = config::from_text("x.toml", &text, &config::Options::default()).unwrap();
    let manifest = Manifest::load(&[root().join("models/manifests")], "nanodet-g-416").unwrap();
    let input = manifest.input().clone();
    vedette_ingest::init().unwrap();
    let descriptions = Descriptions::load(&[root().join("pipelines/descriptions")]).unwrap();
    let (gallery, stop) = (Gallery::new(4, 1), Shutdown::new());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let told = |_: &CameraId, news: News<'_>| println!("{news:?}");
    let watching = Watching {
        gallery: &gallery,
        input: &input,
        descriptions: &descriptions,
        clock: Arc::clone(&clock),
        stop: &stop,
        tell: &told,
    };
    let cameras: Vec<_> = config.cameras.values().cloned().collect();
    let watched = std::thread::scope(|scope| {
        scope.spawn(|| {
            let patience = Shutdown::new();
            while gallery.progress().frames < 8 && clock.now().0 < Duration::from_secs(120) {
                clock.pause(Duration::from_millis(20), &patience);
            }
            stop.request();
        });
        from_cameras(&cameras, &watching)
    });
    let pixels = &watched[0].pixels;
    assert!(!pixels.is_empty(), "{:?}", watched[0].fault);
    let (width, height) = (input.width, input.height);
    let rows = width * 360 / 640;
    for sample in pixels {
        assert_eq!(sample.len(), width * height * 3);
        let brightest = |x: std::ops::Range<usize>| {
            let y = (height - rows) / 2 + 4..(height + rows) / 2 - 4;
            y.flat_map(|y| sample[(y * width + x.start) * 3..(y * width + x.end) * 3].iter().copied()).max()
        };
        assert!(brightest(0..width / 2 - 4) <= Some(3), "{:?}", brightest(0..width / 2 - 4));
        assert!(brightest(width / 2 + 4..width) > Some(100));
    }
}

/// A camera's pictures with these masks, as its gate gets them.
fn pictures(masks: Vec<Polygon>) -> Vec<Frame> {
    vedette_ingest::init().expect("GStreamer");
    let descriptions = Descriptions::load(&[root().join("pipelines/descriptions")]).expect("descriptions");
    let clip = small_clip(Kind::H264).expect("a clip");
    let masks = Masks::new(masks);
    let reader =
        PacketReader::open(&clip, &descriptions, jiff::Timestamp::UNIX_EPOCH).expect("a file of packets");
    let (mut decoder, mut frames) = (None, Vec::new());
    for (packet, moment) in reader.map(|item| item.expect("a packet")) {
        let open =
            || DecoderConfig::default().open(&descriptions, &packet.stream, &masks).expect("a decoder");
        let decoder = decoder.get_or_insert_with(open);
        decoder.push(&packet, moment).expect("decodable");
        decoder.settle().expect("decodable");
        frames.extend(decoder.frames().try_iter());
    }
    frames
}

fn left_part(width: f32) -> Polygon {
    Polygon::new([[0.0, 0.0], [width, 0.0], [width, 1.0], [0.0, 1.0]].map(Into::into).to_vec())
        .expect("a polygon")
}

/// The gate itself is not told of the mask here: what it gets is black already, at an eighth of the size as at the
/// full one, and so it finds no motion in what moves there.
#[test]
fn the_gate_gets_black_where_a_mask_lies() {
    let moved = |frames: &[Frame]| {
        let mut gate = PictureGate::new(Vec::new());
        let looks: Vec<_> = frames.iter().step_by(12).map(|frame| gate.look(frame, &[])).collect();
        assert!(looks.len() > 10 && gate.is_taught());
        looks.iter().filter(|look| look.verdict == Verdict::Moved).count()
    };
    let (open, masked) = (pictures(Vec::new()), pictures(vec![left_part(1.0)]));
    assert!(moved(&open) > 5, "something moves in the clip");
    assert_eq!(moved(&masked), 0);
    for frame in pictures(vec![left_part(0.5)]) {
        let luma = frame.plane(0).unwrap();
        let black = (0..luma.height).all(|y| luma.row(y)[..luma.width / 2].iter().all(|&v| v == 16));
        assert!(black, "{:?}", frame.moment());
    }
}

/// MJPEG has keyframes only, so that nothing but pictures can wake the camera.
#[test]
fn a_movement_under_a_mask_wakes_no_resting_camera() {
    let clip = small_clip(Kind::Mjpeg).unwrap();
    let ran = |mask: &str| {
        let folder = folder();
        let text =
            format!("[camera.yard]\nurl = \"rtsp://127.0.0.1/never-opened\"\nquiet_after = \"2s\"\n{mask}");
        write(folder.path(), "config/vedette.toml", &text);
        states(&replay(&folder, &clip, "force"))
    };
    let awake = ran("");
    let resting = ran("[camera.yard.mask]\nall = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]\n");
    assert!(awake.iter().all(|(_, state)| state != "quiet"), "people keep it awake: {awake:?}");
    assert!(matches!(resting.as_slice(), [(_, state)] if state == "quiet"), "{resting:?}");
}
