//! What containerd makes of a node's files: whether it reads mirror files at all, and whom it asks for an image. Pure, but for [`files`].
//!
//! Facts are from containerd's docs/hosts.md and core/remotes/docker/config; the traps have the numbers of its issues.

pub mod config;
pub mod files;
pub mod hosts;
pub mod version;

pub use config::RegistryConfig;
pub use hosts::Hosts;
pub use version::Version;
