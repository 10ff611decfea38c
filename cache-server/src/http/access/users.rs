//! Users and the hashes of their passwords, as `htpasswd` writes them.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use super::Error;

/// The dearest hash that is taken: about a second of one core.
const DEAREST: u32 = 14;
const CHEAPEST: u32 = 4;
/// Salt and hash of nobody's password.
const NOBODY: &str = "abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZabcde";

/// The users of a file.
pub(super) struct Users {
    hashes: HashMap<String, String>,
    /// Verified for users that are not there, so that the time of an answer does not tell who is.
    nobody: String,
}

// Not derived: a hash is a secret too.
impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users")
            .field("count", &self.hashes.len())
            .finish_non_exhaustive()
    }
}

/// What a password is compared with.
pub(super) struct Check {
    hash: String,
    is_user: bool,
}

impl Users {
    /// Empty lines, and those that begin with `#`, say nothing.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let mut hashes = HashMap::new();
        let mut dearest = CHEAPEST;
        for (number, line) in text.lines().enumerate() {
            let (line, number) = (line.trim(), number + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || Error::User {
                path: path.to_owned(),
                line: number,
            };
            let (user, hash) = line.split_once(':').ok_or_else(wrong)?;
            let parts = bcrypt::HashParts::from_str(hash).map_err(|_| wrong())?;
            let cost = parts.get_cost();
            if user.is_empty() || !hash.starts_with("$2") {
                return Err(wrong());
            }
            if !(CHEAPEST..=DEAREST).contains(&cost) {
                return Err(Error::Cost {
                    path: path.to_owned(),
                    line: number,
                    cost,
                });
            }
            dearest = dearest.max(cost);
            if hashes.insert(user.to_owned(), hash.to_owned()).is_some() {
                return Err(Error::SameUser {
                    path: path.to_owned(),
                    line: number,
                });
            }
        }
        Ok(Self {
            hashes,
            nobody: format!("$2y${dearest:02}${NOBODY}"),
        })
    }

    pub(super) fn check(&self, user: &str) -> Check {
        let hash = self.hashes.get(user);
        Check {
            is_user: hash.is_some(),
            hash: hash.unwrap_or(&self.nobody).clone(),
        }
    }
}

impl Check {
    /// Takes a core for as long as the hash wants.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        bcrypt::verify(password, &self.hash).unwrap_or(false) && self.is_user
    }
}
