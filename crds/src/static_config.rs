//! `static.yaml`: what a cache server must know before it starts. A change needs a restart.

mod connections;
mod object_storage;
mod tls;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::values::{Duration, Endpoint, Ratio};

pub use connections::Connections;
pub use object_storage::{ObjectStorage, ObjectStorageCredentials};
pub use tls::Tls;

/// The version of the file's format that this build reads and writes.
pub const FORMAT: u32 = 1;

/// Listeners, paths and logging of one cache server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StaticConfig {
    /// Version of the format: 1.
    pub format: u32,
    /// Where clients pull from.
    pub data_listen: SocketAddr,
    /// Health, metrics and `/configz`. Keep it away from clients.
    pub admin_listen: SocketAddr,
    /// Directory of the store, on a filesystem of its own if possible.
    pub store: PathBuf,
    /// How long running downloads may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// Form of the log on standard error.
    pub log_format: LogFormat,
    /// Whether each request gets a log line.
    pub access_log: bool,
    /// Time in which all stored content is compared with its digests once, slowly. Default 7d; 0s: never.
    #[serde(skip_serializing_if = "is_scrub_interval")]
    pub scrub_interval: Duration,
    /// File with the token that `ls`, `purge` and `warm` on the admin port need. Default: nobody may use them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_token_file: Option<PathBuf>,
    /// Where traces are sent. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// Default: the data port speaks clear text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What clients may take of the data port.
    #[serde(skip_serializing_if = "Connections::are_default")]
    pub connections: Connections,
    /// A bucket that replicas share. Default: each has its store alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_storage: Option<ObjectStorage>,
}

/// Traces of requests, fills and what upstreams are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tracing {
    /// A collector that takes OTLP over HTTP: `http://collector.monitoring:4318`.
    pub endpoint: Endpoint,
    /// Part of the requests that are traced. Default 1: all.
    #[serde(default = "all")]
    pub sample_ratio: Ratio,
}

fn all() -> Ratio {
    Ratio::ALL
}

const SCRUB_INTERVAL: Duration = Duration::from_secs(7 * 86_400);

/// Whether it is the default, which is not written: what is not said must not change the hash.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn is_scrub_interval(interval: &Duration) -> bool {
    *interval == SCRUB_INTERVAL
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Lines for people.
    Text,
}

impl Default for StaticConfig {
    fn default() -> Self {
        Self {
            format: FORMAT,
            data_listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 5000)),
            admin_listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 5001)),
            store: PathBuf::from("larder-store"),
            drain_timeout: Duration::from_secs(30),
            log_format: LogFormat::Text,
            access_log: true,
            scrub_interval: SCRUB_INTERVAL,
            admin_token_file: None,
            tracing: None,
            tls: None,
            connections: Connections::default(),
            object_storage: None,
        }
    }
}

/// Why a `static.yaml` is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read the static configuration: {0}")]
    Syntax(String),
    #[error(
        "failed to take the static configuration: format is {found}, and this version reads format {FORMAT}"
    )]
    Format { found: u32 },
    #[error(
        "failed to take the static configuration: {first} and {second} are both {address}; give them different ports"
    )]
    SameListener {
        first: &'static str,
        second: &'static str,
        address: SocketAddr,
    },
    #[error("failed to take the static configuration: a path in tls is empty; name a file")]
    NoFile,
    #[error(
        "failed to take the static configuration: connections.{0} is out of range; write a maximum of 1 to 1000000, and times of 1s to 1d"
    )]
    Connections(&'static str),
    #[error(
        "failed to take the static configuration: objectStorage.{field} can't be meant; {hint}"
    )]
    ObjectStorage {
        field: &'static str,
        hint: &'static str,
    },
    #[error("failed to take the static configuration: store must not be empty")]
    NoStore,
}

impl Error {
    /// The field that was refused, as [`crate::place::of`] takes it; `None` if the text could not be read.
    pub fn field(&self) -> Option<String> {
        match self {
            Self::Syntax(_) => None,
            Self::Format { .. } => Some("format".to_owned()),
            Self::SameListener { second, .. } => Some((*second).to_owned()),
            Self::NoFile => Some("tls".to_owned()),
            Self::Connections(field) => Some(format!("connections.{field}")),
            Self::ObjectStorage { field, .. } => Some(format!("objectStorage.{field}")),
            Self::NoStore => Some("store".to_owned()),
        }
    }
}

impl StaticConfig {
    /// Reads and checks the text of a `static.yaml`. An empty text is the default.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let config: Self = crate::policy::yaml(text).map_err(Error::Syntax)?;
        config.check()?;
        Ok(config)
    }

    /// The rules that no single field shows.
    pub fn check(&self) -> Result<(), Error> {
        if self.format != FORMAT {
            return Err(Error::Format { found: self.format });
        }
        self.check_listeners()?;
        if self.tls.as_ref().is_some_and(Tls::has_empty_path) {
            return Err(Error::NoFile);
        }
        if let Some(field) = self.connections.out_of_range() {
            return Err(Error::Connections(field));
        }
        let fault = self.object_storage.as_ref().and_then(ObjectStorage::fault);
        if let Some((field, hint)) = fault {
            return Err(Error::ObjectStorage { field, hint });
        }
        if self.store.as_os_str().is_empty() {
            return Err(Error::NoStore);
        }
        Ok(())
    }

    fn check_listeners(&self) -> Result<(), Error> {
        let mut listeners = vec![
            ("dataListen", self.data_listen),
            ("adminListen", self.admin_listen),
        ];
        let secure = self.tls.as_ref().and_then(|tls| tls.listen);
        listeners.extend(secure.map(|address| ("tls.listen", address)));
        while let Some((second, address)) = listeners.pop() {
            let same = listeners.iter().find(|(_, other)| *other == address);
            if let Some((first, _)) = same.filter(|_| address.port() != 0) {
                return Err(Error::SameListener {
                    first,
                    second,
                    address,
                });
            }
        }
        Ok(())
    }

    /// Whether there is an authority for certificates of clients.
    pub fn judges_clients(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.client_certificate_authority_file.is_some())
    }

    /// The text of the file.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).expect("plain data has a YAML form")
    }

    /// Hash of the meaning, not of the text: 64 hexadecimal digits of SHA-256 over the canonical JSON.
    pub fn hash(&self) -> String {
        crate::policy::hex(&Sha256::digest(
            serde_json::to_vec(self).expect("plain data has a JSON form"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(StaticConfig::parse("").unwrap(), StaticConfig::default());
        assert_eq!(
            StaticConfig::parse("# nothing\n").unwrap(),
            StaticConfig::default()
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let config = StaticConfig {
            store: "/data".into(),
            log_format: LogFormat::Json,
            ..StaticConfig::default()
        };
        assert_eq!(StaticConfig::parse(&config.to_yaml()).unwrap(), config);
        insta::assert_snapshot!(config.to_yaml());
    }

    #[test]
    fn errors_say_what_and_where() {
        let message = |text: &str| StaticConfig::parse(text).unwrap_err().to_string();
        insta::assert_snapshot!(message("format: 1\nstroe: /data\n"));
        insta::assert_snapshot!(
            "no ratio",
            message("tracing: {endpoint: 'http://a:4318', sampleRatio: 7}\n")
        );
        insta::assert_snapshot!(message("format: 2\n"));
        insta::assert_snapshot!(message("dataListen: 0.0.0.0:1\nadminListen: 0.0.0.0:1\n"));
        let tls = "tls: {certificateFile: a, keyFile: b, listen: '0.0.0.0:1'}\n";
        insta::assert_snapshot!(message(&format!("dataListen: 0.0.0.0:1\n{tls}")));
        insta::assert_snapshot!(message("tls: {certificateFile: a, keyFile: ''}\n"));
        insta::assert_snapshot!(message("tls: {certificateFile: a}\n"));
        insta::assert_snapshot!(message("connections: {stallTimeout: 0s}\n"));
    }

    #[test]
    fn what_is_not_said_of_the_door_does_not_change_the_hash() {
        let text = StaticConfig::default().to_yaml();
        assert!(
            !text.contains("tls") && !text.contains("connections"),
            "{text}"
        );
        let said = StaticConfig::parse("connections: {maximum: 8192}\n").unwrap();
        assert_eq!(said.hash(), StaticConfig::default().hash());
    }
}
