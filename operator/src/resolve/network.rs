//! Ports that the pods must reach. Pure.

use std::collections::BTreeSet;

use crds::policy::{Identity, Provider, Upstream};
use crds::static_config::StaticConfig;
use crds::values::Endpoint;

/// A registry, what it redirects to and where it has its tokens from are on this port, unless it is said otherwise.
const HTTPS: u16 = 443;
const HTTP: u16 = 80;
/// What answers on the nodes of GKE for the metadata server, where the network is not Dataplane V2
/// (<https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity>).
const GKE_METADATA: u16 = 988;

/// TCP ports of all that the upstreams are said to consist of, and of what their identities come from.
pub(super) fn ports(upstreams: &[Upstream]) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for upstream in upstreams {
        let credentials = upstream.credentials.iter();
        let identities = credentials.filter_map(|credential| credential.identity.as_ref());
        ports.extend(identities.clone().flat_map(of_the_machine));
        if let Some(proxy) = &upstream.proxy {
            ports.insert(port_of(proxy));
            continue;
        }
        ports.insert(HTTPS);
        let endpoints = upstream.effective_endpoints();
        ports.extend(endpoints.iter().chain(&upstream.auth_realms).map(port_of));
        let elsewhere = identities.flat_map(|identity| [&identity.endpoint, &identity.authority]);
        ports.extend(elsewhere.flatten().map(port_of));
        let redirects = upstream.redirect_hosts.iter();
        ports.extend(redirects.filter_map(|host| port(host.as_str())));
    }
    ports
}

/// Of a server of the machine or an agent on it that knows an identity: no proxy leads there.
fn of_the_machine(identity: &Identity) -> Vec<u16> {
    let is_told = identity.account_file.is_some()
        || identity.keys_file.is_some()
        || identity.token_file.is_some();
    match (identity.provider, &identity.endpoint) {
        (Provider::Gar, Some(endpoint)) if !is_told => vec![port_of(endpoint)],
        (Provider::Gar, None) if !is_told => vec![HTTP, GKE_METADATA],
        (Provider::Ecr, _) if !is_told => vec![HTTP],
        (Provider::Gar | Provider::Ecr | Provider::Acr, _) => Vec::new(),
    }
}

/// Those of a bucket and of a collector of traces.
pub(super) fn others(config: &StaticConfig) -> BTreeSet<u16> {
    let bucket = config.object_storage.as_ref();
    let bucket = bucket.map(|bucket| bucket.endpoint.as_ref().map_or(HTTPS, port_of));
    let collector = config.tracing.as_ref();
    let collector = collector.map(|tracing| port_of(&tracing.endpoint));
    bucket.into_iter().chain(collector).collect()
}

fn port_of(endpoint: &Endpoint) -> u16 {
    let usual = if endpoint.is_secure() { HTTPS } else { HTTP };
    port(endpoint.authority()).unwrap_or(usual)
}

fn port(authority: &str) -> Option<u16> {
    authority.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports_of(upstreams: &str) -> Vec<u16> {
        let text = format!("format: 1\nallowAnonymousPrivate: true\nupstreams: {upstreams}\n");
        let policy = crds::policy::Policy::parse(&text).unwrap();
        ports(&policy.upstreams).into_iter().collect()
    }

    #[test]
    fn each_address_has_its_port() {
        assert_eq!(ports_of("[{host: docker.io}]"), [443]);
        assert_eq!(
            ports_of(
                "[{host: a.example, endpoints: ['http://a.example', 'https://b.example:5000'], authRealms: ['https://c.example:8443'], redirectHosts: ['d.example:9000', e.example]}]"
            ),
            [80, 443, 5000, 8443, 9000]
        );
    }

    #[test]
    fn a_bucket_is_at_its_endpoint_or_at_the_clouds_and_a_collector_at_its_endpoint() {
        let at = |endpoint: &str, tracing: &str| {
            let text = format!("{{objectStorage: {{bucket: images{endpoint}}}{tracing}}}");
            let ports = others(&serde_saphyr::from_str(&text).unwrap());
            ports.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(at(", endpoint: 'http://s3.example:9000'", ""), [9000]);
        let tracing = ", tracing: {endpoint: 'http://collector:4318'}";
        assert_eq!(at("", tracing), [443, 4318]);
    }

    #[test]
    fn an_identity_that_the_machine_knows_is_asked_for_there() {
        let of = |identity: &str, more: &str| {
            ports_of(&format!(
                "[{{host: r.example, credentials: [{{identity: {{provider: {identity}}}}}]{more}}}]"
            ))
        };
        assert_eq!(of("Gar", ""), [80, 443, 988]);
        assert_eq!(
            of("Gar", ", proxy: 'http://p.example:3128'"),
            [80, 988, 3128]
        );
        assert_eq!(
            of("Gar, endpoint: 'https://m.example:8080'", ""),
            [443, 8080]
        );
        assert_eq!(of("Gar, accountFile: /a", ""), [443]);
        assert_eq!(of("Ecr, region: eu-west-1", ""), [80, 443]);
        let exchanged = "Ecr, region: eu-west-1, role: 'arn:aws:iam::1:role/r', tokenFile: /t, authority: 'https://sts.example:8443'";
        assert_eq!(of(exchanged, ""), [443, 8443]);
        assert_eq!(of("Acr", ""), [443]);
    }

    #[test]
    fn behind_a_proxy_only_the_proxy_is_reached() {
        assert_eq!(
            ports_of("[{host: docker.io, proxy: 'http://proxy.example:3128'}]"),
            [3128]
        );
    }
}
