//! What people do by hand on the admin port.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{FakeUpstream, HOST, TestServer, content};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cache-server");

async fn start(upstream: &FakeUpstream, token: &Path) -> TestServer {
    let token = token.to_owned();
    TestServer::builder()
        .upstream(HOST, upstream)
        .tune(|options| options.static_config.admin_token_file = Some(token))
        .start()
        .await
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
