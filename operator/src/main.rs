//! Arguments, telemetry, start; nothing else.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Parser as _;
use operator::args::{Arguments, Command, RenderArguments};
use operator::offline::{self, Documents};
use operator::optional_apis::OptionalKind;
use operator::resolve::Settings;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Crds => print_definitions(),
        Command::Render(arguments) => print_objects(&arguments),
        Command::Run(arguments) => {
            block_on(operator::run::run(arguments))?.context("failed to run the operator")
        }
        Command::NodeAgent(arguments) => block_on(async {
            let stop = operator::run::stop_on_signal().context("failed to start")?;
            operator::node_agent::run(arguments, stop)
                .await
                .context("failed to run the node agent")
        })?,
        Command::AwaitDaemonSet(arguments) => {
            block_on(operator::await_daemon_set::run(arguments))?.context("failed to wait")
        }
        Command::Doctor(arguments) => {
            if block_on(operator::doctor::run(arguments))?? {
                Ok(())
            } else {
                std::process::exit(1);
            }
        }
    }
}

/// Logs to the standard error, and does the work on a runtime.
fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    tracing_subscriber::fmt()
        .json()
        .with_writer(std::io::stderr)
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube=warn")),
        )
        .init();
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let ended = runtime.block_on(work);
    // An operator that lost its Lease must not wait for anything.
    runtime.shutdown_background();
    Ok(ended)
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

/// Objects go to the standard output, notes to the standard error.
fn print_objects(arguments: &RenderArguments) -> anyhow::Result<()> {
    let mut documents = Documents::default();
    for file in &arguments.files {
        let text = if file == "-" {
            std::io::read_to_string(std::io::stdin().lock())
        } else {
            std::fs::read_to_string(file)
        };
        let text = text.with_context(|| format!("failed to read {file}"))?;
        documents.read(file, &text, &arguments.namespace)?;
    }
    let settings = Settings {
        cache_server_image: arguments.cache_server_image.clone(),
        cache_server_pull_policy: None,
        namespace: Some(arguments.operator_namespace.clone()),
    };
    let monitoring = [OptionalKind::ServiceMonitor, OptionalKind::PrometheusRule];
    let without = |kind: &OptionalKind| arguments.without_monitoring && monitoring.contains(kind);
    let apis = OptionalKind::ALL
        .into_iter()
        .filter(|kind| !without(kind))
        .collect();
    let rendered = offline::output(&documents, &settings, &apis)?;
    for note in rendered.notes {
        eprintln!("note: {note}");
    }
    let mut output = std::io::stdout().lock();
    for object in rendered.objects {
        let text = serde_saphyr::to_string(&object).context("failed to write an object as YAML")?;
        write!(output, "---\n{text}").context("failed to print the objects")?;
    }
    Ok(())
}
