//! A certificate authority of a test, and a server's certificate that it issues.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// An authority with a key of its own.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// PEM of a server's certificate, and of its key.
#[derive(Debug, Clone)]
pub struct ServerPair {
    pub certificate: String,
    pub key: String,
}

/// Where a server finds its certificate and key.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl ServerFiles {
    /// A line of a server's settings that names them.
    pub fn settings(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("tls: {{certificateFile: {certificate}, keyFile: {key}}}")
    }
}

impl Authority {
    pub fn new() -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters
            .distinguished_name
            .push(DnType::CommonName, "larder test authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().context("failed to generate the authority's key")?;
        let certificate = parameters
            .self_signed(&key)
            .context("failed to sign the authority's certificate")?;
        Ok(Self {
            certificate,
            issuer: Issuer::new(parameters, key),
        })
    }

    /// Its certificate, by which clients know what it issued. Ends in one line feed.
    pub fn pem(&self) -> String {
        format!("{}\n", self.certificate.pem().replace('\r', "").trim_end())
    }

    /// A certificate for the address that ends with the beginning of a year, if one is given, and its key.
    pub fn sign(&self, address: &str, end: Option<i32>) -> Result<ServerPair> {
        let mut parameters = CertificateParams::new(vec![address.to_owned()])
            .context("failed to name the server")?;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if let Some(year) = end {
            parameters.not_after = date_time_ymd(year, 1, 1);
        }
        let key = KeyPair::generate().context("failed to generate the server's key")?;
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .context("failed to sign the server's certificate")?;
        Ok(ServerPair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Writes a certificate for the address, and its key, into the directory.
    pub fn issue(&self, directory: &Path, address: &str) -> Result<ServerFiles> {
        let pair = self.sign(address, None)?;
        let files = ServerFiles {
            certificate: directory.join("tls.crt"),
            key: directory.join("tls.key"),
        };
        fs::write(&files.certificate, pair.certificate)
            .context("failed to write the server's certificate")?;
        fs::write(&files.key, pair.key).context("failed to write the server's key")?;
        Ok(files)
    }
}
