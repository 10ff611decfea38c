//! Starts the server, or checks its configuration or its store.

use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use cache_server::app::{App, Options};
use cache_server::args::{Arguments, Command};
use cache_server::config::Location;
use cache_server::http::tls::Certificates;
use cache_server::{remote, telemetry};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Command::Check { path }) => check(&path),
        Some(Command::Fsck { store, repair }) => fsck(&store, repair),
        Some(Command::Ls { remote: to, prefix }) => {
            call(remote::list(&to.server, &to.token_file, &prefix))
        }
        Some(Command::Warm {
            remote: to,
            images,
            file,
            platforms,
        }) => call(remote::warm(
            &to.server,
            &to.token_file,
            &images,
            file.as_deref(),
            &platforms,
        )),
        Some(Command::Purge { remote: to, image }) => {
            call(remote::purge(&to.server, &to.token_file, &image))
        }
        Some(Command::Run(run)) => serve(run.config.as_deref()),
        None => serve(arguments.run.config.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Each message has its cause in it.
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &Path) -> anyhow::Result<()> {
    let location = Location::new(Some(path))?;
    let config = location.static_config()?;
    if let Some(files) = config.tls.clone() {
        Certificates::load(files)?;
    }
    let policy = location.policy()?;
    if let Some(loaded) = &policy {
        loaded.guard(config.judges_clients())?;
    }
    println!("the static configuration is valid: {}", config.hash());
    match policy {
        Some(loaded) => println!("the policy is valid: {}", loaded.policy.hash()),
        None => println!("there is no policy; the public registries would be served"),
    }
    Ok(())
}

fn fsck(store: &Path, repair: bool) -> anyhow::Result<()> {
    let report = cache_server::fsck::run(store, repair)?;
    if report.is_right() {
        return Ok(());
    }
    let wrong = report.wrong;
    Err(anyhow!(
        "{wrong} wrong; run it with --repair to move them out of the way"
    ))
}

/// Runs a call of another server to its end.
fn call(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("failed to start the runtime: {error}"))?;
    runtime.block_on(work).map_err(|error| anyhow!("{error:#}"))
}

fn serve(path: Option<&Path>) -> anyhow::Result<()> {
    let location = Location::new(path)?;
    let config = location.static_config()?;
    cache_server::descriptors::raise();
    // Fails if one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("failed to start the runtime: {error}"))?;
    let telemetry = telemetry::start(&config, runtime.handle());
    let ended = runtime.block_on(async {
        let listen =
            |kind| signal(kind).map_err(|error| anyhow!("failed to listen for signals: {error}"));
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let app = App::start(Options::new(config, location), async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await?;
        app.finished().await;
        anyhow::Ok(())
    });
    telemetry.end();
    // What still blocks on the disk is not waited for: it is nothing that a start would not repair.
    runtime.shutdown_background();
    ended
}
