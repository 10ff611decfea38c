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

/// Users with passwords, or one user with a password. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BasicAccess {
    /// File of lines `user:hash`, as `htpasswd -B` writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub htpasswd_file: Option<PathBuf>,
    /// File with the only user's name. Goes with `passwordFile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_file: Option<PathBuf>,
    /// File with its password. Goes with `usernameFile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

impl BasicAccess {
    /// Whether it is exactly one kind.
    pub(super) fn is_of_one_kind(&self) -> bool {
        matches!(
            (
                &self.htpasswd_file,
                &self.username_file,
                &self.password_file
            ),
            (Some(_), None, None) | (None, Some(_), Some(_))
        )
    }
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
        let basic = self.basic.iter().flat_map(|basic| {
            [
                ("htpasswdFile", &basic.htpasswd_file),
                ("usernameFile", &basic.username_file),
                ("passwordFile", &basic.password_file),
            ]
        });
        let basic = basic.filter_map(|(field, path)| Some((field, path.as_deref()?)));
        let token = self.token.iter();
        basic.chain(token.map(|token| ("tokensFile", token.tokens_file.as_path())))
    }
}
