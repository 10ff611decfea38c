//! What is measured. Each measure alternates the servers, round by round, and reports medians.

pub(crate) mod cold;
pub(crate) mod hot;
pub(crate) mod manifests;
pub(crate) mod many;
pub(crate) mod stall;
pub(crate) mod start;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, anyhow};

use crate::content::Content;
use crate::report::quartiles;
use crate::secure::Pair;
use crate::target::Target;
use crate::upstream::Upstream;

/// Rounds of each measure.
pub(crate) const ROUNDS: usize = 3;

/// All that takes part.
pub(crate) struct Setting {
    /// For what a measure needs itself.
    pub(crate) directory: PathBuf,
    pub(crate) larder: Target,
    pub(crate) distribution: Target,
    pub(crate) nginx: Target,
    /// For what is measured over TLS.
    pub(crate) pair: Pair,
    pub(crate) content: Content,
    pub(crate) upstream: Upstream,
    /// Large ones, which nginx has too.
    pub(crate) blobs: [String; 2],
    pub(crate) manifest: String,
}

impl Setting {
    /// The servers in the order of this round.
    pub(crate) fn targets(&self, round: usize) -> [(usize, &Target); 3] {
        in_turn([&self.larder, &self.distribution, &self.nginx], round)
    }
}

/// Leaves free memory that the system has for files of so many bytes: a virtual machine gets memory from its host when it is written
/// first, and gives it back soon after it is free. A file in it can be a tenth as quick, which no server can help.
pub(crate) fn have_memory(setting: &Setting, bytes: usize) -> Result<()> {
    let path = setting.directory.join("memory");
    std::fs::write(&path, vec![1; bytes]).context("failed to write a file")?;
    std::fs::remove_file(&path).context("failed to remove a file")
}

/// The servers with their places, in the order of this round.
pub(crate) fn in_turn(targets: [&Target; 3], round: usize) -> [(usize, &Target); 3] {
    [0, 1, 2]
        .map(|place| (place + round) % 3)
        .map(|place| (place, targets[place]))
}

/// What nginx serves, as it stands in paths.
pub(crate) fn files(manifest: &str, blobs: &[String]) -> Vec<(&'static str, String)> {
    let manifests = [manifest, "v1"].map(|reference| ("manifests", reference.to_owned()));
    let blobs = blobs.iter().map(|digest| ("blobs", digest.clone()));
    manifests.into_iter().chain(blobs).collect()
}

pub(crate) fn blob_path(digest: &str) -> String {
    format!("/v2/bench/blobs/{digest}")
}

/// The value in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let [_, middle, _] = quartiles(values);
    middle
}

/// Runs the same work on so many threads and collects what they return.
pub(crate) fn on_threads<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let work = &work;
                scope.spawn(move || work(number))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a client failed"))?)
            .collect()
    })
}

/// Gets it once.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<crate::client::Timing> {
    crate::client::Client::connect(address)?.get(path)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    #[expect(clippy::float_cmp, reason = "nothing is computed")]
    fn the_median_is_the_value_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[1.0]), 1.0);
        assert!(median(&[]).is_nan());
    }
}
