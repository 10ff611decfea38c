//! What a format can't express is refused, so that nothing is dropped in silence. The API server refuses most of it too, but not
//! what is rendered without one, or was stored before. Pure.

use crds::registry_cache::{
    Capability, Fallback, MirrorSpec, MirrorTargetKind, RegistryCacheSpec, RuntimeType,
};

/// Fields of the mirror, and why what stands there can't be had.
pub(super) fn refusals(
    spec: &RegistryCacheSpec,
    mirror: &MirrorSpec,
) -> Vec<(&'static str, String)> {
    let runtime = mirror.runtime.runtime_type;
    let docker = runtime == RuntimeType::Docker;
    let forbid = mirror.fallback == Fallback::Forbid;
    let pull = mirror.capabilities.contains(&Capability::Pull);
    let resolve = mirror.capabilities.contains(&Capability::Resolve);
    let full = matches!(
        runtime,
        RuntimeType::Containerd | RuntimeType::Crio | RuntimeType::ClusterApi
    );
    let credentials = mirror.credentials_secret_ref.is_some();
    let target = mirror.target.as_ref().and_then(|target| target.kind);
    let is_docker_hub = |host: &String| host == "docker.io";
    let mirrors_docker_hub = if mirror.upstreams.is_empty() {
        let mut hosts = spec.upstreams.iter().map(|upstream| &upstream.host);
        hosts.all(is_docker_hub)
    } else {
        mirror.upstreams.iter().all(is_docker_hub)
    };
    let default = spec.default_upstream.as_deref();
    [
        (
            !pull,
            "capabilities",
            "a mirror is for pulling, so name Pull, or leave capabilities out",
        ),
        (
            !resolve && forbid,
            "capabilities",
            "a mirror without Resolve needs fallback: Allow, because nothing else could say what a tag means",
        ),
        (
            !resolve && !full,
            "capabilities",
            "only Containerd, Crio and ClusterApi can have a mirror without Resolve",
        ),
        (
            docker && forbid,
            "fallback",
            "Docker always falls back to Docker Hub, so write Allow",
        ),
        (
            docker && !mirrors_docker_hub,
            "upstreams",
            "Docker can only mirror docker.io: write upstreams: [docker.io]",
        ),
        (
            docker && spec.upstreams.len() > 1 && default != Some("docker.io"),
            "runtime.type",
            "Docker names no upstream when it asks a mirror, so write defaultUpstream: docker.io",
        ),
        (
            credentials && !full,
            "credentialsSecretRef",
            "K3s, Talos and Docker show credentials only to who asks for them, and the cache does not ask, because a node would answer with the upstream's",
        ),
        (
            credentials && target == Some(MirrorTargetKind::ConfigMap),
            "target.kind",
            "credentials belong into a Secret",
        ),
    ]
    .into_iter()
    .filter(|(refused, ..)| *refused)
    .map(|(_, field, reason)| (field, reason.to_owned()))
    .collect()
}
