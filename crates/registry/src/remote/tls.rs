//! Whom to trust: the certificates of the system, and those that an administrator put into `certs.d/<host>/`.
//!
//! ```text
//! /etc/gantry/certs.d/registry.example:5000/   also /etc/docker/certs.d
//! ├── ca.crt         certificates to trust, beside the system's
//! ├── client.cert    shown to the registry
//! └── client.key     its key
//! ```
//!
//! A `hosts.toml` there may name further files for each of its hosts, see module `hosts`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::endpoint::{Certificates, Endpoint, Trust};
use crate::error::{Error, Result};

/// Where distributions keep their bundle of certificates; the first that exists is read.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// The TLS settings for an endpoint. Reads files: for blocking threads.
pub(crate) fn config(endpoint: &Endpoint, certs_dirs: &[PathBuf]) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Setup(error.to_string()))?;
    let own = OwnCertificates::read(endpoint, certs_dirs)?;
    let builder = match endpoint.trust {
        Trust::Unverified => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
        Trust::Verified => {
            let mut roots = system_roots();
            roots.add_parsable_certificates(own.authorities);
            builder.with_root_certificates(roots)
        }
    };
    match own.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key).map_err(|error| Error::Setup(error.to_string()))
        }
    }
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let configured = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = configured.into_iter().chain(BUNDLES.map(PathBuf::from)).find(|path| path.exists());
    // No certificates at all is no error yet: the first https connection will say that nobody is trusted.
    if let Some(bundle) = bundle {
        let (added, ignored) = roots.add_parsable_certificates(certificates(&bundle).unwrap_or_default());
        tracing::debug!(added, ignored, bundle = %bundle.display(), "certificates of the system");
    }
    roots
}

/// What an administrator prepared for one registry.
#[derive(Default)]
struct OwnCertificates {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl OwnCertificates {
    fn read(endpoint: &Endpoint, certs_dirs: &[PathBuf]) -> Result<Self> {
        let mut own = Self::of_directories(endpoint.host(), certs_dirs)?;
        let Certificates { authorities, identity: own_identity } = &endpoint.certificates;
        for path in authorities {
            own.authorities.extend(certificates(path)?);
        }
        if let Some((certificate, key)) = own_identity {
            own.identity = Some(identity(certificate, key.as_ref().unwrap_or(certificate))?);
        }
        Ok(own)
    }

    /// Docker's layout: a directory for each registry.
    fn of_directories(host: &str, certs_dirs: &[PathBuf]) -> Result<Self> {
        let mut own = Self::default();
        // A host becomes the name of a directory: references allow no slash in it, mirrors are checked here.
        if host.is_empty() || host.contains('/') || host.starts_with('.') {
            return Ok(own);
        }
        for dir in certs_dirs {
            let Ok(entries) = fs::read_dir(dir.join(host)) else { continue };
            for path in entries.flatten().map(|entry| entry.path()) {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => own.authorities.extend(certificates(&path)?),
                    Some("cert") => own.identity = Some(identity(&path, &path.with_extension("key"))?),
                    _ => {}
                }
            }
        }
        Ok(own)
    }
}

fn identity(path: &Path, key_path: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(|error| {
        Error::Setup(format!(
            "missing or unreadable key {} for client certificate {}: {error}",
            key_path.display(),
            path.display()
        ))
    })?;
    Ok((certificates(path)?, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bad = |error: rustls::pki_types::pem::Error| Error::Setup(format!("reading {}: {error}", path.display()));
    CertificateDer::pem_file_iter(path).map_err(bad)?.collect::<Result<_, _>>().map_err(bad)
}

/// Accepts any certificate, for registries that are configured as insecure. Signatures are checked all the same, so
/// that the connection is at least with the owner of the certificate that was shown.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
