//! What a camera answers to a WS-Discovery question.
//!
//! Owns: reading it. These bytes come from anybody on the network: sizes are bounded, whatever is no answer is passed
//! over, and no text leaves here that could steer a terminal. Does not know: sockets.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use roxmltree::{Document, Node, ParsingOptions};
use url::Url;

/// A camera that has answered.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// From where the answer came.
    pub address: IpAddr,
    /// What it says its name is; absent where it says none.
    pub name: Option<String>,
    /// Which model it says it is.
    pub hardware: Option<String>,
    /// Where it says it stands; several words are joined by `, `.
    pub location: Option<String>,
    /// Where its ONVIF service answers; often at one address per interface of the camera.
    pub xaddrs: Vec<String>,
    /// What it is known by wherever it moves, such as `urn:uuid:…`.
    pub endpoint: String,
}

/// Nodes of the longest answer that is read: those of real cameras have about 50.
const NODES: u32 = 2_000;
/// Characters of a text that are kept.
const CHARACTERS: usize = 128;
/// Texts of one kind that are kept of one camera, and cameras of one answer.
const MANY: usize = 16;

const DISCOVERY: &str = "http://schemas.xmlsoap.org/ws/2005/04/discovery";
const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";

impl Found {
    /// By what a camera is told from others: it answers once per interface and question.
    pub(super) fn key(&self) -> (IpAddr, String) {
        (self.address, self.endpoint.clone())
    }
}

/// The cameras of one datagram; none where it is no answer to the question `id`.
pub(super) fn cameras(datagram: &[u8], from: IpAddr, id: &str) -> Vec<Found> {
    let text = String::from_utf8_lossy(datagram);
    // Some cameras pad their answers with zeros.
    let text = text.trim_matches(|c: char| c == '\0' || c == '\u{feff}' || c.is_whitespace());
    let options = ParsingOptions { nodes_limit: NODES, ..ParsingOptions::default() };
    let Ok(xml) = Document::parse_with_options(text, options) else { return Vec::new() };
    let relates =
        xml.descendants().find(|n| n.has_tag_name((ADDRESSING, "RelatesTo"))).and_then(|n| n.text());
    // Old cameras leave it out; another's question has another id.
    if relates.is_some_and(|relates| relates.trim() != id) {
        return Vec::new();
    }
    let matches = xml.descendants().filter(|n| n.has_tag_name((DISCOVERY, "ProbeMatch")));
    matches.filter_map(|one| camera(one, from)).take(MANY).collect()
}

fn camera(one: Node<'_, '_>, from: IpAddr) -> Option<Found> {
    let words = |name| words(one, name);
    let video = words("Types").any(|t| t.rsplit(':').next() == Some("NetworkVideoTransmitter"));
    let scopes: Vec<(&str, String)> = words("Scopes").filter_map(scope).collect();
    // A printer answers such questions too.
    if !video && scopes.is_empty() {
        return None;
    }
    let all = |kind: &str| {
        let mut found: Vec<&str> = Vec::new();
        for (_, value) in scopes.iter().filter(|(k, _)| *k == kind).take(MANY) {
            if !found.contains(&value.as_str()) {
                found.push(value);
            }
        }
        (!found.is_empty()).then(|| shown(&found.join(", ")))
    };
    let endpoint = one.descendants().find(|n| n.has_tag_name((ADDRESSING, "Address"))).and_then(|n| n.text());
    Some(Found {
        address: from,
        name: all("name"),
        hardware: all("hardware"),
        location: all("location"),
        xaddrs: words("XAddrs").filter_map(service).take(MANY).collect(),
        endpoint: shown(endpoint.unwrap_or_default().trim()),
    })
}

/// The words of a child, which are lists separated by white space.
fn words<'a>(one: Node<'a, '_>, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let child = one.children().find(|n| n.has_tag_name((DISCOVERY, name)));
    child.and_then(|n| n.text()).unwrap_or_default().split_whitespace()
}

/// `onvif://www.onvif.org/name/Gate%20east` as `name` and `Gate east`; `location/city/Ulm` as `location` and `Ulm`.
fn scope(word: &str) -> Option<(&str, String)> {
    let path = word.strip_prefix("onvif://www.onvif.org/")?;
    let (kind, value) = path.split_once('/')?;
    let value = if kind == "location" { value.rsplit('/').next()? } else { value };
    let value = shown(percent_decode_str(value).decode_utf8_lossy().trim());
    (!value.is_empty()).then_some((kind, value))
}

/// Where a service answers, without a login that some cameras put there.
fn service(word: &str) -> Option<String> {
    let mut url = Url::parse(word).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    url.host_str()?;
    let stripped = url.set_username("").is_ok() && url.set_password(None).is_ok();
    stripped.then(|| shown(url.as_str()))
}

/// Short, and without what would steer a terminal or turn the direction of its line.
fn shown(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().filter(|&c| !steers(c)).take(CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "urn:uuid:8f5d5f05-ad0a-4ad8-a5cb-bd1ee22d3b6a";
    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 17));

    fn answer(types: &str, scopes: &str, xaddrs: &str, relates: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<SOAP-ENV:Envelope \
             xmlns:SOAP-ENV=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:wsa=\"{ADDRESSING}\" \
             xmlns:d=\"{DISCOVERY}\" xmlns:dn=\"http://www.onvif.org/ver10/network/wsdl\"><SOAP-ENV:Header>\
             <wsa:RelatesTo>{relates}</wsa:RelatesTo></SOAP-ENV:Header><SOAP-ENV:Body><d:ProbeMatches><d:ProbeMatch>\
             <wsa:EndpointReference><wsa:Address>urn:uuid:1</wsa:Address></wsa:EndpointReference>\
             <d:Types>{types}</d:Types><d:Scopes>{scopes}</d:Scopes><d:XAddrs>{xaddrs}</d:XAddrs>\
             <d:MetadataVersion>1</d:MetadataVersion></d:ProbeMatch></d:ProbeMatches></SOAP-ENV:Body>\
             </SOAP-ENV:Envelope>"
        )
    }

    const SCOPES: &str = "onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/Profile/Streaming \
        onvif://www.onvif.org/hardware/IPC-B2 onvif://www.onvif.org/name/Gate%20east \
        onvif://www.onvif.org/location/country/de onvif://www.onvif.org/location/Hall%207";

    fn good() -> String {
        answer("dn:NetworkVideoTransmitter tds:Device", SCOPES, "http://10.0.0.17/onvif/device_service", ID)
    }

    #[test]
    fn an_answer_is_read() {
        let expected = Found {
            address: FROM,
            name: Some("Gate east".to_owned()),
            hardware: Some("IPC-B2".to_owned()),
            location: Some("de, Hall 7".to_owned()),
            xaddrs: vec!["http://10.0.0.17/onvif/device_service".to_owned()],
            endpoint: "urn:uuid:1".to_owned(),
        };
        assert_eq!(cameras(good().as_bytes(), FROM, ID), std::slice::from_ref(&expected));
        let padded = format!("\u{feff}{}\0\0\0", good());
        assert_eq!(cameras(padded.as_bytes(), FROM, ID), std::slice::from_ref(&expected));
        let silent = good().replace(&format!("<wsa:RelatesTo>{ID}</wsa:RelatesTo>"), "");
        assert_eq!(cameras(silent.as_bytes(), FROM, ID), [expected]);
    }

    #[test]
    fn what_is_no_answer_is_passed_over() {
        let printer = answer("wprt:PrintDeviceType", "", "http://10.0.0.9/", ID);
        let another = answer("dn:NetworkVideoTransmitter", SCOPES, "", "urn:uuid:another");
        let entities = good().replacen(
            "?>",
            "?><!DOCTYPE x [<!ENTITY a \"aaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>",
            1,
        );
        let huge = good().replace("<d:Types>", &format!("{}<d:Types>", "<x/>".repeat(3_000)));
        let deep = format!("{}{}", "<x>".repeat(16_000), "</x>".repeat(400));
        for text in ["", "hello", "<x/>", &printer, &another, &entities, &huge, &deep] {
            assert_eq!(cameras(text.as_bytes(), FROM, ID), [], "{text:.80}");
        }
    }

    #[test]
    fn nothing_in_it_steers_a_terminal_or_shows_a_login() {
        let scopes = format!(
            "onvif://www.onvif.org/name/%1B[31mred%0a%E2%80%AE%D8%9C onvif://www.onvif.org/hardware/{}",
            "x".repeat(999)
        );
        let xaddrs = "http://admin:geheim@10.0.0.17/onvif javascript:alert(1) http:// ftp://10.0.0.17/";
        let found = cameras(answer("", &scopes, xaddrs, ID).as_bytes(), FROM, ID).remove(0);
        assert_eq!(found.name.as_deref(), Some("[31mred"));
        assert_eq!(found.hardware.map(|h| h.len()), Some(CHARACTERS));
        assert_eq!(found.xaddrs, ["http://10.0.0.17/onvif"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            cameras(&bytes, FROM, ID);
        }

        #[test]
        fn no_damage_to_an_answer_makes_it_panic_or_say_too_much(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..12),
        ) {
            let mut bytes = good().into_bytes();
            for (at, byte, kind) in damage {
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => bytes.truncate(bytes.len() - at.min(40)),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            for found in cameras(&bytes, FROM, ID) {
                let texts = [found.name, found.hardware, found.location, Some(found.endpoint)];
                for text in texts.into_iter().flatten().chain(found.xaddrs) {
                    prop_assert!(text.chars().count() <= CHARACTERS && !text.chars().any(char::is_control));
                }
            }
        }
    }
}
