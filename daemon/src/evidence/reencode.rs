//! The thread `reencode`: clips of cameras with masks, decoded, masked and coded anew, one at a time.
//!
//! Owns: their pace. Does not know: which packets a clip needs. The unit forbids to lower a thread's priority, so it
//! rests between pieces of work instead: a tenth of a core at most, whatever else the machine does.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use vedette_core::{Frame, Pts, Shutdown};
use vedette_ingest::{ClipEncoder, ClipError, Decoder, open_decoder};

use super::desk::Task;
use super::files::Draft;
use super::maker::Maker;

/// Packets of one piece of work.
const PIECE: usize = 8;

/// How long a decoder may take for the next picture.
const PICTURE: Duration = Duration::from_secs(5);

/// The rest behind a piece of work: decoder and encoder may have run beside each other, hence twice nine tenths.
fn rest_after(busy: Duration) -> Duration {
    busy * 19
}

/// Until no more tasks come; one that `stop` interrupts is given up.
pub(super) fn run(tasks: &Receiver<Task>, maker: &Arc<Maker>, stop: &Shutdown) {
    for task in tasks {
        match encode(&task, maker, stop) {
            Ok(()) => task.counters.evidence.one(),
            Err(error) => maker.failed(&task.label, &task.counters, &error),
        }
    }
}

fn encode(task: &Task, maker: &Maker, stop: &Shutdown) -> Result<(), ClipError> {
    let nothing = || ClipError::Pipeline("no packet came".to_owned());
    let first = task.entries.first().ok_or_else(nothing)?;
    let decoder = open_decoder(&maker.descriptions, &first.packet.stream, &task.masks)?;
    let last = task.entries.iter().map(|e| e.moment.pts).max().unwrap_or_default();
    let mut work =
        Work { draft: maker.create(task.label.clone())?, decoder, encoder: None, newest: None, maker };
    for piece in task.entries.chunks(PIECE) {
        let began = maker.clock.now();
        for entry in piece {
            work.decoder.push(&entry.packet, entry.moment)?;
            work.take()?;
        }
        if work.encoder.is_some() {
            work.settle()?;
        }
        let busy = maker.clock.now().since(began);
        if maker.clock.pause(rest_after(busy), stop) {
            return Err(ClipError::Pipeline("the daemon stops".to_owned()));
        }
    }
    work.finish(first.moment.pts, last)
}

/// A clip on its way.
struct Work<'a> {
    draft: Draft,
    decoder: Box<dyn Decoder>,
    encoder: Option<ClipEncoder>,
    newest: Option<Frame>,
    maker: &'a Maker,
}

impl Work<'_> {
    /// What the decoder has ready goes to the encoder.
    fn take(&mut self) -> Result<(), ClipError> {
        while let Ok(frame) = self.decoder.frames().try_recv() {
            self.push(frame)?;
        }
        Ok(())
    }

    fn push(&mut self, frame: Frame) -> Result<(), ClipError> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => {
                let path = self.draft.path();
                self.encoder.insert(ClipEncoder::create(path, &frame, &self.maker.descriptions)?)
            }
        };
        // A stream that changes its size ends the clip there.
        if encoder.takes(&frame) {
            encoder.push(&frame)?;
            self.newest = Some(frame);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), ClipError> {
        self.encoder.as_mut().map_or(Ok(()), ClipEncoder::settle)
    }

    fn finish(mut self, first: Pts, last: Pts) -> Result<(), ClipError> {
        // What is still inside comes out within a moment; a stream with B-frames keeps its last ones.
        while self.newest.as_ref().is_none_or(|frame| frame.moment().pts < last) {
            let patience = if self.newest.is_some() { PICTURE / 10 } else { PICTURE };
            let Ok(frame) = self.decoder.frames().recv_timeout(patience) else { break };
            self.push(frame)?;
        }
        let (Some(encoder), Some(newest)) = (self.encoder, self.newest) else {
            return Err(ClipError::Pipeline("no picture came out of the decoder".to_owned()));
        };
        encoder.finish()?;
        let to = self.draft.label().to(newest.moment().pts.since(first));
        self.maker.complete(self.draft, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_a_tenth_of_a_core_at_most_with_two_threads_at_work() {
        let busy = Duration::from_millis(40);
        assert!(2 * busy <= (busy + rest_after(busy)) / 10);
    }
}
