//! TLS to an engine: `--tls` encrypts only, `--tlsverify` also checks who answers. A certificate of ours is shown when there is one.

use crate::config;
use crate::error::Error;
use crate::flags::Values;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// What was asked of TLS.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    verify: bool,
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    /// A file that was named must be there; one in its usual place may be missing.
    named: bool,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Tls {
    /// What the flags and `DOCKER_TLS`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` ask for; `None` without TLS.
    pub(super) fn wanted(global: &Values) -> Option<Self> {
        let verify = global.on_or("tlsverify", variable("DOCKER_TLS_VERIFY").is_some());
        let named = ["tlscacert", "tlscert", "tlskey"].iter().any(|flag| global.is_set(flag));
        let on = global.on_or("tls", variable("DOCKER_TLS").is_some()) || verify || named;
        let directory =
            variable("DOCKER_CERT_PATH").map_or_else(|| config::directory(global.last("config")), PathBuf::from);
        let file = |flag: &str, name: &str| global.last(flag).map_or_else(|| directory.join(name), PathBuf::from);
        on.then(|| Self {
            verify,
            authority: file("tlscacert", "ca.pem"),
            certificate: file("tlscert", "cert.pem"),
            key: file("tlskey", "key.pem"),
            named,
        })
    }

    /// Reads the files.
    pub(super) fn connector(&self) -> Result<TlsConnector, Error> {
        let wrong = |what: String| Error::plain(format!("unable to resolve docker endpoint: {what}"));
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?;
        let builder = if self.verify {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(&self.authority).map_err(wrong)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            builder.with_root_certificates(roots)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        };
        let ours = self.certificate.exists() || self.key.exists() || self.named;
        let config = if ours {
            let key = PrivateKeyDer::from_pem_file(&self.key)
                .map_err(|error| wrong(format!("could not load the key from {}: {error}", self.key.display())))?;
            let chain = certificates(&self.certificate).map_err(wrong)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| wrong(error.to_string()))?
        } else {
            builder.with_no_client_auth()
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| format!("could not load certificates from {}: {error}", path.display()))
}

/// Takes any certificate, as `--tls` without `--tlsverify` is defined; the signatures of the handshake are checked all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
