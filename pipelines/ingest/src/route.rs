//! Which way RTP takes where the configuration leaves it open: the one that works.
//!
//! Owns: what a camera's connections learn from each other about TCP and UDP. Does not know: pipelines, messages.

use std::sync::{Mutex, PoisonError};

use crate::Transport;

/// Shared by all connections of one camera, since what one of them finds out is for the next.
#[derive(Debug, Default)]
pub struct Route(Mutex<Learnt>);

#[derive(Clone, Copy, Debug, Default)]
struct Learnt {
    /// Whether UDP comes next; else TCP.
    udp: bool,
    /// By which packets came last.
    worked: Option<Transport>,
    /// Whether the other way has failed since packets came last.
    other_failed: bool,
}

/// What is left when a way brings no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The other way is next.
    Other(Transport),
    /// Neither works now; one has worked before, so both are tried on and on.
    Again(Transport),
    /// Neither has ever worked.
    Neither,
}

impl Route {
    /// What the next connection asks for: TCP at first, then what worked last.
    pub(crate) fn next(&self) -> Transport {
        if self.learnt().udp { Transport::Udp } else { Transport::Tcp }
    }

    /// By which way packets came last; none where none have come.
    pub fn worked(&self) -> Option<Transport> {
        self.learnt().worked
    }

    fn learnt(&self) -> Learnt {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packets come.
    pub(crate) fn works(&self, way: Transport) {
        let learnt = Learnt { udp: way == Transport::Udp, worked: Some(way), other_failed: false };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = learnt;
    }

    /// The peer refuses this way, or nothing comes by it.
    pub(crate) fn fails(&self, way: Transport) -> Left {
        let mut learnt = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        learnt.udp = way != Transport::Udp;
        let other = if learnt.udp { Transport::Udp } else { Transport::Tcp };
        let both = std::mem::replace(&mut learnt.other_failed, true);
        match (both, learnt.worked) {
            (false, _) => Left::Other(other),
            (true, Some(_)) => Left::Again(other),
            (true, None) => {
                learnt.other_failed = false;
                Left::Neither
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Transport::{Tcp, Udp};

    #[test]
    fn tcp_is_first_and_what_works_stays() {
        let route = Route::default();
        assert_eq!((route.next(), route.worked()), (Tcp, None));
        assert_eq!((route.fails(Tcp), route.next()), (Left::Other(Udp), Udp));
        route.works(Udp);
        assert_eq!((route.next(), route.worked()), (Udp, Some(Udp)));
        assert_eq!((route.fails(Udp), route.next()), (Left::Other(Tcp), Tcp), "a firewall since");
        route.works(Tcp);
        assert_eq!((route.next(), route.worked()), (Tcp, Some(Tcp)));
    }

    #[test]
    fn where_neither_works_both_are_tried_in_turn() {
        let route = Route::default();
        for _ in 0..2 {
            assert_eq!((route.fails(Tcp), route.fails(Udp)), (Left::Other(Udp), Left::Neither));
            assert_eq!(route.next(), Tcp);
        }
        route.works(Udp);
        assert_eq!(
            [route.fails(Udp), route.fails(Tcp), route.fails(Udp)],
            [Left::Other(Tcp), Left::Again(Udp), Left::Again(Tcp)]
        );
    }
}
