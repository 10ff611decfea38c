//! Arguments, telemetry, start; nothing else.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Parser as _;
use operator::args::{Arguments, Command};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Crds => print_definitions(),
        Command::Run(arguments) => {
            tracing_subscriber::fmt()
                .json()
                .with_writer(std::io::stderr)
                .with_env_filter(
                    EnvFilter::try_from_default_env()
                        .unwrap_or_else(|_| EnvFilter::new("info,kube=warn")),
                )
                .init();
            rustls::crypto::ring::default_provider()
                .install_default()
                .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("failed to start the runtime")?
                .block_on(operator::run::run(arguments))
                .context("failed to run the operator")
        }
    }
}

fn print_definitions() -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    for (_, definition) in crds::schema::definitions() {
        writeln!(
            output,
            "---\n{}",
            crds::schema::to_yaml(&definition).trim_end()
        )
        .context("failed to print the definitions")?;
    }
    Ok(())
}
