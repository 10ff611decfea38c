//! Choices that are allowed, and that people regret. Pure.

use crds::policy::Policy;
use crds::registry_cache::RegistryCacheSpec;

/// A sentence for each.
pub(super) fn risks(spec: &RegistryCacheSpec, policy: &str) -> Vec<String> {
    let mut risks = Vec::new();
    let secured = spec
        .upstreams
        .iter()
        .filter(|one| !one.credentials.is_empty());
    let hosts: Vec<&str> = secured.map(|one| one.host.as_str()).collect();
    if spec.access.is_anonymous() && !hosts.is_empty() {
        risks.push(format!(
            "Everybody who reaches the cache can pull what its credentials for {} unlock: say in access what clients must show.",
            hosts.join(", ")
        ));
    }
    let passwords = spec.access.basic.is_some() || spec.access.token.is_some();
    if passwords && spec.tls.is_none() {
        risks.push(
            "What clients show crosses the network in clear text: set tls, unless something in front of the cache ends TLS."
                .to_owned(),
        );
    }
    let mirrors = spec.mirrors.iter();
    let bare: Vec<&str> = mirrors
        .filter(|mirror| mirror.credentials_secret_ref.is_none())
        .map(|mirror| mirror.name.as_str())
        .collect();
    if passwords && !bare.is_empty() {
        risks.push(format!(
            "Nodes show nothing by mirrors {}, and access asks for a password or a token, so the cache refuses them: set credentialsSecretRef.",
            bare.join(", ")
        ));
    }
    let keeps_all = |policy: Policy| {
        let retentions = policy
            .rules
            .iter()
            .filter_map(|rule| rule.retention.as_ref());
        !retentions
            .into_iter()
            .any(|one| one.unused_for.is_some() || one.keep_newest.is_some())
    };
    if Policy::parse(policy).is_ok_and(keeps_all) {
        risks.push(format!(
            "No rule has a retention, so what nobody pulls any more stays until capacity.maxSize is used to {} %: set retention in a CachePolicy.",
            spec.capacity.high_watermark
        ));
    }
    risks
}
