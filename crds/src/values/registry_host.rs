//! The host of a registry, as image names and containerd's `ns` say it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{InvalidValue, as_text};

/// A lower-case DNS name or IPv4 address, with a port if it is not the default: `docker.io`, `10.0.0.5:5000`.
/// The other names of Docker Hub (`index.docker.io`, `registry-1.docker.io`) become `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(extend("pattern" = "^[a-z0-9.-]+(:[0-9]+)?$", "maxLength" = 259))
)]
#[serde(try_from = "String", into = "String")]
// Clones share the text.
pub struct RegistryHost(Arc<str>);

as_text!(RegistryHost);

impl RegistryHost {
    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the directory in which containerd looks for the host's `hosts.toml`: `host_port_`, since a colon can't
    /// stand in the key of a `ConfigMap` (containerd docs/hosts.md, lookup order).
    pub fn hosts_directory(&self) -> String {
        match self.0.split_once(':') {
            Some((name, port)) => format!("{name}_{port}_"),
            None => self.0.to_string(),
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |expected: &str| InvalidValue::new("registry host", text, expected);
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        let has_path = text.contains('/');
        if has_path || name.is_empty() || name.len() > 253 || !name.split('.').all(is_label) {
            return Err(invalid(
                "write a lower-case DNS name or IPv4 address with an optional port, like docker.io or 10.0.0.5:5000, without a scheme or path",
            ));
        }
        if let Some(port) = port {
            let number: u16 = port
                .parse()
                .map_err(|_| invalid("the port must be a number from 1 to 65535"))?;
            if number == 0 || port.starts_with(['0', '+']) {
                return Err(invalid("the port must be a number from 1 to 65535"));
            }
        }
        Ok(match text {
            "index.docker.io" | "registry-1.docker.io" => Self("docker.io".into()),
            _ => Self(text.into()),
        })
    }
}

/// A DNS label of RFC 1123: lower-case letters, digits and inner hyphens, at most 63.
fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_ports_are_hosts() {
        for text in [
            "docker.io",
            "10.0.0.5:5000",
            "localhost:5000",
            "registry.k8s.io",
            "a",
        ] {
            assert_eq!(RegistryHost::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn names_of_docker_hub_are_one() {
        assert_eq!(
            RegistryHost::parse("registry-1.docker.io")
                .unwrap()
                .as_str(),
            "docker.io"
        );
    }

    #[test]
    fn what_could_leave_the_store_or_the_line_is_refused() {
        for text in [
            "",
            "..",
            "a..b",
            "a/b",
            "https://a",
            "A.io",
            "a:",
            "a:0",
            "a:70000",
            "a:+1",
            "-a",
            "a\nb",
            "a b",
            "[::1]:5000",
            "a_b",
        ] {
            assert!(RegistryHost::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn directory_has_no_colon() {
        assert_eq!(
            RegistryHost::parse("10.0.0.5:5000")
                .unwrap()
                .hosts_directory(),
            "10.0.0.5_5000_"
        );
        assert_eq!(
            RegistryHost::parse("quay.io").unwrap().hosts_directory(),
            "quay.io"
        );
    }
}
