//! Who may pull. Says yes or no to a request by what it shows; how that is told to the client is the handler's business.

mod known;
mod tokens;
mod turns;
mod users;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use crds::policy;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};

use self::known::{Key, Keyed, Known};
use self::tokens::Tokens;
use self::turns::Turns;
use self::users::Users;
use super::client::Client;

/// Why an `access` can't be taken. Says nothing of what stands in the files but where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "failed to take line {line} of {path}: write a user name, a colon and a bcrypt hash, as htpasswd -B does"
    )]
    User { path: PathBuf, line: usize },
    #[error(
        "failed to take line {line} of {path}: the hash has a cost of {cost}; write one of 4 to 14, since each new client waits for it"
    )]
    Cost {
        path: PathBuf,
        line: usize,
        cost: u32,
    },
    #[error("failed to take line {line} of {path}: an earlier line has the same user")]
    SameUser { path: PathBuf, line: usize },
    #[error(
        "failed to take line {line} of {path}: a token has 16 to 8192 letters, digits and characters of -._~+/="
    )]
    Token { path: PathBuf, line: usize },
    #[error(
        "failed to take the policy: access.clientCertificate needs tls.clientCertificateAuthorityFile in static.yaml"
    )]
    NoAuthority,
    #[error("failed to take {path}: it is empty")]
    Empty { path: PathBuf },
    #[error("failed to get a random key from the system: {0}")]
    Random(std::io::Error),
}

/// The guard that is on duty; none before there is a policy.
#[derive(Debug, Default)]
pub struct Access(ArcSwapOption<Guard>);

/// Knows who may pull.
#[derive(Debug)]
pub struct Guard {
    made_from: [u8; 32],
    users: Option<Users>,
    /// The only user with its password.
    pair: Option<Keyed>,
    tokens: Option<Tokens>,
    certificates: bool,
    key: Key,
    known: Arc<Known>,
    turns: Turns,
}

/// What an Authorization header shows.
enum Shown {
    Password { user: String, password: Vec<u8> },
    Token(String),
}

impl Access {
    pub fn install(&self, guard: Arc<Guard>) {
        self.0.store(Some(guard));
    }

    pub fn guard(&self) -> Option<Arc<Guard>> {
        self.0.load_full()
    }

    /// Whether nobody is asked for anything. Costs less than the guard, whose count of owners all threads share.
    pub fn is_open(&self) -> bool {
        let guard = self.0.load();
        guard.as_ref().is_none_or(|guard| guard.is_open())
    }
}

impl Guard {
    /// `authority`: whether clients' certificates can be judged. `read` gives the contents of the files that `access` names.
    pub fn new<'a>(
        access: &policy::Access,
        authority: bool,
        read: impl Fn(&Path) -> &'a [u8],
    ) -> Result<Self, Error> {
        if access.client_certificate && !authority {
            return Err(Error::NoAuthority);
        }
        let key = Key::random().map_err(Error::Random)?;
        let basic = access.basic.as_ref();
        let users = basic.and_then(|basic| basic.htpasswd_file.as_ref());
        let users = users.map(|path| Users::parse(path, &String::from_utf8_lossy(read(path))));
        let pair = basic.and_then(|basic| {
            let (user, password) = (&basic.username_file, &basic.password_file);
            user.as_ref().zip(password.as_ref())
        });
        let pair = pair.map(|(user, password)| {
            let [user, password] = [user, password].map(|path| filled(path, read(path)));
            Ok(key.digest(&[user?, password?]))
        });
        let tokens = access.token.as_ref().map(|token| {
            let path = &token.tokens_file;
            Tokens::parse(path, &String::from_utf8_lossy(read(path)), &key)
        });
        Ok(Self {
            made_from: fingerprint(access, &read),
            users: users.transpose()?,
            pair: pair.transpose()?,
            tokens: tokens.transpose()?,
            certificates: access.client_certificate,
            key,
            known: Arc::default(),
            turns: Turns::default(),
        })
    }

    /// Whether a new one would be the same. It would have to verify every client anew.
    pub fn is_made_from<'a>(
        &self,
        access: &policy::Access,
        read: impl Fn(&Path) -> &'a [u8],
    ) -> bool {
        self.made_from == fingerprint(access, &read)
    }

    /// Whether everybody may pull.
    pub fn is_open(&self) -> bool {
        !self.takes_passwords() && self.tokens.is_none() && !self.certificates
    }

    /// How to ask for credentials (RFC 7617, RFC 6750); `None` where none would help. Registries' clients that see Bearer ask
    /// its realm for a token, which nobody gives here, so passwords are asked for where they will do.
    pub fn challenge(&self) -> Option<&'static str> {
        if self.takes_passwords() {
            return Some("Basic realm=\"larder\", charset=\"UTF-8\"");
        }
        self.tokens.as_ref().map(|_| "Bearer realm=\"larder\"")
    }

    pub async fn admits(&self, headers: &HeaderMap, client: &Client) -> bool {
        if self.is_open() || (self.certificates && client.certified) {
            return true;
        }
        match shown(headers) {
            None => false,
            Some(Shown::Token(token)) => self
                .tokens
                .as_ref()
                .is_some_and(|tokens| tokens.have(&token, &self.key)),
            Some(Shown::Password { user, password }) => {
                self.is_password(&user, password, client).await
            }
        }
    }

    fn takes_passwords(&self) -> bool {
        self.users.is_some() || self.pair.is_some()
    }

    async fn is_password(&self, user: &str, password: Vec<u8>, client: &Client) -> bool {
        let digest = self.key.digest(&[user.as_bytes(), &password]);
        if let Some(pair) = &self.pair {
            return *pair == digest;
        }
        let Some(users) = &self.users else {
            return false;
        };
        if let Some(right) = self.known.get(&digest, Instant::now()) {
            return right;
        }
        let turn = self.turns.wait(client.address).await;
        // Whoever was before in this line may have shown the same.
        if let Some(right) = self.known.get(&digest, Instant::now()) {
            return right;
        }
        let check = users.check(user);
        let known = self.known.clone();
        // What was begun goes on without its client, and so keeps its turn.
        let verified = tokio::task::spawn_blocking(move || {
            let right = check.verify(&password);
            known.put(digest, right, Instant::now());
            drop(turn);
            right
        });
        verified.await.unwrap_or(false)
    }
}

/// The content without the end of its line, which editors add.
fn filled<'a>(path: &Path, content: &'a [u8]) -> Result<&'a [u8], Error> {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    if content.is_empty() {
        return Err(Error::Empty {
            path: path.to_owned(),
        });
    }
    Ok(content)
}

fn fingerprint<'a>(access: &policy::Access, read: &impl Fn(&Path) -> &'a [u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for (field, path) in access.files() {
        hasher.update(Sha256::digest(field));
        hasher.update(Sha256::digest(path.as_os_str().as_encoded_bytes()));
        hasher.update(Sha256::digest(read(path)));
    }
    hasher.update([u8::from(access.client_certificate)]);
    hasher.finalize().into()
}

/// What the only Authorization header says. Two of them could be read as either.
fn shown(headers: &HeaderMap) -> Option<Shown> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Shown::Token(rest.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(rest)
        .ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(Shown::Password {
        user: String::from_utf8(decoded[..colon].to_vec()).ok()?,
        password: decoded[colon + 1..].to_vec(),
    })
}

#[cfg(test)]
mod tests;
