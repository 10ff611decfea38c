//! Whole reconciles against an API server on loopback.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/api_server.rs"]
mod api_server;
#[path = "support/cluster_test.rs"]
mod cluster_test;
#[path = "reconcile/lifecycle.rs"]
mod lifecycle;

use cluster_test::{CACHE, POLICY, Test, policy};
use serde_json::json;

#[tokio::test]
async fn a_cache_at_rest_is_ready_and_nothing_is_written() {
    let test = Test::settled().await;
    insta::assert_snapshot!(test.condition("Ready"), @"True Succeeded: All 2 replicas are ready and follow policy HASH.");
    assert_eq!(test.condition("Reconciling"), "absent");
    assert_eq!(test.status()["endpoint"], "http://10.96.0.7:5000");
    assert_eq!(test.status()["policy"]["summary"], "2/2 applied");
    for _ in 0..3 {
        test.reconcile().await.unwrap();
    }
    assert!(test.take_writes().is_empty());
}

#[tokio::test]
async fn a_policy_edit_is_bumped_until_each_pod_confirms_it() {
    let test = Test::settled().await;
    let before = test.status()["policy"]["desiredHash"].clone();
    test.server.with(|cluster| {
        cluster.overtaking_bumps = 2;
        cluster.put(POLICY, policy("ours/**"));
    });
    test.reconcile().await.unwrap();
    let status = test.status();
    assert_ne!(status["policy"]["desiredHash"], before);
    assert_eq!(status["policy"]["summary"], "2/2 applied");
    let writes = test.take_writes();
    assert_eq!(
        writes[0],
        "PATCH /api/v1/namespaces/team-a/configmaps/cache-config"
    );
    // Both pods at once, and both again, because the first bumps overtook the kubelet's watch.
    let bumps = writes
        .iter()
        .filter(|write| write.contains("/pods/"))
        .count();
    assert_eq!(bumps, 4, "{writes:?}");
    assert_eq!(writes.len(), 6, "{writes:?}");
    assert!(!writes.iter().any(|write| write.contains("statefulsets")));
    test.reconcile().await.unwrap();
    assert!(test.take_writes().is_empty());
}

#[tokio::test]
async fn a_pod_that_refuses_the_policy_is_named() {
    let test = Test::settled().await;
    test.server.with(|cluster| {
        cluster.refusing = true;
        cluster.put(POLICY, policy("ours/**"));
    });
    let next = test.reconcile().await.unwrap();
    assert!(next < std::time::Duration::from_secs(1), "{next:?}");
    insta::assert_snapshot!(test.condition("PolicyApplied"), @"False Propagating: 0 of 2 replicas confirmed policy HASH. cache-0 refused it: the file is not to my taste; cache-1 refused it: the file is not to my taste.");
    assert_ne!(test.condition("Reconciling"), "absent");
}

#[tokio::test]
async fn a_policy_that_is_gone_stays_in_force() {
    let test = Test::settled().await;
    let before = test.server.with(|cluster| {
        cluster.objects.remove(POLICY);
        cluster.objects["/api/v1/namespaces/team-a/configmaps/cache-config"].clone()
    });
    test.reconcile().await.unwrap();
    insta::assert_snapshot!(test.condition("Ready"), @"False PolicyNotFound: CachePolicy team-a/ours does not exist; create it, or remove policyRefs[0]. Until then the last valid policy HASH stays in force, in 2 of 2 replicas.");
    assert_ne!(test.condition("Stalled"), "absent");
    let after = test.server.with(|cluster| {
        cluster.objects["/api/v1/namespaces/team-a/configmaps/cache-config"].clone()
    });
    assert_eq!(before, after);
    test.server
        .with(|cluster| cluster.put(POLICY, policy("library/*")));
    test.reconcile().await.unwrap();
    assert_eq!(test.condition("Stalled"), "absent");
}

#[tokio::test]
async fn a_hand_made_last_good_policy_is_not_taken() {
    let test = Test::settled().await;
    test.server.with(|cluster| {
        cluster.objects.remove(POLICY);
        let path = "/api/v1/namespaces/team-a/configmaps/cache-config";
        let config_map = cluster.objects.get_mut(path).unwrap();
        config_map["data"]["policy.yaml"] = json!("upstreams: [{host: evil.example}]\n");
    });
    test.reconcile().await.unwrap_err();
    insta::assert_snapshot!(test.condition("Ready"), @"False PolicyNotFound: CachePolicy team-a/ours does not exist; create it, or remove policyRefs[0].");
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone() {
    let test = Test::settled().await;
    let path = "/api/v1/namespaces/team-a/configmaps/cache-mirror-nodes";
    let foreign = json!({"metadata": {"name": "cache-mirror-nodes", "namespace": "team-a"}, "data": {"theirs": "yes"}});
    test.server.with(|cluster| cluster.put(path, foreign));
    test.reconcile().await.unwrap_err();
    assert_eq!(
        test.server
            .with(|cluster| cluster.objects[path]["data"].clone()),
        json!({"theirs": "yes"})
    );
    insta::assert_snapshot!(test.condition("Ready"), @"False NotOwned: failed to apply ConfigMap team-a/cache-mirror-nodes: it exists and does not belong to this RegistryCache; delete it, or make the RegistryCache under another name.");
}

#[tokio::test]
async fn hand_edits_are_repaired_and_what_is_not_wanted_is_removed() {
    let test = Test::settled().await;
    let service = "/api/v1/namespaces/team-a/services/cache";
    test.server.with(|cluster| {
        cluster.objects.get_mut(service).unwrap()["spec"]["selector"]["app.kubernetes.io/name"] =
            json!("other");
        cluster.objects.get_mut(CACHE).unwrap()["spec"]["mirrors"] = json!([]);
    });
    test.reconcile().await.unwrap();
    assert_eq!(
        test.server.with(|cluster| {
            cluster.objects[service]["spec"]["selector"]["app.kubernetes.io/name"].clone()
        }),
        "larder"
    );
    insta::assert_snapshot!(test.take_writes().join("\n"), @r"
    PATCH /api/v1/namespaces/team-a/services/cache
    DELETE /api/v1/namespaces/team-a/configmaps/cache-mirror-nodes
    PATCH /apis/larder.dev/v1alpha1/namespaces/team-a/registrycaches/cache/status
    ");
}
