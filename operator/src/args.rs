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
    /// Namespace to look after; may be given several times, and holds a list with commas in the environment. Default: all.
    #[arg(long = "watch-namespace", env = "LARDER_WATCH_NAMESPACE", value_delimiter = ',', value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub watch_namespaces: Vec<String>,
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
    #[command(flatten)]
    pub election: ElectionArguments,
}

#[derive(Debug, Clone, Args)]
pub struct ElectionArguments {
    /// Whether to work only while holding a Lease. Without it, no second operator may look after the same caches.
    #[arg(long, env = "LARDER_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// Name of the Lease. Operators that look after the same caches share one.
    #[arg(long, env = "LARDER_LEASE_NAME", default_value = "larder-operator", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub lease_name: String,
    /// Namespace of the Lease. Default: that of the service account, or of the kubeconfig's context.
    #[arg(long, env = "LARDER_POD_NAMESPACE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub pod_namespace: Option<String>,
    /// What the Lease calls this process, with a number behind it.
    #[arg(long, env = "LARDER_POD_NAME", default_value = "larder-operator", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub pod_name: String,
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

    fn run(arguments: &[&str]) -> RunArguments {
        let all = ["larder-operator", "run", "--cache-server-image", "image"];
        match Arguments::parse_from(all.iter().chain(arguments)).command {
            Command::Run(arguments) => arguments,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn several_namespaces_are_given_by_several_flags_or_commas() {
        let arguments = run(&["--watch-namespace", "a", "--watch-namespace=b,c"]);
        assert_eq!(arguments.watch_namespaces, ["a", "b", "c"]);
        assert!(run(&[]).watch_namespaces.is_empty());
    }

    #[test]
    fn election_is_on_until_it_is_switched_off() {
        assert!(run(&[]).election.leader_election);
        assert!(
            !run(&["--leader-election", "false"])
                .election
                .leader_election
        );
    }

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
