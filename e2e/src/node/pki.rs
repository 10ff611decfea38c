//! The cluster's certificate authority, the certificates that it issues, and the configuration files made of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use super::{ADDRESS, NAME};

/// A program or person with a certificate; an empty group means none.
struct Identity {
    file: &'static str,
    user: &'static str,
    group: &'static str,
    addresses: &'static [&'static str],
}

const IDENTITIES: &[Identity] = &[
    Identity {
        file: "apiserver",
        user: "kube-apiserver",
        group: "",
        addresses: &[
            "127.0.0.1",
            "10.96.0.1",
            ADDRESS,
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ],
    },
    Identity {
        file: "admin",
        user: "admin",
        group: "system:masters",
        addresses: &[],
    },
    Identity {
        file: "controller-manager",
        user: "system:kube-controller-manager",
        group: "",
        addresses: &[],
    },
    Identity {
        file: "scheduler",
        user: "system:kube-scheduler",
        group: "",
        addresses: &[],
    },
    Identity {
        file: "kubelet",
        user: "system:node:node0",
        group: "system:nodes",
        addresses: &[NAME, ADDRESS],
    },
    Identity {
        file: "proxy",
        user: "system:kube-proxy",
        group: "",
        addresses: &[],
    },
];

pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters
            .distinguished_name
            .push(DnType::CommonName, "larder test cluster");
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

    /// Writes `pki/` and a `NAME.kubeconfig` for each identity.
    pub(crate) fn issue_all(&self, directory: &Path) -> Result<()> {
        let pki = directory.join("pki");
        fs::create_dir_all(&pki).with_context(|| format!("failed to create {}", pki.display()))?;
        write(&pki.join("ca.crt"), &self.certificate.pem())?;
        for identity in IDENTITIES {
            self.issue(identity, &pki)
                .with_context(|| format!("failed to issue for {}", identity.user))?;
            write(
                &directory.join(format!("{}.kubeconfig", identity.file)),
                &kubeconfig(identity.file, &pki),
            )?;
        }
        let key = KeyPair::generate().context("failed to generate the key of service accounts")?;
        write(&pki.join("service-accounts.key"), &key.serialize_pem())?;
        write(&pki.join("service-accounts.pub"), &key.public_key_pem())
    }

    fn issue(&self, identity: &Identity, pki: &Path) -> Result<()> {
        let addresses: Vec<String> = identity.addresses.iter().map(ToString::to_string).collect();
        let mut parameters =
            CertificateParams::new(addresses).context("failed to read the addresses")?;
        parameters
            .distinguished_name
            .push(DnType::CommonName, identity.user);
        if !identity.group.is_empty() {
            parameters
                .distinguished_name
                .push(DnType::OrganizationName, identity.group);
        }
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().context("failed to generate a key")?;
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .context("failed to sign")?;
        write(
            &pki.join(format!("{}.crt", identity.file)),
            &certificate.pem(),
        )?;
        write(
            &pki.join(format!("{}.key", identity.file)),
            &key.serialize_pem(),
        )
    }
}

fn kubeconfig(file: &str, pki: &Path) -> String {
    let pki = pki.display();
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: larder
  cluster: {{server: \"https://127.0.0.1:6443\", certificate-authority: \"{pki}/ca.crt\"}}
users:
- name: {file}
  user: {{client-certificate: \"{pki}/{file}.crt\", client-key: \"{pki}/{file}.key\"}}
contexts:
- name: larder
  context: {{cluster: larder, user: {file}}}
current-context: larder
"
    )
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}
