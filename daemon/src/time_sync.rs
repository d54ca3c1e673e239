//! Whether the host's wall clock is synchronised: `clock_synced` of an event.
//!
//! Owns: that one question. Does not know: which servers set the clock. The kernel's own answer (adjtimex) is out of
//! reach inside the service's sandbox (`ProtectClock=yes`), so whoever sets the clock is asked: systemd-timesyncd by the
//! mark that it leaves, chrony and ntpd by one datagram each on the loopback, which both answer everybody there. Where
//! none of them is, or none answers (chrony with `cmdport 0`, a PTP client), it is not known: that counts as not.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use vedette_core::Mono;

const MARK: &str = "/run/systemd/timesync/synchronized";
/// Chrony's port for commands, and NTP's.
const CHRONY: u16 = 323;
const NTP: u16 = 123;
/// Nothing on the loopback takes so long. Where nobody listens, the answer to that comes at once.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long an answer holds.
const HOLDS: Duration = Duration::from_secs(30);

/// What is known of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSync {
    /// This service has set it.
    Synchronised(&'static str),
    /// This service runs, and says that it has not.
    Not(&'static str),
    /// Nobody could be asked.
    Unknown,
}

impl TimeSync {
    /// Asks.
    pub fn look() -> Self {
        if Path::new(MARK).exists() {
            return Self::Synchronised("systemd-timesyncd");
        }
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match (chrony(loopback(CHRONY)), ntp(loopback(NTP))) {
            (Some(true), _) => Self::Synchronised("chrony"),
            (Some(false), _) => Self::Not("chrony"),
            (None, Some(true)) => Self::Synchronised("ntpd"),
            (None, Some(false)) => Self::Not("ntpd"),
            (None, None) => Self::Unknown,
        }
    }

    /// Whether somebody has set it.
    pub fn is_synchronised(self) -> bool {
        matches!(self, Self::Synchronised(_))
    }
}

/// True once a service has set the clock.
pub fn is_synchronised() -> bool {
    TimeSync::look().is_synchronised()
}

/// For whoever wants to know it all the time: asks twice a minute.
#[derive(Debug, Default)]
pub struct Watch(Option<(Mono, bool)>);

impl Watch {
    /// As [`is_synchronised`], half a minute old at most.
    pub fn is_synchronised(&mut self, now: Mono) -> bool {
        match self.0 {
            Some((asked, answer)) if now.since(asked) < HOLDS => answer,
            _ => self.0.insert((now, is_synchronised())).1,
        }
    }
}

/// Sends a question and gives the answer; none where none comes.
fn asked(to: SocketAddr, question: &[u8], answer: &mut [u8]) -> Option<usize> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    socket.connect(to).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.send(question).ok()?;
    socket.recv(answer).ok()
}

/// The leap indicator that both protocols have for a clock that is not set (RFC 5905, figure 9).
const ALARM: u16 = 3;

/// Chrony's `tracking` (candm.h, version 6): a request of 104 bytes as long as its answer, which has the stratum at 52
/// and the leap status at 54.
fn chrony(at: SocketAddr) -> Option<bool> {
    const LENGTH: usize = 104;
    const TRACKING: u8 = 33;
    let id = uuid::Uuid::new_v4().into_bytes();
    let mut question = [0; LENGTH];
    (question[0], question[1], question[5]) = (6, 1, TRACKING);
    question[8..12].copy_from_slice(&id[..4]);
    let mut answer = [0; LENGTH];
    let length = asked(at, &question, &mut answer)?;
    let field = |at: usize| u16::from_be_bytes([answer[at], answer[at + 1]]);
    let (reply, status) = (field(6), field(8));
    let fits = length == LENGTH && answer[..2] == [6, 2] && answer[16..20] == id[..4];
    if !fits || field(4) != u16::from(TRACKING) || (reply, status) != (5, 0) {
        return None;
    }
    Some(field(54) < ALARM && (1..16).contains(&field(52)))
}

/// An NTP client's question (RFC 5905, section 7.3), which ntpd and NTPsec answer on the loopback.
fn ntp(at: SocketAddr) -> Option<bool> {
    const LENGTH: usize = 48;
    const VERSION_4_CLIENT: u8 = 4 << 3 | 3;
    const SERVER: u8 = 4;
    let id = uuid::Uuid::new_v4().into_bytes();
    let mut question = [0; LENGTH];
    question[0] = VERSION_4_CLIENT;
    // Our time of sending is given back: it need not be a time.
    question[40..48].copy_from_slice(&id[..8]);
    let mut answer = [0; LENGTH];
    let length = asked(at, &question, &mut answer)?;
    if length < LENGTH || answer[0] & 7 != SERVER || answer[24..32] != id[..8] {
        return None;
    }
    Some(u16::from(answer[0] >> 6) < ALARM && (1..16).contains(&answer[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody on the loopback who answers one question so.
    fn peer(answer: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut question = [0; 512];
            let (length, from) = socket.recv_from(&mut question).unwrap();
            socket.send_to(&answer(&question[..length]), from).unwrap();
        });
        at
    }

    fn tracking(question: &[u8], stratum: u8, leap: u8) -> Vec<u8> {
        let mut answer = vec![0; 104];
        (answer[0], answer[1], answer[5], answer[7]) = (6, 2, 33, 5);
        answer[16..20].copy_from_slice(&question[8..12]);
        (answer[53], answer[55]) = (stratum, leap);
        answer
    }

    fn time(question: &[u8], first: u8, stratum: u8) -> Vec<u8> {
        let mut answer = vec![0; 48];
        (answer[0], answer[1]) = (first, stratum);
        answer[24..32].copy_from_slice(&question[40..48]);
        answer
    }

    #[test]
    fn chrony_is_asked() {
        for (stratum, leap, expected) in
            [(3, 0, true), (3, 1, true), (0, 3, false), (0, 0, false), (16, 0, false)]
        {
            let at = peer(move |question| {
                assert_eq!((question.len(), &question[..6]), (104, &[6, 1, 0, 0, 0, 33][..]));
                tracking(question, stratum, leap)
            });
            assert_eq!(chrony(at), Some(expected), "stratum {stratum}, leap {leap}");
        }
    }

    #[test]
    fn ntpd_is_asked() {
        for (first, stratum, expected) in
            [(0x24, 2, true), (0x64, 2, true), (0xe4, 2, false), (0x24, 16, false)]
        {
            let at = peer(move |question| {
                assert_eq!((question.len(), question[0]), (48, 0x23));
                time(question, first, stratum)
            });
            assert_eq!(ntp(at), Some(expected), "{first:#x}, stratum {stratum}");
        }
    }

    #[test]
    fn what_is_no_answer_says_nothing() {
        let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        assert_eq!((chrony(nobody), ntp(nobody)), (None, None));
        assert_eq!(chrony(peer(|_| vec![1, 2, 3])), None);
        assert_eq!(chrony(peer(<[u8]>::to_vec)), None, "an echo");
        assert_eq!(chrony(peer(|_| tracking(&[9; 20], 3, 0))), None, "an answer to somebody else");
        assert_eq!(ntp(peer(<[u8]>::to_vec)), None, "an echo");
        assert_eq!(ntp(peer(|_| time(&[9; 48], 0x24, 2))), None, "an answer to somebody else");
    }

    #[test]
    fn an_answer_holds_for_half_a_minute() {
        let at = |seconds| Mono(Duration::from_secs(seconds));
        let mut watch = Watch(Some((at(100), true)));
        assert!(watch.is_synchronised(at(129)));
        assert_eq!(watch.is_synchronised(at(130)), is_synchronised());
        assert_eq!(watch.0.map(|(asked, _)| asked), Some(at(130)));
    }
}
