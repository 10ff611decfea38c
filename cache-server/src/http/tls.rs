//! The certificate of the data port. Its files are read again when they change; what can't be taken changes nothing but what
//! is said.

mod known;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use crds::static_config::Tls;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::expiry;
use crate::metrics::Metrics;

/// Name of HTTP/2 in the handshake (RFC 9113, 3.1).
pub const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// How often the files are looked at. A mounted Secret changes by a swap of symlinks, which no watch of a file shows.
const POLL: Duration = Duration::from_secs(1);

/// Why a certificate can't be taken. Says nothing of the files' content: it may be a key in the wrong place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to find a certificate in {path}: it must hold PEM")]
    NoCertificate { path: PathBuf },
    #[error("failed to find a private key in {path}: it must hold PEM, without a passphrase")]
    NoKey { path: PathBuf },
    #[error("failed to take the certificate in {certificate} with the key in {key}: {reason}")]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        reason: String,
    },
    #[error(
        "failed to use the new certificate in {certificate} yet: its authority is not among those that clients know, in {path}"
    )]
    Unknown { certificate: PathBuf, path: PathBuf },
    #[error("failed to take the authorities in {path}: {reason}")]
    Authority { path: PathBuf, reason: String },
}

/// Contents of the files.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Option<Vec<u8>>,
}

/// What handshakes use now.
#[derive(Debug)]
pub struct Certificates {
    files: Tls,
    /// Connections keep the one they began with.
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
    seen: [u8; 32],
    /// Seconds since 1970; `None` if the certificate can't be read so far.
    expires: Option<i64>,
}

impl Certificates {
    /// Reads the files. Blocks on the disk.
    pub fn load(files: Tls) -> Result<Self, Error> {
        let contents = Contents::read(&files)?;
        let current = Current::new(&files, &contents)?;
        Ok(Self {
            files,
            current: ArcSwap::from_pointee(current),
        })
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load().config.clone())
    }

    /// Looks at the files until told to stop.
    pub async fn watch(self: Arc<Self>, metrics: Arc<Metrics>, stop: CancellationToken) {
        let mut refused = None;
        self.say(&metrics);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
            let looked = self.clone();
            let Ok(found) = tokio::task::spawn_blocking(move || looked.look()).await else {
                continue;
            };
            match found {
                Ok(false) if refused.is_none() => {}
                Ok(changed) => {
                    if changed {
                        tracing::info!("the data port has a new certificate");
                    }
                    refused = None;
                    self.say(&metrics);
                }
                Err(error) => {
                    let text = error.to_string();
                    if refused.as_ref() != Some(&text) {
                        if matches!(error, Error::Unknown { .. }) {
                            tracing::info!("{text}; the last one stays in use until it ends");
                        } else {
                            tracing::error!("{text}; the last good certificate stays in use");
                        }
                        metrics.tls_reload_successful.set(0);
                        refused = Some(text);
                    }
                }
            }
        }
    }

    /// Whether there was something new.
    fn look(&self) -> Result<bool, Error> {
        let contents = Contents::read(&self.files)?;
        if self.current.load().seen == contents.digest() {
            return Ok(false);
        }
        let current = Current::new(&self.files, &contents)?;
        self.check_known(&current)?;
        self.current.store(Arc::new(current));
        Ok(true)
    }

    /// Whether clients would take it. One that has ended serves nobody, so then any is better.
    fn check_known(&self, new: &Current) -> Result<(), Error> {
        let Some(path) = &self.files.known_authority_file else {
            return Ok(());
        };
        let authorities = match std::fs::read(path) {
            Ok(authorities) => authorities,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                return Err(Error::Read {
                    path: path.clone(),
                    source,
                });
            }
        };
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        let expires = self.current.load().expires;
        if expires.is_some_and(|time| time <= now) || known::is_known(&new.chain, &authorities) {
            return Ok(());
        }
        Err(Error::Unknown {
            certificate: self.files.certificate_file.clone(),
            path: path.clone(),
        })
    }

    fn say(&self, metrics: &Metrics) {
        metrics.tls_reload_successful.set(1);
        metrics
            .tls_certificate_expiry
            .set(self.current.load().expires.unwrap_or(0));
    }
}

impl Contents {
    fn read(files: &Tls) -> Result<Self, Error> {
        let authority = files.client_certificate_authority_file.as_deref();
        Ok(Self {
            certificate: read(&files.certificate_file)?,
            key: read(&files.key_file)?,
            authority: authority.map(read).transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for content in [
            Some(&self.certificate),
            Some(&self.key),
            self.authority.as_ref(),
        ] {
            hasher.update(content.map(Sha256::digest).unwrap_or_default());
        }
        hasher.finalize().into()
    }
}

impl Current {
    fn new(files: &Tls, contents: &Contents) -> Result<Self, Error> {
        let chain = certificates(&files.certificate_file, &contents.certificate)?;
        let expires = chain.first().and_then(|leaf| expiry::of(leaf));
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| Error::NoKey {
            path: files.key_file.clone(),
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pair = |error: rustls::Error| Error::Pair {
            certificate: files.certificate_file.clone(),
            key: files.key_file.clone(),
            reason: error.to_string(),
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let authority = files.client_certificate_authority_file.as_deref();
        let builder = match authority.zip(contents.authority.as_deref()) {
            None => builder.with_no_client_auth(),
            Some((path, pem)) => {
                let refused = |reason: String| Error::Authority {
                    path: path.to_owned(),
                    reason,
                };
                let mut roots = RootCertStore::empty();
                for root in certificates(path, pem)? {
                    roots
                        .add(root)
                        .map_err(|error| refused(error.to_string()))?;
                }
                // Whether one is needed is the policy's to say, for each request.
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .allow_unauthenticated()
                        .build()
                        .map_err(|error| refused(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain.clone(), key).map_err(pair)?;
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            chain,
            seen: contents.digest(),
            expires,
        })
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::NoCertificate {
            path: path.to_owned(),
        }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}
