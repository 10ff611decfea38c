//! Larder, distribution as a pull-through cache and nginx with static files, side by side in one run on loopback.
//! Ratios within a run are what counts: the load comes from the same machine.

mod client;
mod content;
mod measure;
mod program;
mod report;
mod secure;
mod slow_disk;
mod target;
mod upstream;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bench::section;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use content::Content;
use measure::{Setting, cold, hot, manifests, many, stall, start};
use report::Report;
use secure::Pair;
use upstream::Upstream;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mut write, mut only) = (None, String::new());
    for pair in arguments.chunks(2) {
        match pair {
            [flag, path] if flag == "--write" => write = Some(PathBuf::from(path)),
            [flag, name] if flag == "--only" => only.clone_from(name),
            _ => bail!(
                "usage: bench [--only idle|cold|small|manifests|hot|stall|many|start] [--write FILE]"
            ),
        }
    }
    let begun = Instant::now();
    let report = run(&only)?;
    println!("{}", report.table());
    println!("took {:.0} s", begun.elapsed().as_secs_f64());
    if let Some(path) = write {
        let page = report.page() + &section::operator_part(&path);
        std::fs::write(&path, page)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

fn run(only: &str) -> Result<Report> {
    raise_limit_of_files()?;
    let directory = tempfile::tempdir().context("failed to create a directory")?;
    let content = Content::new();
    let upstream = Upstream::start(content.clone())?;
    let blobs = [
        content.blob(1, content::LARGEST),
        content.blob(2, content::LARGEST),
    ];
    let manifest = content.manifest("v1");
    let files = measure::files(&manifest, &blobs);
    let place = |name: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(&path).context("failed to create a directory")?;
        anyhow::Ok(path)
    };
    let pair = Pair::make(directory.path())?;
    let setting = Setting {
        directory: directory.path().to_owned(),
        larder: target::larder(&place("larder")?, upstream.address, &pair)?,
        distribution: target::distribution(&place("distribution")?, upstream.address)?,
        nginx: target::nginx(&place("nginx")?, &content, &files, &pair)?,
        pair,
        content,
        upstream,
        blobs,
        manifest,
    };
    let mut report = Report::new();
    let measures: [(&str, Measure); 8] = [
        ("idle", many::idle),
        ("cold", cold::measure),
        ("small", cold::many_small),
        ("manifests", manifests::measure),
        ("hot", hot::measure),
        ("stall", stall::measure),
        ("many", many::downloads),
        ("start", start::measure),
    ];
    for (name, measure) in measures {
        if name.contains(only) {
            report.progress(name);
            measure(&setting, &mut report)?;
        }
    }
    Ok(report)
}

type Measure = fn(&Setting, &mut Report) -> Result<()>;

/// For this process and those that it starts.
fn raise_limit_of_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("failed to raise the limit of open files")
}
