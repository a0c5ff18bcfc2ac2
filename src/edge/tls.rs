//! TLS for client connections: load the files, reload them when they change.
//!
//! TLS 1.2 and 1.3 with the `ring` provider, chosen here and not process-wide. A reload swaps the
//! certificate for handshakes to come; connections live on, and session tickets stay valid. A file
//! that is broken, does not fit its key or is over is never taken: at start it is an error, later the
//! old certificate serves on and the log says why.
//!
//! Not here: client certificates, and several names with a certificate each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use super::certificate;
use crate::telemetry::labels::Attempt;
use crate::telemetry::metrics;
use crate::types::Timestamp;

/// How soon a changed certificate is served.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// A certificate that ends sooner is worth a warning; renewals usually come a month before.
const EXPIRY_WARNING: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// PEM file with the certificate and its chain, the server's own first.
    pub certificate: PathBuf,
    /// PEM file with the private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// A certificate and key that cannot be served.
#[derive(Debug, Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{} is not PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// There is no certificate in the file.
    #[error("{} has no certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no usable key in the file.
    #[error("{} has no private key, or an encrypted one", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is not the certificate's.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate is over.
    #[error("the certificate in {} ended at {at}", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// When.
        at: Timestamp,
    },
    /// The certificate or key is of a kind that cannot be used.
    #[error("the certificate in {} cannot be used", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// A handshake that did not succeed.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// It did not end in time.
    #[error("TLS handshake took longer than {0:?}")]
    TimedOut(Duration),
    /// The peer does not speak TLS, or not one we speak.
    #[error("TLS handshake failed")]
    Failed(#[from] io::Error),
}

/// Serves TLS with the certificate of the moment. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    provider: CryptoProvider,
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    /// Of the files last looked at, good or not, so that a broken pair is reported once.
    seen: Mutex<[u8; 32]>,
}

#[derive(Debug)]
struct Current(ArcSwap<Served>);

#[derive(Debug)]
struct Served {
    key: Arc<CertifiedKey>,
    not_after: Timestamp,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}

impl Tls {
    /// Reads the files; the one failure at start.
    ///
    /// # Errors
    /// When they cannot be served.
    pub fn load(options: Options, now: Timestamp) -> Result<Self, Error> {
        let provider = ring::default_provider();
        let files = Files::read(&options)?;
        let served = files.serve(&options, &provider, now)?;
        let config = config(&options, &provider, served);
        let (config, current) = config.map_err(|source| Error::Unusable {
            path: options.certificate.clone(),
            source,
        })?;
        let seen = Mutex::new(files.digest());
        let shared = Shared {
            options,
            provider,
            config: Arc::new(config),
            current,
            seen,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Looks at the files again and serves them when they changed; true when it does.
    ///
    /// # Errors
    /// When the files cannot be served; the old ones are then. Files that were refused once are not
    /// reported again before they change.
    pub fn reload(&self, now: Timestamp) -> Result<bool, Error> {
        let shared = &*self.shared;
        let files = Files::read(&shared.options)?;
        let digest = files.digest();
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *seen, digest) == digest {
            return Ok(false);
        }
        let served = files.serve(&shared.options, &shared.provider, now)?;
        shared.current.0.store(Arc::new(served));
        Ok(true)
    }

    /// Reloads whenever the files change, for ever.
    pub async fn watch(self, every: Duration) {
        let mut is_readable = true;
        loop {
            tokio::time::sleep(every).await;
            // Two small files every few seconds; a thread of the pool keeps a slow disk harmless.
            let tls = self.clone();
            let look = move || tls.reload(SystemTime::now().into());
            let Ok(result) = tokio::task::spawn_blocking(look).await else {
                continue;
            };
            match result {
                Ok(false) => is_readable = true,
                Ok(true) => {
                    is_readable = true;
                    metrics::TLS_RELOADS.of(Attempt::Ok).add(1);
                    info!(not_after = %self.not_after(), "certificate reloaded");
                }
                // An unreadable file is seen at each look.
                Err(Error::Read { .. }) if !is_readable => {}
                Err(error) => {
                    is_readable = !matches!(error, Error::Read { .. });
                    metrics::TLS_RELOADS.of(Attempt::Failed).add(1);
                    let reason = std::error::Error::source(&error).map(ToString::to_string);
                    let reason = reason.unwrap_or_default();
                    warn!(%error, %reason, "certificate not reloaded, the old one serves on");
                }
            }
        }
    }

    /// When the certificate being served ends.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.shared.current.0.load().not_after
    }

    /// Makes a TLS connection of a fresh one. Not cancel-safe: the connection is lost.
    ///
    /// # Errors
    /// When the handshake fails or takes too long.
    pub async fn accept<S>(
        &self,
        stream: S,
        deadline: Duration,
    ) -> Result<TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.shared.config));
        let (attempt, result) = match tokio::time::timeout(deadline, acceptor.accept(stream)).await
        {
            Ok(Ok(stream)) => (Attempt::Ok, Ok(stream)),
            Ok(Err(error)) => (Attempt::Failed, Err(error.into())),
            Err(_) => (Attempt::TimedOut, Err(HandshakeError::TimedOut(deadline))),
        };
        metrics::TLS_HANDSHAKES.of(attempt).add(1);
        result
    }
}

fn config(
    options: &Options,
    provider: &CryptoProvider,
    served: Served,
) -> Result<(ServerConfig, Arc<Current>), rustls::Error> {
    let current = Arc::new(Current(ArcSwap::from_pointee(served)));
    let resolver = Arc::clone(&current);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    // Tickets keep resumption state at the client; a store here would be memory for nothing.
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if options.http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok((config, current))
}

/// What was in the files at one moment.
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(options: &Options) -> Result<Self, Error> {
        Ok(Self {
            certificate: read(&options.certificate)?,
            key: read(&options.key)?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let digests = [Sha256::digest(&self.certificate), Sha256::digest(&self.key)];
        Sha256::digest(digests.concat()).into()
    }

    fn serve(
        &self,
        options: &Options,
        provider: &CryptoProvider,
        now: Timestamp,
    ) -> Result<Served, Error> {
        let Options {
            certificate: path,
            key: key_path,
            ..
        } = options;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|source| Error::Pem {
            path: path.clone(),
            source,
        })?;
        let leaf = chain
            .first()
            .ok_or_else(|| Error::NoCertificate { path: path.clone() })?;
        let not_after = certificate::not_after(leaf).ok_or_else(|| {
            let source = rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
            Error::Unusable {
                path: path.clone(),
                source,
            }
        })?;
        if not_after < now {
            return Err(Error::Expired {
                path: path.clone(),
                at: not_after,
            });
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| match source {
            pem::Error::NoItemsFound => Error::NoKey {
                path: key_path.clone(),
            },
            source => Error::Pem {
                path: key_path.clone(),
                source,
            },
        })?;
        let pair = CertifiedKey::from_der(chain, key, provider);
        let pair = pair.map_err(|source| match source {
            rustls::Error::InconsistentKeys(_) => Error::Mismatch {
                certificate: path.clone(),
                key: key_path.clone(),
            },
            source => Error::Unusable {
                path: path.clone(),
                source,
            },
        })?;
        if not_after.since(now) < EXPIRY_WARNING {
            warn!(path = %path.display(), %not_after, "certificate ends soon");
        }
        metrics::TLS_CERTIFICATE_EXPIRY.set((not_after.as_millis() / 1000) as f64);
        Ok(Served {
            key: Arc::new(pair),
            not_after,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream as ClientStream;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    struct Pair {
        certificate: String,
        key: String,
        der: CertificateDer<'static>,
    }

    /// A self-signed certificate that ends on 28 February of a year.
    fn pair(year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 2, 28);
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der().clone();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der,
        }
    }

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    fn options(folder: &TempDir) -> Options {
        let file = |name| folder.path().join(name);
        Options {
            certificate: file("certificate.pem"),
            key: file("key.pem"),
            http2: true,
        }
    }

    fn write(options: &Options, certificate: &str, key: &str) {
        std::fs::write(&options.certificate, certificate).unwrap();
        std::fs::write(&options.key, key).unwrap();
    }

    fn served(pair: &Pair) -> (TempDir, Options, Tls) {
        let folder = TempDir::new().unwrap();
        let options = options(&folder);
        write(&options, &pair.certificate, &pair.key);
        let tls = Tls::load(options.clone(), now()).unwrap();
        (folder, options, tls)
    }

    fn client(trusts: &Pair, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(trusts.der.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }

    type Ends = (ClientStream<DuplexStream>, TlsStream<DuplexStream>);

    async fn connect(tls: &Tls, config: &Arc<ClientConfig>) -> io::Result<Ends> {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let connector = TlsConnector::from(Arc::clone(config));
        let name = "localhost".try_into().unwrap();
        let (client, server) = tokio::join!(connector.connect(name, near), tls.accept(far, SOON));
        Ok((client?, server.map_err(io::Error::other)?))
    }

    async fn exchange(ends: &mut Ends) {
        let mut bytes = [0; 4];
        ends.0.write_all(b"ping").await.unwrap();
        ends.1.read_exact(&mut bytes).await.unwrap();
        ends.1.write_all(b"pong").await.unwrap();
        ends.1.flush().await.unwrap();
        ends.0.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"pong");
    }

    #[tokio::test]
    async fn both_versions_are_served_and_http2_is_preferred() {
        let pair = pair(2031);
        let (_folder, _, tls) = served(&pair);
        assert_eq!(tls.not_after().to_string(), "2031-02-28T00:00:00.000Z");
        for version in [&TLS12, &TLS13] {
            let config = Arc::new(client(&pair, &[version]));
            let mut ends = connect(&tls, &config).await.unwrap();
            exchange(&mut ends).await;
            let (_, connection) = ends.1.get_ref();
            assert_eq!(connection.alpn_protocol(), Some(b"h2".as_slice()));
            assert_eq!(connection.protocol_version(), Some(version.version));
        }
    }

    #[tokio::test]
    async fn http2_is_not_offered_when_it_is_off() {
        let pair = pair(2031);
        let (_folder, options, _) = served(&pair);
        let tls = Tls::load(
            Options {
                http2: false,
                ..options
            },
            now(),
        )
        .unwrap();
        let ends = connect(&tls, &Arc::new(client(&pair, &[&TLS13])))
            .await
            .unwrap();
        assert_eq!(
            ends.1.get_ref().1.alpn_protocol(),
            Some(b"http/1.1".as_slice())
        );
    }

    #[tokio::test]
    async fn sessions_are_resumed_by_ticket_also_after_a_reload() {
        let old = pair(2031);
        let (_folder, options, tls) = served(&old);
        for version in [&TLS12, &TLS13] {
            let config = Arc::new(client(&old, &[version]));
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let mut ends = connect(&tls, &config).await.unwrap();
                exchange(&mut ends).await;
                kinds.push(ends.1.get_ref().1.handshake_kind().unwrap());
            }
            assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
            let new = pair(2032);
            write(&options, &new.certificate, &new.key);
            assert!(tls.reload(now()).unwrap());
            let ends = connect(&tls, &config).await.unwrap();
            assert_eq!(
                ends.1.get_ref().1.handshake_kind(),
                Some(HandshakeKind::Resumed)
            );
            write(&options, &old.certificate, &old.key);
            assert!(tls.reload(now()).unwrap());
        }
    }

    #[tokio::test]
    async fn a_reload_serves_the_new_certificate_and_keeps_old_connections() {
        let (old, new) = (pair(2031), pair(2032));
        let (_folder, options, tls) = served(&old);
        let (trusts_old, trusts_new) = (
            Arc::new(client(&old, &[&TLS13])),
            Arc::new(client(&new, &[&TLS13])),
        );
        let mut before = connect(&tls, &trusts_old).await.unwrap();
        assert!(!tls.reload(now()).unwrap(), "nothing changed");
        write(&options, &new.certificate, &new.key);
        assert!(tls.reload(now()).unwrap());
        assert_eq!(tls.not_after().to_string(), "2032-02-28T00:00:00.000Z");
        let mut after = connect(&tls, &trusts_new).await.unwrap();
        exchange(&mut after).await;
        exchange(&mut before).await;
    }

    #[tokio::test]
    async fn a_broken_new_file_keeps_the_old_certificate_and_is_told_once() {
        let (old, new) = (pair(2031), pair(2032));
        let (_folder, options, tls) = served(&old);
        write(&options, &new.certificate, &old.key);
        assert!(matches!(tls.reload(now()), Err(Error::Mismatch { .. })));
        assert!(matches!(tls.reload(now()), Ok(false)));
        let mut ends = connect(&tls, &Arc::new(client(&old, &[&TLS13])))
            .await
            .unwrap();
        exchange(&mut ends).await;
        std::fs::remove_file(&options.key).unwrap();
        assert!(matches!(tls.reload(now()), Err(Error::Read { .. })));
        write(&options, &new.certificate, &new.key);
        assert!(tls.reload(now()).unwrap());
    }

    #[test]
    fn what_cannot_be_served_is_said_with_its_file() {
        let good = pair(2031);
        let key_only = KeyPair::generate().unwrap().serialize_pem();
        let broken = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let folder = TempDir::new().unwrap();
        let options = options(&folder);
        let file = |path: &Path| path.display().to_string();
        let (certificate, key) = (file(&options.certificate), file(&options.key));
        let error = Tls::load(options.clone(), now()).err().unwrap().to_string();
        assert_eq!(error, format!("{certificate} cannot be read"));
        let old = pair(2025);
        let table: &[(&str, &str, String)] = &[
            ("", &good.key, format!("{certificate} has no certificate")),
            (
                &good.key,
                &good.key,
                format!("{certificate} has no certificate"),
            ),
            (broken, &good.key, format!("{certificate} is not PEM")),
            (
                no_der,
                &good.key,
                format!("the certificate in {certificate} cannot be used"),
            ),
            (
                &good.certificate,
                "",
                format!("{key} has no private key, or an encrypted one"),
            ),
            (
                &good.certificate,
                &key_only,
                format!("the key in {key} does not belong to the certificate in {certificate}"),
            ),
            (
                &old.certificate,
                &old.key,
                format!("the certificate in {certificate} ended at 2025-02-28T00:00:00.000Z"),
            ),
        ];
        for (certificate, key, expected) in table {
            write(&options, certificate, key);
            let error = Tls::load(options.clone(), now()).err().unwrap();
            assert_eq!(error.to_string(), *expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_does_not_come_is_not_waited_for() {
        let (_folder, _, tls) = served(&pair(2031));
        let (_near, far) = tokio::io::duplex(1024);
        let result = tls.accept(far, SOON).await;
        assert!(matches!(result, Err(HandshakeError::TimedOut(SOON))));
    }

    #[tokio::test]
    async fn plain_http_is_no_handshake() {
        let (_folder, _, tls) = served(&pair(2031));
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(matches!(
            tls.accept(far, SOON).await,
            Err(HandshakeError::Failed(_))
        ));
    }

    #[tokio::test]
    async fn the_watch_takes_up_changed_files() {
        let (old, new) = (pair(2031), pair(2032));
        let (_folder, options, tls) = served(&old);
        let watched = async {
            write(&options, &new.certificate, &new.key);
            while tls.not_after().to_string() != "2032-02-28T00:00:00.000Z" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = tls.clone().watch(Duration::from_millis(5)) => unreachable!("it watches for ever"),
            result = tokio::time::timeout(SOON, watched) => result.unwrap(),
        }
    }
}
