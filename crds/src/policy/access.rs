//! Who may pull: what clients of the cache must show.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Ways to get in; each of them is enough. None: everybody may pull.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Access {
    /// By user name and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAccess>,
    /// By a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAccess>,
    /// By a certificate of the authority that `tls.clientCertificateAuthorityFile` in `static.yaml` names.
    #[serde(skip_serializing_if = "super::is_false")]
    pub client_certificate: bool,
}

/// Users with passwords.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicAccess {
    /// File of lines `user:hash`, as `htpasswd -B` writes them. Read again when it changes.
    pub htpasswd_file: PathBuf,
}

/// Tokens without users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenAccess {
    /// File with a token in each line. Read again when it changes.
    pub tokens_file: PathBuf,
}

impl Access {
    /// Whether clients need to show nothing.
    pub fn is_anonymous(&self) -> bool {
        *self == Self::default()
    }

    /// Every file that it names, and the field that names it.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let basic = self.basic.iter();
        let basic = basic.map(|basic| ("htpasswdFile", basic.htpasswd_file.as_path()));
        let token = self.token.iter();
        basic.chain(token.map(|token| ("tokensFile", token.tokens_file.as_path())))
    }
}
