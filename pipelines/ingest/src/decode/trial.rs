//! The decoder a camera has: passes packets over as it is told, and lets another candidate take over where the one on
//! trial fails.
//!
//! Owns: the trial and the packets that the next candidate would have to begin with. Does not know: how anything is
//! decoded.

use std::collections::VecDeque;

use crossbeam_channel::Receiver;
use vedette_core::{Frame, Moment};

use super::choice::{Candidate, Setup};
use super::{Decoder, Outlet, Skip};
use crate::{Fault, Packet};

/// Frames after which a decoder has shown that it works.
const WORKS: u64 = 10;

/// Packets within which it has to: a reordering stream and a device hold back 16 and a few.
const WITHIN: u64 = 50;

/// What is kept of a stream for the next candidate; a longer GOP begins at its next keyframe.
const KEPT_BYTES: usize = 16 << 20;

/// The candidate that decodes, and what comes after it.
pub(super) struct Selected {
    setup: Setup,
    current: Candidate,
    decoder: Box<dyn Decoder>,
    outlet: Outlet,
    skip: Skip,
    /// A picture is missing that others may refer to.
    broken: bool,
    /// Until the current one has shown that it works.
    trial: Option<Trial>,
}

struct Trial {
    next: VecDeque<Candidate>,
    /// Why those before the current one are not it.
    against: Vec<String>,
    pushed: u64,
    decoded_before: u64,
    /// From the last keyframe on.
    packets: Vec<(Packet, Moment)>,
    bytes: usize,
}

impl Trial {
    fn keep(&mut self, packet: &Packet, moment: Moment) {
        self.pushed += 1;
        if packet.keyframe {
            self.packets.clear();
            self.bytes = 0;
        }
        if packet.keyframe || !self.packets.is_empty() {
            self.bytes += packet.data.len();
            self.packets.push((packet.clone(), moment));
        }
        if self.bytes > KEPT_BYTES {
            self.packets.clear();
        }
    }
}

impl Selected {
    /// Opens the first candidate that opens.
    pub(super) fn start(
        setup: Setup,
        mut candidates: VecDeque<Candidate>,
        mut against: Vec<String>,
    ) -> Result<Self, Fault> {
        let outlet = Outlet::new();
        let (current, decoder) = first_that_opens(&setup, &outlet, &mut candidates, &mut against)?;
        let trial =
            Trial { next: candidates, against, pushed: 0, decoded_before: 0, packets: Vec::new(), bytes: 0 };
        Ok(Self { setup, current, decoder, outlet, skip: Skip::None, broken: false, trial: Some(trial) })
    }

    /// Ends the trial of a decoder that works, and lets the next one take over from one that does not.
    fn judge(&mut self, pushed: Result<(), Fault>) -> Result<(), Fault> {
        let Some(trial) = &mut self.trial else { return pushed };
        let failure = match pushed {
            Err(fault) if trial.next.is_empty() => return Err(fault),
            Err(fault) => fault.to_string(),
            Ok(()) if self.outlet.decoded() - trial.decoded_before >= WORKS => {
                self.conclude();
                return Ok(());
            }
            Ok(()) if trial.pushed < WITHIN || trial.next.is_empty() => return Ok(()),
            Ok(()) => format!("gave fewer than {WORKS} frames of {WITHIN} packets"),
        };
        self.take_over(failure)
    }

    /// It works.
    fn conclude(&mut self) {
        let Some(trial) = self.trial.take() else { return };
        let camera = self.setup.camera.as_ref().map_or("", |camera| camera.as_str());
        let stream = &self.setup.stream;
        let against = match trial.against.as_slice() {
            [] => String::new(),
            reasons => format!("; not {}", reasons.join(", not ")),
        };
        log::info!(
            camera = camera;
            "{} {}x{} is decoded by {}{against}", stream.codec, stream.width, stream.height, self.current
        );
    }

    fn take_over(&mut self, mut failure: String) -> Result<(), Fault> {
        loop {
            let Some(trial) = &mut self.trial else { return Ok(()) };
            trial.against.push(format!("{}: {failure}", self.current));
            let opened = first_that_opens(&self.setup, &self.outlet, &mut trial.next, &mut trial.against);
            (self.current, self.decoder) = opened.map_err(|fault| Fault {
                message: format!("no decoder works: {}", trial.against.join("; ")),
                ..fault
            })?;
            // The one before is gone by now, so nothing of it comes any more.
            self.outlet.only_later();
            (trial.pushed, trial.decoded_before) = (0, self.outlet.decoded());
            let decoder = &mut self.decoder;
            decoder.set_skip(self.skip);
            let replayed =
                trial.packets.iter().try_for_each(|(packet, moment)| decoder.push(packet, *moment));
            match replayed {
                // Where nothing is kept it begins at the next keyframe.
                Ok(()) => {
                    self.broken = trial.packets.is_empty();
                    return Ok(());
                }
                Err(fault) if trial.next.is_empty() => return Err(fault),
                Err(fault) => failure = fault.to_string(),
            }
        }
    }
}

fn first_that_opens(
    setup: &Setup,
    outlet: &Outlet,
    candidates: &mut VecDeque<Candidate>,
    against: &mut Vec<String>,
) -> Result<(Candidate, Box<dyn Decoder>), Fault> {
    let mut last = None;
    while let Some(candidate) = candidates.pop_front() {
        match setup.open(&candidate, outlet) {
            Ok(decoder) => return Ok((candidate, decoder)),
            Err(fault) => {
                against.push(format!("{candidate}: {fault}"));
                last = Some(fault);
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        let remedy = "trying again at the next keyframe";
        Fault::new(crate::FaultClass::Undecodable, "there is no other decoder", remedy)
    }))
}

impl Decoder for Selected {
    fn push(&mut self, packet: &Packet, moment: Moment) -> Result<(), Fault> {
        self.broken &= !packet.keyframe;
        if self.broken || self.skip.passes_over(packet) {
            // Of a picture that others refer to, all until the next keyframe are of no use.
            self.broken |= !packet.droppable;
            return Ok(());
        }
        if let Some(trial) = &mut self.trial {
            trial.keep(packet, moment);
        }
        let pushed = self.decoder.push(packet, moment);
        // `libav` forgets a keyframe that stands alone, so that it comes out at once.
        self.broken |= self.skip == Skip::NonKey;
        self.judge(pushed)
    }

    fn frames(&self) -> &Receiver<Frame> {
        self.outlet.frames()
    }

    fn settle(&mut self) -> Result<(), Fault> {
        let settled = self.decoder.settle();
        self.judge(settled)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.decoder.finish()
    }

    fn flush(&mut self) {
        self.broken = false;
        if let Some(trial) = &mut self.trial {
            trial.packets.clear();
        }
        self.decoder.flush();
    }

    fn dropped(&self) -> u64 {
        self.outlet.dropped()
    }

    fn gives_keyframes_alone(&self) -> bool {
        self.decoder.gives_keyframes_alone()
    }

    fn damaged(&self) -> u64 {
        self.outlet.damaged()
    }

    fn set_skip(&mut self, skip: Skip) {
        self.skip = skip;
        self.decoder.set_skip(skip);
    }
}
