//! The whole conformance suite through the cache: it pushes to a real registry, and everything that it reads comes through the
//! cache, with every byte compared.

use std::path::Path;

use anyhow::{Result, ensure};
use e2e::Registries;
use e2e::cache_server::CacheServer;
use e2e::conformance::{self, Check, Status};
use e2e::olareg::Olareg;
use e2e::splitter::Splitter;

/// What the suite asks for beyond the defaults of a version: exact headers, and manifests that refer to what is missing. What is
/// deleted is the one thing that the cache answers otherwise, on purpose: content that it has stays there for who asks by
/// digest. So deletions are made, and only those of tags are expected to be seen at once.
const SETTINGS: &[(&str, &str)] = &[
    ("DATA_SPARSE", "true"),
    ("API_BLOBS_DIGEST_HEADER", "true"),
    ("API_BLOBS_UPLOAD_CANCEL", "true"),
    ("API_BLOBS_ATOMIC", "false"),
    ("API_MANIFESTS_DIGEST_HEADER", "true"),
    ("API_MANIFESTS_ATOMIC", "false"),
];

/// The checks that olareg makes the suite skip: ends of their names. It may answer a mount without a source by an upload, and
/// does. No read of the suite is skipped.
const SKIPPED: &[&str] = &["/mount anonymous/blob-mount-anonymous"];

/// So many checks there are at least, so that a suite which does nothing does not pass.
const LEAST: usize = 700;

pub(crate) fn every_check_passes_through_the_cache(registries: &mut Registries) -> Result<()> {
    all_pass(registries, "1.1")
}

pub(crate) fn every_check_of_the_coming_version_passes_too(
    registries: &mut Registries,
) -> Result<()> {
    all_pass(registries, "dev")
}

pub(crate) fn nothing_fails_that_distribution_alone_does_not_fail(
    registries: &mut Registries,
) -> Result<()> {
    let upstream = registries.upstream.url();
    let address = registries.upstream.address().to_owned();
    let directory = registries.directory()?;
    let alone = run(registries, &address, "1.1", &directory)?;
    let through = through_the_cache(registries, &upstream, "1.1")?;
    println!(
        "  alone: {}; through the cache: {}",
        sum(&alone),
        sum(&through)
    );
    // A check can be made several times under one name.
    let mut allowed = names(&alone, Status::Failed);
    let mut worse = names(&through, Status::Failed);
    worse.retain(|name| {
        let at = allowed.iter().position(|allowed| allowed == name);
        at.map(|at| allowed.swap_remove(at)).is_none()
    });
    ensure!(worse.is_empty(), "only through the cache fail {worse:#?}");
    // distribution has no referrers API, and its clients keep tags instead.
    ensure!(names(&through, Status::Passed).contains(&"empty/referrers"));
    ensure!(names(&alone, Status::Failed).contains(&"empty/referrers"));
    Ok(())
}

fn all_pass(registries: &mut Registries, version: &str) -> Result<()> {
    let directory = registries.directory()?;
    let upstream = Olareg::start(&registries.tools, &directory)?;
    let checks = through_the_cache(registries, &upstream.url(), version)?;
    println!("  {}", sum(&checks));
    ensure!(
        names(&checks, Status::Passed).len() >= LEAST,
        "most checks are gone"
    );
    let bad: Vec<&Check> = checks
        .iter()
        .filter(|check| match check.status {
            Status::Passed => false,
            Status::Skipped => !SKIPPED.iter().any(|end| check.name.ends_with(end)),
            Status::Failed => true,
        })
        .collect();
    ensure!(bad.is_empty(), "{bad:#?}");
    Ok(())
}

fn names(checks: &[Check], status: Status) -> Vec<&str> {
    checks
        .iter()
        .filter(|check| check.status == status)
        .map(|check| check.name.as_str())
        .collect()
}

fn through_the_cache(
    registries: &mut Registries,
    upstream: &str,
    version: &str,
) -> Result<Vec<Check>> {
    let _cache = registries.cache_with(&format!(
        "upstreams: [{{host: registry.test, endpoints: [\"{upstream}\"]}}]
defaultUpstream: registry.test
freshness: {{refreshAfter: 0s}}
"
    ))?;
    let splitter = Splitter::start(&format!("http://{}", CacheServer::address()), upstream)?;
    let directory = registries.directory()?;
    run(registries, &splitter.address(), version, &directory)
}

fn run(
    registries: &Registries,
    address: &str,
    version: &str,
    directory: &Path,
) -> Result<Vec<Check>> {
    conformance::run(&registries.tools, address, version, SETTINGS, directory)
}

fn sum(checks: &[Check]) -> String {
    let count = |status| names(checks, status).len();
    format!(
        "{} passed, {} skipped, {} failed",
        count(Status::Passed),
        count(Status::Skipped),
        count(Status::Failed)
    )
}
