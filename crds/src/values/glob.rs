//! Globs over repositories and tags.

use std::fmt;

use globset::GlobBuilder;
use serde::{Deserialize, Serialize};

use super::{InvalidValue, as_text};

const MAXIMUM_LENGTH: usize = 256;

/// A glob over repository names. `*` and `?` stay within one path component, `**` crosses them, `{a,b}` is a choice:
/// `library/*`, `ours/**`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(extend("minLength" = 1, "maxLength" = 256))
)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryGlob(String);

/// A glob over tags: `v1.*`, `{stable,latest}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(extend("minLength" = 1, "maxLength" = 256))
)]
#[serde(try_from = "String", into = "String")]
pub struct TagGlob(String);

macro_rules! glob {
    ($type:ident, $what:literal, $example:literal) => {
        as_text!($type);

        impl $type {
            /// The text form.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The glob in matching form.
            pub fn matcher(&self) -> globset::GlobMatcher {
                compile(&self.0)
                    .expect("the text was checked when the value was made")
                    .compile_matcher()
            }

            pub(crate) fn parse(text: &str) -> Result<Self, InvalidValue> {
                check(text).map_err(|reason| {
                    InvalidValue::new($what, text, format!("{reason}; an example is {}", $example))
                })?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
glob!(RepositoryGlob, "repository glob", "library/*");
glob!(TagGlob, "tag glob", "v1.*");

fn compile(text: &str) -> Result<globset::Glob, globset::Error> {
    GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(false)
        .build()
}

fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MAXIMUM_LENGTH {
        return Err(format!("write 1 to {MAXIMUM_LENGTH} characters"));
    }
    if text.starts_with('/') || text.ends_with('/') {
        return Err("a name has no slash at its ends, so this would match nothing".to_owned());
    }
    compile(text)
        .map(|_| ())
        .map_err(|error| error.kind().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stays_in_its_component() {
        let matcher = RepositoryGlob::parse("library/*").unwrap().matcher();
        assert!(matcher.is_match("library/alpine"));
        assert!(!matcher.is_match("library/a/b"));
        assert!(
            RepositoryGlob::parse("ours/**")
                .unwrap()
                .matcher()
                .is_match("ours/a/b")
        );
    }

    #[test]
    fn broken_globs_say_what_is_wrong() {
        let error = RepositoryGlob::parse("library/[a").unwrap_err().to_string();
        insta::assert_snapshot!(error, @r#""library/[a" is not a valid repository glob: unclosed character class; missing ']'; an example is library/*"#);
        assert!(TagGlob::parse("").is_err());
        assert!(RepositoryGlob::parse("/library").is_err());
    }
}
