//! The thread that sends one stream's access units when they are due.
//!
//! Owns: pacing and the picture faults. Does not know: RTSP; a new medium comes to it as an `appsrc`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use gstreamer as gst;
use gstreamer_app as gst_app;
use vedette_core::{Clock, Mono};

use super::command::PictureFault;
use super::faults::{Dice, corrupt, spoil_parameter_sets};
use super::playhead::{Due, Playhead};

/// Later than this is a pause (a stall, a stopped process) and moves the time line; less is caught up with.
const PAUSE: Duration = Duration::from_millis(500);

/// What other threads want of a pacer.
#[derive(Debug)]
pub(crate) enum Order {
    /// The server made a new medium; the units go here from now on.
    Medium(gst_app::AppSrc),
    /// Misbehave, or behave again.
    Fault(PictureFault),
}

#[derive(Debug)]
struct Medium {
    source: gst_app::AppSrc,
    /// When media time was 0.
    origin: Mono,
}

/// State of the pacing thread.
pub(crate) struct Pacer {
    head: Playhead,
    clock: Arc<dyn Clock>,
    orders: Receiver<Order>,
    sent: Arc<AtomicU64>,
    medium: Option<Medium>,
    stalled: bool,
    frozen: bool,
    bad_sps: bool,
    corrupt: u32,
    /// How many units leave together, when the last of them is due.
    burst: u32,
    dice: Dice,
}

impl Pacer {
    /// A pacer that counts what it sends in `sent`.
    pub(crate) fn new(
        head: Playhead,
        clock: Arc<dyn Clock>,
        orders: Receiver<Order>,
        sent: Arc<AtomicU64>,
    ) -> Self {
        Self {
            head,
            clock,
            orders,
            sent,
            medium: None,
            stalled: false,
            frozen: false,
            bad_sps: false,
            corrupt: 0,
            burst: 1,
            dice: Dice::new(),
        }
    }

    /// Sends until nobody can order anything any more.
    pub(crate) fn run(mut self) {
        loop {
            let order = match self.wait() {
                None => self.orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(Duration::ZERO) => self.orders.try_recv().map_err(|e| match e {
                    crossbeam_channel::TryRecvError::Empty => RecvTimeoutError::Timeout,
                    crossbeam_channel::TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                }),
                Some(length) => self.orders.recv_timeout(length),
            };
            match order {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => self.send_due(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// How long until something is to be sent; `None` while nothing is.
    fn wait(&mut self) -> Option<Duration> {
        let medium = self.medium.as_ref().filter(|_| !self.stalled)?;
        let held = u64::from(self.burst - 1) * self.head.clip().frame();
        let now = self.clock.now().since(medium.origin);
        let due = Duration::from_nanos(self.head.due() + held);
        let late = now.saturating_sub(due);
        if late > PAUSE {
            self.head.delay(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX));
        }
        Some(due.saturating_sub(now))
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Medium(source) => {
                self.head.restart();
                self.medium = Some(Medium { source, origin: self.clock.now() });
                // Without one picture the server cannot describe the stream: a stalled camera still answers.
                if self.stalled {
                    self.send_due();
                }
            }
            Order::Fault(PictureFault::Stall) => self.stalled = true,
            Order::Fault(PictureFault::Resume) => self.stalled = false,
            Order::Fault(PictureFault::Corrupt(units)) => self.corrupt = units,
            Order::Fault(PictureFault::BadSps(on)) => self.bad_sps = on,
            Order::Fault(PictureFault::Size) => self.head.switch(),
            Order::Fault(PictureFault::Burst(units)) => self.burst = units.max(1),
            Order::Fault(PictureFault::Freeze(on)) => {
                if self.frozen && !on {
                    self.head.thaw();
                }
                self.frozen = on;
            }
            Order::Fault(PictureFault::Eos) => {
                if let Some(medium) = self.medium.take() {
                    // Fails where the last client has just left: then it has ended already.
                    let _ = medium.source.end_of_stream();
                }
            }
        }
    }

    fn send_due(&mut self) {
        for _ in 0..std::mem::replace(&mut self.burst, 1) {
            let due = if self.frozen { self.head.take_frozen() } else { self.head.take() };
            let buffer = self.buffer(due);
            let Some(medium) = &self.medium else { return };
            if medium.source.push_buffer(buffer).is_err() {
                // Flushing: the last client left and the server took the medium down.
                self.medium = None;
                return;
            }
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The unit with its times, and with the damage that is ordered. Undamaged bytes are shared, not copied.
    fn buffer(&mut self, due: Due) -> gst::Buffer {
        let mut buffer = due.unit.buffer;
        let spoil = self.bad_sps && due.unit.key;
        if spoil || self.corrupt > 0 {
            let mut bytes = buffer.map_readable().map(|map| map.to_vec()).unwrap_or_default();
            if spoil {
                spoil_parameter_sets(self.head.clip().codec, &mut bytes);
            }
            if self.corrupt > 0 {
                self.corrupt -= 1;
                corrupt(&mut bytes, &mut self.dice);
            }
            buffer = gst::Buffer::from_slice(bytes);
        }
        let times = buffer.make_mut();
        times.set_dts(gst::ClockTime::from_nseconds(due.dts));
        times.set_pts(gst::ClockTime::from_nseconds(due.pts));
        if !due.unit.key {
            times.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        buffer
    }
}
