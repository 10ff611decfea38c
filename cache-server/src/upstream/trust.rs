//! Which hosts an upstream may send us to. Pure. What it says is not trusted: a realm gets tokens asked of it and a
//! redirect gets requests sent to it, from inside the cluster.

use std::net::IpAddr;

use crds::values::RegistryHost;
use reqwest::Url;

use super::inward::is_inward;

/// Whether a token may be asked of `realm` on behalf of `endpoint`, which serves the upstream `host`. `allowed` are
/// origins that the policy names.
pub fn realm_is_trusted(endpoint: &Url, host: &str, realm: &Url, allowed: &[Url]) -> bool {
    if realm.scheme() != "https" && (realm.scheme() != "http" || endpoint.scheme() == "https") {
        return false;
    }
    if allowed.iter().any(|one| one.origin() == realm.origin()) {
        return true;
    }
    let host = host.split(':').next().unwrap_or(host);
    realm.host_str().is_some_and(|realm| {
        [endpoint.host_str(), Some(host)]
            .into_iter()
            .flatten()
            .any(|known| known == realm || same_domain(known, realm))
    })
}

/// How a redirect's target is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The endpoint's own host, or one that the policy names: wherever it is.
    Named,
    /// Any other: only if its address is a public one.
    Outward,
}

/// Whether a redirect from `from` may be followed to `to`, and how. Names are judged when they are resolved.
pub fn redirect(
    endpoint: &Url,
    from: &Url,
    to: &Url,
    named: &[RegistryHost],
) -> Result<Reach, &'static str> {
    match (from.scheme(), to.scheme()) {
        ("https" | "http", "https") | ("http", "http") => {}
        ("https", "http") => return Err("it leads from https to http"),
        _ => return Err("it leads to something that is not http"),
    }
    let Some(host) = to.host_str() else {
        return Err("it leads to no host");
    };
    let is_named = named
        .iter()
        .any(|name| match name.as_str().split_once(':') {
            Some((name, port)) => {
                name == host
                    && to
                        .port_or_known_default()
                        .map(|port| port.to_string())
                        .as_deref()
                        == Some(port)
            }
            None => name.as_str() == host,
        });
    if is_named || to.host_str() == endpoint.host_str() {
        return Ok(Reach::Named);
    }
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    if address.is_ok_and(is_inward) {
        return Err("it leads to an address inside the network, which redirectHosts does not name");
    }
    Ok(Reach::Outward)
}

/// Whether two names have the same owner, as far as names show it: the same last two labels, or three below a
/// short second level such as `co.uk`. Addresses have no domain.
fn same_domain(a: &str, b: &str) -> bool {
    fn owner(name: &str) -> Option<Vec<&str>> {
        if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return None;
        }
        let labels: Vec<&str> = name.rsplit('.').collect();
        let short = labels.len() > 1 && labels[0].len() == 2 && labels[1].len() <= 3;
        let count = if short { 3 } else { 2 };
        (labels.len() >= count).then(|| labels[..count].to_vec())
    }
    matches!((owner(a), owner(b)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_realm_in_the_upstreams_domain_is_trusted() {
        for (endpoint, host, realm) in [
            (
                "https://registry-1.docker.io",
                "docker.io",
                "https://auth.docker.io/token",
            ),
            ("https://ghcr.io", "ghcr.io", "https://ghcr.io/token"),
            (
                "https://registry.gitlab.com",
                "registry.gitlab.com",
                "https://gitlab.com/jwt/auth",
            ),
            (
                "http://127.0.0.1:5000",
                "docker.io",
                "http://127.0.0.1:6000/token",
            ),
            (
                "http://10.0.0.1",
                "docker.io",
                "https://auth.docker.io/token",
            ),
        ] {
            assert!(
                realm_is_trusted(&url(endpoint), host, &url(realm), &[]),
                "{realm}"
            );
        }
    }

    #[test]
    fn a_realm_elsewhere_is_not() {
        for (endpoint, host, realm) in [
            (
                "https://registry-1.docker.io",
                "docker.io",
                "https://evil.io/token",
            ),
            (
                "https://registry-1.docker.io",
                "docker.io",
                "http://auth.docker.io/token",
            ),
            (
                "https://registry-1.docker.io",
                "docker.io",
                "https://docker.io.evil.com/token",
            ),
            (
                "https://registry-1.docker.io",
                "docker.io",
                "https://169.254.169.254/token",
            ),
            (
                "https://registry-1.docker.io",
                "docker.io",
                "https://127.0.0.1/token",
            ),
            (
                "https://registry.a.co.uk",
                "registry.a.co.uk",
                "https://b.co.uk/token",
            ),
            ("https://10.0.0.1", "10.0.0.1", "https://11.0.0.1/token"),
            (
                "http://127.0.0.1:5000",
                "docker.io",
                "http://127.0.0.2/token",
            ),
        ] {
            assert!(
                !realm_is_trusted(&url(endpoint), host, &url(realm), &[]),
                "{realm}"
            );
        }
    }

    #[test]
    fn a_realm_that_the_policy_names_is_trusted_as_it_is_named() {
        let allowed = [url("https://login.example"), url("http://plain.example")];
        let check = |endpoint: &str, realm: &str| {
            realm_is_trusted(&url(endpoint), "r.test", &url(realm), &allowed)
        };
        assert!(check("https://r.test", "https://login.example/token"));
        assert!(!check("https://r.test", "https://login.example:444/token"));
        assert!(!check("https://r.test", "https://x.login.example/token"));
        // Never from https to http, whoever says so.
        assert!(!check("https://r.test", "http://plain.example/token"));
        assert!(check("http://r.test", "http://plain.example/token"));
    }

    #[test]
    fn redirects_lead_outward_and_never_to_less_safety() {
        let endpoint = url("https://registry-1.docker.io");
        let check = |from: &str, to: &str| redirect(&endpoint, &url(from), &url(to), &[]);
        assert_eq!(
            check("https://a.io/x", "https://cdn.example/x?sig=1"),
            Ok(Reach::Outward)
        );
        assert_eq!(
            check("http://a.io/x", "https://registry-1.docker.io/x"),
            Ok(Reach::Named)
        );
        // What this name leads to shows when it is resolved.
        assert_eq!(
            check("https://a.io/x", "https://localhost/"),
            Ok(Reach::Outward)
        );
        for to in [
            "http://a.io/x",
            "ftp://a.io/x",
            "https://169.254.169.254/latest",
            "https://10.0.0.1/",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
        ] {
            assert!(check("https://a.io/x", to).is_err(), "{to}");
        }
        let local = url("http://127.0.0.1:5000");
        assert_eq!(
            redirect(&local, &local, &url("http://127.0.0.1:6000/x"), &[]),
            Ok(Reach::Named)
        );
    }

    #[test]
    fn a_host_that_the_policy_names_may_be_inside() {
        let endpoint = url("https://r.example");
        let named = ["10.0.0.9:9000".parse().unwrap(), "minio".parse().unwrap()];
        let check = |to: &str| redirect(&endpoint, &endpoint, &url(to), &named);
        assert_eq!(check("https://10.0.0.9:9000/x"), Ok(Reach::Named));
        assert_eq!(check("https://minio:1234/x"), Ok(Reach::Named));
        assert!(check("https://10.0.0.9/x").is_err());
        // Never from https to http, whoever says so.
        assert!(check("http://minio/x").is_err());
    }
}
