//! Starts the node and an upstream registry and runs a command there, by default a shell; when that ends, all is gone.
//!
//! `cargo run -p e2e --bin larder-node -- [COMMAND [ARGUMENT...]]`

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use e2e::namespaces::{self, Side};
use e2e::runner::{self, Setting};
use e2e::{Progress, World};

fn main() -> Result<ExitCode> {
    let progress: Progress<'_> = &|line| eprintln!("{line}");
    match namespaces::side()? {
        Side::Outer => {
            World::prepare(progress)?;
            let ended = namespaces::run_inside(None)?;
            if !ended.leftovers.is_empty() {
                eprintln!("left on the machine: {}", ended.leftovers);
            }
            Ok(ended.exit_code())
        }
        Side::Inner(state) => run_command(&state, progress),
    }
}

fn run_command(state: &Path, progress: Progress<'_>) -> Result<ExitCode> {
    runner::install_crypto();
    let world = World::start(state, progress)?;
    world.node.write_hosts(
        "docker.io",
        "hosts.toml",
        &format!("server = \"{}\"\n", world.upstream.url()),
    )?;
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().unwrap_or_else(|| "bash".into());
    let status = Command::new(&program)
        .args(arguments)
        .env("PATH", world.tools.search_path())
        .env("KUBECONFIG", world.node.kubeconfig())
        .env("KUBECACHEDIR", state.join("kubectl"))
        .env("CONTAINERD_ADDRESS", world.node.containerd_socket())
        .env("CONTAINERD_NAMESPACE", "k8s.io")
        .env("LARDER_UPSTREAM", world.upstream.address())
        .env("LARDER_HOSTS_DIRECTORY", world.node.hosts_directory())
        .status()
        .with_context(|| format!("failed to start {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
