//! TLS for tcp sockets, with or without certificates of clients.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

use crate::settings::Settings;

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// An option that TLS needs was not given.
    #[error("TLS needs --{0}")]
    Missing(&'static str),
    /// A file cannot be read as certificates or as a key.
    #[error("could not load {what} from {path}: {reason}")]
    File { what: &'static str, path: PathBuf, reason: String },
    /// Certificate and key do not belong together, or the authority is no authority.
    #[error("could not set TLS up: {0}")]
    Setup(String),
}

/// What accepts TLS with the certificates of the settings; with `--tlsverify` only from clients that the authority signed.
pub(crate) fn acceptor(settings: &Settings) -> Result<TlsAcceptor, TlsError> {
    let certificates = certificates(settings.tlscert.as_deref().ok_or(TlsError::Missing("tlscert"))?)?;
    let key_path = settings.tlskey.as_deref().ok_or(TlsError::Missing("tlskey"))?;
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(|error| file("the key", key_path, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    let builder = if settings.tlsverify {
        let authority = settings.tlscacert.as_deref().ok_or(TlsError::Missing("tlscacert"))?;
        let mut roots = RootCertStore::empty();
        for certificate in self::certificates(authority)? {
            roots.add(certificate).map_err(|error| file("the authority", authority, error))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| TlsError::Setup(error.to_string()))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(|error| TlsError::Setup(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| file("certificates", path, error))?;
    if certificates.is_empty() {
        return Err(file("certificates", path, "there are none in it"));
    }
    Ok(certificates)
}

fn file(what: &'static str, path: &Path, reason: impl std::fmt::Display) -> TlsError {
    TlsError::File { what, path: path.to_owned(), reason: reason.to_string() }
}
