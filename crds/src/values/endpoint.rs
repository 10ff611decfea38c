//! The address at which an upstream's API is reached.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InvalidValue, RegistryHost, as_text};

/// `https://host[:port]` or `http://host[:port]`, without a path, user or query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(extend("pattern" = "^https?://[^/?#@]+/?$"))
)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    secure: bool,
    authority: String,
}

as_text!(Endpoint);

impl Endpoint {
    /// Where an upstream is reached when nothing else is said: at its own name, and Docker Hub at its API's.
    pub fn default_for(host: &RegistryHost) -> Self {
        let authority = match host.as_str() {
            "docker.io" => "registry-1.docker.io".to_owned(),
            other => other.to_owned(),
        };
        Self {
            secure: true,
            authority,
        }
    }

    /// Whether TLS is used.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// `host[:port]`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether it is this very machine by its address, where nothing is sent over a wire.
    pub fn is_loopback(&self) -> bool {
        let host = self.authority.split(':').next().unwrap_or_default();
        host.parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
    }

    pub(crate) fn parse(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || {
            InvalidValue::new(
                "endpoint",
                text,
                "write http:// or https:// and a host with an optional port, like https://mirror.example:5000, without path, user or query",
            )
        };
        let (secure, authority) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(invalid()),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        // The rules for a host are those of a registry host, but the API's own name of Docker Hub must stay.
        RegistryHost::parse(authority).map_err(|_| invalid())?;
        Ok(Self {
            secure,
            authority: authority.to_owned(),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}",
            if self.secure { "https" } else { "http" },
            self.authority
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_is_reached_at_its_api() {
        let host = RegistryHost::parse("docker.io").unwrap();
        assert_eq!(
            Endpoint::default_for(&host).to_string(),
            "https://registry-1.docker.io"
        );
        assert_eq!(
            Endpoint::parse("https://registry-1.docker.io/").unwrap(),
            Endpoint::default_for(&host)
        );
    }

    #[test]
    fn only_scheme_and_authority_are_taken() {
        for text in [
            "docker.io",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://user@a",
            "https://a?b",
            "https://a#b",
            "https://a:0",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
