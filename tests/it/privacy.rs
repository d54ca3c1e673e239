//! What is masked is black for whoever gets pixels: detector and calibration here, pictures and clips in `evidence`.

use std::sync::Arc;
use std::time::Duration;

use vedette::config;
use vedette::frames::{Gallery, News, Watching, from_cameras};
use vedette_core::{CameraId, Clock, Shutdown, SystemClock};
use vedette_ingest::Descriptions;
use vedette_models::Manifest;
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::testcam::{Options, TestCam};

use crate::cli::root;

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
