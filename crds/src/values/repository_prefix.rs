//! What an upstream wants in front of each repository name.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InvalidValue, as_text};

/// One or more repository path components, without slashes at the ends: `proxy/docker-hub`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(extend("pattern" = "^[a-z0-9._/-]+$", "maxLength" = 200))
)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryPrefix(String);

as_text!(RepositoryPrefix);

impl RepositoryPrefix {
    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn parse(text: &str) -> Result<Self, InvalidValue> {
        let component = |part: &str| {
            let end =
                |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let bytes = part.as_bytes();
            end(bytes.first())
                && end(bytes.last())
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(b))
        };
        if text.len() > 200 || !text.split('/').all(component) {
            return Err(InvalidValue::new(
                "repository prefix",
                text,
                "write lower-case path components like proxy/docker-hub, without slashes at the ends",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RepositoryPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_checked() {
        assert_eq!(
            RepositoryPrefix::parse("proxy/docker-hub")
                .unwrap()
                .as_str(),
            "proxy/docker-hub"
        );
        for text in ["", "/a", "a/", "a//b", "A", "..", "a/../b", "a b"] {
            assert!(RepositoryPrefix::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
