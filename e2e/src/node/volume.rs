//! `PersistentVolumes` of directories on the node.

use std::path::Path;

use super::NAME;

/// A `local` volume: unlike with hostPath, kubelet gives its files to the pod's fsGroup.
pub(super) fn manifest(name: &str, size: &str, directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: {size}}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  local: {{path: \"{directory}\"}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions:
        - {{key: kubernetes.io/hostname, operator: In, values: [{NAME}]}}
"
    )
}
