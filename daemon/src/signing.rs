//! Ed25519 signatures under frozen payloads: who has the appliance's public key can tell that a message is the
//! appliance's own, whatever carried it.
//!
//! Owns: the key and its file, where in a payload the signature stands, whether it is good. Does not know: what a
//! payload says, who sends it. The signature is the last member of the payload's JSON object, over the bytes of the
//! payload without that member: MQTT 3.1.1 has no other place for it.

pub mod audit;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use data_encoding::BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// The key's file in the state directory: PKCS#8 in PEM.
pub const FILE: &str = "signing.key";

/// Longer than any key of ours; what else it may be is not read.
const FILE_MAX: u64 = 4096;

/// What stands between the rest of a payload and the signature.
const MEMBER: &[u8] = b",\"signature\":\"";

/// 64 bytes in base64.
const SIGNATURE_LENGTH: usize = 88;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("signing key {path}: {source}; run this as the daemon's user or as root")]
    Unreadable {
        /// Its file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A new one cannot be written.
    #[error("signing key {path} cannot be made: {source}; give the daemon's user write access to its folder")]
    Unwritable {
        /// Its file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not the daemon's alone.
    #[error(
        "signing key {path}: others may use it (mode {mode:04o}): chmod 0600 {path}; where somebody may have, remove \
         it: the next start makes another, and whoever verifies needs its public key"
    )]
    Open {
        /// Its file.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// What is in the file is no key.
    #[error(
        "signing key {path} is damaged ({problem}): restore it from a backup, or remove it: the next start makes \
         another, and whoever verifies needs its public key"
    )]
    Damaged {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it; nothing of its content.
        problem: &'static str,
    },
}

/// The appliance's private key.
pub struct Signer(Ed25519KeyPair);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public())
    }
}

impl Signer {
    /// The key in `directory`; a new one where there is none (both are made if they are not there).
    ///
    /// # Errors
    /// The file is damaged, readable by others, or cannot be read or written.
    pub fn open(directory: &Path) -> Result<Self, KeyError> {
        if let Some(signer) = Self::read(directory)? {
            return Ok(signer);
        }
        let path = directory.join(FILE);
        let unwritable = |source| KeyError::Unwritable { path: path.clone(), source };
        let refused = |_| unwritable(io::Error::other("the system gives no random numbers"));
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(refused)?;
        write(directory, &pem(key.as_ref())).map_err(unwritable)?;
        let signer = Self::parse(key.as_ref(), &path)?;
        log::info!("signing key {} is new; its public key is {}", path.display(), signer.public());
        Ok(signer)
    }

    /// The key in `directory`; none where there is none.
    ///
    /// # Errors
    /// The file is damaged, readable by others, or cannot be read.
    pub fn read(directory: &Path) -> Result<Option<Self>, KeyError> {
        let path = directory.join(FILE);
        let unreadable = |source| KeyError::Unreadable { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path, mode });
        }
        let mut text = Vec::new();
        file.take(FILE_MAX).read_to_end(&mut text).map_err(unreadable)?;
        let damaged = |problem| KeyError::Damaged { path: path.clone(), problem };
        let key = unpem(&text).ok_or_else(|| damaged("no PEM of a PRIVATE KEY"))?;
        Self::parse(&key, &path).map(Some)
    }

    fn parse(pkcs8: &[u8], path: &Path) -> Result<Self, KeyError> {
        let damaged = |_| KeyError::Damaged { path: path.to_owned(), problem: "no Ed25519 key in PKCS#8" };
        // OpenSSL writes version 1, without the public key.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map(Self).map_err(damaged)
    }

    /// What verifies its signatures.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }

    /// A JSON object with its signature as the last member. The same payload gives the same bytes. What is no JSON
    /// object, or an empty one, stays as it is.
    pub fn sign(&self, mut payload: Vec<u8>) -> Vec<u8> {
        if payload.len() <= 2 || payload.last() != Some(&b'}') {
            return payload;
        }
        let signature = BASE64.encode(self.0.sign(&payload).as_ref());
        payload.pop();
        payload.extend_from_slice(MEMBER);
        payload.extend_from_slice(signature.as_bytes());
        payload.extend_from_slice(b"\"}");
        payload
    }
}

/// Replaces the file so that after a power cut there is a whole one or none.
fn write(directory: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let fresh = directory.join(format!("{FILE}.new"));
    // Left by a start that was cut off, with whatever mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, directory.join(FILE))?;
    File::open(directory)?.sync_all()
}

fn pem(pkcs8: &[u8]) -> String {
    let text = BASE64.encode(pkcs8);
    // Lines of at most 64 characters, each one byte.
    let lines: Vec<_> =
        (0..text.len()).step_by(64).filter_map(|at| text.get(at..text.len().min(at + 64))).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

fn unpem(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let text = text.strip_prefix("-----BEGIN PRIVATE KEY-----")?.strip_suffix("-----END PRIVATE KEY-----")?;
    let text: String = text.split_ascii_whitespace().collect();
    BASE64.decode(text.as_bytes()).ok()
}

/// What a payload's signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Written by who has the private key, and not changed since.
    Valid,
    /// Signed, and not so.
    Invalid,
    /// It does not end in a signature.
    Unsigned,
}

/// What verifies a [`Signer`]'s signatures. As text: its 32 bytes in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Of the payload of one message, byte for byte as it was received.
    pub fn verify(&self, payload: &[u8]) -> Verdict {
        let Some((signed, signature)) = split(payload) else { return Verdict::Unsigned };
        let Ok(signature) = BASE64.decode(signature) else { return Verdict::Invalid };
        match UnparsedPublicKey::new(&ED25519, &self.0).verify(&signed, &signature) {
            Ok(()) => Verdict::Valid,
            Err(_) => Verdict::Invalid,
        }
    }
}

/// The bytes that were signed, and the signature in base64.
fn split(payload: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let rest = payload.strip_suffix(b"\"}")?;
    let (rest, signature) = rest.split_at_checked(rest.len().checked_sub(SIGNATURE_LENGTH)?)?;
    let mut signed = rest.strip_suffix(MEMBER)?.to_vec();
    signed.push(b'}');
    Some((signed, signature))
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = BASE64.decode(text.trim().as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| "a public key is 32 bytes in base64, 44 characters".to_owned())
    }
}

#[cfg(test)]
mod tests;
