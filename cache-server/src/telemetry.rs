//! Where log lines go: standard error, as text or JSON.

use std::io::IsTerminal as _;

use crds::static_config::LogFormat;
use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` chooses levels; without it, info.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.try_init(),
    };
    if let Err(error) = started {
        eprintln!("failed to start logging: {error}");
    }
}
