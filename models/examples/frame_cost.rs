//! What a 1080p frame costs in two forms of a model, in milliseconds of processor time, medians of turns taken one after
//! the other: `cargo run --release -p vedette-models --example frame_cost -- LIBRARY MODELS MODEL FORM FORM`. A quantised
//! stem moves work out of the network into the input (one table lookup a byte), so both are counted.
#![expect(clippy::print_stdout, reason = "prints its measurement")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use vedette_core::{Frame, Moment, Pts, View};
use vedette_models::{Form, InputSpec, Manifest, Network, NetworkOptions, Preprocessor, Runtime};

const TURNS: usize = 15;
/// Frames of one turn; one before them fills the caches.
const FRAMES: usize = 5;

/// One form, with its own pre-processing.
struct Subject {
    form: Form,
    preprocessor: Preprocessor,
    network: Network,
    pixels: Vec<u8>,
    times: Vec<[f64; 3]>,
}

impl Subject {
    fn open(runtime: &'static Runtime, manifest: &Manifest, form: Form) -> Result<Self, Box<dyn Error>> {
        let network = Network::open(runtime, &manifest.clone().only(form)?, &NetworkOptions::default())?;
        let &InputSpec { width, height, color, pad, .. } = network.input();
        let preprocessor = Preprocessor::new(width, height, color, pad);
        let pixels = vec![pad; network.input().len()];
        Ok(Self { form, preprocessor, network, pixels, times: Vec::new() })
    }

    /// Letterboxed pixels, what the network wants of them, inference.
    fn frame(&mut self, frame: &Frame) -> Result<[f64; 3], Box<dyn Error>> {
        let start = processor_ms();
        self.preprocessor.run(frame, View::WHOLE, &mut self.pixels)?;
        let letterboxed = processor_ms();
        self.network.write(&self.pixels);
        let written = processor_ms();
        self.network.infer()?;
        Ok([letterboxed - start, written - letterboxed, processor_ms() - written])
    }

    fn median(&self, of: impl Fn(&[f64; 3]) -> f64) -> f64 {
        let mut values: Vec<f64> = self.times.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [library, models, model, forms @ ..] = words.as_slice() else {
        return Err("usage: frame_cost LIBRARY MODELS MODEL FORM FORM".into());
    };
    let runtime = Runtime::load(Some(&PathBuf::from(library)), &[])?;
    let manifest = Manifest::load(&[PathBuf::from(models)], model)?;
    let mut subjects = Vec::new();
    for form in forms {
        subjects.push(Subject::open(runtime, &manifest, form.parse()?)?);
    }
    let frame = frame()?;
    for _ in 0..TURNS {
        for subject in &mut subjects {
            subject.frame(&frame)?;
            for _ in 0..FRAMES {
                let times = subject.frame(&frame)?;
                subject.times.push(times);
            }
        }
    }
    let all = |subject: &Subject| subject.median(|times| times.iter().sum());
    for subject in &subjects {
        let [letterbox, write, infer] = [0, 1, 2].map(|part| subject.median(|times| times[part]));
        let (total, first) = (all(subject), subjects.first().map_or(f64::NAN, all));
        println!(
            "{}: letterbox {letterbox:.2} ms, input {write:.2} ms, inference {infer:.2} ms; all {total:.2} ms = {:.3} x",
            subject.form,
            total / first
        );
    }
    Ok(())
}

/// Noise: no kernel's work depends on what it looks at.
fn frame() -> Result<Frame, Box<dyn Error>> {
    let (width, height) = (1920u32, 1080u32);
    let size = (width * height * 3 / 2) as usize;
    let bytes = (0u32..).take(size).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let moment = Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::ZERO);
    Ok(Frame::packed_i420(moment, (width, height), bytes)?)
}

/// User and system time of all threads.
fn processor_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32).as_secs_f64() * 1e3
}
