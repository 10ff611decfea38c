//! The Go programs and how each is built. The versions are those of the committed go.mod files.

/// One Go module and the programs that are built from it.
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// How long a first build takes on two cores, for the reader of the progress line.
    pub(super) minutes: u32,
    pub(super) files: [(&'static str, &'static str); 3],
    pub(super) packages: &'static [&'static str],
    pub(super) tags: &'static str,
    pub(super) linker_flags: &'static str,
    /// Programs whose package path does not end in their name: as `go build` calls it, as it is called here.
    pub(super) renames: &'static [(&'static str, &'static str)],
    /// Directories of modules that are kept next to the programs: the module, a path in it, and the name here.
    pub(super) data: &'static [(&'static str, &'static str, &'static str)],
}

macro_rules! module_files {
    ($name:literal) => {
        [
            (
                "go.mod",
                include_str!(concat!("../../tools/", $name, "/go.mod")),
            ),
            (
                "go.sum",
                include_str!(concat!("../../tools/", $name, "/go.sum")),
            ),
            (
                "tools.go",
                include_str!(concat!("../../tools/", $name, "/tools.go")),
            ),
        ]
    };
}

/// What the node, its upstream and its installation are made of. The small ones first, so that a build that can't work fails
/// early.
pub(super) const NODE: &[&str] = &["etcd", "distribution", "containerd", "helm", "kubernetes"];

/// Everything that can be built.
pub(super) const TOOLS: &[Tool] = &[
    Tool {
        name: "etcd",
        version: "3.6.16",
        minutes: 1,
        files: module_files!("etcd"),
        packages: &["go.etcd.io/etcd/server/v3"],
        tags: "",
        linker_flags: "",
        renames: &[("server", "etcd")],
        data: &[],
    },
    Tool {
        name: "distribution",
        version: "3.1.2",
        minutes: 2,
        files: module_files!("distribution"),
        packages: &["github.com/distribution/distribution/v3/cmd/registry"],
        tags: "",
        linker_flags: "-X github.com/distribution/distribution/v3/version.version=v3.1.2",
        renames: &[],
        data: &[],
    },
    Tool {
        name: "containerd",
        version: "2.2.9",
        minutes: 2,
        files: module_files!("containerd"),
        packages: &[
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
        ],
        tags: "no_btrfs",
        linker_flags: "-X github.com/containerd/containerd/v2/version.Version=v2.2.9",
        renames: &[],
        data: &[],
    },
    Tool {
        name: "helm",
        version: "3.22.0",
        minutes: 2,
        files: module_files!("helm"),
        packages: &["helm.sh/helm/v3/cmd/helm"],
        tags: "",
        // The Kubernetes version is what `helm template` and `helm lint` believe to talk to.
        linker_flags: "-X helm.sh/helm/v3/internal/version.version=v3.22.0 \
                       -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 \
                       -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34 \
                       -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 \
                       -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=34",
        renames: &[],
        data: &[],
    },
    Tool {
        name: "conformance",
        version: "0.0.0-20260831232431-97274622c111",
        minutes: 1,
        files: module_files!("conformance"),
        packages: &["github.com/opencontainers/distribution-spec/conformance"],
        tags: "",
        linker_flags: "",
        renames: &[],
        data: &[],
    },
    Tool {
        name: "olareg",
        version: "0.2.2",
        minutes: 1,
        files: module_files!("olareg"),
        packages: &["github.com/olareg/olareg/cmd/olareg"],
        tags: "",
        linker_flags: "",
        renames: &[],
        data: &[],
    },
    Tool {
        name: "regclient",
        version: "0.11.7",
        minutes: 1,
        files: module_files!("regclient"),
        packages: &["github.com/regclient/regclient/cmd/regctl"],
        tags: "",
        linker_flags: "",
        renames: &[],
        data: &[],
    },
    Tool {
        name: "oras",
        version: "1.3.6",
        minutes: 1,
        files: module_files!("oras"),
        packages: &["oras.land/oras/cmd/oras"],
        tags: "",
        linker_flags: "",
        renames: &[],
        data: &[],
    },
    Tool {
        name: "cosign",
        version: "3.1.3",
        minutes: 3,
        files: module_files!("cosign"),
        packages: &["github.com/sigstore/cosign/v3/cmd/cosign"],
        tags: "",
        linker_flags: "-X sigs.k8s.io/release-utils/version.gitVersion=v3.1.3",
        renames: &[],
        data: &[],
    },
    Tool {
        name: "flux",
        version: "1.9.6",
        minutes: 10,
        files: module_files!("flux"),
        packages: &[
            "github.com/fluxcd/kustomize-controller",
            "github.com/fluxcd/source-controller",
        ],
        tags: "",
        linker_flags: "",
        renames: &[],
        data: &[
            (
                "github.com/fluxcd/kustomize-controller",
                "config/crd/bases",
                "kustomize-controller",
            ),
            (
                "github.com/fluxcd/source-controller",
                "config/crd/bases",
                "source-controller",
            ),
        ],
    },
    Tool {
        name: "definitions",
        version: "1.6.3",
        minutes: 1,
        files: module_files!("definitions"),
        packages: &[],
        tags: "",
        linker_flags: "",
        renames: &[],
        data: &[
            (
                "github.com/cert-manager/cert-manager",
                "deploy/crds",
                "cert-manager",
            ),
            (
                "github.com/prometheus-operator/prometheus-operator",
                "example/prometheus-operator-crd",
                "prometheus-operator",
            ),
            (
                "sigs.k8s.io/gateway-api",
                "config/crd/standard",
                "gateway-api",
            ),
        ],
    },
    Tool {
        name: "mirrors",
        version: "1.12.0",
        minutes: 2,
        files: module_files!("mirrors"),
        packages: &["."],
        tags: "",
        linker_flags: "",
        renames: &[],
        data: &[],
    },
    Tool {
        name: "versitygw",
        version: "1.8.0",
        minutes: 2,
        files: module_files!("versitygw"),
        packages: &["github.com/versity/versitygw/cmd/versitygw"],
        tags: "",
        linker_flags: "-X main.Version=v1.8.0",
        renames: &[],
        data: &[],
    },
    Tool {
        name: "kubernetes",
        version: "1.34.4",
        minutes: 10,
        files: module_files!("kubernetes"),
        packages: &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-proxy",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubectl",
            "k8s.io/kubernetes/cmd/kubelet",
        ],
        tags: "providerless,dockerless",
        linker_flags: "-X k8s.io/component-base/version.gitVersion=v1.34.4 \
                       -X k8s.io/component-base/version.gitMajor=1 \
                       -X k8s.io/component-base/version.gitMinor=34",
        renames: &[],
        data: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::TOOLS;

    #[test]
    fn every_version_is_the_one_of_its_module_file() {
        for tool in TOOLS {
            let required = format!(" v{}\n", tool.version);
            let (_, module) = tool.files[0];
            assert!(
                module.contains(&required),
                "{}: go.mod does not require{required}",
                tool.name
            );
        }
    }
}
