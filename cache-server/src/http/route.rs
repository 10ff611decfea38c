//! The one parser of requests: method, path and query become a [`RegistryRequest`] or an [`Error`]. Pure.

use crds::values::RegistryHost;

use crate::cache::admission::Hosts;
use crate::oci::{Digest, Reference, Repository, Tag};

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryRequest {
    /// `/v2/`: whether this is a registry.
    Ping,
    Manifest {
        name: Name,
        reference: Reference,
    },
    Blob {
        name: Name,
        digest: Digest,
    },
    Referrers {
        name: Name,
        digest: Digest,
        /// Only those are wanted.
        artifact_type: Option<String>,
        /// The parameters that name a further page, as they were written.
        page: Option<String>,
    },
    Tags {
        name: Name,
        query: Option<String>,
    },
}

/// What is asked for, in one word for log, metric and span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// What could not be read.
    Other,
    Ping,
    Manifest,
    Blob,
    Referrers,
    Tags,
}

impl RequestKind {
    /// How many there are: `Tags` stands last.
    pub const COUNT: usize = Self::Tags as usize + 1;

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Ping => "ping",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Referrers => "referrers",
            Self::Tags => "tags",
        }
    }
}

/// A repository of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub upstream: RegistryHost,
    pub repository: Repository,
    /// Whether the upstream was named by `ns`, as containerd does.
    pub by_query: bool,
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is nothing at this path")]
    NoSuchPath,
    #[error("{0:?} is not an upstream of this cache")]
    UnknownUpstream(String),
    #[error("the request names no upstream, and this cache has no default one")]
    NoUpstream,
    #[error("{0:?} is not a repository name")]
    Name(String),
    #[error("{0}")]
    Digest(crate::oci::digest::InvalidDigest),
    #[error("{0:?} is neither a tag nor a digest")]
    Reference(String),
}

impl RegistryRequest {
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Ping => RequestKind::Ping,
            Self::Manifest { .. } => RequestKind::Manifest,
            Self::Blob { .. } => RequestKind::Blob,
            Self::Referrers { .. } => RequestKind::Referrers,
            Self::Tags { .. } => RequestKind::Tags,
        }
    }

    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::Ping => None,
            Self::Manifest { name, .. }
            | Self::Blob { name, .. }
            | Self::Referrers { name, .. }
            | Self::Tags { name, .. } => Some(name),
        }
    }

    /// The tag or digest that is asked for; empty if there is none.
    pub fn reference(&self) -> String {
        match self {
            Self::Ping | Self::Tags { .. } => String::new(),
            Self::Manifest { reference, .. } => reference.to_string(),
            Self::Blob { digest, .. } | Self::Referrers { digest, .. } => digest.to_string(),
        }
    }
}

enum Kind<'a> {
    Manifest(&'a str),
    Blob(&'a str),
    Referrers(&'a str),
    Tags,
}

/// Parameters that choose a part of a list: those of the spec, and the one in the links of older versions of Quay.
const PAGE: &[&str] = &["n", "last", "next_page"];

/// Reads the path and query of a GET or HEAD.
pub fn parse(path: &str, query: Option<&str>, hosts: &Hosts) -> Result<RegistryRequest, Error> {
    if is_ping(path) {
        return Ok(RegistryRequest::Ping);
    }
    let rest = path.strip_prefix("/v2/").ok_or(Error::NoSuchPath)?;
    let (name, kind) = split(rest).ok_or(Error::NoSuchPath)?;
    let name = resolve(name, query, hosts)?;
    Ok(match kind {
        Kind::Manifest(reference) => RegistryRequest::Manifest {
            reference: parse_reference(reference)?,
            name,
        },
        Kind::Blob(digest) => RegistryRequest::Blob {
            digest: Digest::parse(digest).map_err(Error::Digest)?,
            name,
        },
        Kind::Referrers(digest) => RegistryRequest::Referrers {
            digest: Digest::parse(digest).map_err(Error::Digest)?,
            // A plus sign that nobody encoded: no type has a space.
            artifact_type: parameter(query, "artifactType").map(|name| name.replace(' ', "+")),
            page: keep(query, PAGE),
            name,
        },
        Kind::Tags => RegistryRequest::Tags {
            query: keep(query, PAGE),
            name,
        },
    })
}

/// Whether only the registry itself is asked for.
pub fn is_ping(path: &str) -> bool {
    matches!(path, "/v2" | "/v2/")
}

/// Whether the query names the upstream, as containerd does.
pub fn names_upstream(query: Option<&str>) -> bool {
    pairs(query).any(|(key, _)| decode(key) == "ns")
}

/// The kind stands at the end, since a repository can have any number of components.
fn split(rest: &str) -> Option<(&str, Kind<'_>)> {
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Some((name, Kind::Tags));
    }
    let (before, last) = rest.rsplit_once('/')?;
    let (name, kind) = before.rsplit_once('/')?;
    let kind = match kind {
        "manifests" => Kind::Manifest(last),
        "blobs" => Kind::Blob(last),
        "referrers" => Kind::Referrers(last),
        _ => return None,
    };
    Some((name, kind))
}

/// Which upstream and repository are meant. The upstream is a key of a closed set, never something to dial.
fn resolve(name: &str, query: Option<&str>, hosts: &Hosts) -> Result<Name, Error> {
    let repository = |text: &str| Repository::parse(text).ok_or_else(|| Error::Name(shorten(text)));
    if let Some(ns) = parameter(query, "ns") {
        let upstream = ns
            .parse::<RegistryHost>()
            .ok()
            .filter(|host| hosts.known.contains(host))
            .ok_or_else(|| Error::UnknownUpstream(shorten(&ns)))?;
        return Ok(Name {
            upstream,
            repository: repository(name)?,
            by_query: true,
        });
    }
    let by_path = name.split_once('/').and_then(|(first, rest)| {
        let host = looks_like_host(first)
            .then(|| first.parse().ok())
            .flatten()?;
        hosts.known.contains(&host).then_some((host, rest))
    });
    let (upstream, rest) = match by_path {
        Some(found) => found,
        None if name.contains(':') => {
            let first = name.split('/').next().unwrap_or(name);
            return Err(Error::UnknownUpstream(shorten(first)));
        }
        None => (hosts.default.clone().ok_or(Error::NoUpstream)?, name),
    };
    // Docker Hub's official images: only clients that know the registry's own name write the prefix.
    let repository = if upstream.as_str() == "docker.io" && !rest.contains('/') {
        repository(&format!("library/{rest}"))?
    } else {
        repository(rest)?
    };
    Ok(Name {
        upstream,
        repository,
        by_query: false,
    })
}

/// A first component of Docker Hub can't look like this.
fn looks_like_host(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost"
}

fn parse_reference(text: &str) -> Result<Reference, Error> {
    if text.contains(':') {
        return Digest::parse(text)
            .map(Reference::Digest)
            .map_err(Error::Digest);
    }
    Tag::parse(text)
        .map(Reference::Tag)
        .ok_or_else(|| Error::Reference(shorten(text)))
}

/// The decoded value of the first parameter with that name.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    pairs(query)
        .find(|(key, _)| *key == name)
        .map(|(_, value)| decode(value))
}

/// The parameters with those names, as they were written.
fn keep(query: Option<&str>, names: &[&str]) -> Option<String> {
    let kept: Vec<String> = pairs(query)
        .filter(|(key, _)| names.contains(key))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query
        .unwrap_or("")
        .split('&')
        .filter_map(|pair| pair.split_once('='))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = (byte == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, escaped) {
            (_, Some(decoded)) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            (b'+', None) => bytes.push(b' '),
            (other, None) => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests;
