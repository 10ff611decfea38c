//! Who the cache is to an upstream, for each repository.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crds::policy;
use crds::values::RegistryHost;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::Error;
use super::files::Files;
use super::identity::Session;

/// All credentials of one upstream.
#[derive(Debug, Default)]
pub(super) struct Credentials(Vec<Credential>);

/// One of them.
pub(super) struct Credential {
    /// Tells it from the others of the same upstream.
    pub(super) identity: usize,
    prefix: Option<String>,
    source: Source,
}

/// Where a secret comes from.
enum Source {
    File(Arc<Secret>),
    Cloud(Arc<Session>),
}

// Not derived: a secret must not be able to reach a log.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

pub(super) enum Secret {
    /// The value of an Authorization header of the scheme Basic.
    Basic(HeaderValue),
    /// To be exchanged for tokens (OAuth 2).
    IdentityToken(String),
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Credentials {
    /// Reads the files of an upstream, and has `begin` make its identities. Errors say which file, and nothing of what
    /// it holds.
    pub(super) fn read(
        upstream: &policy::Upstream,
        files: &Files,
        begin: impl Fn(&policy::Identity) -> Result<Session, String>,
    ) -> Result<Self, String> {
        let mut all = Vec::new();
        for credential in &upstream.credentials {
            let prefix = credential
                .repository_prefix
                .as_ref()
                .map(ToString::to_string);
            let (user, password) = (&credential.username_file, &credential.password_file);
            if let (Some(user), Some(password)) = (user, password) {
                let value = basic(&line(files, user)?, &line(files, password)?)
                    .ok_or_else(|| format!("{} holds no user name", user.display()))?;
                all.push((prefix, Source::File(Arc::new(Secret::Basic(value)))));
            } else if let Some(path) = &credential.docker_config_file {
                let found = docker_config(upstream, prefix.as_deref(), content(files, path)?)
                    .map_err(|reason| format!("{} {reason}", path.display()))?;
                let found = found
                    .into_iter()
                    .map(|(prefix, secret)| (prefix, Source::File(Arc::new(secret))));
                all.extend(found);
            } else if let Some(identity) = &credential.identity {
                let session = begin(identity)
                    .map_err(|reason| format!("an identity of it can't be used: {reason}"))?;
                all.push((prefix, Source::Cloud(Arc::new(session))));
            }
        }
        let numbered = all.into_iter().enumerate();
        Ok(Self(
            numbered
                .map(|(identity, (prefix, source))| Credential {
                    identity,
                    prefix,
                    source,
                })
                .collect(),
        ))
    }

    /// The one with the longest prefix that fits.
    pub(super) fn for_repository(&self, repository: &str) -> Option<&Credential> {
        let length = |credential: &&Credential| credential.prefix.as_ref().map_or(0, String::len);
        self.0
            .iter()
            .filter(|credential| {
                credential
                    .prefix
                    .as_deref()
                    .is_none_or(|prefix| is_below(repository, prefix))
            })
            .max_by_key(length)
    }
}

impl Credential {
    /// What to show. Signs in first if it has to.
    pub(super) async fn secret(&self) -> Result<Arc<Secret>, Error> {
        match &self.source {
            Source::File(secret) => Ok(secret.clone()),
            Source::Cloud(session) => session.secret().await,
        }
    }

    /// The upstream did not take it.
    pub(super) fn was_refused(&self, secret: &Arc<Secret>) {
        if let Source::Cloud(session) = &self.source {
            session.was_refused(secret);
        }
    }
}

impl Secret {
    pub(super) fn basic(&self) -> Option<&HeaderValue> {
        match self {
            Self::Basic(value) => Some(value),
            Self::IdentityToken(_) => None,
        }
    }
}

/// Whether `repository` is `prefix` or stands below it, by whole components.
fn is_below(repository: &str, prefix: &str) -> bool {
    repository
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn content<'a>(files: &'a Files, path: &Path) -> Result<&'a [u8], String> {
    files
        .get(path)
        .ok_or_else(|| format!("{} was not read", path.display()))
}

fn line(files: &Files, path: &Path) -> Result<String, String> {
    let text = std::str::from_utf8(content(files, path)?)
        .map_err(|_| format!("{} is not text", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The value of an Authorization header of the scheme Basic.
pub(super) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    if user.is_empty() || user.contains(':') {
        return None;
    }
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The entries of a Docker `config.json` that are for the upstream, each with the repositories that it is for.
fn docker_config(
    upstream: &policy::Upstream,
    prefix: Option<&str>,
    content: &[u8],
) -> Result<Vec<(Option<String>, Secret)>, String> {
    // The parser's message could show a piece of the file.
    let config: DockerConfig = serde_json::from_slice(content)
        .map_err(|_| "is not a Docker configuration in JSON".to_owned())?;
    let mut found = Vec::new();
    for (key, entry) in config.auths {
        let (host, path) = place(&key);
        let endpoints = upstream.effective_endpoints();
        let is_ours = host
            .parse::<RegistryHost>()
            .is_ok_and(|host| host == upstream.host)
            || endpoints
                .iter()
                .any(|endpoint| endpoint.authority() == host);
        let narrowed = match (prefix, path) {
            (Some(prefix), Some(path)) if is_below(path, prefix) => Some(path),
            (Some(prefix), Some(path)) if is_below(prefix, path) => Some(prefix),
            (Some(_), Some(_)) => continue,
            (prefix, path) => prefix.or(path),
        };
        if !is_ours {
            continue;
        }
        let secret = entry
            .secret()
            .ok_or_else(|| format!("has an entry for {host} without a user name or token"))?;
        found.push((narrowed.map(str::to_owned), secret));
    }
    if found.is_empty() {
        return Err(format!("has no entry for {}", upstream.host));
    }
    Ok(found)
}

/// `https://index.docker.io/v1/` and `registry.example/team` as host and path.
fn place(key: &str) -> (&str, Option<&str>) {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = path.trim_matches('/');
    (
        host,
        Some(path).filter(|path| !["", "v1", "v2"].contains(path)),
    )
}

impl DockerAuth {
    fn secret(self) -> Option<Secret> {
        if let Some(token) = self.identitytoken.filter(|token| !token.is_empty()) {
            return Some(Secret::IdentityToken(token));
        }
        let encoded = self.auth.filter(|auth| !auth.is_empty());
        let (user, password) = if let Some(encoded) = encoded {
            let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
            let (user, password) = text.split_once(':')?;
            (user.to_owned(), password.to_owned())
        } else {
            (self.username?, self.password?)
        };
        basic(&user, &password).map(Secret::Basic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(credentials: &str) -> policy::Upstream {
        let text = format!(
            "allowAnonymousPrivate: true\nupstreams: [{{host: r.example, credentials: {credentials}}}]"
        );
        policy::Policy::parse(&text).unwrap().upstreams.remove(0)
    }

    fn files(contents: &[(&str, &str)]) -> Files {
        let mut files = Files::default();
        for (path, content) in contents {
            files.insert(path.into(), content.as_bytes().to_vec());
        }
        files
    }

    fn no_cloud(_: &policy::Identity) -> Result<Session, String> {
        Err("there is none here".to_owned())
    }

    fn shown(credential: Option<&Credential>) -> Option<String> {
        let Source::File(secret) = &credential?.source else {
            return None;
        };
        Some(match &**secret {
            Secret::Basic(value) => {
                let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
                String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
            }
            Secret::IdentityToken(token) => format!("token {token}"),
        })
    }

    #[test]
    fn the_longest_prefix_that_fits_wins() {
        let upstream = upstream(
            "[{usernameFile: u, passwordFile: p}, {repositoryPrefix: team/app, usernameFile: u2, passwordFile: p}, {repositoryPrefix: team, usernameFile: u1, passwordFile: p}]",
        );
        let files = files(&[
            ("u", "all\n"),
            ("u1", "team"),
            ("u2", "app"),
            ("p", "p:w\n"),
        ]);
        let credentials = Credentials::read(&upstream, &files, no_cloud).unwrap();
        for (repository, expected) in [
            ("other", "all:p:w"),
            ("team", "team:p:w"),
            ("team/application", "team:p:w"),
            ("team/app", "app:p:w"),
            ("team/app/x", "app:p:w"),
            ("teams/app", "all:p:w"),
        ] {
            let found = shown(credentials.for_repository(repository));
            assert_eq!(found.as_deref(), Some(expected), "{repository}");
        }
        assert!(!format!("{credentials:?} {files:?}").contains("p:w"));
    }

    #[test]
    fn a_docker_configuration_gives_what_is_for_the_upstream() {
        let upstream = upstream("[{dockerConfigFile: c}]");
        let read = |text: &str| Credentials::read(&upstream, &files(&[("c", text)]), no_cloud);
        let credentials = read(
            r#"{"auths": {
                "https://r.example/v1/": {"auth": "dTpw"},
                "r.example/team": {"username": "t", "password": "q"},
                "r.example/robot": {"auth": "eDp5", "identitytoken": "i"},
                "other.example": {"auth": "bad"}
            }}"#,
        )
        .unwrap();
        let found = |repository| shown(credentials.for_repository(repository)).unwrap();
        assert_eq!(found("a"), "u:p");
        assert_eq!(found("team/a"), "t:q");
        assert_eq!(found("robot"), "token i");
        for (text, reason) in [
            ("secret", "c is not a Docker configuration in JSON"),
            (
                r#"{"auths": {"a.example": {}}}"#,
                "c has no entry for r.example",
            ),
            (
                r#"{"auths": {"r.example": {"auth": "secret"}}}"#,
                "c has an entry for r.example without a user name or token",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), reason);
        }
    }

    #[test]
    fn files_of_any_content_are_read_or_refused_without_a_word_of_theirs() {
        // The Base64 texts are "user:s3cret" and "s3cret".
        const HOSTS: [&str; 4] = [
            "r.example",
            "https://r.example/v1/",
            "r.example/a",
            "other.example",
        ];
        const FIELDS: [&str; 8] = [
            "\"auth\":\"dXNlcjpzM2NyZXQ=\"",
            "\"auth\":\"czNjcmV0\"",
            "\"auth\":7",
            "\"username\":\"user\"",
            "\"username\":\"s3cret:\"",
            "\"password\":\"s3cret\"",
            "\"identitytoken\":\"s3cret\"",
            "\"x\":[null]",
        ];
        const WORDS: [&str; 7] = ["s3cret", "user", "\n", "\0", ":", "ä", "\r\n"];
        let docker = upstream("[{dockerConfigFile: c}]");
        let basic = upstream("[{usernameFile: u, passwordFile: p}]");
        let input = || bolero::produce::<Vec<u8>>().with().len(0..=6_usize);
        bolero::check!()
            .with_iterations(20_000)
            .with_generator((input(), input()))
            .for_each(|(one, other)| {
                let chosen = |bytes: &[u8], words: &[&'static str]| -> Vec<&'static str> {
                    bytes
                        .iter()
                        .map(|byte| words[usize::from(*byte) % words.len()])
                        .collect()
                };
                let entries: Vec<_> = chosen(one, &HOSTS)
                    .into_iter()
                    .map(|host| format!("\"{host}\":{{{}}}", chosen(other, &FIELDS).join(",")))
                    .collect();
                let config = format!("{{\"auths\":{{{}}}}}", entries.join(","));
                let read = Credentials::read(&docker, &files(&[("c", &config)]), no_cloud);
                let said = format!("{read:?}");
                assert!(
                    !said.contains("s3cret") && !said.contains("czNjcmV0"),
                    "{said}"
                );

                let (user, password) =
                    (chosen(one, &WORDS).concat(), chosen(other, &WORDS).concat());
                let read =
                    Credentials::read(&basic, &files(&[("u", &user), ("p", &password)]), no_cloud);
                let said = format!("{read:?}");
                assert!(!said.contains("s3cret"), "{said}");
                if let Ok(credentials) = read {
                    let line = |text: &str| text.trim_end_matches(['\r', '\n']).to_owned();
                    let expected = format!("{}:{}", line(&user), line(&password));
                    assert_eq!(shown(credentials.for_repository("a")), Some(expected));
                }
            });
    }
}
