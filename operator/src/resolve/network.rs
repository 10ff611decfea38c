//! Ports that the pods must reach for their upstreams. Pure.

use std::collections::BTreeSet;

use crds::policy::Upstream;
use crds::static_config::ObjectStorage;
use crds::values::Endpoint;

/// A registry, what it redirects to and where it has its tokens from are on this port, unless it is said otherwise.
const HTTPS: u16 = 443;
const HTTP: u16 = 80;

/// TCP ports of all that the upstreams are said to consist of.
pub(super) fn ports(upstreams: &[Upstream]) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for upstream in upstreams {
        if let Some(proxy) = &upstream.proxy {
            ports.insert(port_of(proxy));
            continue;
        }
        ports.insert(HTTPS);
        let endpoints = upstream.effective_endpoints();
        ports.extend(endpoints.iter().chain(&upstream.auth_realms).map(port_of));
        let redirects = upstream.redirect_hosts.iter();
        ports.extend(redirects.filter_map(|host| port(host.as_str())));
    }
    ports
}

/// The port of a bucket.
pub(super) fn bucket(storage: &ObjectStorage) -> u16 {
    storage.endpoint.as_ref().map_or(HTTPS, port_of)
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
        let text = format!("format: 1\nupstreams: {upstreams}\n");
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
    fn a_bucket_is_at_its_endpoint_or_at_the_clouds() {
        let at = |endpoint: &str| {
            let text = format!("{{bucket: images{endpoint}}}");
            bucket(&serde_saphyr::from_str(&text).unwrap())
        };
        assert_eq!(at(", endpoint: 'http://s3.example:9000'"), 9000);
        assert_eq!(at(""), 443);
    }

    #[test]
    fn behind_a_proxy_only_the_proxy_is_reached() {
        assert_eq!(
            ports_of("[{host: docker.io, proxy: 'http://proxy.example:3128'}]"),
            [3128]
        );
    }
}
