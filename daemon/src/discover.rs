//! Cameras on the network that say so: one WS-Discovery question by UDP, as ONVIF cameras answer it (ONVIF Core
//! Specification, section 7; WS-Discovery of April 2005).
//!
//! Owns: the question, on which interfaces it is asked, for how long answers are taken. Does not know: what an answer
//! looks like (`discover/answer.rs`), how the list is printed. Nothing runs unless somebody asks: the service never does.

mod answer;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use vedette_core::{Clock, Mono};

pub use answer::Found;

/// Where cameras listen: WS-Discovery, section 2.4.
pub const PORT: u16 = 3702;
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);

const LOOPBACK: &str = "lo";

/// A datagram may be lost: asked again after so long, with the same question, as WS-Discovery has it.
const REPEAT: Duration = Duration::from_millis(500);
/// How often is asked.
const ASKED: usize = 3;
/// How long one wait for an answer lasts.
const POLL: Duration = Duration::from_millis(100);
/// The longest datagram there is.
const LONGEST: usize = 65_535;
/// Cameras that are listed at most: a network is no larger, and who answers more often than this means no good.
const MOST: usize = 1024;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// All that listen on these interfaces, by name; on every one that is up where there are none.
    Interfaces(Vec<String>),
    /// These hosts (`HOST` or `HOST:PORT`): across routers, where multicast does not reach.
    Hosts(Vec<String>),
}

/// Why nobody could be asked.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// An interface or host could not be asked.
    #[error("cannot ask on {place}: {error}")]
    Ask {
        /// The interface or host.
        place: String,
        /// Why.
        error: io::Error,
    },
    /// The machine has no network.
    #[error("no network interface is up; `ip link` lists them")]
    NoInterface,
}

/// One socket and whom it asks.
struct Asker {
    place: String,
    socket: UdpSocket,
    to: SocketAddr,
}

/// Asks and collects answers for `length`; sorted by address, each camera once.
///
/// # Errors
/// Where nobody could be asked at all; where an interface or host that was named could not be.
pub fn discover(whom: &Whom, length: Duration, clock: &dyn Clock) -> Result<Vec<Found>, DiscoverError> {
    let askers = askers(whom)?;
    let id = format!("urn:uuid:{}", uuid::Uuid::new_v4());
    let question = question(&id);
    let end = clock.now() + length;
    let (tx, rx) = mpsc::channel();
    let asked: Vec<Result<(), DiscoverError>> = std::thread::scope(|scope| {
        let listeners: Vec<_> = askers
            .iter()
            .map(|asker| {
                let (tx, id, question) = (tx.clone(), id.as_str(), question.as_bytes());
                scope.spawn(move || asker.ask(question, id, end, clock, &tx))
            })
            .collect();
        listeners.into_iter().map(|listener| listener.join().unwrap_or(Ok(()))).collect()
    });
    drop(tx);
    let mut found = BTreeMap::new();
    for camera in rx {
        if found.len() < MOST {
            found.entry(camera.key()).or_insert(camera);
        }
    }
    let named = !matches!(whom, Whom::Interfaces(names) if names.is_empty());
    let none = asked.iter().all(Result::is_err);
    match asked.into_iter().find_map(Result::err) {
        Some(error) if named || none => Err(error),
        _ => Ok(found.into_values().collect()),
    }
}

fn askers(whom: &Whom) -> Result<Vec<Asker>, DiscoverError> {
    match whom {
        Whom::Interfaces(names) if names.is_empty() => {
            let names = interfaces(Path::new("/sys/class/net"));
            // One that gives no socket has no address, say: another may.
            let askers: Vec<Asker> = names.iter().filter_map(|name| on_interface(name).ok()).collect();
            if askers.is_empty() { Err(DiscoverError::NoInterface) } else { Ok(askers) }
        }
        Whom::Interfaces(names) => names.iter().map(|name| on_interface(name)).collect(),
        Whom::Hosts(hosts) => hosts.iter().map(|host| to_host(host)).collect(),
    }
}

/// Interfaces that are up and know multicast: bits 0 and 12 of their flags (netdevice(7)). The loopback has not.
fn interfaces(folder: &Path) -> Vec<String> {
    const UP_AND_MULTICAST: u32 = 0x1001;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| {
            let flags = std::fs::read_to_string(entry.path().join("flags")).unwrap_or_default();
            let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
            flags & UP_AND_MULTICAST == UP_AND_MULTICAST
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn on_interface(name: &str) -> Result<Asker, DiscoverError> {
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind_device(Some(name.as_bytes()))?;
        // The kernel takes an address of another interface for what leaves by the loopback, and no answer finds back.
        let own = if name == LOOPBACK { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        socket.bind(&SockAddr::from(SocketAddr::from((own, 0))))?;
        Ok(UdpSocket::from(socket))
    };
    let socket = open().map_err(|error| DiscoverError::Ask { place: name.to_owned(), error })?;
    Ok(Asker { place: name.to_owned(), socket, to: (GROUP, PORT).into() })
}

fn to_host(host: &str) -> Result<Asker, DiscoverError> {
    let wrong = |error| DiscoverError::Ask { place: host.to_owned(), error };
    let with_port = host.to_socket_addrs();
    let addresses = match (with_port, host.trim_matches(['[', ']']).parse::<IpAddr>()) {
        (_, Ok(address)) => vec![SocketAddr::from((address, PORT))],
        (Ok(addresses), _) => addresses.collect(),
        (Err(_), _) => (host, PORT).to_socket_addrs().map_err(wrong)?.collect(),
    };
    let to = addresses.into_iter().next().ok_or_else(|| wrong(io::ErrorKind::AddrNotAvailable.into()))?;
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { [0; 16].into() };
    Ok(Asker { place: host.to_owned(), socket: UdpSocket::bind((any, 0)).map_err(wrong)?, to })
}

impl Asker {
    /// Asks now and twice more, and passes on each answer until `end`.
    fn ask(
        &self,
        question: &[u8],
        id: &str,
        end: Mono,
        clock: &dyn Clock,
        found: &mpsc::Sender<Found>,
    ) -> Result<(), DiscoverError> {
        let wrong = |error| DiscoverError::Ask { place: self.place.clone(), error };
        self.socket.set_read_timeout(Some(POLL)).map_err(wrong)?;
        let (mut buffer, mut asked, mut told) = (vec![0; LONGEST], 0, 0);
        let mut next = clock.now();
        while clock.now() < end {
            if asked < ASKED && clock.now() >= next {
                self.socket.send_to(question, self.to).map_err(wrong)?;
                (asked, next) = (asked + 1, next + REPEAT);
            }
            // What is no answer, a time-out and the word that a port is closed alike: wait on.
            let Ok((length, from)) = self.socket.recv_from(&mut buffer) else { continue };
            for camera in answer::cameras(&buffer[..length], from.ip(), id) {
                if told < MOST * ASKED && found.send(camera).is_ok() {
                    told += 1;
                }
            }
        }
        Ok(())
    }
}

/// The question: who is a network video transmitter?
fn question(id: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery" xmlns:n="http://www.onvif.org/ver10/network/wsdl"><s:Header><a:Action s:mustUnderstand="1">http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action><a:MessageID>{id}</a:MessageID><a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo><a:To s:mustUnderstand="1">urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header><s:Body><d:Probe><d:Types>n:NetworkVideoTransmitter</d:Types></d:Probe></s:Body></s:Envelope>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_that_are_up_and_know_multicast_are_asked() {
        let folder = tempfile::tempdir().unwrap();
        for (name, flags) in
            [("lo", "0x9\n"), ("eth1", "0x1003\n"), ("eth0", "0x1043\n"), ("down", "0x1002\n")]
        {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("flags"), flags).unwrap();
        }
        assert_eq!(interfaces(folder.path()), ["eth0", "eth1"]);
        assert!(interfaces(&folder.path().join("none")).is_empty());
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        for (whom, place) in [
            (Whom::Interfaces(vec!["none97".to_owned()]), "none97"),
            (Whom::Hosts(vec!["nobody.invalid".to_owned()]), "nobody.invalid"),
        ] {
            let error = askers(&whom).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(place), "{error}");
        }
        for (host, to) in
            [("127.0.0.1", "127.0.0.1:3702"), ("127.0.0.1:97", "127.0.0.1:97"), ("::1", "[::1]:3702")]
        {
            // A machine without IPv6 has no such socket.
            if let Ok(asker) = to_host(host) {
                assert_eq!(asker.to.to_string(), to);
            }
        }
    }

    #[test]
    fn the_question_is_well_formed_and_names_its_id() {
        let text = question("urn:uuid:1");
        let xml = roxmltree::Document::parse(&text).unwrap();
        let id =
            xml.descendants().find(|n| n.has_tag_name("MessageID") || n.tag_name().name() == "MessageID");
        assert_eq!(id.and_then(|n| n.text()), Some("urn:uuid:1"));
    }
}
