//! Whether clients know who issued a certificate. A new one of an authority that they have not heard of would be refused by
//! all of them.

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};

/// `authorities`: what clients know, in PEM. Only a certificate of an authority that is not there is unknown: what else is
/// wrong with one does not pass by waiting.
pub(super) fn is_known(chain: &[CertificateDer<'_>], authorities: &[u8]) -> bool {
    let Some((leaf, between)) = chain.split_first() else {
        return true;
    };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities).flatten() {
        if authority == *leaf {
            return true;
        }
        // One that can't be read is known to nobody.
        let _ = roots.add(authority);
    }
    let Ok(certificate) = ParsedCertificate::try_from(leaf) else {
        return true;
    };
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let verified = verify_server_cert_signed_by_trust_anchor(
        &certificate,
        &roots,
        between,
        UnixTime::now(),
        algorithms.all,
    );
    // An authority that was made anew under the old name has another key.
    !matches!(
        verified,
        Err(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ))
    )
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa};
    use rcgen::{Issuer, KeyPair};

    use super::*;

    /// An authority, or one between it and others.
    struct Authority {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn parameters(name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::new(vec![format!("{name}.test")]).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        let common = &mut parameters.distinguished_name;
        common.push(DnType::CommonName, name);
        parameters
    }

    fn authority(name: &str, above: Option<&Authority>) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut parameters = parameters(name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = match above {
            None => parameters.self_signed(&key),
            Some(above) => parameters.signed_by(&key, &above.issuer),
        };
        Authority {
            pem: pem.unwrap().pem(),
            issuer: Issuer::new(parameters, key),
        }
    }

    fn chain(above: &Authority, between: &[&Authority]) -> Vec<CertificateDer<'static>> {
        let key = KeyPair::generate().unwrap();
        let leaf = parameters("leaf").signed_by(&key, &above.issuer).unwrap();
        let between = between
            .iter()
            .map(|one| CertificateDer::from_pem_slice(one.pem.as_bytes()).unwrap());
        std::iter::once(leaf.der().clone()).chain(between).collect()
    }

    #[test]
    fn a_certificate_is_known_by_the_authority_at_its_end() {
        let (old, new) = (authority("one", None), authority("other", None));
        let between = authority("between", Some(&new));
        let both = format!("{}{}", old.pem, new.pem);
        for (chain, authorities, known) in [
            (chain(&old, &[]), old.pem.as_str(), true),
            (chain(&new, &[]), &old.pem, false),
            (chain(&new, &[]), &both, true),
            (chain(&between, &[&between]), &both, true),
            (chain(&between, &[&between]), &old.pem, false),
            (chain(&new, &[]), "", false),
            (chain(&new, &[]), "no PEM", false),
            (Vec::new(), &old.pem, true),
        ] {
            assert_eq!(is_known(&chain, authorities.as_bytes()), known);
        }
    }

    #[test]
    fn an_authority_of_the_same_name_with_another_key_is_another_one() {
        let (old, new) = (authority("same", None), authority("same", None));
        assert!(!is_known(&chain(&new, &[]), old.pem.as_bytes()));
        assert!(is_known(&chain(&old, &[]), old.pem.as_bytes()));
    }

    #[test]
    fn a_certificate_that_vouches_for_itself_is_known_by_itself() {
        let key = KeyPair::generate().unwrap();
        let own = parameters("own").self_signed(&key).unwrap();
        let other = authority("other", None);
        let chain = [own.der().clone()];
        assert!(is_known(&chain, own.pem().as_bytes()));
        assert!(!is_known(&chain, other.pem.as_bytes()));
    }
}
