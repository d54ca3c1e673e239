//! `vedette discover` against ONVIF cameras on the loopback, by unicast and by multicast.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::{folder, root, vedette};

/// Types, scopes and addresses of one camera's answer.
struct Answer(&'static str, &'static str, &'static str, &'static str);

const CAMERAS: [Answer; 2] = [
    Answer(
        "urn:uuid:0a000011",
        "dn:NetworkVideoTransmitter tds:Device",
        "onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/hardware/IPC-B2 \
         onvif://www.onvif.org/name/Gate%20east onvif://www.onvif.org/location/country/de \
         onvif://www.onvif.org/location/Hall%207",
        "http://10.0.0.17/onvif/device_service http://169.254.3.4/onvif/device_service",
    ),
    Answer(
        "urn:uuid:0a000012",
        "dn:NetworkVideoTransmitter",
        "",
        "http://10.0.0.18:8080/onvif/device_service",
    ),
];

/// As gSOAP writes it, which many cameras are made with.
fn envelope(Answer(endpoint, types, scopes, xaddrs): &Answer, relates: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<SOAP-ENV:Envelope \
         xmlns:SOAP-ENV=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:wsa=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:wsdd=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\" \
         xmlns:dn=\"http://www.onvif.org/ver10/network/wsdl\" xmlns:tds=\"http://www.onvif.org/ver10/device/wsdl\">\
         <SOAP-ENV:Header><wsa:MessageID>urn:uuid:answer</wsa:MessageID><wsa:RelatesTo>{relates}</wsa:RelatesTo>\
         </SOAP-ENV:Header><SOAP-ENV:Body><wsdd:ProbeMatches><wsdd:ProbeMatch><wsa:EndpointReference>\
         <wsa:Address>{endpoint}</wsa:Address></wsa:EndpointReference><wsdd:Types>{types}</wsdd:Types>\
         <wsdd:Scopes>{scopes}</wsdd:Scopes><wsdd:XAddrs>{xaddrs}</wsdd:XAddrs>\
         <wsdd:MetadataVersion>1</wsdd:MetadataVersion></wsdd:ProbeMatch></wsdd:ProbeMatches></SOAP-ENV:Body>\
         </SOAP-ENV:Envelope>"
    )
}

/// Answers every question as these cameras would, and says a few things that are none; for as long as the process lives.
fn cameras(socket: UdpSocket, answers: &'static [Answer]) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let id = question.split_once("MessageID>").and_then(|(_, rest)| rest.split_once('<'));
            let Some((id, _)) = id.filter(|_| question.contains("n:NetworkVideoTransmitter")) else {
                continue;
            };
            let nonsense = ["", "hello", &envelope(&answers[0], "urn:uuid:another").replace("east", "west")];
            let good: Vec<String> = answers.iter().map(|answer| envelope(answer, id)).collect();
            for text in nonsense.into_iter().chain(good.iter().map(String::as_str)) {
                // Whoever asked may have gone.
                let _ = socket.send_to(text.as_bytes(), from);
            }
        }
    });
}

fn alone() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = socket.local_addr().expect("an address").port();
    cameras(socket, &CAMERAS);
    port
}

#[test]
fn a_host_is_asked_and_answers_are_listed() {
    let (folder, port) = (folder(), alone());
    let ran = vedette(&folder, &format!("discover --seconds 1 --address 127.0.0.1:{port}")).run();
    ran.expect(0, &[]);
    let golden = std::fs::read_to_string(root().join("tests/golden/discover/plain.txt")).expect("golden");
    assert_eq!((ran.out.as_str(), ran.err.as_str()), (golden.as_str(), ""));
    let json = vedette(&folder, &format!("discover --json --seconds 1 --address 127.0.0.1:{port}")).run();
    let list = json.expect(0, &[]).json();
    assert_eq!(list["cameras"].as_array().map(Vec::len), Some(2), "{list}");
    assert_eq!(list["cameras"][0]["name"], "Gate east");
    assert_eq!(list["cameras"][0]["address"], "127.0.0.1");
    assert_eq!(list["cameras"][0]["xaddrs"][1], "http://169.254.3.4/onvif/device_service");
    assert_eq!(list["cameras"][1]["location"], serde_json::Value::Null);
}

#[test]
fn all_that_listen_on_an_interface_are_asked() {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
    socket.set_reuse_address(true).expect("a socket option");
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 3702)).into()).expect("port 3702");
    socket
        .join_multicast_v4(&Ipv4Addr::new(239, 255, 255, 250), &Ipv4Addr::LOCALHOST)
        .expect("multicast on the loopback");
    cameras(socket.into(), &CAMERAS);
    let ran = vedette(&folder(), "discover --seconds 1 --interface lo").run();
    ran.expect(0, &["Gate east", "Hall 7", "10.0.0.18:8080", "vedette probe"]);
}

#[test]
fn who_finds_nothing_says_what_to_look_at() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let folder = folder();
    let ran = vedette(&folder, &format!("discover --seconds 1 --address 127.0.0.1:{port}")).run();
    ran.expect(1, &["no camera answered within 1 s", "ONVIF", "3702"]);
    let json = vedette(&folder, &format!("discover --json --seconds 1 --address 127.0.0.1:{port}")).run();
    assert_eq!(json.expect(1, &[]).out.trim(), "{\"cameras\":[]}");
    let ran = vedette(&folder, "discover --seconds 1 --interface none97").run();
    ran.expect(1, &["cannot ask on none97"]);
}
