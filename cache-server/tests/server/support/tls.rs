//! A certificate authority for one test, and certificates for 127.0.0.1 and for a client.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

/// PEM texts that the authority made.
pub struct Issued {
    pub authority: String,
    pub client_certificate: String,
    pub client_key: String,
}

/// A server, and what its clients may need. `mutual`: only clients with a certificate get in.
pub fn acceptor(mutual: bool) -> (TlsAcceptor, Issued) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    let pem = certificate.pem();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let signer = Issuer::new(authority, authority_key);
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &signer)
            .unwrap();
        (certificate, key)
    };
    let (client, client_key) = issue("cache.test");
    let (server, key) = issue("127.0.0.1");
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let builder = rustls::ServerConfig::builder();
    let builder = if mutual {
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .build()
            .unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let config = builder
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    let issued = Issued {
        authority: pem,
        client_certificate: client.pem(),
        client_key: client_key.serialize_pem(),
    };
    (TlsAcceptor::from(Arc::new(config)), issued)
}
