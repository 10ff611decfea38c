//! TLS on the data port.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A certificate and its key, in PEM. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// File with the certificate, and those between it and its authority.
    pub certificate_file: PathBuf,
    /// File with the private key.
    pub key_file: PathBuf,
    /// File with the authorities of clients' certificates. They are asked for then, and `access` in `policy.yaml` says what
    /// they open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_authority_file: Option<PathBuf>,
    /// File with the authorities that clients know. Where it is there, a new certificate of another authority waits until
    /// its authority is in it, or until the certificate in use ends. At the start none waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_authority_file: Option<PathBuf>,
    /// A port of its own for TLS, with `dataListen` in clear text beside it. Default: `dataListen` speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl Tls {
    pub(super) fn has_empty_path(&self) -> bool {
        let paths = [&self.certificate_file, &self.key_file];
        let client = self.client_certificate_authority_file.as_deref();
        let known = self.known_authority_file.as_deref();
        paths
            .into_iter()
            .map(PathBuf::as_path)
            .chain(client)
            .chain(known)
            .any(|path| path == Path::new(""))
    }
}
