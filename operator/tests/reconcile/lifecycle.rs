//! What becomes of a cache while it lives: growth, rollouts, suspension, requests and what is no longer declared.

use crate::api_server::Cluster;
use crate::cluster_test::{CACHE, Test};
use serde_json::{Value, json};

const SET: &str = "/apis/apps/v1/namespaces/team-a/statefulsets/cache";
const CLAIMS: &str = "/api/v1/namespaces/team-a/persistentvolumeclaims";
const CLASS: &str = "/apis/storage.k8s.io/v1/storageclasses/fast";

/// Gives the cache its volumes.
fn bind(cluster: &mut Cluster, name: &str, size: &str) {
    cluster.put(
        &format!("{CLAIMS}/{name}"),
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "team-a", "labels": {
                "app.kubernetes.io/managed-by": "larder", "app.kubernetes.io/instance": "cache",
            }},
            "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": size}}},
            "status": {"phase": "Bound", "capacity": {"storage": size}},
        }),
    );
}

fn class(cluster: &mut Cluster, expandable: bool) {
    cluster.put(
        CLASS,
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"},
            "provisioner": "example.org/disks", "allowVolumeExpansion": expandable,
        }),
    );
}

fn spec(cluster: &mut Cluster) -> &mut Value {
    &mut cluster.objects.get_mut(CACHE).unwrap()["spec"]
}

/// A cache with two volumes that is declared to be larger than they are.
async fn growing(expandable: bool) -> Test {
    let test = Test::settled().await;
    test.server.with(|cluster| {
        class(cluster, expandable);
        bind(cluster, "store-cache-0", "1Gi");
        bind(cluster, "store-cache-1", "1Gi");
        spec(cluster)["storage"]["volume"]["size"] = json!("2Gi");
    });
    test
}

fn pods(test: &Test) -> Vec<Value> {
    test.server.with(|cluster| {
        let pods = cluster.objects.iter();
        pods.filter(|(path, _)| path.contains("/pods/"))
            .map(|(_, pod)| pod["metadata"]["uid"].clone())
            .collect()
    })
}

/// The garbage collector frees the pods, and the set is gone.
fn collect_garbage(test: &Test) {
    test.server.with(|cluster| {
        let set = cluster.objects.remove(SET).unwrap();
        assert!(!set["metadata"]["deletionTimestamp"].is_null());
    });
}

fn resize(test: &Test) {
    test.server.with(|cluster| {
        for name in ["store-cache-0", "store-cache-1"] {
            let claim = cluster
                .objects
                .get_mut(&format!("{CLAIMS}/{name}"))
                .unwrap();
            claim["status"]["capacity"] = claim["spec"]["resources"]["requests"].clone();
        }
    });
}

fn template_size(test: &Test) -> Value {
    test.server.with(|cluster| {
        cluster.objects[SET]["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]
            ["storage"]
            .clone()
    })
}

fn max_size(test: &Test) -> String {
    test.server.with(|cluster| {
        let config_map = &cluster.objects["/api/v1/namespaces/team-a/configmaps/cache-config"];
        let policy = config_map["data"]["policy.yaml"].as_str().unwrap();
        let line = policy
            .lines()
            .find(|line| line.contains("maxSize"))
            .unwrap();
        line.trim().to_owned()
    })
}

#[tokio::test]
async fn a_volume_grows_by_its_claim_and_then_the_set_is_made_anew_under_its_pods() {
    let test = growing(true).await;
    let (pods_before, uid_before) = (pods(&test), test.uid(SET));
    let small = max_size(&test);

    test.reconcile().await.unwrap();
    insta::assert_snapshot!(test.condition("StorageReady"), @"False Progressing: Volume claims are raised to 2Gi: store-cache-0, store-cache-1.");
    assert_eq!(
        test.take_writes()[..2],
        [
            format!("PATCH {CLAIMS}/store-cache-0"),
            format!("PATCH {CLAIMS}/store-cache-1")
        ]
    );
    assert_eq!(test.uid(SET), uid_before);

    test.reconcile().await.unwrap();
    insta::assert_snapshot!(test.condition("Reconciling"), @"True Progressing: StatefulSet cache is made anew, because that of the smaller volumes can't be changed to 2Gi. Its pods run on.");
    let writes = test.take_writes();
    assert!(writes.contains(&format!("DELETE {SET}")), "{writes:?}");

    // Nothing more to do until it is gone.
    test.reconcile().await.unwrap();
    let writes = test.take_writes();
    assert!(
        !writes.iter().any(|write| write.contains("statefulsets")),
        "{writes:?}"
    );

    collect_garbage(&test);
    test.reconcile().await.unwrap();
    assert_eq!(template_size(&test), "2Gi");
    assert_ne!(test.uid(SET), uid_before);
    test.reconcile().await.unwrap();
    insta::assert_snapshot!(test.condition("StorageReady"), @"False Progressing: Kubernetes makes volumes as large as 2Gi: store-cache-0, store-cache-1.");
    // The policy does not count on room that is still to come.
    assert_eq!(max_size(&test), small);

    resize(&test);
    test.reconcile().await.unwrap();
    insta::assert_snapshot!(test.condition("StorageReady"), @"True Succeeded: Each volume has the declared size of 2Gi.");
    assert!(
        test.condition("Ready").starts_with("True"),
        "{}",
        test.condition("Ready")
    );
    assert_ne!(max_size(&test), small);
    assert_eq!(pods(&test), pods_before);
    test.take_writes();
    test.reconcile().await.unwrap();
    assert!(test.take_writes().is_empty());
}

#[tokio::test]
async fn a_growth_goes_on_wherever_an_operator_died() {
    // Where an operator that died left things: the claims half raised, or the set gone.
    for death in ["one claim raised", "set gone"] {
        let test = growing(true).await;
        let pods_before = pods(&test);
        test.server.with(|cluster| match death {
            "one claim raised" => {
                let claim = cluster
                    .objects
                    .get_mut(&format!("{CLAIMS}/store-cache-0"))
                    .unwrap();
                claim["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
            }
            _ => {
                cluster.objects.remove(SET);
            }
        });
        for _ in 0..4 {
            test.reconcile().await.unwrap();
            if test
                .server
                .with(|cluster| !cluster.objects[SET]["metadata"]["deletionTimestamp"].is_null())
            {
                collect_garbage(&test);
            }
        }
        resize(&test);
        test.reconcile().await.unwrap();
        assert_eq!(template_size(&test), "2Gi", "{death}");
        assert!(
            test.condition("Ready").starts_with("True"),
            "{death}: {}",
            test.condition("Ready")
        );
        assert_eq!(pods(&test), pods_before, "{death}");
    }
}

#[tokio::test]
async fn a_restart_that_was_asked_for_is_not_forgotten_with_the_set() {
    let test = growing(true).await;
    let annotation = "kubectl.kubernetes.io/restartedAt";
    test.server.with(|cluster| {
        let set = cluster.objects.get_mut(SET).unwrap();
        set["spec"]["template"]["metadata"]["annotations"][annotation] = json!("noon");
        for pod in ["cache-0", "cache-1"] {
            let pod = cluster
                .objects
                .get_mut(&format!("/api/v1/namespaces/team-a/pods/{pod}"));
            pod.unwrap()["metadata"]["annotations"] = json!({annotation: "noon"});
        }
    });
    test.reconcile().await.unwrap();
    test.reconcile().await.unwrap();
    collect_garbage(&test);
    test.reconcile().await.unwrap();
    let annotations = test.server.with(|cluster| {
        cluster.objects[SET]["spec"]["template"]["metadata"]["annotations"].clone()
    });
    assert_eq!(annotations[annotation], "noon");
}

#[tokio::test]
async fn a_class_that_does_not_let_volumes_grow_is_named_and_the_cache_goes_on() {
    let test = growing(false).await;
    test.reconcile().await.unwrap();
    insta::assert_snapshot!(test.condition("StorageReady"), @"False NotExpandable: StorageClass fast does not let volumes grow: set allowVolumeExpansion: true in it if its driver can do it, or make a new RegistryCache with another class. Until then the volumes stay as large as they are.");
    assert!(test.condition("Stalled").starts_with("True NotExpandable"));
    let writes = test.take_writes();
    assert!(
        !writes
            .iter()
            .any(|write| write.contains("statefulsets") || write.contains("claims")),
        "{writes:?}"
    );
    // Once it does, nothing else is needed.
    test.server.with(|cluster| class(cluster, true));
    test.reconcile().await.unwrap();
    assert!(
        test.take_writes()
            .contains(&format!("PATCH {CLAIMS}/store-cache-0"))
    );
}

#[tokio::test]
async fn a_pod_of_a_set_that_is_replaced_keeps_an_owner() {
    let test = growing(true).await;
    test.reconcile().await.unwrap();
    test.reconcile().await.unwrap();
    let owners = test.server.with(|cluster| {
        cluster.objects["/api/v1/namespaces/team-a/pods/cache-0"]["metadata"]["ownerReferences"]
            .clone()
    });
    assert_eq!(owners[0]["kind"], "RegistryCache");
}

#[tokio::test]
async fn a_restart_of_pods_is_announced_with_its_cause() {
    let test = Test::settled().await;
    test.server.with(|cluster| {
        spec(cluster)["image"] = json!({"reference": "larder/cache-server:0.2.0"});
        spec(cluster)["priorityClassName"] = json!("high");
        cluster.updated_replicas = Some(1);
    });
    test.reconcile().await.unwrap();
    insta::assert_snapshot!(test.server.with(|cluster| cluster.events.last().cloned().unwrap()), @"Normal RolloutBegins: 2 pods restart, one after the other, because these change: the image of cache-server (from larder/cache-server:0.1.0 to larder/cache-server:0.2.0), spec.priorityClassName.");
    insta::assert_snapshot!(test.condition("Reconciling"), @"True Progressing: 1 of 2 replicas of StatefulSet cache are updated. 2 pods restart, one after the other, because these change: the image of cache-server (from larder/cache-server:0.1.0 to larder/cache-server:0.2.0), spec.priorityClassName.");
    // Another look, and an operator that started anew, still know why.
    test.reconcile().await.unwrap();
    assert!(test.condition("Reconciling").contains("cache-server:0.2.0"));
    test.server.with(|cluster| {
        cluster.updated_replicas = None;
        cluster.objects.get_mut(SET).unwrap()["status"]["updatedReplicas"] = json!(2);
    });
    test.reconcile().await.unwrap();
    assert_eq!(test.condition("Reconciling"), "absent");
    assert!(test.status()["rollout"].is_null());
}

#[tokio::test]
async fn more_replicas_restart_none() {
    let test = Test::settled().await;
    let events = test.server.with(|cluster| cluster.events.len());
    test.server
        .with(|cluster| spec(cluster)["replicas"] = json!(3));
    test.reconcile().await.unwrap();
    let events: Vec<String> = test.server.with(|cluster| cluster.events.split_off(events));
    assert!(
        !events.iter().any(|event| event.contains("RolloutBegins")),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_suspended_cache_is_told_about_and_left_alone() {
    let test = Test::settled().await;
    test.server.with(|cluster| {
        spec(cluster)["suspend"] = json!(true);
    });
    test.reconcile().await.unwrap();
    assert!(test.condition("Ready").starts_with("True"));
    insta::assert_snapshot!(test.condition("Suspended"), @"True Suspended: The operator changes nothing for this cache until spec.suspend is false. The cache itself runs on.");
    test.take_writes();
    test.server.with(|cluster| {
        spec(cluster)["mirrors"] = json!([]);
        spec(cluster)["service"] = json!({"port": 5005});
    });
    test.reconcile().await.unwrap();
    insta::assert_snapshot!(test.condition("Ready"), @"False Suspended: Not as declared, while the cache is suspended: Service cache, ConfigMap cache-mirror-nodes (to be removed). Set spec.suspend to false to go on.");
    assert_eq!(test.condition("Reconciling"), "absent");
    assert_eq!(test.take_writes(), [format!("PATCH {CACHE}/status")]);
    test.reconcile().await.unwrap();
    assert!(test.take_writes().is_empty());

    test.server
        .with(|cluster| spec(cluster)["suspend"] = json!(false));
    test.reconcile().await.unwrap();
    assert!(test.condition("Ready").starts_with("True"));
    assert_eq!(test.condition("Suspended"), "absent");
    let writes = test.take_writes();
    assert!(
        writes.iter().any(|write| write.contains("/services/cache")),
        "{writes:?}"
    );
    let events = test.server.with(|cluster| cluster.events.clone());
    for reason in ["Normal Suspended: ", "Normal Resumed: "] {
        assert!(
            events.iter().any(|event| event.starts_with(reason)),
            "{events:?}"
        );
    }
}

#[tokio::test]
async fn a_policy_that_a_suspended_cache_does_not_follow_is_not_pushed() {
    let test = Test::settled().await;
    test.server.with(|cluster| {
        spec(cluster)["suspend"] = json!(true);
        spec(cluster)["defaultAction"] = json!("Deny");
    });
    test.reconcile().await.unwrap();
    assert!(test.condition("PolicyApplied").starts_with("False"));
    let writes = test.take_writes();
    assert!(
        !writes.iter().any(|write| write.contains("/pods/")),
        "{writes:?}"
    );
}

#[tokio::test]
async fn a_request_for_a_reconcile_is_echoed() {
    let test = Test::settled().await;
    test.server.with(|cluster| {
        let cache = cluster.objects.get_mut(CACHE).unwrap();
        cache["metadata"]["annotations"] =
            json!({"larder.dev/requestedAt": "2026-11-24T12:00:00Z"});
    });
    test.reconcile().await.unwrap();
    assert_eq!(
        test.status()["lastHandledReconcileAt"],
        "2026-11-24T12:00:00Z"
    );
    test.take_writes();
    test.reconcile().await.unwrap();
    assert!(test.take_writes().is_empty());
}

#[tokio::test]
async fn what_is_no_longer_declared_is_removed_if_it_is_ours() {
    let test = Test::settled().await;
    let ingress = "/apis/networking.k8s.io/v1/namespaces/team-a/ingresses/cache";
    let policy = "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies/cache";
    let budget = "/apis/policy/v1/namespaces/team-a/poddisruptionbudgets/cache";
    test.server.with(|cluster| {
        spec(cluster)["networkPolicy"] = json!({});
        spec(cluster)["exposure"] = json!({"ingress": {"host": "cache.example"}});
    });
    test.reconcile().await.unwrap();
    test.server.with(|cluster| {
        for path in [ingress, policy, budget] {
            assert!(cluster.objects.contains_key(path), "{path}");
        }
        let owners = &mut cluster.objects.get_mut(ingress).unwrap()["metadata"]["ownerReferences"];
        owners[0]["uid"] = json!("somebody else's");
        spec(cluster)["networkPolicy"] = json!(null);
        spec(cluster)["exposure"] = json!({});
        spec(cluster)["replicas"] = json!(1);
    });
    test.take_writes();
    test.reconcile().await.unwrap();
    let writes = test.take_writes();
    assert!(writes.contains(&format!("DELETE {policy}")), "{writes:?}");
    assert!(writes.contains(&format!("DELETE {budget}")), "{writes:?}");
    assert!(
        test.server
            .with(|cluster| cluster.objects.contains_key(ingress))
    );
}
