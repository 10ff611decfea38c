//! A `hosts.toml`: whom containerd asks for the images of one registry, and in which order. Pure.

use toml::{Table, Value};

/// What a host of a `hosts.toml` may be asked for. A file with another word is passed over as a whole.
const CAPABILITIES: [&str; 4] = ["pull", "resolve", "push", "referrers"];

/// Why a text is not a `hosts.toml`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("failed to read it as TOML: {reason}")]
    Toml { reason: String },
    #[error("failed to read it: {capability:?} of host {host} is no capability")]
    Capability { host: String, capability: String },
}

/// The hosts of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Whom to ask last. `None`: the registry itself.
    pub server: Option<String>,
    /// Whom to ask before, in this order.
    pub hosts: Vec<Host>,
}

/// One host to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub url: String,
    /// Files with certificates, beside the `hosts.toml` where they are no absolute paths.
    pub ca: Vec<String>,
    /// Whether the address is the whole path, without `/v2`.
    pub override_path: bool,
    /// What is sent with each request.
    pub headers: Headers,
}

/// Headers by name. Their values may be credentials, which are in no log.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Headers(pub Vec<(String, String)>);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Host {
    /// What answers when the host serves.
    pub fn probe_url(&self) -> String {
        let url = self.url.trim_end_matches('/');
        if self.override_path {
            format!("{url}/")
        } else {
            format!("{url}/v2/")
        }
    }
}

impl Hosts {
    /// Reads a file as containerd does.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| Error::Toml {
            // Not its excerpt of the file, whose headers may be credentials.
            reason: error.message().to_owned(),
        })?;
        let hosts = table.get("host").and_then(Value::as_table);
        let hosts = hosts.into_iter().flatten();
        let hosts = hosts.map(|(url, settings)| host(url, settings));
        Ok(Self {
            server: table
                .get("server")
                .and_then(Value::as_str)
                .map(str::to_owned),
            hosts: hosts.collect::<Result<_, _>>()?,
        })
    }

    /// Whether nobody else is asked when the hosts don't answer. Such a file must stay where it is, come what may.
    pub fn forbids_fallback(&self) -> bool {
        let plain = |url: &str| url.trim_end_matches('/').to_owned();
        self.server.as_ref().is_some_and(|server| {
            self.hosts
                .iter()
                .any(|host| plain(&host.url) == plain(server))
        })
    }
}

fn host(url: &str, settings: &Value) -> Result<Host, Error> {
    let texts = |key: &str| settings.get(key).map(texts).unwrap_or_default();
    let unknown = |word: &String| !CAPABILITIES.contains(&word.as_str());
    if let Some(capability) = texts("capabilities").into_iter().find(unknown) {
        return Err(Error::Capability {
            host: url.to_owned(),
            capability,
        });
    }
    Ok(Host {
        url: url.to_owned(),
        ca: texts("ca"),
        override_path: settings.get("override_path").and_then(Value::as_bool) == Some(true),
        headers: headers(settings),
    })
}

fn headers(settings: &Value) -> Headers {
    let table = settings.get("header").and_then(Value::as_table);
    let named = table.into_iter().flatten().flat_map(|(name, values)| {
        let values = texts(values).into_iter();
        values.map(move |value| (name.clone(), value))
    });
    Headers(named.collect())
}

/// One text, or a list of them.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list
            .iter()
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}

/// The registry that an image's name stands for: `docker.io` where it names none.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// Directories in which containerd looks for a registry's files; the first that exists counts.
pub fn directories(registry: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((name, port)) = registry.rsplit_once(':') {
        names.push(format!("{name}_{port}_"));
    }
    names.push(registry.to_owned());
    names.push("_default".to_owned());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_keep_their_order() {
        let text = "server = \"https://registry-1.docker.io\"\n[host.\"http://z:5000\"]\ncapabilities = [\"pull\"]\n[host.\"http://a/path\"]\noverride_path = true\nca = \"ca.crt\"\n";
        let hosts = Hosts::parse(text).unwrap();
        let urls: Vec<_> = hosts.hosts.iter().map(Host::probe_url).collect();
        assert_eq!(urls, ["http://z:5000/v2/", "http://a/path/"]);
        assert_eq!(hosts.hosts[1].ca, ["ca.crt"]);
        assert!(!hosts.forbids_fallback());
    }

    #[test]
    fn headers_are_sent_and_their_values_not_shown() {
        let text = "[host.\"http://a\"]\n[host.\"http://a\".header]\nAuthorization = \"Basic c2VjcmV0\"\nx-list = [\"1\", \"2\"]\n";
        let hosts = Hosts::parse(text).unwrap();
        let headers = &hosts.hosts[0].headers;
        let sent = [
            ("Authorization", "Basic c2VjcmV0"),
            ("x-list", "1"),
            ("x-list", "2"),
        ];
        assert_eq!(
            headers.0,
            sent.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert!(!format!("{hosts:?}").contains("c2VjcmV0"), "{hosts:?}");
    }

    #[test]
    fn a_server_that_is_the_cache_forbids_the_fallback() {
        let text = "server = \"http://cache:5000/\"\n[host.\"http://cache:5000\"]\n";
        assert!(Hosts::parse(text).unwrap().forbids_fallback());
    }

    #[test]
    fn what_containerd_passes_over_is_an_error() {
        let error = Hosts::parse("[host.\"http://a\"]\ncapabilities = [\"pul\"]\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to read it: \"pul\" of host http://a is no capability"
        );
        assert!(matches!(Hosts::parse("server ="), Err(Error::Toml { .. })));
    }

    #[test]
    fn an_image_is_looked_up_as_containerd_does() {
        assert_eq!(registry("alpine"), "docker.io");
        assert_eq!(registry("library/alpine:3"), "docker.io");
        assert_eq!(registry("localhost/a"), "localhost");
        assert_eq!(registry("10.0.0.5:5000/a/b"), "10.0.0.5:5000");
        assert_eq!(
            directories("10.0.0.5:5000"),
            ["10.0.0.5_5000_", "10.0.0.5:5000", "_default"]
        );
        assert_eq!(directories("quay.io"), ["quay.io", "_default"]);
    }
}
