//! Where built programs and downloaded packages are kept.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// `$XDG_CACHE_HOME/larder`, by default `~/.cache/larder`.
pub fn cache_directory() -> Result<PathBuf> {
    let caches = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(directory) => PathBuf::from(directory),
        None => std::env::home_dir()
            .context("neither XDG_CACHE_HOME nor HOME is set")?
            .join(".cache"),
    };
    Ok(caches.join("larder"))
}
