//! What the cases share: a node on which nothing of Larder is installed, Flux's controllers, and the folder whose archive they
//! apply.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::flux::{self, Flux};
use e2e::larder::{self, Cache};
use e2e::programs::Programs;
use e2e::runner::Setting;
use e2e::{Progress, Tools, World, command, condition, wait};
use serde_json::Value;

use crate::guide::Guide;

/// How long a revision may take from its upload until all of it is ready.
pub(crate) const LIMIT: Duration = Duration::from_mins(4);

/// The claim of the cache's only pod.
const CLAIM: &str = "store-images-0";

/// The registry that stands on the page.
const REGISTRY: &str = "registry.example.com";

/// A person's working directory, and the cluster that follows it.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) flux: Flux,
    guide: Guide,
    tools: Tools,
    directory: PathBuf,
    volumes: u32,
}

impl Setting for Fleet {
    const LOGS: &'static [&'static str] = &["node/log", "flux/log", "upstream/access.log"];

    fn prepare(progress: Progress<'_>) -> Result<()> {
        World::prepare(progress)?;
        Tools::ensure_these(flux::TOOLS, progress).map(drop)
    }

    fn start(state: &Path, progress: Progress<'_>) -> Result<Self> {
        let world = World::start(state, progress)?;
        Programs::built()?.import_into(&world.node)?;
        let tools = Tools::ensure_these(flux::TOOLS, progress)?;
        progress("starting source-controller and kustomize-controller");
        let flux = Flux::start(&tools, &world.node, &state.join("flux"))?;
        let directory = state.join("fleet");
        let examples = directory.join("docs/examples");
        fs::create_dir_all(&examples)
            .with_context(|| format!("failed to create {}", examples.display()))?;
        std::os::unix::fs::symlink(larder::workspace().join("helm"), directory.join("helm"))
            .context("failed to link the chart")?;
        let guide = Guide::read()?;
        let address = world.upstream.address();
        // The test's registry has another name and no certificate.
        guide.write_to(&directory, |text| {
            text.replace(
                &format!("url: oci://{REGISTRY}/fleet\n"),
                &format!("url: oci://{address}/fleet\n  insecure: true\n"),
            )
        })?;
        let mut fleet = Self {
            world,
            flux,
            guide,
            tools,
            directory,
            volumes: 0,
        };
        fleet.write_quickstart(|text| text)?;
        Ok(fleet)
    }

    fn check_running(&mut self) -> Result<()> {
        self.world.check_running()?;
        self.flux.check_running()
    }

    fn write_down(&self, case: &str) {
        self.world.write_down(case);
        let kinds = "registrycaches,cachepolicies,ocirepositories,kustomizations";
        let get = ["get", kinds, "--all-namespaces", "--output", "yaml"];
        let objects = self.world.node.kubectl(&get);
        let text = objects.unwrap_or_else(|error| format!("{error:#}"));
        let _ = fs::write(self.world.node.log(&format!("{case}.objects")), text);
    }
}

impl Fleet {
    /// The cache of the quick start.
    pub(crate) fn cache() -> Cache {
        Cache::new("larder-quickstart", "images")
    }

    /// The page from its beginning to a ready cache, unless that was done before.
    pub(crate) fn ready(&mut self) -> Result<Cache> {
        let cache = Self::cache();
        let claim = ["get", "persistentvolumeclaim", CLAIM];
        if cache.kubectl(&self.world.node, &claim).is_err() {
            self.make_volume()?;
        }
        self.write_quickstart(|text| text)?;
        self.publish()?;
        self.apply()?;
        self.wait_until_applied("larder")?;
        self.wait_until_applied("caches")?;
        cache.wait_until_ready(&mut self.world.node)?;
        Ok(cache)
    }

    /// A volume that no claim had before.
    pub(crate) fn make_volume(&mut self) -> Result<()> {
        self.volumes += 1;
        let name = format!("fleet-{}", self.volumes);
        self.world.node.create_local_volume(&name, "20Gi").map(drop)
    }

    /// Returns when the pod that waited for the last volume has it. A scheduler that looked at the very moment when the volume
    /// came would look again after five minutes only: what it hears of the volume wakes it.
    pub(crate) fn wait_until_claim_is_bound(&self) -> Result<()> {
        let node = &self.world.node;
        let volume = format!("persistentvolume/fleet-{}", self.volumes);
        let mut looks = 0;
        wait::until("the claim to be bound", LIMIT, || {
            looks += 1;
            let look = format!("example.org/look={looks}");
            node.kubectl(&["annotate", "--overwrite", &volume, &look])?;
            let phase = ["--output", "jsonpath={.status.phase}"];
            let get = [&["get", "persistentvolumeclaim", CLAIM], &phase[..]].concat();
            let phase = Self::cache().kubectl(node, &get)?;
            ensure!(phase == "Bound", "it is {phase}");
            Ok(())
        })
    }

    /// Writes the quick start to where the page takes it from, changed by `edit`.
    pub(crate) fn write_quickstart(&mut self, edit: impl Fn(String) -> String) -> Result<()> {
        let text = edit(larder::quickstart(&self.world.upstream.url())?);
        fs::write(self.directory.join("docs/examples/quickstart.yaml"), text)
            .context("failed to write the quick start")
    }

    /// The page's commands that make and upload the artifact.
    pub(crate) fn publish(&self) -> Result<()> {
        let settings = larder::image_settings().join(",");
        let address = self.world.upstream.address();
        // The images of this test are on the node alone; the registry speaks clear text.
        let script = self
            .guide
            .script("oras push")?
            .replace(
                "helm template",
                &format!("helm template --set '{settings}'"),
            )
            .replace("oras push", "oras push --plain-http")
            .replace(REGISTRY, address);
        self.run(&script)
    }

    /// The same without the commands that fill the folder.
    pub(crate) fn publish_without_the_quick_start(&self) -> Result<()> {
        fs::remove_file(self.directory.join("fleet/caches/quickstart.yaml"))
            .context("failed to remove the quick start from the fleet")?;
        let address = self.world.upstream.address();
        let script = self.guide.script("oras push")?;
        let fills = |line: &&str| line.starts_with("cp ") || line.starts_with("helm ");
        let rest: Vec<&str> = script.lines().filter(|line| !fills(line)).collect();
        let script = rest.join("\n");
        let script = script
            .replace("oras push", "oras push --plain-http")
            .replace(REGISTRY, address);
        self.run(&script)
    }

    /// The page's commands that tell Flux.
    pub(crate) fn apply(&self) -> Result<()> {
        self.run(self.guide.script("kubectl apply")?)
    }

    /// Makes Flux look at the artifact, and returns when the Kustomization is ready with what is there now.
    pub(crate) fn wait_until_applied(&mut self, name: &str) -> Result<Value> {
        let revision = self.fetch()?;
        self.wait_for_revision(name, &revision, "True")
    }

    /// Makes Flux look at the artifact, and returns its revision.
    pub(crate) fn fetch(&mut self) -> Result<String> {
        let Self { world, flux, .. } = self;
        let source = flux.reconcile(&world.node, "ocirepository/fleet", LIMIT)?;
        let revision = source["status"]["artifact"]["revision"].as_str();
        revision
            .map(str::to_owned)
            .with_context(|| format!("Flux has no artifact: {}", source["status"]["conditions"]))
    }

    /// Returns when `Ready` has the status for that revision: applied if it is true, else attempted.
    pub(crate) fn wait_for_revision(
        &mut self,
        name: &str,
        revision: &str,
        ready: &str,
    ) -> Result<Value> {
        let Self { world, flux, .. } = self;
        wait::until(&format!("{name} at {revision}"), LIMIT, || {
            flux.check_running()?;
            let object = flux::read(&world.node, &format!("kustomization/{name}"))?;
            let status = &object["status"];
            let current = if ready == "True" {
                status["lastAppliedRevision"] == *revision
                    && status["observedGeneration"] == object["metadata"]["generation"]
            } else {
                status["lastAttemptedRevision"] == *revision
            };
            ensure!(
                current && condition(&object, "Ready")["status"] == *ready,
                "its conditions are {}",
                status["conditions"]
            );
            Ok(object)
        })
    }

    /// A value for `PATH` with the programs that the pages name.
    pub(crate) fn search_path(&self) -> OsString {
        let mut path = self.tools.search_path();
        path.push(":");
        path.push(self.world.tools.search_path());
        path
    }

    /// The working directory, where caches of the programs may be.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn run(&self, script: &str) -> Result<()> {
        let mut shell = Command::new("bash");
        shell
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(&self.directory)
            .env("PATH", self.search_path())
            .env("HOME", &self.directory)
            .env("KUBECONFIG", self.world.node.kubeconfig());
        command::output(&mut shell).map(drop)
    }
}
