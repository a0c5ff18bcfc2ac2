//! TLS towards a server under test: one given certificate authority, nothing else is trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::Error;

/// How to begin TLS with the one server.
pub(super) struct Tls {
    pub(super) connector: TlsConnector,
    pub(super) name: ServerName<'static>,
}

impl Tls {
    /// Trusts the certificates in the PEM file `ca` and expects the server to be `host`.
    pub(super) fn new(ca: &Path, host: &str) -> Result<Self, Error> {
        let refuse = |why: String| Error::Plan(format!("{}: {why}", ca.display()));
        let mut roots = RootCertStore::empty();
        for certificate in
            CertificateDer::pem_file_iter(ca).map_err(|why| refuse(why.to_string()))?
        {
            let certificate = certificate.map_err(|why| refuse(why.to_string()))?;
            roots
                .add(certificate)
                .map_err(|why| refuse(why.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| refuse(why.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Every socket stands for another machine: none may shorten its handshake by the last one's.
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Error::Plan(format!("{host:?} is not a name a certificate can have")))?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }
}
