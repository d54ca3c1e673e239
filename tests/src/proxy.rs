//! A TCP proxy on loopback whose way back can be muted: what the peer answers is then lost.
//!
//! Owns: sockets and threads. Does not know: which protocol passes through.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

/// Forwards 127.0.0.1:[`Proxy::port`] to another port. Its threads end with their connections.
pub struct Proxy {
    port: u16,
    muted: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Forwards to 127.0.0.1:`target`.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port should be there");
        let port = listener.local_addr().expect("it should be bound").port();
        let (muted, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let proxy = Self { port, muted: Arc::clone(&muted), open: Arc::clone(&open) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let halves = [&client, &server].map(TcpStream::try_clone);
                let [Ok(client_too), Ok(server_too)] = halves else { continue };
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                open.extend([client.try_clone(), server.try_clone()].into_iter().flatten());
                drop(open);
                let muted = Arc::clone(&muted);
                std::thread::spawn(move || forward(client, server, &AtomicBool::new(false)));
                std::thread::spawn(move || forward(server_too, client_too, &muted));
            }
        });
        proxy
    }

    /// Where to connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on answers are lost, or no longer.
    pub fn mute(&self, muted: bool) {
        self.muted.store(muted, SeqCst);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, muted: &AtomicBool) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        if !muted.load(SeqCst) && to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
