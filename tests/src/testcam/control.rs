//! The control port: reads lines, has them done, writes answers.
//!
//! Owns: the sockets of the control protocol. Does not know: what a command does.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use super::command::Command;

/// Does a command; the answer is one line.
pub(crate) type Obey = Arc<dyn Fn(Command) -> Result<String, String> + Send + Sync>;

/// Listens on loopback (port 0: any free one) and serves each connection on a thread of its own. The port.
pub(crate) fn serve(port: u16, obey: Obey) -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let port = listener.local_addr()?.port();
    std::thread::Builder::new().name("control".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let obey = obey.clone();
            // A thread that cannot be started or a peer that left costs this one connection.
            let _ = std::thread::Builder::new().name("control-peer".into()).spawn(move || {
                let _ = answer(&stream, &obey);
            });
        }
    })?;
    Ok(port)
}

fn answer(stream: &TcpStream, obey: &Obey) -> std::io::Result<()> {
    let mut writer = stream;
    for line in BufReader::new(stream).lines() {
        let answer = line?.parse().and_then(|command| obey(command));
        let line = answer.unwrap_or_else(|error| format!("error: {error}"));
        writer.write_all(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}
