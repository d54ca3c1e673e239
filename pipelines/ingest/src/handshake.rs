//! Our own first words with a camera, where `rtspsrc` does not say enough: whether it speaks TLS at all, which
//! certificate it shows, and which login it asks for.
//!
//! Owns: one TCP connection at a time, with timeouts, that carries no credentials. Does not know: GStreamer, video.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::Fingerprint;
use crate::source::Target;

/// How long each step may take.
pub(crate) const BUDGET: Duration = Duration::from_secs(3);

/// Bytes of an answer that are read at the most.
const ANSWER_LIMIT: usize = 16 * 1024;

/// What a camera asks for before it gives a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Login {
    /// Nothing: anybody on the network can watch.
    None,
    /// User and password in the clear (RFC 7617).
    Basic,
    /// User and password as a digest (RFC 7616).
    Digest,
}

/// Whether a host's name has an address.
pub(crate) fn has_address(host: &str, port: u16) -> bool {
    (host, port).to_socket_addrs().is_ok_and(|mut addresses| addresses.next().is_some())
}

/// Why `rtsps` cannot be spoken with a peer that can be connected to, beside its certificate; `None` where it cannot be
/// connected to.
pub(crate) fn tls_reason(host: &str, port: u16, budget: Duration) -> Option<String> {
    let stream = connect(host, port, budget).ok()?;
    Some(match secure(host, stream) {
        Ok(_) => "the TLS handshake fails, though not by the certificate".to_owned(),
        Err(error) => format!("it does not speak TLS as rtsps needs it ({error})"),
    })
}

/// What a camera says of itself before any login.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Greeting {
    /// Absent where its answer does not tell.
    pub(crate) login: Option<Login>,
    /// The certificate it shows, where it speaks TLS.
    pub(crate) certificate: Option<Fingerprint>,
}

/// Which login a camera asks for, by a DESCRIBE without one, and which certificate it shows.
pub(crate) fn greeting(target: &Target, budget: Duration) -> std::io::Result<Greeting> {
    let mut stream = connect(&target.host, target.port, budget)?;
    let request = question(target);
    if !target.tls {
        return Ok(Greeting { login: login_in(&ask(&mut stream, &request)?), certificate: None });
    }
    let mut stream = secure(&target.host, stream)?;
    let shown = stream.conn.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.map(|certificate| Fingerprint::of(certificate));
    Ok(Greeting { login: login_in(&ask(&mut stream, &request)?), certificate })
}

/// Without query, and without a path that holds a login: nobody has judged the certificate of who reads it.
fn question(target: &Target) -> String {
    let url = target.shown.split(['?', '…']).next().unwrap_or_default();
    format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\nUser-Agent: vedette\r\n\r\n")
}

fn login_in(answer: &str) -> Option<Login> {
    let schemes: Vec<String> = answer
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("www-authenticate"))
        .map(|(_, value)| value.trim().to_ascii_lowercase())
        .collect();
    if schemes.iter().any(|s| s.starts_with("digest")) {
        Some(Login::Digest)
    } else if schemes.iter().any(|s| s.starts_with("basic")) {
        Some(Login::Basic)
    } else {
        let given = answer.split_whitespace().nth(1) == Some("200");
        given.then_some(Login::None)
    }
}

fn connect(host: &str, port: u16, budget: Duration) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, budget) {
            Ok(stream) => {
                stream.set_read_timeout(Some(budget))?;
                stream.set_write_timeout(Some(budget))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Sends a request and reads the head of the answer.
fn ask(stream: &mut (impl Read + Write), request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 2048]);
    while answer.len() < ANSWER_LIMIT && !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => break,
            n => answer.extend_from_slice(&chunk[..n]),
        }
    }
    if !answer.starts_with(b"RTSP/") {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "no RTSP answer"));
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Completes a TLS handshake without judging the certificate: no credentials go over this connection.
fn secure(host: &str, mut stream: TcpStream) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let other = std::io::Error::other::<rustls::Error>;
    let config = ClientConfig::builder_with_provider(Arc::<CryptoProvider>::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Takes every certificate: which one is shown is the question here; whether to trust it is `rtspsrc`'s.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_login_offered_counts() {
        struct Case(&'static str, Option<Login>);
        let cases = [
            Case("RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", Some(Login::None)),
            Case("RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n", None),
            Case(
                "RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n",
                Some(Login::Basic),
            ),
            Case(
                "RTSP/1.0 401 No\r\nwww-authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: Digest realm=\"x\"\r\n",
                Some(Login::Digest),
            ),
        ];
        for Case(answer, expected) in cases {
            assert_eq!(login_in(answer), expected, "{answer}");
        }
    }

    #[test]
    fn a_peer_that_is_not_trusted_yet_reads_no_login() {
        struct Case(&'static str, &'static str);
        for Case(url, asked) in [
            Case("rtsps://viewer:geheim@cam/1?password=geheim", "DESCRIBE rtsps://cam/1 RTSP/1.0\r\n"),
            Case(
                "rtsp://cam:97/user=viewer_password=geheim_channel=1",
                "DESCRIBE rtsp://cam:97/ RTSP/1.0\r\n",
            ),
        ] {
            let question = question(&Target::new(&crate::testing::config(url)).unwrap());
            assert!(question.starts_with(asked) && !question.contains("geheim"), "{question}");
        }
    }
}
