//! Ports of loopback for programs that cannot take any free one.
//!
//! Owns: finding one, and who listens there. Does not know: the programs. Between finding and listening somebody else may
//! take it: a program that ends at once is started again on another.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

/// One that nobody has now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port should be there");
    listener.local_addr().expect("it should be bound").port()
}

/// Whether the process `id`, or one of its group, listens there; somebody else does not count.
pub fn listens(id: u32, port: u16) -> bool {
    let sockets: Vec<String> = rows().filter(|row| row.is_listener_at(port)).map(|row| row.socket).collect();
    let holds = |process: u32| {
        let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|target| target.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target)))
    };
    !sockets.is_empty() && group(id).into_iter().any(holds)
}

/// Whether the clients of whoever listens there have read all that was written to them.
pub fn is_read_out(port: u16) -> bool {
    let waits = |row: &Row| {
        !row.listener && ((row.local == port && row.to_send) || (row.remote == port && row.to_read))
    };
    !rows().any(|row| waits(&row))
}

/// A socket of TCP.
struct Row {
    local: u16,
    remote: u16,
    listener: bool,
    /// Whether something is not acknowledged by the other side's system yet.
    to_send: bool,
    /// Whether something is not read by its process yet.
    to_read: bool,
    /// As links in `/proc/PID/fd` name it.
    socket: String,
}

impl Row {
    /// Columns as proc(5) has them: number, local and remote address, state, queues, …, the inode as the tenth.
    fn of(line: &str) -> Option<Self> {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let port = |at: usize| u16::from_str_radix(columns.get(at)?.split_once(':')?.1, 16).ok();
        let (to_send, to_read) = columns.get(4)?.split_once(':')?;
        let some = |queue: &str| queue.bytes().any(|digit| digit != b'0');
        Some(Self {
            local: port(1)?,
            remote: port(2)?,
            listener: *columns.get(3)? == "0A",
            to_send: some(to_send),
            to_read: some(to_read),
            socket: format!("socket:[{}]", columns.get(9)?),
        })
    }

    fn is_listener_at(&self, port: u16) -> bool {
        self.listener && self.local == port
    }
}

fn rows() -> impl Iterator<Item = Row> {
    // Programs that listen at every address do so on IPv6; where a system has none, the table is not there.
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let rows: Vec<Row> = tables.iter().flat_map(|table| table.lines()).filter_map(Row::of).collect();
    rows.into_iter()
}

/// It and the processes of its group.
fn group(id: u32) -> Vec<u32> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let processes = names.filter_map(|name| name.to_str()?.parse::<u32>().ok());
    let is_member = |process: &u32| {
        // The name in brackets may hold spaces; behind it stand state, parent and group.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let group = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(2)?.parse().ok());
        *process == id || group == Some(id)
    };
    processes.filter(is_member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_known_by_its_process() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(std::process::id(), port));
        assert!(!listens(1, port), "somebody else's");
        drop(listener);
        assert!(!listens(std::process::id(), port));
    }

    #[test]
    fn what_was_not_read_yet_is_seen() {
        use std::io::{Read, Write};
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        assert!(is_read_out(port));
        served.write_all(b"word").unwrap();
        assert!(!is_read_out(port));
        client.read_exact(&mut [0; 4]).unwrap();
        assert!(is_read_out(port));
    }
}
