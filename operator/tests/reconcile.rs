//! Whole reconciles against an API server on loopback.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/api_server.rs"]
mod api_server;
#[path = "support/cluster_test.rs"]
mod cluster_test;
#[path = "reconcile/lifecycle.rs"]
mod lifecycle;

use cluster_test::{CACHE, POLICY, Test, policy};
use k8s_openapi::ByteString;
use operator::optional_apis::OptionalKind;
use serde_json::{Value, json};

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
async fn a_new_cache_has_all_its_children_after_one_reconcile() {
    let test = Test::declared().await;
    test.reconcile().await.unwrap();
    // The mirror is made of the address that the Service got meanwhile.
    assert_eq!(test.status()["endpoint"], "http://10.96.0.7:5000");
    insta::assert_snapshot!(test.take_writes().join("\n"), @"
    PATCH /api/v1/namespaces/team-a/configmaps/cache-config
    PATCH /api/v1/namespaces/team-a/services/cache
    PATCH /api/v1/namespaces/team-a/services/cache-pods
    PATCH /apis/apps/v1/namespaces/team-a/statefulsets/cache
    PATCH /apis/policy/v1/namespaces/team-a/poddisruptionbudgets/cache
    PATCH /api/v1/namespaces/team-a/configmaps/cache-mirror-nodes
    PATCH /apis/larder.dev/v1alpha1/namespaces/team-a/registrycaches/cache/status
    POST /apis/events.k8s.io/v1/namespaces/team-a/events
    ");
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
async fn a_policy_that_stays_in_force_keeps_the_files_that_it_names() {
    const CONFIG: &str = "/api/v1/namespaces/team-a/configmaps/cache-config";
    let test = Test::settled().await;
    let declare = |account: &str| {
        let identity = json!({
            "provider": "Gar",
            "workloadIdentityProvider": "projects/1/locations/global/workloadIdentityPools/p/providers/c",
            "googleServiceAccount": account,
        });
        test.server.with(|cluster| {
            let spec = &mut cluster.objects.get_mut(CACHE).unwrap()["spec"];
            spec["allowAnonymousPrivate"] = json!(true);
            spec["upstreams"][0]["credentials"] = json!([{"identity": identity}]);
        });
    };
    let data = || {
        test.server
            .with(|cluster| cluster.objects[CONFIG]["data"].clone())
    };
    declare("one@team.example");
    test.reconcile().await.unwrap();
    let before = data();
    assert_eq!(before.as_object().unwrap().len(), 3);
    test.server.with(|cluster| cluster.objects.remove(POLICY));
    declare("other@team.example");
    test.reconcile().await.unwrap();
    assert_eq!(data(), before);
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

fn secret(name: &str, keys: &[(&str, &str)]) -> (String, Value) {
    let data: serde_json::Map<_, _> = keys
        .iter()
        .map(|(key, text)| {
            (
                (*key).to_owned(),
                json!(ByteString(text.as_bytes().to_vec())),
            )
        })
        .collect();
    (
        format!("/api/v1/namespaces/team-a/secrets/{name}"),
        json!({"metadata": {"name": name, "namespace": "team-a"}, "data": data}),
    )
}

fn pem(text: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn nodes_get_a_new_authority_before_the_servers_count_on_it() {
    let test = Test::settled().await;
    let serving = |authority: &str| {
        let authority = pem(authority);
        secret(
            "serving",
            &[("tls.crt", "c"), ("tls.key", "k"), ("ca.crt", &authority)],
        )
    };
    let told = || {
        let [mirror, servers, people] = test.server.with(|cluster| {
            [
                ("mirror-nodes", "ca.crt"),
                ("config", "known-ca.crt"),
                ("ca", "ca.crt"),
            ]
            .map(|(name, key)| {
                let path = format!("/api/v1/namespaces/team-a/configmaps/cache-{name}");
                let content = cluster.objects[&path]["data"][key].as_str().unwrap();
                [("old", pem("b2xk")), ("new", pem("bmV3"))]
                    .into_iter()
                    .filter(|(_, pem)| content.contains(pem))
                    .map(|(name, _)| name)
                    .collect::<Vec<_>>()
                    .join("+")
            })
        });
        assert_eq!(mirror, people);
        format!("nodes {mirror}, servers {servers}")
    };
    let delay = |text: &str| {
        test.server.with(|cluster| {
            cluster.objects.get_mut(CACHE).unwrap()["spec"]["tls"] =
                json!({"secretRef": {"name": "serving"}, "authorityDelay": text});
        });
    };
    let (path, object) = serving("b2xk");
    test.server.with(|cluster| cluster.put(&path, object));
    delay("1h");
    test.reconcile().await.unwrap();
    assert_eq!(told(), "nodes old, servers old");
    assert_eq!(test.status()["endpoint"], "https://10.96.0.7:5000");

    test.take_writes();
    let (path, object) = serving("bmV3");
    test.server.with(|cluster| cluster.put(&path, object));
    let next = test.reconcile().await.unwrap();
    assert_eq!(told(), "nodes old+new, servers old");
    assert!(next.as_secs() <= 3600, "{next:?}");
    let writes = test.take_writes();
    assert!(
        !writes.iter().any(|write| write.contains("statefulsets")),
        "{writes:?}"
    );
    test.reconcile().await.unwrap();
    assert!(test.take_writes().is_empty());

    // Nodes had their time, and the kubelet has its own.
    delay("0s");
    test.reconcile().await.unwrap();
    assert_eq!(told(), "nodes old+new, servers old+new");
    test.server.with(|cluster| {
        let path = "/api/v1/namespaces/team-a/configmaps/cache-ca";
        let annotations = &mut cluster.objects.get_mut(path).unwrap()["metadata"]["annotations"];
        let history = annotations["larder.dev/authority-history"]
            .as_str()
            .unwrap();
        let mut history: Value = serde_json::from_str(history).unwrap();
        for stay in history.as_object_mut().unwrap().values_mut() {
            for moment in ["went", "known"] {
                if let Some(time) = stay[moment].as_i64() {
                    stay[moment] = json!(time - 180);
                }
            }
        }
        annotations["larder.dev/authority-history"] = json!(history.to_string());
    });
    test.reconcile().await.unwrap();
    assert_eq!(told(), "nodes new, servers new");
}

#[tokio::test]
async fn a_cache_waits_for_its_certificate_and_what_runs_stays_as_it_is() {
    let test = Test::settled().await;
    test.apis
        .send_replace([OptionalKind::Certificate].into_iter().collect());
    test.server.with(|cluster| {
        cluster.objects.get_mut(CACHE).unwrap()["spec"]["tls"] =
            json!({"issuerRef": {"name": "corporate"}});
    });
    test.reconcile().await.unwrap_err();
    insta::assert_snapshot!(test.take_writes().join("\n"), @r"
    PATCH /apis/cert-manager.io/v1/namespaces/team-a/certificates/cache
    PATCH /apis/larder.dev/v1alpha1/namespaces/team-a/registrycaches/cache/status
    POST /apis/events.k8s.io/v1/namespaces/team-a/events
    POST /apis/events.k8s.io/v1/namespaces/team-a/events
    ");
    insta::assert_snapshot!(test.condition("Ready"), @"False CertificatePending: Certificate team-a/cache is not issued yet.");
    let certificate = "/apis/cert-manager.io/v1/namespaces/team-a/certificates/cache";
    test.server.with(|cluster| {
        let conditions = json!([{"type": "Ready", "status": "False", "message": "Issuer corporate is not there."}]);
        cluster.objects.get_mut(certificate).unwrap()["status"] = json!({"conditions": conditions});
    });
    test.reconcile().await.unwrap_err();
    insta::assert_snapshot!(test.condition("Reconciling"), @"True CertificatePending: Certificate team-a/cache is not issued yet: Issuer corporate is not there.");
    let authority = pem("b25l");
    let keys = [
        ("tls.crt", "c"),
        ("tls.key", "k"),
        ("ca.crt", authority.as_str()),
    ];
    let (path, object) = secret("cache-tls", &keys);
    test.server.with(|cluster| cluster.put(&path, object));
    test.take_writes();
    test.reconcile().await.unwrap();
    insta::assert_snapshot!(test.condition("Ready"), @"True Succeeded: All 2 replicas are ready and follow policy HASH.");
    let writes = test.take_writes();
    assert!(
        writes.iter().any(|write| write.contains("statefulsets")),
        "{writes:?}"
    );
    test.reconcile().await.unwrap();
    assert!(test.take_writes().is_empty());
}

#[tokio::test]
async fn a_certificate_that_is_gone_stops_nothing_that_runs() {
    let test = Test::settled().await;
    test.server.with(|cluster| {
        cluster.objects.get_mut(CACHE).unwrap()["spec"]["tls"] =
            json!({"secretRef": {"name": "gone"}});
    });
    test.reconcile().await.unwrap_err();
    insta::assert_snapshot!(test.condition("Stalled"), @"True SecretNotFound: Secret team-a/gone does not exist; create it with the type kubernetes.io/tls and the keys tls.crt and tls.key, or remove tls.secretRef.");
    insta::assert_snapshot!(test.take_writes().join("\n"), @r"
    PATCH /apis/larder.dev/v1alpha1/namespaces/team-a/registrycaches/cache/status
    POST /apis/events.k8s.io/v1/namespaces/team-a/events
    POST /apis/events.k8s.io/v1/namespaces/team-a/events
    ");
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

/// A mirror whose credentials are in the Secret `east`.
fn guard_mirror(cluster: &mut api_server::Cluster, password: Option<&str>) {
    let path = "/api/v1/namespaces/team-a/secrets/east";
    match password {
        Some(password) => {
            let data = json!({"username": "ZWFzdA==", "password": password});
            let metadata = json!({"name": "east", "namespace": "team-a"});
            cluster.put(path, json!({"metadata": metadata, "data": data}));
        }
        None => drop(cluster.objects.remove(path)),
    }
    cluster.objects.get_mut(CACHE).unwrap()["spec"]["mirrors"] =
        json!([{"name": "nodes", "credentialsSecretRef": {"name": "east"}}]);
}

#[tokio::test]
async fn credentials_move_a_mirror_into_a_secret_which_follows_them() {
    let test = Test::settled().await;
    let hosts = |test: &Test| {
        let path = "/api/v1/namespaces/team-a/secrets/cache-mirror-nodes";
        test.server
            .with(|cluster| cluster.objects[path]["data"]["docker.io.hosts.toml"].clone())
    };
    test.server
        .with(|cluster| guard_mirror(cluster, Some("b2xk")));
    test.reconcile().await.unwrap();
    insta::assert_snapshot!(test.take_writes().join("\n"), @r"
    PATCH /api/v1/namespaces/team-a/secrets/cache-mirror-nodes
    DELETE /api/v1/namespaces/team-a/configmaps/cache-mirror-nodes
    PATCH /apis/larder.dev/v1alpha1/namespaces/team-a/registrycaches/cache/status
    ");
    assert_eq!(
        test.status()["mirrors"],
        json!([{"name": "nodes", "kind": "Secret", "object": "cache-mirror-nodes", "formats": ["hosts.toml"]}])
    );
    test.reconcile().await.unwrap();
    assert!(test.take_writes().is_empty());

    let before = hosts(&test);
    test.server
        .with(|cluster| guard_mirror(cluster, Some("bmV3")));
    test.reconcile().await.unwrap();
    insta::assert_snapshot!(test.take_writes().join("\n"), @"PATCH /api/v1/namespaces/team-a/secrets/cache-mirror-nodes");
    let after = hosts(&test);
    assert_ne!(before, after);

    // Nodes go on with what they have while the Secret is gone.
    test.server.with(|cluster| guard_mirror(cluster, None));
    test.reconcile().await.unwrap();
    assert_eq!(hosts(&test), after);
    insta::assert_snapshot!(test.condition("MirrorsReady"), @"False SecretNotFound: Secret team-a/east does not exist; create it with the type kubernetes.io/basic-auth and the keys username and password, or remove mirrors[0].credentialsSecretRef. Until then what was rendered before stays.");
    assert_eq!(test.condition("Ready"), test.condition("MirrorsReady"));
    assert_ne!(test.condition("Stalled"), "absent");

    test.server.with(|cluster| {
        cluster.objects.get_mut(CACHE).unwrap()["spec"]["mirrors"] = json!([]);
    });
    test.reconcile().await.unwrap();
    assert!(
        test.take_writes()
            .contains(&"DELETE /api/v1/namespaces/team-a/secrets/cache-mirror-nodes".to_owned())
    );
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone() {
    let test = Test::settled().await;
    let path = "/api/v1/namespaces/team-a/secrets/cache-mirror-nodes";
    test.server.with(|cluster| {
        let metadata = json!({"name": "cache-mirror-nodes", "namespace": "team-a"});
        cluster.put(
            path,
            json!({"metadata": metadata, "data": {"theirs": "eWVz"}}),
        );
        guard_mirror(cluster, Some("b2xk"));
    });
    test.reconcile().await.unwrap_err();
    test.server.with(|cluster| {
        assert_eq!(cluster.objects[path]["data"], json!({"theirs": "eWVz"}));
    });
    insta::assert_snapshot!(test.condition("MirrorsReady"), @"False NotOwned: failed to apply Secret team-a/cache-mirror-nodes: it exists and does not belong to this RegistryCache; delete it, or make the RegistryCache under another name.");
}
