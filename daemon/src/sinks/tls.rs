//! The TLS settings of a connection: verification is always on.
//!
//! Owns: reading certificates and keys. Does not know: connections, and what is said of one that fails (`handshake`).

mod handshake;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

pub(super) use handshake::{Failure, Peer};

/// Why no TLS connection can be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("{0}: {1}; it must be a PEM file that the daemon can read")]
    File(PathBuf, rustls::pki_types::pem::Error),
    #[error("{0} has no certificate that can be used")]
    Empty(PathBuf),
    #[error("the system has no certificates: install the package ca-certificates, or name a file with `ca`")]
    NoRoots,
    #[error("client_certificate and client_key go together: give both")]
    HalfOfAPair,
    #[error("client_certificate and client_key: {0}")]
    Pair(rustls::Error),
    #[error("{0}")]
    Setup(rustls::Error),
}

/// Trusts `ca`, else the system's certificates; shows the client certificate, given with its key, where there is one.
pub(super) fn settings(
    ca: Option<&Path>,
    client_certificate: Option<&Path>,
    client_key: Option<&Path>,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
    let builder = builder.with_root_certificates(roots(ca)?);
    match (client_certificate, client_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| TlsError::File(key.to_owned(), e))?;
            builder.with_client_auth_cert(certificates(certificate)?, secret).map_err(TlsError::Pair)
        }
        _ => Err(TlsError::HalfOfAPair),
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        roots.add_parsable_certificates(certificates(ca)?);
        return if roots.is_empty() { Err(TlsError::Empty(ca.to_owned())) } else { Ok(roots) };
    }
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |e| TlsError::File(file.to_owned(), e);
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(wrong)?.collect();
    let found = found.map_err(wrong)?;
    if found.is_empty() { Err(TlsError::Empty(file.to_owned())) } else { Ok(found) }
}
