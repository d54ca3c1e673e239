//! What can be wrong with a camera, its stream or its file: one class each, which decides how soon to try again, and
//! a sentence for the person who has to repair it. Does not know who asks.

use std::fmt;

/// The kind of a [`Fault`]. The first seven are of the link and pass by themselves; the others are of the
/// configuration and stay until somebody changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultClass {
    /// Nobody listens there.
    Refused,
    /// No answer to the connection or the request in time.
    Timeout,
    /// The connection broke.
    Read,
    /// The stream came to its end.
    Ended,
    /// The connection stands, but no packet comes.
    Stalled,
    /// Packets come, but no picture.
    Undecodable,
    /// RTP does not come by TCP or UDP as it was asked for; the other one is tried next.
    Transport,
    /// Wrong or missing user or password.
    Auth,
    /// The peer has no such stream; or there is no such file.
    NotFound,
    /// A codec or transport that does not fit.
    Codec,
    /// The certificate of an `rtsps` peer is not trusted, or it speaks no TLS.
    Tls,
    /// A GStreamer element or a description is not there.
    MissingElement,
    /// Not an address that can be received from.
    BadUrl,
}

impl FaultClass {
    /// As in logs, metrics and status: lower case with `-`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Read => "read",
            Self::Ended => "ended",
            Self::Stalled => "stalled",
            Self::Undecodable => "undecodable",
            Self::Transport => "transport",
            Self::Auth => "auth",
            Self::NotFound => "not-found",
            Self::Codec => "codec",
            Self::Tls => "tls",
            Self::MissingElement => "missing-element",
            Self::BadUrl => "bad-url",
        }
    }

    /// Whether it stays until somebody changes the configuration, the camera or the installation.
    pub const fn is_configuration(self) -> bool {
        matches!(
            self,
            Self::Auth | Self::NotFound | Self::Codec | Self::Tls | Self::MissingElement | Self::BadUrl
        )
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong and what to do about it. Never holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{class}: {message}; {remedy}")]
pub struct Fault {
    /// Its kind.
    pub class: FaultClass,
    /// What happened, with the address or file it happened to.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Fault {
    /// A fault of a class.
    pub fn new(class: FaultClass, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { class, message: message.into(), remedy: remedy.into() }
    }

    /// Whether it stays until somebody changes the configuration, the camera or the installation.
    pub const fn is_configuration(&self) -> bool {
        self.class.is_configuration()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_where_and_what_to_do() {
        let fault =
            Fault::new(FaultClass::NotFound, "rtsp://10.0.0.1/x has no such stream", "check the path");
        assert_eq!(fault.to_string(), "not-found: rtsp://10.0.0.1/x has no such stream; check the path");
        assert!(fault.is_configuration() && !FaultClass::Stalled.is_configuration());
        assert_eq!(serde_json::to_value(fault.class).unwrap(), fault.class.as_str());
    }
}
