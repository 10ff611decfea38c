//! What a runtime of a given version can be told. Pure.

use crds::registry_cache::{Fallback, RuntimeSpec, RuntimeType};

/// A runtime, with what its version decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Containerd(Containerd),
    Crio,
    K3s,
    Talos(TalosForm),
    ClusterApi(Containerd),
    Docker,
}

/// What containerd can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Containerd {
    /// Known since 2.1, ignored before (containerd, core/remotes/docker/config/hosts.go).
    pub(crate) dial_timeout: bool,
}

/// Where Talos looks for mirrors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TalosForm {
    /// Documents of the kind `RegistryMirrorConfig`, since 1.12.
    Documents,
    /// `machine.registries` in the one document of before.
    MachineConfig,
}

type Version = (u16, u16, u16);

impl Runtime {
    /// The error says why this version can't do what is asked.
    pub(super) fn new(spec: &RuntimeSpec, fallback: Fallback) -> Result<Self, String> {
        let version = spec.version.as_deref().map(version).transpose()?;
        let forbid = fallback == Fallback::Forbid;
        match spec.runtime_type {
            RuntimeType::Containerd => Ok(Self::Containerd(Containerd::new(version))),
            RuntimeType::ClusterApi => Ok(Self::ClusterApi(Containerd::new(version))),
            RuntimeType::Crio => Ok(Self::Crio),
            RuntimeType::Docker => Ok(Self::Docker),
            RuntimeType::K3s => match version {
                Some(version) if forbid && !k3s_can_forbid(version) => Err(
                    "K3s can't be kept from the upstream before v1.26.13, v1.27.10, v1.28.6 and v1.29.1: write fallback: Allow, or upgrade"
                        .to_owned(),
                ),
                _ => Ok(Self::K3s),
            },
            RuntimeType::Talos => match version {
                None => Err("write the version of Talos, like 1.12, because its configuration has another form since then".to_owned()),
                Some(version) if version >= (1, 12, 0) => Ok(Self::Talos(TalosForm::Documents)),
                Some(version) if forbid && version < (1, 9, 0) => Err(
                    "Talos can't be kept from the upstream before 1.9: write fallback: Allow, or upgrade".to_owned(),
                ),
                Some(_) => Ok(Self::Talos(TalosForm::MachineConfig)),
            },
        }
    }
}

impl Containerd {
    fn new(version: Option<Version>) -> Self {
        Self {
            dial_timeout: version.is_none_or(|version| version >= (2, 1, 0)),
        }
    }
}

/// Whether K3s has `disable-default-registry-endpoint` (K3s documentation, private registry configuration).
fn k3s_can_forbid(version: Version) -> bool {
    match version {
        (1, 26, patch) => patch >= 13,
        (1, 27, patch) => patch >= 10,
        (1, 28, patch) => patch >= 6,
        (1, 29, patch) => patch >= 1,
        other => other > (1, 29, 0),
    }
}

/// `v1.30.4+k3s1` → (1, 30, 4). Where no patch is said, the line's latest is meant.
fn version(text: &str) -> Result<Version, String> {
    let invalid = || format!("{text:?} is not a version: write it like 2.1 or v1.30.4+k3s1");
    let numbers = text.strip_prefix('v').unwrap_or(text);
    let numbers = numbers.split(['-', '+', '~']).next().unwrap_or_default();
    let mut parts = numbers.split('.').map(|part| part.parse::<u16>().ok());
    let (major, minor, patch) = (parts.next(), parts.next(), parts.next());
    let latest = Some(Some(u16::MAX));
    match (major, minor, patch.or(latest), parts.next()) {
        (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => {
            Ok((major, minor, patch))
        }
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(
        runtime_type: RuntimeType,
        version: &str,
        fallback: Fallback,
    ) -> Result<Runtime, String> {
        let version = (!version.is_empty()).then(|| version.to_owned());
        Runtime::new(
            &RuntimeSpec {
                runtime_type,
                version,
            },
            fallback,
        )
    }

    #[test]
    fn versions_are_read_as_their_projects_write_them() {
        assert_eq!(version("2.1"), Ok((2, 1, u16::MAX)));
        assert_eq!(version("v1.30.4+k3s1"), Ok((1, 30, 4)));
        assert_eq!(version("1.6.20~ds1-1+b1"), Ok((1, 6, 20)));
        for text in ["", "2", "2.x", "1.2.3.4", "latest", "99999.1"] {
            assert!(version(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn containerd_gets_a_dial_timeout_where_it_knows_one_or_is_not_known() {
        for (version, expected) in [
            ("1.6", false),
            ("1.7.33", false),
            ("2.0.5", false),
            ("2.1", true),
            ("2.2.1", true),
            ("", true),
        ] {
            let dial_timeout = runtime(RuntimeType::Containerd, version, Fallback::Allow);
            assert_eq!(
                dial_timeout,
                Ok(Runtime::Containerd(Containerd {
                    dial_timeout: expected
                })),
                "{version}"
            );
        }
    }

    #[test]
    fn what_a_version_can_not_do_is_refused() {
        use RuntimeType::{K3s, Talos};
        for (kind, version, can) in [
            (K3s, "v1.26.12+k3s1", false),
            (K3s, "v1.26.13+k3s1", true),
            (K3s, "1.28", true),
            (K3s, "v1.29.0+k3s1", false),
            (K3s, "v1.34.1+k3s1", true),
            (K3s, "v1.25.16+k3s4", false),
            (K3s, "", true),
            (Talos, "1.8.3", false),
            (Talos, "v1.9.0", true),
            (Talos, "1.12", true),
            (Talos, "", false),
        ] {
            let forbid = runtime(kind, version, Fallback::Forbid);
            assert_eq!(forbid.is_ok(), can, "{kind:?} {version}: {forbid:?}");
        }
        assert!(runtime(K3s, "v1.20.0+k3s1", Fallback::Allow).is_ok());
        assert_eq!(
            runtime(Talos, "1.11", Fallback::Allow),
            Ok(Runtime::Talos(TalosForm::MachineConfig))
        );
    }
}
