//! Repository names.

use std::fmt;
use std::sync::Arc;

/// `library/alpine`: lower-case components as the distribution spec has them. Safe as a relative path: no component
/// begins with a dot or an underscore. Clones share the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(Arc<str>);

const MAXIMUM_LENGTH: usize = 255;

impl Repository {
    /// `None` if the text is not a name.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() <= MAXIMUM_LENGTH && text.split('/').all(is_component))
            .then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    ends && bytes
        .split(|b| alphanumeric(b))
        .all(|separator| match separator {
            b"" | b"." | b"_" | b"__" => true,
            other => other.iter().all(|b| *b == b'-'),
        })
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_the_spec_are_taken() {
        for text in ["alpine", "library/alpine", "a.b_c__d---e/f1", "0"] {
            assert!(Repository::parse(text).is_some(), "{text:?} was refused");
        }
    }

    #[test]
    fn names_that_could_leave_the_store_are_refused() {
        for text in [
            "", "/", "a/", "/a", "a//b", "..", "a/../b", "A", "_a", "a_", "a___b", "a..b", ".a",
            "a%2fb", "a b", "ä", "a/_tags", "a\0b",
        ] {
            assert!(Repository::parse(text).is_none(), "{text:?} was taken");
        }
        assert!(Repository::parse(&"a".repeat(256)).is_none());
    }

    proptest! {
        #[test]
        fn no_component_can_be_special(text in "[a-z0-9._/-]{1,24}") {
            if let Some(repository) = Repository::parse(&text) {
                for component in repository.as_str().split('/') {
                    prop_assert!(!component.is_empty() && !component.starts_with(['.', '_', '-']));
                }
            }
        }
    }
}
