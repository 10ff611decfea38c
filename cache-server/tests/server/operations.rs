//! What people do by hand on the admin port.

use std::path::Path;
use std::process::{Command, Output};

use cache_server::oci::{Digest, media_type};

use crate::support::{
    Builder, FakeUpstream, Fault, Gate, HOST, Image, TestServer, blob_path, content, eventually,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cache-server");

async fn start(upstream: &FakeUpstream, token: &Path) -> TestServer {
    builder(upstream, token).start().await
}

fn builder(upstream: &FakeUpstream, token: &Path) -> Builder {
    let token = token.to_owned();
    TestServer::builder()
        .upstream(HOST, upstream)
        .tune(|options| options.static_config.admin_token_file = Some(token))
}

async fn run(server: &TestServer, token: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    let (name, rest) = arguments.split_first().unwrap();
    command.arg(name).arg("--server").arg(server.admin_url());
    command.arg("--token-file").arg(token).args(rest);
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_nothing_is_shown_or_purged() {
    let upstream = FakeUpstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (right, wrong) = (
        directory.path().join("right"),
        directory.path().join("wrong"),
    );
    std::fs::write(&right, "secret\n").unwrap();
    std::fs::write(&wrong, "guess\n").unwrap();
    let server = TestServer::of(&upstream).await;
    let (status, text) = server.admin("/v1/ls").await;
    assert!(
        status == 403 && text.contains("set adminTokenFile"),
        "{text}"
    );
    let server = start(&upstream, &right).await;
    assert_eq!(server.admin("/v1/ls").await.0, 403);
    for arguments in [&["ls"][..], &["purge", "r.test/a:v1"]] {
        let output = run(&server, &wrong, arguments).await;
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("403") && error.contains("token"), "{error}");
    }
    assert!(run(&server, &right, &["ls"]).await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_image_goes_with_what_no_other_needs() {
    let upstream = FakeUpstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let server = start(&upstream, &token).await;
    let base = content(5000, 1);
    let one = upstream.image("a/one", "v1", &[base.clone(), content(6000, 2)]);
    let two = upstream.image("b/two", "v1", &[base]);
    for (repository, image) in [("a/one", &one), ("b/two", &two)] {
        let path = format!("/v2/{repository}/manifests/v1");
        server.get(&path).await.body.unwrap();
        for layer in &image.layers {
            let path = format!("/v2/{repository}/blobs/{layer}");
            server.get(&path).await.body.unwrap();
        }
    }
    server.settled().await;
    let list = |output: Output| -> Vec<serde_json::Value> {
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    };
    let all = list(run(&server, &token, &["ls"]).await);
    assert_eq!(all.len(), 2);
    let some = list(run(&server, &token, &["ls", "--prefix", "r.test/a"]).await);
    assert_eq!(some.len(), 1);
    assert_eq!(some[0]["repository"], "a/one");
    assert_eq!(some[0]["tag"], "v1");
    assert_eq!(some[0]["storedBytes"], 11_000 + one.manifest.len());

    let output = run(&server, &token, &["purge", "r.test/a/one:v1"]).await;
    assert!(output.status.success(), "{output:?}");
    let purged: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&purged["tags"], &purged["contents"]),
        (&1.into(), &2.into())
    );
    assert!(!server.has_blob(&one.digest) && !server.has_blob(&one.layers[1]));
    assert!(server.has_blob(&two.digest) && server.has_blob(&two.layers[0]));
    assert_eq!(list(run(&server, &token, &["ls"]).await).len(), 1);

    // By its digest, content goes whoever needs it, and comes again.
    let shared = format!("r.test/b/two@{}", two.layers[0]);
    let output = run(&server, &token, &["purge", &shared]).await;
    assert!(output.status.success() && !server.has_blob(&two.layers[0]));
    let path = format!("/v2/b/two/blobs/{}", two.layers[0]);
    assert_eq!(
        server.get(&path).await.cache_status(),
        "larder; fwd=miss; stored"
    );
    server.settled().await;
    assert!(server.has_blob(&two.layers[0]));
    let nonsense = run(&server, &token, &["purge", "r.test/B:v1"]).await;
    assert_eq!(nonsense.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_moment_ago_came_is_purged_and_survives_a_stop_while_another_blob_comes_slowly() {
    let upstream = FakeUpstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let server = builder(&upstream, &token).drain_seconds(0).start().await;
    let image = upstream.image("a/one", "v1", &[content(5000, 1)]);
    let layer = &image.layers[0];
    let slow = upstream.blob("a/slow", content(5000, 2));
    let gate = Gate::closed();
    upstream.fault(slow.to_string(), Fault::Late(gate.clone()), 1);
    let url = format!("{}/v2/a/slow/blobs/{slow}", server.data_url());
    let slowly = tokio::spawn(server.other_client(None).get(url).send());
    eventually("the slow blob is asked for", async || {
        upstream.count(&slow.to_string()) == 1
    })
    .await;
    let pull = async || {
        server.get("/v2/a/one/manifests/v1").await.body.unwrap();
        let path = format!("/v2/a/one/blobs/{layer}");
        server.get(&path).await.body.unwrap();
    };
    pull().await;
    let output = run(&server, &token, &["purge", "r.test/a/one:v1"]).await;
    assert!(output.status.success(), "{output:?}");
    let purged: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(purged["contents"], 2);
    assert!(!server.has_blob(layer) && !server.has_blob(&image.digest));

    pull().await;
    slowly.abort();
    let store = server.store();
    let kept = server.stop().await;
    assert!(blob_path(&store, layer).exists());
    drop((gate, kept));
}

/// An index of two images for two platforms, as its upstream has it under that tag.
fn index(upstream: &FakeUpstream, tag: &str) -> (Digest, [Image; 2]) {
    let base = content(5000, 1);
    let images = [("amd64", 2), ("arm64", 3)].map(|(architecture, seed)| {
        upstream.image(
            "a/multi",
            architecture,
            &[base.clone(), content(6000, seed)],
        )
    });
    let manifests: Vec<_> = ["amd64", "arm64"]
        .iter()
        .zip(&images)
        .map(|(architecture, image)| {
            serde_json::json!({"mediaType": media_type::OCI_MANIFEST, "digest": image.digest, "size": image.manifest.len(), "platform": {"os": "linux", "architecture": architecture}})
        })
        .collect();
    let text = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests});
    let digest = upstream.manifest("a/multi", tag, media_type::OCI_INDEX, text.to_string());
    (digest, images)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warmed_image_is_served_without_the_upstream_and_warmed_again_for_nothing() {
    let upstream = FakeUpstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let server = start(&upstream, &token).await;
    let (digest, images) = index(&upstream, "v1");
    let arguments = ["warm", "--platform", "linux/amd64", "r.test/a/multi:v1"];
    let output = run(&server, &token, &arguments).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        text(&output.stdout),
        "r.test/a/multi:v1: 3 contents, 1 MiB: 3 fetched, 0 there already\n"
    );
    // No terminal, no bar.
    assert_eq!(text(&output.stderr), "");
    assert!(!server.has_blob(&images[1].digest) && !server.has_blob(&images[1].layers[1]));

    // The rest, from a list; what is there is not fetched again.
    upstream.forget();
    let list = directory.path().join("list");
    std::fs::write(&list, "# ours\nr.test/a/multi:v1\n").unwrap();
    let list = list.display().to_string();
    let output = run(&server, &token, &["warm", "--file", &list]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("5 contents, 1 MiB: 2 fetched, 3 there already"));
    assert_eq!(upstream.count("GET "), 3);

    upstream.stop().await;
    for image in &images {
        let manifest = format!("/v2/a/multi/manifests/{}", image.digest);
        assert_eq!(server.get(&manifest).await.content(), &image.manifest[..]);
        for layer in image.layers.iter().chain([&image.config]) {
            let reply = server.get(&format!("/v2/a/multi/blobs/{layer}")).await;
            assert_eq!(reply.cache_status(), "larder; hit");
        }
    }
    let reply = server.get("/v2/a/multi/manifests/v1").await;
    assert_eq!(reply.header("docker-content-digest"), digest.to_string());
    let again = format!("r.test/a/multi@{digest}");
    let output = run(&server, &token, &["warm", &again]).await;
    assert!(
        text(&output.stdout).contains("0 fetched, 5 there already"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_warmed_is_named_and_the_rest_is_there() {
    let upstream = FakeUpstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let path = token.clone();
    let rules = "rules:\n- {name: deny, repositories: [denied], action: Deny}\n- {name: pass, repositories: [passed], action: Forward}\n";
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tail(rules)
        .tune(|options| options.static_config.admin_token_file = Some(path))
        .start()
        .await;
    for repository in ["denied", "passed"] {
        upstream.image(repository, "v1", &[]);
    }
    let image = upstream.image("good", "v1", &[content(100, 1), content(200, 2)]);
    upstream.image("half", "v1", &[content(300, 3), content(400, 4)]);
    let lost = crate::support::digest(&content(300, 3));
    upstream.fault(format!("half/blobs/{lost}"), Fault::Status(404), 9);
    index(&upstream, "v1");
    let arguments = [
        "warm",
        "--platform",
        "linux/s390x",
        "r.test/denied:v1",
        "r.test/passed:v1",
        "r.test/missing:v1",
        "other.test/a:v1",
        "r.test/half:v1",
        "r.test/a/multi:v1",
        "r.test/good:v1",
    ];
    let output = run(&server, &token, &arguments).await;
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr).replace(&lost.to_string(), "<digest>");
    insta::assert_snapshot!(error);
    assert!(text(&output.stdout).contains("r.test/good:v1: 3 contents"));
    assert!(image.layers.iter().all(|layer| server.has_blob(layer)));
    let half = crate::support::digest(&content(400, 4));
    assert!(server.has_blob(&half));
    assert_eq!(upstream.count("denied") + upstream.count("passed"), 0);
    for wrong in [
        &["warm"][..],
        &["warm", "alpine"],
        &["warm", "--file", "/nowhere"],
    ] {
        assert_eq!(run(&server, &token, wrong).await.status.code(), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn warming_stops_when_nobody_listens_any_more() {
    let upstream = FakeUpstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let server = start(&upstream, &token).await;
    let layers: Vec<_> = (0..9).map(|seed| content(50_000, seed)).collect();
    upstream.image("a", "v1", &layers);
    upstream.image("b", "v1", &[]);
    upstream.image("c", "v1", &[]);
    let (gate, other) = (Gate::closed(), Gate::closed());
    upstream.fault("c/blobs/", Fault::Gated(other), 9);
    upstream.fault("/blobs/", Fault::Gated(gate.clone()), 99);
    let call = |token: &str, repositories: &[&str]| {
        let images: Vec<_> = repositories
            .iter()
            .map(|name| serde_json::json!({"upstream": HOST, "repository": name, "tag": "v1"}))
            .collect();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        let request = client
            .build()
            .unwrap()
            .post(format!("{}/v1/warm", server.admin_url()))
            .bearer_auth(token)
            .json(&serde_json::json!({"images": images}));
        async { request.send().await.unwrap() }
    };
    assert_eq!(call("guess", &["a"]).await.status(), 403);
    let mut one = call("secret", &["a", "b"]).await;
    let mut two = call("secret", &["a", "b"]).await;
    for response in [&mut one, &mut two] {
        let planned = text(&response.chunk().await.unwrap().unwrap());
        let expected = r#"{"event":"planned","image":"r.test/a:v1","contents":10,"#;
        assert!(planned.starts_with(expected), "{planned}");
    }
    assert_eq!(call("secret", &[]).await.status(), 429);
    // Four at once, whoever asks.
    eventually("four come", || async { upstream.count("/blobs/") == 4 }).await;
    drop((one, two));
    // Both are over when a third one runs and there is a place for a fourth one.
    let third = std::sync::Mutex::new(None);
    eventually("a third one begins", || async {
        let response = call("secret", &["c"]).await;
        let has_begun = response.status() == 200;
        *third.lock().unwrap() = Some(response);
        has_begun
    })
    .await;
    eventually("there is a place for a fourth one", || async {
        call("secret", &[]).await.status() == 200
    })
    .await;
    gate.open_for_good();
    eventually("what ran comes to its end", || async {
        server.metric("larder_fills_running").await == 1
    })
    .await;
    assert_eq!(upstream.count("/v2/a/blobs/"), 4);
    assert_eq!(upstream.count("/v2/b/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_how_the_server_is_and_shows_no_markup_of_others() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(3 << 20, 1));
    let server = TestServer::of(&upstream).await;
    let status = async || -> serde_json::Value {
        serde_json::from_str(&server.admin("/v1/status").await.1).unwrap()
    };
    assert_eq!(status().await["hitRatio"], serde_json::Value::Null);
    let path = format!("/v2/a/blobs/{layer}");
    for _ in 0..4 {
        server.get(&path).await.body.unwrap();
        server.settled().await;
    }
    upstream.fault("", Fault::StatusWith(429, "retry-after", "120"), 1);
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 503);
    let now = status().await;
    assert_eq!(
        (&now["requests"], &now["hitRatio"]),
        (&5.into(), &0.6.into())
    );
    assert_eq!(now["policyHash"], server.configz().await["policyHash"]);
    assert_eq!(now["store"]["used"], 3 << 20);
    assert_eq!(now["store"]["contents"], 1);
    let endpoint = &now["upstreams"][0]["endpoints"][0];
    assert_eq!(
        (&endpoint["standing"], &endpoint["paused"]),
        (&"closed".into(), &true.into())
    );
    let last = &endpoint["lastError"];
    let error = last["error"].as_str().unwrap();
    assert!(
        error.contains("it asked for a pause of 120 seconds"),
        "{error}"
    );
    assert!(last["at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(now["store"]["lastWriteError"], serde_json::Value::Null);

    let broken = "upstreams: [{host: '<script>alert(1)</script>'}]";
    std::fs::write(server.config().join("policy.yaml"), broken).unwrap();
    eventually("the broken policy is refused", || async {
        status().await["policyError"] != serde_json::Value::Null
    })
    .await;
    let (code, page) = server.admin("/").await;
    assert_eq!(code, 200);
    for text in [
        "60.0 % of 5 requests",
        "3 MiB of ",
        "asked for a pause",
        "it asked for a pause of 120 seconds",
        "&lt;script&gt;alert(1)",
        "class=\"bad\"",
        now["policyHash"].as_str().unwrap(),
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("<script"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_ports_calls_are_not_on_the_data_port() {
    let upstream = FakeUpstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let server = start(&upstream, &token).await;
    let headers = [("authorization", "Bearer secret")];
    for (method, path, status) in [
        (http::Method::GET, "/v1/ls", 404),
        (http::Method::GET, "/metrics", 404),
        (http::Method::GET, "/configz", 404),
        (http::Method::GET, "/healthz", 404),
        (http::Method::POST, "/v1/purge", 405),
    ] {
        let reply = server.send(method, path, &headers).await;
        assert_eq!(reply.status(), status, "{path}");
    }
    // Where they are, only the whole token opens.
    let url = format!("{}/v1/ls", server.admin_url());
    let client = server.other_client(None);
    for (shown, status) in [
        ("Bearer secret", 200),
        ("Bearer secre", 403),
        ("Bearer secretsecret", 403),
        ("Bearer ", 403),
        ("Basic secret", 403),
        ("secret", 403),
    ] {
        let reply = client.get(&url).header("authorization", shown).send().await;
        assert_eq!(reply.unwrap().status(), status, "{shown}");
    }
}
