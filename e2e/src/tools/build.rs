//! Builds one Go module into the cache, at most once for each version and content of its module files.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::cache::cache_directory;
use super::catalogue::Tool;
use crate::images::hexadecimal;
use crate::{Progress, command};

/// How often a long build says that it is still running.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// The tool's directory: its programs are in `bin`, what was kept of its modules in `data`.
pub(super) fn ensure(tool: &Tool, progress: Progress<'_>) -> Result<PathBuf> {
    let tools = cache_directory()?.join("tools");
    let directory = tools.join(format!("{}-{}-{}", tool.name, tool.version, hash(tool)));
    if directory.is_dir() {
        return Ok(directory);
    }
    fs::create_dir_all(&tools).with_context(|| format!("failed to create {}", tools.display()))?;
    // One build at a time, over all processes: a second one would only slow down the first.
    let lock = File::create(tools.join("build.lock"))
        .context("failed to create the lock of the builds")?;
    lock.lock().context("failed to lock the builds")?;
    if !directory.is_dir() {
        build_and_rename(tool, &tools, &directory, progress)?;
    }
    Ok(directory)
}

/// Builds in a temporary directory, so that the final name only ever stands for a whole build.
fn build_and_rename(
    tool: &Tool,
    tools: &Path,
    directory: &Path,
    progress: Progress<'_>,
) -> Result<()> {
    let temporary = tempfile::Builder::new()
        .prefix(".building-")
        .tempdir_in(tools)
        .context("failed to create a directory to build in")?;
    let module = temporary.path().join("module");
    let result = temporary.path().join("result");
    fs::create_dir(&module).context("failed to create the module's directory")?;
    for (name, text) in tool.files {
        fs::write(module.join(name), text).with_context(|| format!("failed to write {name}"))?;
    }
    let start = Instant::now();
    let Tool {
        name,
        version,
        minutes,
        ..
    } = tool;
    progress(&format!(
        "building {name} {version}, about {minutes} min the first time"
    ));
    if !tool.packages.is_empty() {
        let log = temporary.path().join("log");
        let mut child = go_build(tool, &module, &result.join("bin"), &log)?;
        wait_for(&mut child, &log, |elapsed| {
            progress(&format!(
                "building {name} {version} … {}",
                minutes_of(elapsed)
            ));
        })?;
    }
    for (from, to) in tool.renames {
        fs::rename(result.join("bin").join(from), result.join("bin").join(to))
            .with_context(|| format!("the build made no program {from}"))?;
    }
    for (of, path, name) in tool.data {
        keep(of, path, &module, &result.join("data").join(name))?;
    }
    fs::rename(&result, directory)
        .with_context(|| format!("failed to move the build to {}", directory.display()))?;
    progress(&format!(
        "built {name} {version} in {}",
        minutes_of(start.elapsed())
    ));
    Ok(())
}

fn go_build(tool: &Tool, module: &Path, programs: &Path, log: &Path) -> Result<Child> {
    let errors = File::create(log).context("failed to create the build's log")?;
    let mut output = programs.as_os_str().to_owned();
    output.push("/");
    Command::new("go")
        .args([
            "build",
            "-mod=readonly",
            "-buildvcs=false",
            "-trimpath",
            "-tags",
            tool.tags,
        ])
        .arg(format!("-ldflags=-s -w {}", tool.linker_flags))
        .arg("-o")
        .arg(output)
        .args(tool.packages)
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        // A workspace or vendor setting of the caller is none of this module's.
        .env("GOWORK", "off")
        .env_remove("GOFLAGS")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .context("failed to start go (needed: Go 1.21 or newer on the PATH)")
}

/// Copies the files of a directory of the Go module `of`.
fn keep(of: &str, path: &str, module: &Path, target: &Path) -> Result<()> {
    let mut download = Command::new("go");
    download
        .args(["mod", "download", "-json", of])
        .current_dir(module)
        .env("GOWORK", "off")
        .env_remove("GOFLAGS");
    let found: Value = serde_json::from_str(&command::output(&mut download)?)
        .with_context(|| format!("failed to read where {of} is"))?;
    let source = found["Dir"]
        .as_str()
        .with_context(|| format!("{of} was not downloaded: {found}"))?;
    let source = Path::new(source).join(path);
    fs::create_dir_all(target).with_context(|| format!("failed to create {}", target.display()))?;
    let entries =
        fs::read_dir(&source).with_context(|| format!("failed to list {}", source.display()))?;
    for entry in entries {
        let file = entry
            .with_context(|| format!("failed to list {}", source.display()))?
            .path();
        let name = file.file_name().context("a directory entry has no name")?;
        // The content only: what is in the module cache may not be written to, and copies need to go away with the cache.
        let text = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        fs::write(target.join(name), text)
            .with_context(|| format!("failed to write {}", target.join(name).display()))?;
    }
    Ok(())
}

fn wait_for(child: &mut Child, log: &Path, report: impl Fn(Duration)) -> Result<()> {
    let start = Instant::now();
    let mut reported = start;
    let status = loop {
        if let Some(status) = child.try_wait().context("failed to wait for go build")? {
            break status;
        }
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            report(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    if !status.success() {
        let mut text = String::new();
        File::open(log)
            .and_then(|mut file| file.read_to_string(&mut text))
            .context("failed to read the build's log")?;
        bail!("go build ended with {status}:\n{text}");
    }
    Ok(())
}

fn hash(tool: &Tool) -> String {
    let mut hash = Sha256::new();
    for (name, text) in tool.files {
        hash.update(name);
        hash.update(text);
    }
    hash.update(tool.packages.join(" "));
    hash.update(tool.tags);
    hash.update(tool.linker_flags);
    for (of, path, name) in tool.data {
        hash.update(format!("{of} {path} {name}"));
    }
    hexadecimal(&hash.finalize())[..12].to_owned()
}

fn minutes_of(elapsed: Duration) -> String {
    format!("{}m{:02}s", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}
