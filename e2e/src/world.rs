//! What all cases share: one node, one upstream registry, one set of images.

use std::path::Path;

use anyhow::Result;

use crate::images::{self, Seeds};
use crate::programs::Programs;
use crate::runner::Setting;
use crate::{Node, Progress, Tools, Upstream, namespaces};

/// Built once; the cases run on it in order.
#[derive(Debug)]
pub struct World {
    pub tools: Tools,
    pub node: Node,
    pub upstream: Upstream,
    pub images: Seeds,
}

impl Setting for World {
    const LOGS: &'static [&'static str] =
        &["node/log", "upstream/access.log", "upstream/registry.log"];

    fn start(state: &Path, progress: Progress<'_>) -> Result<Self> {
        let tools = Tools::ensure(progress)?;
        progress("building the images");
        let images = Seeds::build()?;
        let node = Node::start(&tools, state, &images.pause, progress)?;
        let upstream = Upstream::start(&tools, &state.join("upstream"))?;
        images.push_to(&upstream)?;
        progress("the node is ready");
        Ok(Self {
            tools,
            node,
            upstream,
            images,
        })
    }

    fn prepare(progress: Progress<'_>) -> Result<()> {
        namespaces::require_root()?;
        Tools::ensure(progress)?;
        images::download_packages(progress)?;
        Programs::build(progress).map(drop)
    }

    fn check_running(&mut self) -> Result<()> {
        self.node.check_running()
    }

    fn write_down(&self, case: &str) {
        let objects = self
            .node
            .kubectl(&["get", "pods,events", "--all-namespaces", "-o", "yaml"]);
        let text = objects.unwrap_or_else(|error| format!("{error:#}"));
        let _ = std::fs::write(self.node.log(case), text);
    }
}
