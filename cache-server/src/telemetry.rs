//! Where log lines go: standard error, as text or JSON. And where spans go, if anywhere.

mod exporter;

use std::io::IsTerminal as _;

use crds::static_config::{LogFormat, StaticConfig};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use crate::spans::TARGET;

/// What must be ended for all to be told.
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

/// Starts logging, and tracing if it is wanted. `RUST_LOG` chooses levels; without it, info.
pub fn start(config: &StaticConfig, runtime: &Handle) -> Telemetry {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let Some(tracing) = &config.tracing else {
        log_only(config.log_format, filter);
        return Telemetry(None);
    };
    let provider = exporter::provider(tracing, runtime);
    let is_span = |metadata: &tracing::Metadata<'_>| metadata.target() == TARGET;
    let logs = filter.and(filter_fn(move |metadata| !is_span(metadata)));
    let layer = fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let layer = match config.log_format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => layer.boxed(),
    };
    let spans = provider
        .as_ref()
        .ok()
        .map(|provider| exporter::layer(provider).with_filter(filter_fn(is_span)));
    let started = tracing_subscriber::registry()
        .with(spans)
        .with(layer.with_filter(logs))
        .try_init();
    complain(started);
    match provider {
        Ok(provider) => Telemetry(Some(provider)),
        Err(error) => {
            tracing::error!("{error}");
            Telemetry(None)
        }
    }
}

fn log_only(format: LogFormat, filter: EnvFilter) {
    let builder = fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    complain(match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.try_init(),
    });
}

fn complain<E: std::fmt::Display>(started: Result<(), E>) {
    if let Err(error) = started {
        eprintln!("failed to start logging: {error}");
    }
}

impl Telemetry {
    /// Sends what has not been sent, for five seconds at most. Blocks; the runtime must still run.
    pub fn end(self) {
        if let Some(provider) = self.0 {
            // What could not be sent is said where it is sent.
            let _ = provider.shutdown();
        }
    }
}
