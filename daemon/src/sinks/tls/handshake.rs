//! Why a TLS handshake failed, in words that name the peer, what is wrong and the remedy.
//!
//! Owns: those words. Does not know: sockets, MQTT, HTTP. Nothing in a line changes from attempt to attempt, so that
//! whoever complains can say it once.

use std::io::{Error as IoError, ErrorKind};
use std::path::PathBuf;

use jiff::Timestamp;
use rustls::{AlertDescription as Alert, CertificateError as Wrong, Error, PeerIncompatible};
use vedette_core::{Clock as _, SystemClock};

/// What this program's ciphers need at the other side.
const CIPHERS: &str = "enable ECDHE with AES-GCM or ChaCha20 there";

/// Names of a certificate that are shown; it may have hundreds.
const NAMES: usize = 4;

/// The other side of a connection that is to be encrypted, and what it is checked with.
#[derive(Clone, Debug, Default)]
pub(in crate::sinks) struct Peer {
    /// Host and port, as they are to be shown.
    pub(in crate::sinks) address: String,
    /// Name or IP address that its certificate must be for.
    pub(in crate::sinks) host: String,
    /// Certificates to trust; none: the system's.
    pub(in crate::sinks) ca: Option<PathBuf>,
    /// Whether the daemon shows a certificate of its own.
    pub(in crate::sinks) shows_certificate: bool,
    /// Whether its table in the configuration has keys for one.
    pub(in crate::sinks) may_show_certificate: bool,
}

/// What came of a handshake that failed, or of the first read after it: TLS 1.3 refuses a client's certificate there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sinks) enum Failure {
    /// It will not pass by itself: who is to do what.
    Refused(String),
    /// Perhaps it passes.
    Lost(String),
}

impl Peer {
    /// Tells an I/O error apart that holds one of TLS; none where it holds none.
    pub(in crate::sinks) fn io_failure(&self, error: &IoError) -> Option<Failure> {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        inner.map(|error| self.failure(error))
    }

    /// As [`Peer::io_failure`], of an error in the handshake itself: who does not speak TLS hangs up there.
    pub(in crate::sinks) fn handshake_failure(&self, error: &IoError) -> Option<Failure> {
        use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let cut = || {
            let at = &self.address;
            Failure::Lost(format!(
                "{at} closed the connection in the TLS handshake: check that it speaks TLS, and the port of its URL"
            ))
        };
        let is_cut = matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
        self.io_failure(error).or_else(|| is_cut.then(cut))
    }

    /// Says what a TLS error means.
    pub(in crate::sinks) fn failure(&self, error: &Error) -> Failure {
        self.explain(error, SystemClock::new().wall(), crate::time_sync::is_synchronised())
    }

    fn explain(&self, error: &Error, now: Timestamp, synchronised: bool) -> Failure {
        let at = &self.address;
        Failure::Refused(match error {
            Error::InvalidCertificate(wrong) => self.untrusted(wrong, now, synchronised),
            Error::NoCertificatesPresented => format!("{at} shows no certificate: give it one"),
            Error::AlertReceived(alert) => return self.alert(*alert),
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => self.outdated(),
            Error::InvalidMessage(_) => {
                format!("{at} answers something that is not TLS: check scheme and port of its URL")
            }
            other => return Failure::Lost(format!("{at}: TLS: {other}")),
        })
    }

    fn outdated(&self) -> String {
        format!(
            "{} offers no TLS 1.2 or newer, and older ones are not safe: enable TLS 1.2 there",
            self.address
        )
    }

    fn untrusted(&self, wrong: &Wrong, now: Timestamp, synchronised: bool) -> String {
        let whose = format!("the certificate of {}", self.address);
        let clock = if synchronised { "" } else { ", which is not known to be synchronised" };
        let today = now.strftime("%Y-%m-%d");
        match wrong {
            Wrong::ExpiredContext { not_after, .. } => {
                let (end, set) =
                    (date(not_after.as_secs()), if synchronised { "" } else { "set the clock or " });
                format!(
                    "{whose} expired on {end}: {set}renew it there (today is {today} by this machine's clock{clock})"
                )
            }
            Wrong::NotValidYetContext { not_before, .. } => format!(
                "{whose} is not valid before {}: set this machine's clock{clock} (it says {today}), or renew it there",
                date(not_before.as_secs())
            ),
            Wrong::UnknownIssuer | Wrong::BadSignature => match &self.ca {
                Some(ca) => format!(
                    "{whose} is not signed by a CA in {}: give the CA that signed it as `ca`",
                    ca.display()
                ),
                None => format!("{whose} is signed by no CA that this system knows: give its CA as `ca`"),
            },
            Wrong::NotValidForNameContext { presented, .. } => {
                let names = names(presented);
                let of = if names.is_empty() { "no name at all".to_owned() } else { names };
                format!(
                    "{whose} is for {of}, not for {}: correct the host in its URL, or renew it there",
                    self.host
                )
            }
            Wrong::NotValidForName => {
                format!("{whose} is not for {}: correct the host in its URL, or renew it there", self.host)
            }
            Wrong::Revoked => format!("{whose} is revoked: renew it there"),
            Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => {
                format!("{whose} is not one for servers: renew it there with the usage serverAuth")
            }
            other => format!("{whose} cannot be trusted ({other}): renew it there, or check `ca`"),
        }
    }

    /// What the other side refuses.
    fn alert(&self, alert: Alert) -> Failure {
        let at = &self.address;
        Failure::Refused(match alert {
            Alert::ProtocolVersion => self.outdated(),
            Alert::InsufficientSecurity => format!("{at} shares no cipher with this program: {CIPHERS}"),
            Alert::CertificateRequired => self.demands_certificate(),
            Alert::BadCertificate if !self.shows_certificate => self.demands_certificate(),
            // TLS 1.2 has no alert of its own for a certificate that is missing.
            Alert::HandshakeFailure if !self.shows_certificate => {
                format!("{}; or shares no cipher with this program: {CIPHERS}", self.demands_certificate())
            }
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::DecryptError
            | Alert::AccessDenied
            | Alert::HandshakeFailure
                if self.shows_certificate =>
            {
                format!(
                    "{at} refuses the daemon's certificate ({alert:?}): check that a CA it trusts signed \
                     `client_certificate`, and that it has not expired"
                )
            }
            Alert::UnrecognisedName => {
                format!("{at} does not know the name {}: correct the host in its URL", self.host)
            }
            other => return Failure::Lost(format!("{at}: refused the TLS handshake: {other:?}")),
        })
    }

    fn demands_certificate(&self) -> String {
        let remedy = if self.may_show_certificate {
            "give `client_certificate` and `client_key`, signed by a CA it trusts"
        } else {
            "webhooks have none; let it ask for the `token` instead, or put a proxy before it"
        };
        format!("{} demands a client certificate: {remedy}", self.address)
    }
}

fn date(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.map_or_else(|| "a day far away".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

/// The names that a certificate is for, out of rustls' `DnsName("…")`: bounded, without control characters, since
/// anybody may have written them.
fn names(presented: &[String]) -> String {
    let inner = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        inner.chars().filter(|c| c.is_ascii_graphic() && *c != '"').take(64).collect::<String>()
    };
    let mut shown = presented.iter().take(NAMES).map(inner).collect::<Vec<_>>().join(", ");
    if presented.len() > NAMES {
        shown += " and others";
    }
    shown
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{InvalidMessage, OtherError};

    use super::*;

    fn peer(shows_certificate: bool) -> Peer {
        let (address, host) = ("broker.plant7:8883".to_owned(), "broker.plant7".to_owned());
        let ca = Some(PathBuf::from("/etc/vedette/ca.pem"));
        Peer { address, host, ca, shows_certificate, may_show_certificate: true }
    }

    fn refused(of: &Peer, error: &Error, synchronised: bool) -> String {
        match of.explain(error, "2026-11-24T02:35:00Z".parse().unwrap(), synchronised) {
            Failure::Refused(line) => line,
            Failure::Lost(line) => panic!("{line}"),
        }
    }

    fn at(text: &str) -> UnixTime {
        let seconds = text.parse::<Timestamp>().unwrap().as_second();
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds as u64))
    }

    #[test]
    fn certificates_out_of_time_name_the_day_and_the_clock() {
        let now = at("2026-11-24T02:35:00Z");
        let expired = |synchronised| {
            let wrong = Wrong::ExpiredContext { time: now, not_after: at("2026-01-02T00:00:00Z") };
            refused(&peer(false), &Error::InvalidCertificate(wrong), synchronised)
        };
        assert_eq!(
            expired(true),
            "the certificate of broker.plant7:8883 expired on 2026-01-02: renew it there (today is 2026-11-24 by this \
             machine's clock)"
        );
        assert!(expired(false).contains("set the clock or renew it there"), "{}", expired(false));
        let wrong = Wrong::NotValidYetContext { time: now, not_before: at("2027-01-02T00:00:00Z") };
        assert_eq!(
            refused(&peer(false), &Error::InvalidCertificate(wrong), false),
            "the certificate of broker.plant7:8883 is not valid before 2027-01-02: set this machine's clock, which is \
             not known to be synchronised (it says 2026-11-24), or renew it there"
        );
    }

    #[test]
    fn names_of_a_stranger_are_bounded_and_plain() {
        let presented: Vec<_> =
            ["DnsName(\"a.b\")", "IpAddress(10.0.0.1)", "DnsName(\"x\u{1b}[2J\ny\")", "c", "d"]
                .map(String::from)
                .into();
        let expected = ServerName::try_from("broker.plant7").unwrap();
        let wrong = Wrong::NotValidForNameContext { expected, presented };
        assert_eq!(
            refused(&peer(false), &Error::InvalidCertificate(wrong), true),
            "the certificate of broker.plant7:8883 is for a.b, 10.0.0.1, x[2Jy, c and others, not for broker.plant7: \
             correct the host in its URL, or renew it there"
        );
    }

    #[test]
    fn each_refusal_has_its_remedy() {
        let invalid = Error::InvalidCertificate;
        let other = Wrong::Other(OtherError(std::sync::Arc::new(IoError::other("odd"))));
        for (error, shows, words) in [
            (invalid(Wrong::UnknownIssuer), false, "is not signed by a CA in /etc/vedette/ca.pem"),
            (invalid(Wrong::BadSignature), false, "is not signed by a CA in"),
            (invalid(Wrong::Revoked), false, "is revoked"),
            (invalid(Wrong::InvalidPurpose), false, "serverAuth"),
            (invalid(other), false, "check `ca`"),
            (Error::AlertReceived(Alert::CertificateRequired), false, "demands a client certificate"),
            (Error::AlertReceived(Alert::HandshakeFailure), false, "demands a client certificate"),
            (Error::AlertReceived(Alert::HandshakeFailure), false, "or shares no cipher"),
            (Error::AlertReceived(Alert::InsufficientSecurity), false, "enable ECDHE"),
            (Error::AlertReceived(Alert::UnknownCA), true, "refuses the daemon's certificate (UnknownCA)"),
            (Error::AlertReceived(Alert::HandshakeFailure), true, "refuses the daemon's certificate"),
            (Error::AlertReceived(Alert::ProtocolVersion), false, "enable TLS 1.2"),
            (PeerIncompatible::ServerDoesNotSupportTls12Or13.into(), false, "enable TLS 1.2"),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), false, "not TLS"),
        ] {
            let line = refused(&peer(shows), &error, true);
            assert!(line.contains(words) && line.contains("broker.plant7:8883"), "{error:?}: {line}");
        }
        let internal = peer(true).failure(&Error::AlertReceived(Alert::InternalError));
        assert!(matches!(internal, Failure::Lost(_)), "{internal:?}");
    }
}
