//! Error codes of the distribution spec, and the JSON body that carries them.

/// What an error body says to programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    BlobUnknown,
    ManifestUnknown,
    NameUnknown,
    NameInvalid,
    DigestInvalid,
    TagInvalid,
    Denied,
    Unauthorized,
    Unsupported,
    RangeInvalid,
    Unavailable,
    Unknown,
}

impl ErrorCode {
    /// The word in the body.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::Denied => "DENIED",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unsupported => "UNSUPPORTED",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The body of an error answer.
    pub fn body(self, message: &str) -> String {
        serde_json::json!({ "errors": [{ "code": self.as_str(), "message": message }] }).to_string()
    }
}
