//! Faults on RTP packets, done by a probe behind the payloader, and on RTCP ones, behind their session. Timestamps are rewritten here and not at the
//! source, because the server's sink follows the clock and would wait for a jumped time.
//!
//! Owns: the headers (RFC 3550, sections 5.1 and 6.4.1). Does not know: what the packets carry.

use std::sync::{Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::command::PacketFault;
use super::faults::Dice;

/// Ticks of the RTP clock of video per second (RFC 6184, 7798 and 2435).
const CLOCK_RATE: f64 = 90_000.0;
/// Packets are lost in parts of this.
const LOSS_SCALE: f64 = 1e6;
/// Byte offset of the sequence number; the timestamp follows it.
const SEQUENCE_AT: usize = 2;
/// The packet type of a sender report, and its length up to the end of its NTP time (32.32 bits).
const SENDER_REPORT: u8 = 200;
const REPORT_LENGTH: usize = 16;
const NTP_SECOND: f64 = 4_294_967_296.0;

#[derive(Debug)]
struct State {
    loss: u64,
    sequence: u16,
    timestamp: u32,
    /// What is added to the NTP time of reports, in its own unit.
    ntp: u64,
    silent: bool,
    dice: Dice,
}

/// What happens to the packets of one stream from now on; shared by control and streaming threads.
#[derive(Debug)]
pub(crate) struct PacketFaults {
    state: Mutex<State>,
}

impl PacketFaults {
    pub(crate) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                loss: 0,
                sequence: 0,
                timestamp: 0,
                ntp: 0,
                silent: false,
                dice: Dice::new(),
            }),
        }
    }

    pub(crate) fn apply(&self, fault: PacketFault) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            PacketFault::Loss(percent) => state.loss = (percent / 100.0 * LOSS_SCALE).round() as u64,
            // Through i64: a negative jump wraps around as the field does.
            PacketFault::RtpJump(seconds) => {
                let ticks = (seconds * CLOCK_RATE).round() as i64 as u32;
                state.timestamp = state.timestamp.wrapping_add(ticks);
            }
            PacketFault::SeqJump(by) => state.sequence = state.sequence.wrapping_add(by),
            PacketFault::Ntp(seconds) => state.ntp = (seconds * NTP_SECOND).round() as i64 as u64,
            PacketFault::Reports(on) => state.silent = !on,
        }
    }

    /// Puts the faults behind a payloader.
    pub(crate) fn attach(self: std::sync::Arc<Self>, pad: &gst::Pad) {
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        pad.add_probe(kinds, move |_, info| self.probe(info));
    }

    /// Puts them behind the RTCP of a session.
    pub(crate) fn attach_reports(self: std::sync::Arc<Self>, pad: &gst::Pad) {
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.silent {
                return gst::PadProbeReturn::Drop;
            }
            if let Some(gst::PadProbeData::Buffer(packet)) = &mut info.data {
                state.rewrite_report(packet);
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn probe(&self, info: &mut gst::PadProbeInfo<'_>) -> gst::PadProbeReturn {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(packet)) => {
                if state.lose() {
                    return gst::PadProbeReturn::Drop;
                }
                state.rewrite(packet);
            }
            Some(gst::PadProbeData::BufferList(list)) if state.is_faulty() => {
                let mut kept = gst::BufferList::new_sized(list.len());
                let out = kept.make_mut();
                for packet in list.iter_owned() {
                    if !state.lose() {
                        let mut packet = packet;
                        state.rewrite(&mut packet);
                        out.add(packet);
                    }
                }
                if out.is_empty() {
                    return gst::PadProbeReturn::Drop;
                }
                *list = kept;
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    }
}

impl State {
    fn is_faulty(&self) -> bool {
        self.loss > 0 || self.sequence != 0 || self.timestamp != 0
    }

    fn lose(&mut self) -> bool {
        self.loss > 0 && self.dice.roll(LOSS_SCALE as u64) < self.loss
    }

    /// A report is first in its compound packet (RFC 3550, section 6.1). Its RTP timestamp follows the packets that were
    /// sent, hence their jumps: a camera whose RTP clock jumps still knows what time it is.
    fn rewrite_report(&self, packet: &mut gst::Buffer) {
        let mut report = [0; REPORT_LENGTH];
        if packet.copy_to_slice(0, &mut report).is_err() || report[1] != SENDER_REPORT {
            return;
        }
        shift_report(&mut report, self.ntp);
        // Fails only on memory that cannot be written, and sessions make their own.
        let _ = packet.make_mut().copy_from_slice(0, &report);
    }

    fn rewrite(&self, packet: &mut gst::Buffer) {
        if self.sequence == 0 && self.timestamp == 0 {
            return;
        }
        let mut fields = [0; 6];
        if packet.copy_to_slice(SEQUENCE_AT, &mut fields).is_err() {
            return;
        }
        shift(&mut fields, self.sequence, self.timestamp);
        // Fails only on memory that cannot be written, and payloaders make their own.
        let _ = packet.make_mut().copy_from_slice(SEQUENCE_AT, &fields);
    }
}

/// Adds to the NTP time at the end of a sender report's beginning.
fn shift_report(report: &mut [u8; REPORT_LENGTH], ntp: u64) {
    let (_, told) = report.split_at_mut(REPORT_LENGTH - 8);
    let before = told.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    told.copy_from_slice(&before.wrapping_add(ntp).to_be_bytes());
}

/// Adds to sequence number and timestamp, each big-endian and wrapping.
fn shift(fields: &mut [u8; 6], sequence: u16, timestamp: u32) {
    let [s0, s1, t0, t1, t2, t3] = *fields;
    let [s0, s1] = u16::from_be_bytes([s0, s1]).wrapping_add(sequence).to_be_bytes();
    let [t0, t1, t2, t3] = u32::from_be_bytes([t0, t1, t2, t3]).wrapping_add(timestamp).to_be_bytes();
    *fields = [s0, s1, t0, t1, t2, t3];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fields_wrap() {
        let mut fields = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        shift(&mut fields, 2, 3);
        assert_eq!(fields, [0, 1, 0, 0, 0, 2]);
    }

    #[test]
    fn jumps_add_up_and_go_backwards() {
        gst::init().unwrap();
        let faults = PacketFaults::new();
        for jump in [60.0, -70.0] {
            faults.apply(PacketFault::RtpJump(jump));
        }
        faults.apply(PacketFault::SeqJump(5000));
        let mut packet = gst::Buffer::from_slice([0x80, 96, 0, 1, 0, 0x0f, 0x42, 0x40, 9, 9, 9, 9]);
        faults.state.lock().unwrap().rewrite(&mut packet);
        let bytes = packet.map_readable().unwrap();
        assert_eq!(u16::from_be_bytes([bytes[2], bytes[3]]), 5001);
        assert_eq!(u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]), 1_000_000 - 900_000);
        assert_eq!(bytes[8..], [9, 9, 9, 9]);
    }

    #[test]
    fn a_report_tells_another_time() {
        let mut report = [0; REPORT_LENGTH];
        report[11] = 100;
        let faults = PacketFaults::new();
        faults.apply(PacketFault::Ntp(-1.5));
        let ntp = faults.state.lock().unwrap().ntp;
        shift_report(&mut report, ntp);
        assert_eq!(report[8..], [0, 0, 0, 98, 0x80, 0, 0, 0]);
    }

    #[test]
    fn loss_is_what_was_asked_for() {
        let faults = PacketFaults::new();
        faults.apply(PacketFault::Loss(5.0));
        let mut state = faults.state.lock().unwrap();
        let lost = (0..20_000).filter(|_| state.lose()).count();
        assert!((900..1100).contains(&lost), "{lost} of 20000");
    }
}
