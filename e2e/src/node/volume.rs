//! `PersistentVolumes` of directories on the node.

use std::path::Path;

use super::NAME;

/// A `local` volume, and the default class that it is of. Unlike with hostPath, kubelet gives its files to the pod's fsGroup; and
/// it is the scheduler that binds it, so that no pod is looked at before its claim is bound.
pub(super) fn manifest(name: &str, size: &str, directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: local
  annotations: {{storageclass.kubernetes.io/is-default-class: \"true\"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: {size}}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: local
  local: {{path: \"{directory}\"}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions:
        - {{key: kubernetes.io/hostname, operator: In, values: [{NAME}]}}
"
    )
}
