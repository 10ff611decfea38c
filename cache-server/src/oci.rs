//! Words of the OCI distribution and image specs, each parsed once. Pure; knows nothing else of ours.

pub mod digest;
pub mod error_code;
pub mod manifest;
pub mod media_type;
pub mod parts;
pub mod reference;
pub mod referrers;
pub mod repository;

pub use digest::{Algorithm, Digest, Hasher};
pub use error_code::ErrorCode;
pub use media_type::MediaType;
pub use reference::{Reference, Tag};
pub use repository::Repository;

/// Largest manifest taken. The spec asks for at least 4 megabytes; containerd takes a little more.
pub const MAXIMUM_MANIFEST: u64 = 4 * 1024 * 1024;
