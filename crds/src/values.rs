//! Checked values: each is parsed once, and can't be wrong afterwards.

mod byte_size;
mod duration;
mod endpoint;
mod glob;
mod ratio;
mod registry_host;
mod repository_prefix;

pub use byte_size::ByteSize;
pub use duration::Duration;
pub use endpoint::Endpoint;
pub use glob::{RepositoryGlob, TagGlob};
pub use ratio::Ratio;
pub use registry_host::RegistryHost;
pub use repository_prefix::RepositoryPrefix;

/// Why a text is not a valid value. The message says what was given, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a valid {what}: {expected}")]
pub struct InvalidValue {
    pub(crate) what: &'static str,
    pub(crate) given: String,
    pub(crate) expected: String,
}

impl InvalidValue {
    pub(crate) fn new(what: &'static str, given: &str, expected: impl Into<String>) -> Self {
        // An error text travels into conditions and logs: a huge input must not.
        let given = given.chars().take(200).collect();
        Self {
            what,
            given,
            expected: expected.into(),
        }
    }
}

/// Text form and serde for a value that is written as a string.
macro_rules! as_text {
    ($type:ty) => {
        impl std::str::FromStr for $type {
            type Err = crate::values::InvalidValue;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
        impl TryFrom<String> for $type {
            type Error = crate::values::InvalidValue;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text)
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}
pub(crate) use as_text;
