//! The `files` of a `KubeadmConfig` or `KubeadmControlPlane` (Cluster API, bootstrap.cluster.x-k8s.io, `files`), to be included there:
//! with their content, or with references to the Secret that holds it.

use serde::Serialize;

use super::{AUTHORITY_FILE, Files, yaml};
use crate::resolve::Mirror;
use crds::registry_cache::MirrorTargetKind;

use super::hosts_toml;

pub(super) const NAME: &str = "kubeadm-files.yaml";

const DIRECTORY: &str = "/etc/containerd/certs.d";

#[derive(Serialize)]
struct Fragment {
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    path: String,
    owner: &'static str,
    permissions: &'static str,
    #[serde(flatten)]
    source: Source,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Source {
    Content(String),
    ContentFrom { secret: SecretKey },
}

#[derive(Serialize)]
struct SecretKey {
    name: String,
    key: String,
}

/// `hosts`: containerd's files, by their keys.
pub(super) fn fragment(note: &str, mirror: &Mirror, hosts: &Files) -> String {
    // Whoever reads them must be root where they hold credentials.
    let permissions = match mirror.credentials {
        Some(_) => "0600",
        None => "0644",
    };
    let file = |path: String, key: &str, text: &str, permissions| File {
        path,
        owner: "root:root",
        permissions,
        source: match mirror.target.kind {
            MirrorTargetKind::ConfigMap => Source::Content(text.to_owned()),
            MirrorTargetKind::Secret => Source::ContentFrom {
                secret: SecretKey {
                    name: mirror.target.name.clone(),
                    key: key.to_owned(),
                },
            },
        },
    };
    let mut files = Vec::new();
    for (key, text) in hosts {
        let directory = key.strip_suffix(hosts_toml::SUFFIX).unwrap_or(key);
        let directory = format!("{DIRECTORY}/{directory}");
        // A pull fails where hosts.toml names a file that is not there, so that file comes first.
        if let Some(authority) = &mirror.certificate_authority {
            let path = format!("{directory}/{AUTHORITY_FILE}");
            files.push(file(path, AUTHORITY_FILE, authority, "0644"));
        }
        let path = format!("{directory}/{}", hosts_toml::NAME);
        files.push(file(path, key, text, permissions));
    }
    format!("{note}{}", yaml(&Fragment { files }))
}
