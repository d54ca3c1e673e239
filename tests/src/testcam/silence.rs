//! What stands at the port in place of the server: a socket that takes connections and says nothing, or one whose
//! queue is so full that the kernel answers nobody.
//!
//! Owns: those sockets. Does not know: RTSP, commands.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use vedette_core::{Clock, Shutdown};

/// A connection on loopback that is not there by now never will be.
const UNANSWERED: Duration = Duration::from_millis(300);
/// More connections than the kernel queues for a socket that nobody accepts from.
const CROWD: usize = 900;
/// How long a socket that another thread closes may keep its port.
const PORT_FREE: Duration = Duration::from_secs(5);

/// Holds the port until it is dropped.
#[derive(Debug)]
pub(crate) struct Silence {
    _listener: TcpListener,
    crowd: Vec<TcpStream>,
}

impl Silence {
    /// Connections are taken by the kernel; nothing is ever read from them.
    pub(crate) fn mute(port: u16, clock: &dyn Clock) -> io::Result<Self> {
        let (end, never) = (clock.now() + PORT_FREE, Shutdown::new());
        loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(listener) => return Ok(Self { _listener: listener, crowd: Vec::new() }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && clock.now() < end => {
                    clock.pause(Duration::from_millis(10), &never);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The queue of connections is full of our own: a further SYN is dropped, as by a machine that is not there.
    pub(crate) fn unreachable(port: u16, clock: &dyn Clock) -> io::Result<Self> {
        let mut this = Self::mute(port, clock)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while this.crowd.len() < CROWD {
            match TcpStream::connect_timeout(&address, UNANSWERED) {
                Ok(stream) => this.crowd.push(stream),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(this),
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{CROWD} connections do not fill the queue of a socket")))
    }
}
