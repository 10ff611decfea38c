//! What all cases share: one node, one upstream registry, one set of images.

use std::path::Path;

use anyhow::Result;

use crate::images::{self, Seeds};
use crate::programs::Programs;
use crate::{Node, Progress, Tools, Upstream, namespaces};

/// Built once; the cases run on it in order.
#[derive(Debug)]
pub struct World {
    pub tools: Tools,
    pub node: Node,
    pub upstream: Upstream,
    pub images: Seeds,
}

impl World {
    /// Starts everything below the state directory, inside the namespaces.
    pub fn start(state: &Path, progress: Progress<'_>) -> Result<Self> {
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

    /// What has to be there before the process moves into a network without a way out.
    pub fn prepare(progress: Progress<'_>) -> Result<()> {
        namespaces::require_root()?;
        Tools::ensure(progress)?;
        images::download_packages(progress)?;
        Programs::build(progress).map(drop)
    }
}
