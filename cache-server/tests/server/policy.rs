//! What the policy does, and how it changes under a running server.

use std::path::Path;

use crate::support::{FakeUpstream, HOST, TestServer, content, eventually};

fn rule(name: &str, selector: &str, action: &str) -> String {
    format!("- {{name: {name}, {selector}, action: {action}}}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_four_actions_do_what_they_say() {
    let upstream = FakeUpstream::start().await;
    let layer = content(5000, 1);
    for repository in ["cached/a", "passed/a", "refused/a", "denied/a"] {
        upstream.image(repository, "v1", std::slice::from_ref(&layer));
    }
    let rules = [
        rule("team/pass", "repositories: [\"passed/**\"]", "Forward"),
        rule("team/refuse", "repositories: [\"refused/**\"]", "Refuse"),
        rule("team/deny", "repositories: [\"denied/**\"]", "Deny"),
    ];
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tail(&format!("rules:\n{}", rules.concat()))
        .start()
        .await;
    let layer = crate::support::digest(&layer);
    let mut seen = Vec::new();
    for repository in ["refused/a", "denied/a"] {
        for path in [
            format!("/v2/{repository}/manifests/v1"),
            format!("/v2/{repository}/blobs/{layer}"),
            format!("/v2/{repository}/tags/list"),
        ] {
            let reply = server.get(&path).await;
            seen.push(format!(
                "{} {} {}",
                path.replace(&layer.to_string(), "<digest>"),
                reply.status.as_u16(),
                String::from_utf8_lossy(reply.content())
            ));
        }
    }
    assert_eq!(upstream.requests(), [""; 0]);
    insta::assert_snapshot!(seen.join("\n"));

    for _ in 0..2 {
        let reply = server.get(&format!("/v2/passed/a/blobs/{layer}")).await;
        assert_eq!(crate::support::digest(reply.content()), layer);
        assert_eq!(reply.cache_status(), "larder; fwd=bypass; detail=forwarded");
        assert_eq!(server.get("/v2/passed/a/manifests/v1").await.status, 200);
    }
    assert!(!server.has_blob(&layer));
    assert_eq!(upstream.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_in_force_without_a_restart() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);
    let before = server.configz().await;
    assert_eq!(
        (&before["source"], &before["lastError"]),
        (&"file".into(), &serde_json::Value::Null)
    );

    let text = std::fs::read_to_string(server.config().join("policy.yaml")).unwrap();
    let edited = format!("{text}\ndefaultAction: Deny\n");
    std::fs::write(server.config().join("policy.yaml"), &edited).unwrap();
    let hash = crds::policy::Policy::parse(&edited).unwrap().hash();
    eventually("the edit is in force", || async {
        server.configz().await["policyHash"] == hash.as_str()
    })
    .await;
    let denied = server.get("/v2/a/manifests/v1").await;
    assert_eq!(denied.status, 403);
    assert!(String::from_utf8_lossy(denied.content()).contains("denied by the default action"));
    let line = format!("larder_policy_info{{hash=\"{hash}\"}}");
    assert_eq!(server.metric(&line).await, 1);
}

/// What kubelet does with a mounted `ConfigMap`: files are links into `..data`, which is a link that is replaced.
fn mount(config: &Path, version: &str, text: &str) {
    let data = config.join(format!("..{version}"));
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("policy.yaml"), text).unwrap();
    let next = config.join("..data_tmp");
    std::os::unix::fs::symlink(format!("..{version}"), &next).unwrap();
    std::fs::rename(&next, config.join("..data")).unwrap();
    let link = config.join("policy.yaml");
    if !link.is_symlink() {
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink("..data/policy.yaml", link).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_swap_of_a_mounted_config_map_is_noticed() {
    let upstream = FakeUpstream::start().await;
    let text = |action: &str| {
        format!(
            "upstreams: [{{host: {HOST}, endpoints: [\"{}\"]}}]\ndefaultAction: {action}\n",
            upstream.endpoint()
        )
    };
    let directory = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let config = directory.path().join("config");
    std::fs::create_dir(&config).unwrap();
    mount(&config, "one", &text("Cache"));
    let server = TestServer::builder().directory(&directory).start().await;
    for (version, action) in [("two", "Deny"), ("three", "Refuse"), ("four", "Forward")] {
        mount(&config, version, &text(action));
        let hash = crds::policy::Policy::parse(&text(action)).unwrap().hash();
        eventually("the swap is noticed", || async {
            server.configz().await["policyHash"] == hash.as_str()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_edit_changes_nothing_but_is_said() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    let before = server.configz().await;
    let file = server.config().join("policy.yaml");
    let good = std::fs::read_to_string(&file).unwrap();

    std::fs::write(&file, "upstreams: [{host: r.test, colour: red}]\n").unwrap();
    // A file that is read in the middle of its writing is said as well, until the next look.
    eventually("the error is said", || async {
        let error = server.configz().await["lastError"].clone();
        error.as_str().unwrap_or_default().contains("colour")
    })
    .await;
    let during = server.configz().await;
    assert_eq!(during["policyHash"], before["policyHash"]);
    assert_eq!(
        server.metric("larder_policy_last_reload_successful").await,
        0
    );
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);
    assert_eq!(server.admin("/readyz").await.0, 200);

    std::fs::remove_file(&file).unwrap();
    eventually("the loss is said", || async {
        server.configz().await["lastError"]
            .as_str()
            .unwrap_or("")
            .contains("gone")
    })
    .await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);

    std::fs::write(&file, good).unwrap();
    eventually("the error is forgotten", || async {
        server.configz().await["lastError"].is_null()
    })
    .await;
    assert_eq!(
        server.metric("larder_policy_last_reload_successful").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_a_broken_policy_uses_the_last_good_one() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    let hash = server.configz().await["policyHash"].clone();
    let good = std::fs::read_to_string(server.config().join("policy.yaml")).unwrap();
    let directory = server.stop().await;

    let server = TestServer::builder()
        .directory(&directory)
        .policy("upstreams: broken")
        .start()
        .await;
    let configz = server.configz().await;
    assert_eq!(
        (&configz["source"], &configz["policyHash"]),
        (&"lastGood".into(), &hash)
    );
    assert!(
        configz["lastError"]
            .as_str()
            .unwrap()
            .contains("policy.yaml")
    );
    assert_eq!(server.metric("larder_policy_from_last_good").await, 1);
    assert_eq!(server.admin("/readyz").await.0, 200);
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);

    std::fs::write(server.config().join("policy.yaml"), good).unwrap();
    eventually("the file counts again", || async {
        server.configz().await["source"] == "file"
    })
    .await;
    assert_eq!(server.configz().await["lastError"], serde_json::Value::Null);
    assert_eq!(server.metric("larder_policy_from_last_good").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_with_a_broken_policy_waits_for_a_good_one() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::builder()
        .policy("upstreams: []\n")
        .start()
        .await;
    let (status, reason) = server.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(
        reason.contains("no policy is in force") && reason.trim().lines().count() == 1,
        "{reason}"
    );
    assert_eq!(server.admin("/healthz").await.0, 200);
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("retry-after")),
        (503, "5")
    );

    let text = format!(
        "upstreams: [{{host: {HOST}, endpoints: [\"{}\"]}}]\ndefaultUpstream: {HOST}\n",
        upstream.endpoint()
    );
    std::fs::write(server.config().join("policy.yaml"), text).unwrap();
    eventually("the server is ready", || async {
        server.admin("/readyz").await.0 == 200
    })
    .await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_the_public_registries_are_served() {
    let server = TestServer::builder().start().await;
    let configz = server.configz().await;
    assert_eq!(configz["source"], "default");
    assert_eq!(
        configz["policyHash"],
        crds::policy::Policy::public_registries().hash()
    );
    assert_eq!(
        server.get("/v2/a/manifests/x?ns=example.com").await.status,
        404
    );
}
