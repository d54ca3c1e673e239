//! Whom a camera's `rtsps` connection trusts, and in words why it does not.
//!
//! Owns: the authority, pin or explicit carelessness of one camera, as `rtspsrc` is told it. Does not know: the
//! handshake itself, which is GIO's; when to try again.

use std::fmt;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, PoisonError};

use gio::TlsCertificateFlags as Wrong;
use gio::prelude::*;
use gstreamer as gst;
use sha2::{Digest, Sha256};

use crate::receive::Shared;
use crate::{Fault, FaultClass};

/// An authority that expired on 1970-01-02, whose key is gone. GIO asks us about a certificate only where it does not
/// trust it itself, and takes no database without an authority: with this one it trusts nobody.
const NOBODY: &str = "-----BEGIN CERTIFICATE-----
MIIBVDCB/KADAgECAhQBy6OwKmqlyk93MMJhMu1znQOTozAKBggqhkjOPQQDAjAR
MQ8wDQYDVQQDDAZub2JvZHkwHhcNNzAwMTAxMDAwMDAwWhcNNzAwMTAyMDAwMDAw
WjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAS8
fvbBiI+XB/VHmZC84/ifAtBcglpAXCu72kvrLG7A1f1zfyA6HElbrw51ml6U6T4o
M3UKec4OoiwErJRXrdOMozIwMDAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBSN
1mIptaUwxkR9TVwVrKgqz4NB4TAKBggqhkjOPQQDAgNHADBEAiAQwarEeComVlzF
8gTbefl/ySeSkz8VSW8pu308xmxTVwIgPxm1adh6lGUVoRQYhhZsFHHTxT1eJJRL
JZT8IGBoqmU=
-----END CERTIFICATE-----
";

/// Which certificate of a camera is good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// One that an authority of the system has signed, for the host of the address, and in date.
    #[default]
    System,
    /// Likewise, but signed by an authority in this file (PEM), or in it itself.
    Ca(PathBuf),
    /// This one alone, whoever signed it, whatever name and dates it has.
    Pin(Fingerprint),
    /// Any: whoever is between can watch, and learn a basic login.
    Insecure,
}

/// SHA-256 of a certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate's DER bytes.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no fingerprint: write `sha256:` and 64 hexadecimal digits, as `vedette probe` prints it")]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    /// Also as `openssl x509 -fingerprint` writes it, with colons and capitals.
    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let digits = text.strip_prefix("sha256:").ok_or(NoFingerprint)?;
        let digits: Vec<u8> = digits.bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(NoFingerprint);
        }
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = value(pair[0]).zip(value(pair[1])).ok_or(NoFingerprint)?;
            *byte = (high << 4) | low;
        }
        Ok(Self(bytes))
    }
}

/// Tells an RTSP source whom to trust. What it refuses then stands in `shared.untrusted`.
pub(crate) fn configure(source: &gst::Element, shared: &Arc<Shared>) -> Result<(), Fault> {
    let target = &shared.target;
    if !target.tls || !source.has_property("tls-database") {
        return Ok(());
    }
    let database = match &target.trust {
        Trust::System | Trust::Insecure => None,
        Trust::Ca(file) => Some(gio::TlsFileDatabase::new(file).map_err(|error| {
            let what = format!("{}: `ca` {} cannot be used: {error}", target.shown, file.display());
            Fault::new(FaultClass::Tls, what, "give a file with certificates (PEM) that the daemon may read")
        })?),
        // Else a certificate that the system trusts would pass without being compared.
        Trust::Pin(_) => Some(nobody().map_err(|error| {
            let what = format!("{}: its certificate cannot be compared with `pin`: {error}", target.shown);
            Fault::new(FaultClass::MissingElement, what, "install glib-networking and run `vedette doctor`")
        })?),
    };
    if let Some(database) = database {
        source.set_property("tls-database", &database);
    }
    let shared = Arc::downgrade(shared);
    source.connect("accept-certificate", false, move |values| {
        let certificate = values.get(2).and_then(|v| v.get::<gio::TlsCertificate>().ok());
        let wrong = values.get(3).and_then(|v| v.get::<Wrong>().ok()).unwrap_or(Wrong::GENERIC_ERROR);
        let accepted = shared.upgrade().is_some_and(|shared| judge(&shared, certificate, wrong));
        Some(accepted.to_value())
    });
    Ok(())
}

/// A database in which nobody is trusted. GIO reads it from a file alone, as it is made: one in memory.
fn nobody() -> Result<gio::TlsFileDatabase, Box<dyn std::error::Error>> {
    let file = rustix::fs::memfd_create("nobody", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(NOBODY.as_bytes())?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(gio::TlsFileDatabase::new(path)?)
}

/// Whether a certificate that GIO does not take is good all the same.
fn judge(shared: &Shared, certificate: Option<gio::TlsCertificate>, wrong: Wrong) -> bool {
    let shown = certificate.and_then(|c| c.certificate()).map(|der| Fingerprint::of(&der));
    let trust = &shared.target.trust;
    let good = match trust {
        Trust::Insecure => true,
        Trust::Pin(pin) => shown == Some(*pin),
        Trust::System | Trust::Ca(_) => false,
    };
    if !good {
        let fault = untrusted(&shared.target.shown, &shared.target.host, trust, wrong, shown);
        *shared.untrusted.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }
    good
}

/// What is wrong with the certificate that a camera shows, and what to do.
fn untrusted(at: &str, host: &str, trust: &Trust, wrong: Wrong, shown: Option<Fingerprint>) -> Fault {
    let print = shown.map_or_else(|| "none".to_owned(), |shown| shown.to_string());
    let pin =
        format!("or, once you have compared it with the camera's own page, pin it: `pin = \"{print}\"`");
    if let Trust::Pin(_) = trust {
        let what = format!("{at} shows another certificate than the pinned one: {print}");
        let remedy =
            "if the camera has a new one, compare it there and correct `pin`; else somebody is between";
        return Fault::new(FaultClass::Tls, what, remedy);
    }
    let signed = match trust {
        Trust::Ca(file) => format!("is not signed by a CA in {}", file.display()),
        _ => "is signed by no CA that this system knows".to_owned(),
    };
    let reasons = [
        (Wrong::UNKNOWN_CA, signed, "give the CA that signed it as `ca`".to_owned()),
        (
            Wrong::BAD_IDENTITY,
            format!("is not for {host}"),
            "write the name that it is for in `url`".to_owned(),
        ),
        (
            Wrong::EXPIRED,
            "has expired".to_owned(),
            "renew it in the camera, or set this machine's clock".to_owned(),
        ),
        (
            Wrong::NOT_ACTIVATED,
            "is not valid yet".to_owned(),
            "set this machine's clock, or renew it in the camera".to_owned(),
        ),
        (Wrong::REVOKED, "is revoked".to_owned(), "renew it in the camera".to_owned()),
        (
            Wrong::INSECURE,
            "uses an algorithm that is not safe any more".to_owned(),
            "renew it in the camera".to_owned(),
        ),
    ];
    let mut found = reasons.into_iter().filter(|(flag, _, _)| wrong.contains(*flag));
    let Some((_, mut text, remedy)) = found.next() else {
        return Fault::new(
            FaultClass::Tls,
            format!("the certificate of {at} cannot be trusted"),
            format!("renew it in the camera, {pin}"),
        );
    };
    for (_, more, _) in found {
        text = format!("{text}, and {more}");
    }
    Fault::new(FaultClass::Tls, format!("the certificate of {at} {text}"), format!("{remedy}, {pin}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_they_are_printed() {
        let print = Fingerprint::of(b"certificate");
        let text = print.to_string();
        assert_eq!((text.len(), text.parse()), (7 + 64, Ok(print)));
        let pairs: Vec<_> = text.as_bytes()[7..].chunks(2).map(|p| String::from_utf8_lossy(p)).collect();
        assert_eq!(format!("sha256:{}", pairs.join(":").to_uppercase()).parse(), Ok(print), "of openssl");
        for wrong in ["", "sha256:", &text[7..], &text[..70], "sha256:zz", &format!("{text}00"), "md5:00"] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(NoFingerprint), "{wrong}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_and_the_first_has_the_remedy() {
        let print = Fingerprint::of(b"x");
        let fault = untrusted(
            "rtsps://cam/1",
            "cam",
            &Trust::System,
            Wrong::UNKNOWN_CA | Wrong::EXPIRED,
            Some(print),
        );
        assert_eq!(
            fault.message,
            "the certificate of rtsps://cam/1 is signed by no CA that this system knows, and has expired"
        );
        assert!(fault.remedy.starts_with("give the CA that signed it as `ca`, or"), "{fault}");
        assert!(fault.remedy.contains(&print.to_string()), "{fault}");
        let ca = Trust::Ca("/etc/vedette/ca.pem".into());
        let fault = untrusted("rtsps://cam/1", "cam", &ca, Wrong::UNKNOWN_CA, None);
        assert!(fault.message.ends_with("is not signed by a CA in /etc/vedette/ca.pem"), "{fault}");
    }
}
