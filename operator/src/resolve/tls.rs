//! TLS on the port for clients: the certificate, whether somebody has to issue it, and whom clients trust. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crds::registry_cache::{IssuerRef, TlsSpec};
use crds::static_config::StaticConfig;
use crds::values::{Duration, Endpoint};

use super::authorities::{self, Authorities, Past, Situation};
use super::secrets::{self, MountedSecret, Purpose};
use super::{Problem, spec_problem};
use crate::observe::{Observed, tls_secret};
use crate::optional_apis::OptionalKind;
use crate::render::names::{self, Owner};

/// TLS of one cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub(crate) secret: MountedSecret,
    /// `None`: somebody else makes the Secret.
    pub(crate) request: Option<Request>,
    pub(crate) authorities: Option<Authorities>,
    /// Why there is no certificate yet. Until there is one, what runs stays as it is.
    pub(crate) pending: Option<String>,
}

/// A certificate to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) issuer: IssuerRef,
    pub(crate) names: BTreeSet<String>,
    pub(crate) addresses: BTreeSet<IpAddr>,
}

/// Checks what is declared, or says what is missing.
pub(super) fn tls(observed: &Observed, owner: &Owner) -> Result<Option<Tls>, Vec<Problem>> {
    let Some((spec, name)) = observed
        .cache
        .spec
        .tls
        .as_ref()
        .zip(tls_secret(&observed.cache))
    else {
        return Ok(None);
    };
    let secret = MountedSecret {
        purpose: Purpose::Serving,
        secret: name.into_owned(),
        key: None,
        field: "tls.secretRef".to_owned(),
    };
    let mut problems = Vec::new();
    let missing = secrets::missing(observed, owner, [&secret]);
    let mut request = None;
    let mut pending = None;
    match &spec.issuer_ref {
        Some(_) if !observed.apis.has(OptionalKind::Certificate) => {
            problems.push(Problem::NoCertificates);
        }
        Some(issuer) => {
            request = self::request(observed, owner, spec, issuer);
            pending = (!missing.is_empty()).then(|| waiting(observed, owner, request.is_some()));
        }
        None => problems.extend(missing),
    }
    if let Some(reference) = &spec.ca_secret_ref {
        let field = "tls.caSecretRef".to_owned();
        problems.extend(secrets::missing_key(observed, owner, reference, field));
    }
    let delay: Duration = spec.authority_delay.parse().unwrap_or_else(|error| {
        problems.push(spec_problem("tls.authorityDelay", &error));
        Duration::from_secs(0)
    });
    let told = authorities::authorities(
        observed.authorities.as_deref().unwrap_or_default(),
        &Past::of_live(&observed.live, owner),
        Situation {
            served: served(observed, owner),
            behind: observed.nodes_behind,
            now: observed.time,
            delay: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX / 4),
        },
    );
    let authorities = told.unwrap_or_else(|reason| {
        let place = if spec.ca_secret_ref.is_some() {
            "tls.caSecretRef".to_owned()
        } else {
            format!("tls: ca.crt of Secret {}", secret.secret)
        };
        problems.push(spec_problem(&place, &reason));
        None
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Some(Tls {
        secret,
        request,
        authorities,
        pending,
    }))
}

/// Whether the servers that run speak TLS.
fn served(observed: &Observed, owner: &Owner) -> bool {
    let object = observed
        .live
        .get("ConfigMap", &names::config_map(&owner.name));
    let text = object.and_then(|object| object.data.get("data")?.get(crds::STATIC_FILE)?.as_str());
    text.and_then(|text| StaticConfig::parse(text).ok())
        .is_some_and(|config| config.tls.is_some())
}

/// `None`: the Service has no address yet, and a certificate without it would be issued twice.
fn request(
    observed: &Observed,
    owner: &Owner,
    spec: &TlsSpec,
    issuer: &IssuerRef,
) -> Option<Request> {
    let cluster_ip = observed.live.cluster_ip(&owner.name)?;
    let service = format!("{}.{}", owner.name, owner.namespace);
    let of_mirrors = observed.cache.spec.mirrors.iter().filter_map(|mirror| {
        let endpoint: Endpoint = mirror.endpoint.as_ref()?.parse().ok()?;
        let host = endpoint.authority().split(':').next()?.to_owned();
        endpoint.is_secure().then_some(host)
    });
    let balancers = observed.live.balancer_names(&owner.name);
    let all = [
        cluster_ip.to_owned(),
        service.clone(),
        format!("{service}.svc"),
        format!("{service}.svc.cluster.local"),
    ]
    .into_iter()
    .chain(balancers.into_iter().map(str::to_owned))
    .chain(of_mirrors)
    .chain(spec.names.iter().cloned());
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for name in all {
        match name.parse() {
            Ok(address) => addresses.insert(address),
            Err(_) => names.insert(name),
        };
    }
    Some(Request {
        issuer: issuer.clone(),
        names,
        addresses,
    })
}

fn waiting(observed: &Observed, owner: &Owner, is_requested: bool) -> String {
    let (namespace, name) = (&owner.namespace, &owner.name);
    if !is_requested {
        return format!(
            "Certificate {namespace}/{name} waits for the address of Service {namespace}/{name}"
        );
    }
    let certificate = observed.live.get("Certificate", name);
    let conditions = certificate.and_then(|one| one.data.pointer("/status/conditions")?.as_array());
    let ready = conditions.and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
    let said = ready.and_then(|one| one["message"].as_str());
    let said = said.map(|text| format!(": {}", text.trim_end_matches('.')));
    format!(
        "Certificate {namespace}/{name} is not issued yet{}",
        said.unwrap_or_default()
    )
}
