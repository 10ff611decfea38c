//! Where the configuration lies, and reading it. Contents and rules are those of `crds`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crds::place::{self, Place};
use crds::policy::{self, Policy};
use crds::standalone::Standalone;
use crds::static_config::{self, StaticConfig};
use crds::{POLICY_FILE, STATIC_FILE};
use sha2::{Digest as _, Sha256};

use crate::http::access::{self, Guard};
use crate::upstream::Files;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Nothing is said: all defaults.
    Defaults,
    /// `static.yaml` and `policy.yaml` in one directory, as the operator mounts them. Each may be absent.
    Directory(PathBuf),
    /// One file with `server:` and `policy:`, each optional.
    File(PathBuf),
}

/// Why a configuration can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    /// With the place that it is about, where only a look at the whole tells: what is no YAML says so itself.
    #[error("{path}{}: {source}", shown(.place.as_ref()))]
    Static {
        path: PathBuf,
        place: Option<Place>,
        source: static_config::Error,
    },
    #[error("{path}{}: {source}", shown(.place.as_ref()))]
    Policy {
        path: PathBuf,
        place: Option<Place>,
        source: policy::Error,
    },
    #[error("{path}: failed to read the configuration: {message}")]
    File { path: PathBuf, message: String },
    #[error("failed to read the {field} {path} of access: {source}")]
    AccessFile {
        field: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("failed to read the {field} {path} of the upstream {host}: {source}")]
    UpstreamFile {
        field: &'static str,
        host: String,
        path: PathBuf,
        source: io::Error,
    },
}

/// A file's text, and what stands in it before the configuration's own fields.
struct Section<'a> {
    path: &'a Path,
    text: &'a str,
    prefix: &'static str,
}

impl Section<'_> {
    fn place(&self, field: Option<String>) -> Option<Place> {
        place::of(self.text, &format!("{}{}", self.prefix, field?))
    }

    fn static_error(&self, source: static_config::Error) -> Error {
        Error::Static {
            path: self.path.to_owned(),
            place: self.place(source.field()),
            source,
        }
    }

    /// `policy`: what was refused, if it could be read.
    fn policy_error(&self, policy: Option<&Policy>, source: policy::Error) -> Error {
        Error::Policy {
            path: self.path.to_owned(),
            place: self.place(policy.and_then(|policy| source.field(policy))),
            source,
        }
    }
}

/// Behind a path, as compilers write it.
fn shown(place: Option<&Place>) -> String {
    place.map_or_else(String::new, ToString::to_string)
}

/// A policy with the files that it names.
#[derive(Debug, Clone)]
pub struct LoadedPolicy {
    pub policy: Policy,
    pub files: Files,
}

impl Location {
    /// What a path given by a person is.
    pub fn new(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Ok(Self::Defaults);
        };
        let metadata = fs::metadata(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok(if metadata.is_dir() {
            Self::Directory(path.to_owned())
        } else {
            Self::File(path.to_owned())
        })
    }

    /// The directory whose entries change when the configuration does.
    pub fn watched(&self) -> Option<&Path> {
        match self {
            Self::Defaults => None,
            Self::Directory(path) => Some(path),
            Self::File(path) => Some(directory(path)),
        }
    }

    /// What the server must know before it starts.
    pub fn static_config(&self) -> Result<StaticConfig, Error> {
        match self {
            Self::Defaults => Ok(StaticConfig::default()),
            Self::Directory(directory) => {
                let path = directory.join(STATIC_FILE);
                let text = read(&path)?.unwrap_or_default();
                let section = Section {
                    path: &path,
                    text: &text,
                    prefix: "",
                };
                StaticConfig::parse(&text).map_err(|source| section.static_error(source))
            }
            Self::File(path) => {
                let text = read(path)?.unwrap_or_default();
                let config = combined(path, &text)?.server.unwrap_or_default();
                let section = Section {
                    path,
                    text: &text,
                    prefix: "server.",
                };
                config
                    .check()
                    .map_err(|source| section.static_error(source))?;
                Ok(config)
            }
        }
    }

    /// The policy; `None` if there is none at the place.
    pub fn policy(&self) -> Result<Option<LoadedPolicy>, Error> {
        let policy = match self {
            Self::Defaults => None,
            Self::Directory(directory) => {
                let path = directory.join(POLICY_FILE);
                match read(&path)? {
                    Some(text) => Some(Policy::parse(&text).map_err(|source| {
                        let section = Section {
                            path: &path,
                            text: &text,
                            prefix: "",
                        };
                        section.policy_error(policy::yaml(&text).ok().as_ref(), source)
                    })?),
                    None => None,
                }
            }
            Self::File(path) => {
                let text = read(path)?.unwrap_or_default();
                let policy = combined(path, &text)?.policy;
                if let Some(policy) = &policy {
                    let section = Section {
                        path,
                        text: &text,
                        prefix: "policy.",
                    };
                    policy
                        .check()
                        .map_err(|source| section.policy_error(Some(policy), source))?;
                }
                policy
            }
        };
        policy.map(LoadedPolicy::new).transpose()
    }
}

impl LoadedPolicy {
    /// Reads the files that the policy names.
    pub fn new(policy: Policy) -> Result<Self, Error> {
        let mut files = Files::default();
        for upstream in &policy.upstreams {
            for (field, path) in upstream.files() {
                let content = fs::read(path).map_err(|source| Error::UpstreamFile {
                    field,
                    host: upstream.host.to_string(),
                    path: path.to_owned(),
                    source,
                })?;
                files.insert(path.to_owned(), content);
            }
        }
        for (field, path) in policy.access.files() {
            let content = fs::read(path).map_err(|source| Error::AccessFile {
                field,
                path: path.to_owned(),
                source,
            })?;
            files.insert(path.to_owned(), content);
        }
        Ok(Self { policy, files })
    }

    /// Who guards the data port. `authority`: whether clients' certificates can be judged.
    pub fn guard(&self, authority: bool) -> Result<Guard, access::Error> {
        Guard::new(&self.policy.access, authority, |path| self.content(path))
    }

    /// Whether [`Self::guard`] would give the same one again.
    pub fn is_guarded_by(&self, guard: &Guard) -> bool {
        guard.is_made_from(&self.policy.access, |path| self.content(path))
    }

    fn content(&self, path: &Path) -> &[u8] {
        self.files.get(path).unwrap_or_default()
    }

    /// Where the files lie that the policy names.
    pub fn directories(&self) -> BTreeSet<PathBuf> {
        let paths = self.files.iter().map(|(path, _)| path);
        paths.map(|path| directory(path).to_owned()).collect()
    }

    /// Changes when the policy's meaning or one of its files does.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.policy.hash());
        for (path, content) in self.files.iter() {
            hasher.update(path.as_os_str().as_encoded_bytes());
            hasher.update(Sha256::digest(content));
        }
        hasher.finalize().into()
    }
}

fn directory(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn combined(path: &Path, text: &str) -> Result<Standalone, Error> {
    policy::yaml(text).map_err(|message| Error::File {
        path: path.to_owned(),
        message,
    })
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}
