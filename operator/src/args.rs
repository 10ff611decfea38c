//! The operator's own settings.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

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
    /// Keep containerd's mirror files on this node as the operator hands them over.
    NodeAgent(NodeAgentArguments),
    /// Say what is wrong, on a node or in a cluster, and how to mend it.
    Doctor(DoctorArguments),
    /// Wait until a `DaemonSet` is ready on every node. For the chart, at its removal.
    AwaitDaemonSet(AwaitArguments),
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
    #[command(flatten)]
    pub nodes: NodesArguments,
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

/// The files of a node that mirrors depend on.
#[derive(Debug, Clone, Args)]
pub struct NodeFiles {
    /// Where containerd reads HOST/hosts.toml from.
    #[arg(long, default_value = "/etc/containerd/certs.d")]
    pub certs_directory: PathBuf,
    /// containerd's configuration.
    #[arg(long, default_value = "/etc/containerd/config.toml")]
    pub containerd_config: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct NodeAgentArguments {
    /// Name of the node.
    #[arg(long, env = "LARDER_NODE_NAME", default_value = "")]
    pub node_name: String,
    /// Where the operator's files are mounted.
    #[arg(long, default_value = "/etc/larder/mirrors")]
    pub bundle_directory: PathBuf,
    /// Where those of them are mounted that hold credentials.
    #[arg(long, default_value = "/etc/larder/confidential-mirrors")]
    pub confidential_bundle_directory: PathBuf,
    /// Namespaces of the caches that may be wired, besides what the operator hands over.
    #[arg(long = "namespace", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Where containerd reads HOST/hosts.toml from.
    #[arg(long, default_value = "/etc/containerd/certs.d")]
    pub certs_directory: PathBuf,
    /// containerd's configuration, to see whether it follows the files. Default: it is not looked at.
    #[arg(long)]
    pub containerd_config: Option<PathBuf>,
    /// Address to serve /healthz, /readyz and /status at.
    #[arg(long, env = "LARDER_LISTEN_ADDRESS", default_value = "127.0.0.1")]
    pub listen_address: IpAddr,
    /// Port of the same.
    #[arg(long, default_value_t = 5009)]
    pub port: u16,
    /// Bring back what was there before the agent came, then wait to be ended.
    #[arg(long)]
    pub uninstall: bool,
}

#[derive(Debug, Clone, Args)]
pub struct DoctorArguments {
    /// Look at a cluster, with this kubeconfig. Default: look at this node.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the caches to look at. Default: all.
    #[arg(short, long)]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub files: NodeFiles,
    /// An image: whom would containerd ask for it?
    #[arg(long)]
    pub image: Option<String>,
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, Clone, Args)]
pub struct AwaitArguments {
    #[arg(long)]
    pub namespace: String,
    #[arg(long)]
    pub name: String,
    /// Another `DaemonSet` of the namespace, to delete before.
    #[arg(long)]
    pub delete: Option<String>,
    /// Seconds after which to give up.
    #[arg(long, default_value_t = 240)]
    pub timeout: u64,
}

/// Which nodes are wired, and by which agents.
#[derive(Debug, Clone, Args)]
pub struct NodesArguments {
    /// Namespace of the node agents. Default: there are none.
    #[arg(long)]
    pub node_agent_namespace: Option<String>,
    /// Name of their `DaemonSet`, and of the `ConfigMap` that they mount.
    #[arg(long, default_value = "larder-node-agent")]
    pub node_agent_name: String,
    /// Their port.
    #[arg(long, default_value_t = 5009)]
    pub node_agent_port: u16,
    /// Name of the mirror that is for the nodes of this cluster.
    #[arg(long, default_value = "nodes")]
    pub node_agent_mirror: String,
    /// Namespaces of the caches that the nodes are wired to; of two with the same upstream, the one in the namespace that comes first.
    #[arg(long = "wire-namespace", value_delimiter = ',')]
    pub wire_namespaces: Vec<String>,
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
