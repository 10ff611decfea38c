//! A certificate authority for one test, and certificates for 127.0.0.1 and for a client.

use std::path::Path;
use std::sync::Arc;

use crds::static_config::Tls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

/// Makes certificates.
pub struct Authority {
    /// Its own certificate, in PEM.
    pub pem: String,
    signer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// PEM texts that the authority made.
pub struct Issued {
    pub authority: String,
    pub client_certificate: String,
    pub client_key: String,
}

impl Authority {
    pub fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = authority.self_signed(&key).unwrap().pem();
        Self {
            pem,
            signer: Issuer::new(authority, key),
        }
    }

    pub fn issue(&self, name: &str) -> Pair {
        self.issue_until(name, 2100)
    }

    pub fn issue_until(&self, name: &str, year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
        certificate.not_after = rcgen::date_time_ymd(year, 1, 1);
        Pair {
            certificate: certificate.signed_by(&key, &self.signer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap();
        roots.add(certificate).unwrap();
        roots
    }

    /// Writes what a data port with TLS needs. `mutual`: clients may show certificates of this authority.
    pub fn write(&self, directory: &Path, mutual: bool) -> Tls {
        std::fs::create_dir_all(directory).unwrap();
        let authority = directory.join("ca.crt");
        std::fs::write(&authority, &self.pem).unwrap();
        let tls = Tls {
            certificate_file: directory.join("tls.crt"),
            key_file: directory.join("tls.key"),
            client_certificate_authority_file: mutual.then_some(authority),
            known_authority_file: None,
            listen: None,
        };
        self.issue("127.0.0.1").write(&tls);
        tls
    }
}

impl Pair {
    pub fn write(&self, tls: &Tls) {
        std::fs::write(&tls.certificate_file, &self.certificate).unwrap();
        std::fs::write(&tls.key_file, &self.key).unwrap();
    }

    fn parsed(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        (vec![certificate], key)
    }
}

/// A server, and what its clients may need. `mutual`: only clients with a certificate get in.
pub fn acceptor(mutual: bool) -> (TlsAcceptor, Issued) {
    let authority = Authority::new();
    let (server, client) = (authority.issue("127.0.0.1"), authority.issue("cache.test"));
    let builder = rustls::ServerConfig::builder();
    let builder = if mutual {
        let roots = Arc::new(authority.roots());
        let verifier = WebPkiClientVerifier::builder(roots).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let (chain, key) = server.parsed();
    let config = builder.with_single_cert(chain, key).unwrap();
    let issued = Issued {
        authority: authority.pem,
        client_certificate: client.certificate,
        client_key: client.key,
    };
    (TlsAcceptor::from(Arc::new(config)), issued)
}
