//! Artifacts that are no images: a chart with Helm, and what refers to an image with regctl and ORAS.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::cache_server::CacheServer;
use e2e::images::digest_of;
use e2e::larder::workspace;
use e2e::olareg::Olareg;
use e2e::{Registries, command};

use crate::proof;

const SBOM: &str = "application/spdx+json";
/// What refers to images.
const DOCUMENT: &[u8] = b"{\"spdxVersion\":\"SPDX-2.3\"}";

pub(crate) fn helm_pulls_a_chart(registries: &mut Registries) -> Result<()> {
    let directory = registries.directory()?;
    let helm = |registries: &Registries, arguments: &[&str]| {
        let mut helm = Command::new(registries.tools.path("helm")?);
        helm.current_dir(&directory)
            .args(arguments)
            .env("HELM_CACHE_HOME", directory.join("cache"))
            .env("HELM_CONFIG_HOME", directory.join("config"))
            .env("HELM_DATA_HOME", directory.join("data"));
        command::output(&mut helm)
    };
    let chart = workspace().join("helm");
    helm(registries, &["package", &chart.to_string_lossy()])?;
    let package = fs::read_dir(&directory)
        .context("failed to look for the package")?
        .filter_map(Result::ok)
        .find(|entry| entry.path().extension().is_some_and(|end| end == "tgz"))
        .context("helm made no package")?
        .file_name();
    let package = package.to_string_lossy();
    let charts = format!("oci://{}/charts", registries.upstream.address());
    helm(registries, &["push", &package, &charts, "--plain-http"])?;

    let cache = registries.empty_cache()?;
    let (name, version) = package
        .trim_end_matches(".tgz")
        .split_once('-')
        .context("the package's name has no version")?;
    let chart = format!("oci://{}/ghcr.io/charts/{name}", CacheServer::address());
    fs::create_dir(directory.join("pulled")).context("failed to create a directory")?;
    let pull = ["pull", &chart, "--version", version, "--plain-http"];
    helm(
        registries,
        &[&pull[..], &["--destination", "pulled"]].concat(),
    )?;
    let pushed = fs::read(directory.join(&*package)).context("failed to read the package")?;
    let pulled = fs::read(directory.join("pulled").join(&*package));
    let pulled = pulled.context("failed to read the pulled package")?;
    ensure!(pushed == pulled, "the pulled chart is another");
    let layer = (digest_of(&pushed), pushed.len() as u64);
    proof::came_through(registries, &cache, &[layer])
}

pub(crate) fn regctl_copies_all_platforms_of_an_image(registries: &mut Registries) -> Result<()> {
    let cache = registries.empty_cache()?;
    let regctl = Regctl::new(registries)?;
    let source = format!("{}/docker.io/library/multi:1", CacheServer::address());
    let target = format!("ocidir://{}", regctl.directory.join("copy").display());
    regctl.run(&["image", "copy", &source, &target])?;
    let digest = regctl.run(&["image", "digest", &target])?;
    ensure!(
        digest.trim() == registries.images.multi.manifest().digest,
        "it is {digest}"
    );
    let blobs = proof::blobs(&registries.images.multi);
    proof::came_through(registries, &cache, &blobs)
}

pub(crate) fn regctl_finds_referrers_of_an_upstream_without_their_api(
    registries: &mut Registries,
) -> Result<()> {
    let regctl = Regctl::new(registries)?;
    let upstream = registries.upstream.address().to_owned();
    regctl.push_sbom(&format!("{upstream}/library/hello:1.0"))?;
    let cache = registries.empty_cache()?;
    regctl.pull_sbom()?;
    let asked = registries.upstream.requests()?;
    let tag = registries
        .images
        .hello_1
        .manifest()
        .digest
        .replace(':', "-");
    ensure!(
        asked.iter().any(|request| request.path.ends_with(&tag)),
        "the cache did not look for the tag {tag}"
    );
    let sbom = (digest_of(DOCUMENT), DOCUMENT.len() as u64);
    proof::came_through(registries, &cache, &[sbom])
}

pub(crate) fn regctl_finds_referrers_of_an_upstream_with_their_api(
    registries: &mut Registries,
) -> Result<()> {
    let regctl = Regctl::new(registries)?;
    let olareg = Olareg::start(&registries.tools, &regctl.directory)?;
    let source = format!("{}/library/hello:1.0", registries.upstream.address());
    let subject = format!("{}/library/hello:1.0", Olareg::address());
    regctl.run(&["image", "copy", &source, &subject])?;
    regctl.push_sbom(&subject)?;
    let cache = registries.cache_with(&format!(
        "upstreams: [{{host: docker.io, endpoints: [\"{}\"]}}]\n",
        olareg.url()
    ))?;
    regctl.pull_sbom()?;
    let answered = cache.requests()?;
    ensure!(
        answered
            .iter()
            .any(|one| one.kind == "referrers" && one.status == 200),
        "no list of referrers came through the cache: {answered:?}"
    );
    Ok(())
}

pub(crate) fn oras_copies_an_image_with_its_referrers(registries: &mut Registries) -> Result<()> {
    let directory = registries.directory()?;
    let oras = |registries: &Registries, arguments: &[&str]| {
        let mut oras = Command::new(registries.tools.path("oras")?);
        oras.current_dir(&directory)
            .args(arguments)
            .env("HOME", &directory);
        command::output(&mut oras)
    };
    fs::write(directory.join("sbom.json"), DOCUMENT).context("failed to write the document")?;
    let subject = format!("{}/library/hello:2.0", registries.upstream.address());
    let attach = ["attach", "--plain-http", "--artifact-type", SBOM, &subject];
    oras(
        registries,
        &[&attach[..], &["sbom.json:application/spdx+json"]].concat(),
    )?;

    let cache = registries.empty_cache()?;
    let source = format!("{}/docker.io/library/hello:2.0", CacheServer::address());
    // The upstream has no API for referrers: that the cache has it is all that this client is told.
    let copy = ["cp", "--recursive", "--from-plain-http", &source];
    let api = ["--from-distribution-spec", "v1.1-referrers-api"];
    oras(
        registries,
        &[&copy[..], &api[..], &["--to-oci-layout", "copy:2.0"]].concat(),
    )?;
    let mut blobs = proof::blobs(&registries.images.hello_2);
    blobs.push((digest_of(DOCUMENT), DOCUMENT.len() as u64));
    for (digest, _) in &blobs {
        let copied = directory.join("copy/blobs").join(digest.replace(':', "/"));
        let bytes = fs::read(&copied).with_context(|| format!("{digest} was not copied"))?;
        ensure!(digest_of(&bytes) == *digest, "{digest} has other bytes");
    }
    proof::came_through(registries, &cache, &blobs)
}

/// regctl with settings of its own, by which nobody here speaks TLS.
struct Regctl {
    program: PathBuf,
    directory: PathBuf,
}

impl Regctl {
    fn new(registries: &mut Registries) -> Result<Self> {
        let regctl = Self {
            program: registries.tools.path("regctl")?,
            directory: registries.directory()?,
        };
        for address in [
            registries.upstream.address(),
            &Olareg::address(),
            &CacheServer::address(),
        ] {
            let set = ["registry", "set", address, "--tls", "disabled"];
            regctl.run(&[&set[..], &["--skip-check"]].concat())?;
        }
        Ok(regctl)
    }

    fn push_sbom(&self, subject: &str) -> Result<()> {
        let file = self.directory.join("sbom.json");
        fs::write(&file, DOCUMENT).context("failed to write the document")?;
        let put = [
            "artifact",
            "put",
            "--artifact-type",
            SBOM,
            "--subject",
            subject,
        ];
        self.run(&[&put[..], &["--file", &file.to_string_lossy()]].concat())?;
        Ok(())
    }

    /// Gets the document by what it belongs to, from the cache.
    fn pull_sbom(&self) -> Result<()> {
        let subject = format!("{}/docker.io/library/hello:1.0", CacheServer::address());
        let get = ["artifact", "get", "--subject", &subject];
        let document = self.run(&[&get[..], &["--filter-artifact-type", SBOM]].concat())?;
        ensure!(
            document.as_bytes() == DOCUMENT,
            "the document is {document}"
        );
        let other = ["--filter-artifact-type", "application/other"];
        let list = [
            "artifact",
            "list",
            &subject,
            "--format",
            "{{len .Descriptors}}",
        ];
        let count = self.run(&[&list[..], &other[..]].concat())?;
        ensure!(count.trim() == "0", "there are {count} of another type");
        Ok(())
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut regctl = Command::new(&self.program);
        regctl
            .args(arguments)
            .env("HOME", &self.directory)
            .env("REGCTL_CONFIG", self.directory.join("regctl.json"));
        command::output(&mut regctl)
    }
}
