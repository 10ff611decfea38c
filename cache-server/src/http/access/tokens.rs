//! Bearer tokens.

use std::collections::HashSet;
use std::path::Path;

use super::Error;
use super::known::{Key, Keyed};

/// Keyed digests of the tokens of a file: what is compared in a time that tells something are only these.
#[derive(Debug)]
pub(super) struct Tokens(HashSet<Keyed>);

impl Tokens {
    /// Empty lines, and those that begin with `#`, say nothing.
    pub(super) fn parse(path: &Path, text: &str, key: &Key) -> Result<Self, Error> {
        let mut tokens = HashSet::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !(16..=8192).contains(&line.len()) || !line.bytes().all(is_of_token) {
                return Err(Error::Token {
                    path: path.to_owned(),
                    line: number + 1,
                });
            }
            tokens.insert(key.digest(&[line.as_bytes()]));
        }
        Ok(Self(tokens))
    }

    pub(super) fn have(&self, token: &str, key: &Key) -> bool {
        self.0.contains(&key.digest(&[token.as_bytes()]))
    }
}

/// The characters of RFC 6750, 2.1.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}
