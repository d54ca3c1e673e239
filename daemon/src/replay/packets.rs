//! A file as a camera's stream: the adaptive driver decides what of it is decoded, as it does live.
//!
//! Owns: the loop packet → driver → decoder → detector in lock-step: the detector answers at once, so that a catch-up
//! is over before the next packet comes. Does not know: how the driver decides.

use std::path::Path;
use std::sync::Arc;

use vedette_analysis::gate::Mode;
use vedette_core::{Frame, Moment, Pts};
use vedette_ingest::{Decoder, Fault, FaultClass, PacketReader};

use super::{Adapted, Replay, ReplayError, Run};
use crate::camera::adaptive::{Adaptive, Use};
use crate::camera::cursor::Step;
use crate::camera::decoder_config;
use crate::counters::CameraCounters;

impl Replay<'_> {
    /// Decodes what a camera would; the moment of the last packet.
    pub(super) fn packets(
        &self,
        path: &Path,
        reader: PacketReader,
        run: &mut Run<'_>,
    ) -> Result<Moment, ReplayError> {
        let of = reader.duration().map(|d| d.as_secs_f64());
        let counters = Arc::new(CameraCounters::default());
        let mut adaptive = Adaptive::new(self.camera, self.mode, Arc::clone(&counters));
        let mut decoder = None;
        let mut last = Moment::of_file(self.start, Pts::ZERO);
        for item in reader {
            let (packet, moment) = item?;
            counters.received.one();
            last = if moment.pts > last.pts { moment } else { last };
            let before = adaptive.state();
            adaptive.receive(&packet, moment);
            self.decode(&mut adaptive, &mut decoder, run)?;
            // Also while nothing is decoded.
            run.tick_until(last);
            if adaptive.state() != before {
                run.watch.decode(last.pts, adaptive.state(), &adaptive.gate());
            }
            run.watch.progress(last.pts.secs_f64(), of);
        }
        finish(&mut adaptive, &mut decoder, run)?;
        if run.summary.decoded == 0 {
            let what = format!("no picture of {} can be decoded", path.display());
            return Err(Fault::new(FaultClass::Undecodable, what, "try `ffprobe` on it").into());
        }
        run.summary.adaptive = (self.mode != Mode::Always).then(|| Adapted {
            received: counters.received.get(),
            states: counters.state_seconds(),
            transitions: counters.transitions.get(),
            skipped: counters.skipped.get(),
        });
        Ok(last)
    }

    fn decode(
        &self,
        adaptive: &mut Adaptive,
        decoder: &mut Option<Box<dyn Decoder>>,
        run: &mut Run<'_>,
    ) -> Result<(), ReplayError> {
        while let Some(step) = adaptive.next() {
            let entry = match step {
                Step::Push(entry) => entry,
                Step::Flush => {
                    if let Some(decoder) = decoder {
                        decoder.flush();
                    }
                    continue;
                }
            };
            let decoder = match decoder {
                Some(decoder) => decoder,
                None => {
                    let (config, stream) = (decoder_config(self.camera), &entry.packet.stream);
                    decoder.insert(config.open(self.descriptions, stream, &self.masks())?)
                }
            };
            decoder.set_skip(adaptive.skip(decoder.gives_keyframes_alone()));
            decoder.push(&entry.packet, entry.moment)?;
            decoder.settle()?;
            let frames: Vec<_> = decoder.frames().try_iter().collect();
            show(&frames, adaptive, run)?;
        }
        Ok(())
    }
}

/// Shows what the decoder holds back at the end of the file.
fn finish(
    adaptive: &mut Adaptive,
    decoder: &mut Option<Box<dyn Decoder>>,
    run: &mut Run<'_>,
) -> Result<(), ReplayError> {
    let Some(decoder) = decoder else { return Ok(()) };
    loop {
        decoder.finish()?;
        let frames: Vec<_> = decoder.frames().try_iter().collect();
        if frames.is_empty() {
            return Ok(());
        }
        show(&frames, adaptive, run)?;
    }
}

/// Pictures to the scene, as the camera would look at them.
fn show(frames: &[Frame], adaptive: &mut Adaptive, run: &mut Run<'_>) -> Result<(), ReplayError> {
    for frame in frames {
        run.summary.decoded += 1;
        let to = adaptive.picture(frame);
        if to == Use::Nothing {
            continue;
        }
        run.tick_until(frame.moment());
        match to {
            Use::Look { .. } => run.step(frame)?,
            _ => run.observe(frame, None)?,
        }
        adaptive.looked(frame.moment().pts, run.scene);
    }
    Ok(())
}
