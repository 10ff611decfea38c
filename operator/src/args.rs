//! The operator's own settings.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs pull-through caches for container images on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "larder-operator", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the cluster and keep its caches as declared.
    Run(RunArguments),
    /// Print the custom resource definitions.
    Crds,
    /// Print every object and mirror file that caches would become, without a cluster.
    Render(RenderArguments),
}

#[derive(Debug, Clone, Args)]
pub struct RenderArguments {
    /// YAML files with caches, their policies and, where they are known, Secrets; `-` is standard input.
    #[arg(short, long = "file", required = true)]
    pub files: Vec<String>,
    /// Namespace of objects that name none.
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Container image of the cache server, for caches that name none.
    #[arg(long, env = "LARDER_CACHE_SERVER_IMAGE", default_value = concat!("larder/cache-server:", env!("CARGO_PKG_VERSION")))]
    pub cache_server_image: String,
    /// Leave out scraping and alerts, as for a cluster without the Prometheus operator's API.
    #[arg(long)]
    pub without_monitoring: bool,
    /// Namespace of the operator, which a `NetworkPolicy` lets in.
    #[arg(long, default_value = "larder-system")]
    pub operator_namespace: String,
}

#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// Namespace to look after. Default: all.
    #[arg(long, env = "LARDER_WATCH_NAMESPACE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub watch_namespace: Option<String>,
    /// Container image of the cache server, for caches that name none.
    #[arg(long, env = "LARDER_CACHE_SERVER_IMAGE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub cache_server_image: String,
    /// When the kubelet pulls that image. Default: Kubernetes' own.
    #[arg(long, env = "LARDER_CACHE_SERVER_PULL_POLICY")]
    pub cache_server_pull_policy: Option<PullPolicy>,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "LARDER_HEALTH_LISTEN", default_value = "0.0.0.0:8080")]
    pub health_listen: SocketAddr,
    /// How the pods' /configz is reached: by their addresses, or through the API server. `auto`: by their addresses when the operator runs in the cluster.
    #[arg(long, env = "LARDER_POD_ACCESS", value_enum, default_value_t = PodAccess::Auto)]
    pub pod_access: PodAccess,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// As a pod says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PodAccess {
    Auto,
    Direct,
    Proxy,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
