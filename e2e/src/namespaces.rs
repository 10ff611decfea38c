//! Runs the current program again in network, mount and process namespaces of its own.
//!
//! Three processes of the same binary take part. The outer one prepares, waits, forwards the end and tidies up. The first of
//! the new process namespace arranges the mounts and then only collects orphans. The inner one does the work. Whatever ends the
//! outer process, even a SIGKILL, ends every process inside; mounts and network devices go with their namespaces.

mod cgroups;
mod leftovers;
mod mounts;
mod state;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, bail};
use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use cgroups::name as cgroup_name;
pub use leftovers::Leftovers;
use state::State;

const STAGE: &str = "LARDER_NODE_STAGE";
const FIRST: &str = "first";
const INNER: &str = "inner";
const STATE: &str = "LARDER_NODE_STATE";
/// The file in the state directory by which the outer process recognises processes of the namespaces.
const IDENTITY: &str = "process-namespace";

/// Which of the three processes this one is.
pub enum Side {
    /// The one that was started by somebody.
    Outer,
    /// The one that works; its state directory goes away with the namespaces.
    Inner(PathBuf),
}

/// Finds out which side this is. The first process of the namespaces never returns from here: it exits as the inner one does.
pub fn side() -> Result<Side> {
    let Some(stage) = std::env::var_os(STAGE) else {
        return Ok(Side::Outer);
    };
    let directory = std::env::var_os(STATE).with_context(|| format!("{STATE} is not set"))?;
    let directory = PathBuf::from(directory);
    if stage == INNER {
        return Ok(Side::Inner(directory));
    }
    std::process::exit(first_process(&directory)?);
}

/// Fails for anybody but root, so that nobody waits for builds that then can't be used.
pub fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!("only root may create namespaces with a node in them");
}

/// What is known when everything inside has ended.
pub struct Ended {
    pub status: ExitStatus,
    /// What `keep` took out of the state directory before it was removed.
    pub kept: Option<Vec<u8>>,
    pub leftovers: Leftovers,
}

impl Ended {
    /// Success if the inner process succeeded; otherwise its code.
    pub fn exit_code(&self) -> ExitCode {
        let code = self.status.code().and_then(|code| u8::try_from(code).ok());
        ExitCode::from(code.unwrap_or(1))
    }
}

/// Runs this program with the same arguments inside, waits for its end or for SIGINT or SIGTERM, and removes what it leaves on
/// the machine. Of the state directory only the file `keep`, if any, is read before.
pub fn run_inside(keep: Option<&str>) -> Result<Ended> {
    require_root()?;
    let devices = leftovers::network_devices()?;
    let state = State::create()?;
    // In this very thread: the signal that setpriv asks for is sent when the thread that started it ends.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to build the runtime")?;
    let status = runtime.block_on(wait_or_end(state.path()))?;
    let identity = std::fs::read_to_string(state.path().join(IDENTITY)).unwrap_or_default();
    let kept = keep.and_then(|name| std::fs::read(state.path().join(name)).ok());
    let leftovers = leftovers::remove(state, &identity, &devices)?;
    Ok(Ended {
        status,
        kept,
        leftovers,
    })
}

async fn wait_or_end(state: &Path) -> Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let program = std::env::current_exe().context("failed to find this program")?;
    let mut child = tokio::process::Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(STAGE, FIRST)
        .env(STATE, state)
        .spawn()
        .context("failed to start setpriv and unshare (package util-linux)")?;
    tokio::select! {
        status = child.wait() => return status.context("failed to wait for the namespaces"),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    child.kill().await.context("failed to end the namespaces")?;
    child
        .wait()
        .await
        .context("failed to wait for the namespaces")
}

/// The life of the namespaces' first process. It must not do more: orphans of the container runtime become its children, and
/// waiting for any child would take the exit status from whoever started one.
fn first_process(state: &Path) -> Result<i32> {
    let identity =
        std::fs::read_link("/proc/self/ns/pid").context("failed to read the process namespace")?;
    std::fs::write(state.join(IDENTITY), identity.to_string_lossy().as_bytes())
        .context("failed to write down the process namespace")?;
    mounts::arrange(state)?;
    cgroups::create(state)?;
    let program = std::env::current_exe().context("failed to find this program")?;
    let inner = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(STAGE, INNER)
        .spawn()
        .context("failed to start the inner process")?;
    loop {
        let ended = wait(WaitOptions::empty()).context("failed to wait for a process")?;
        if let Some((process, status)) = ended
            && process.as_raw_nonzero().get().unsigned_abs() == inner.id()
        {
            return Ok(status.exit_status().unwrap_or(1));
        }
    }
}
