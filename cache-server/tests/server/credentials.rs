//! Private registries: who the cache is to them, and that nothing of it gets to anybody else.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::{FakeUpstream, Fault, HOST, TestServer, content, eventually};

const USER: &str = "robot";
const PASSWORD: &str = "pass:word-7";

/// The text of a policy with one upstream that has more lines of its own.
fn policy(upstream: &FakeUpstream, more: &str) -> String {
    let endpoint = upstream.endpoint();
    format!(
        "allowAnonymousPrivate: true\ndefaultUpstream: {HOST}\nupstreams:\n- host: {HOST}\n  endpoints: [\"{endpoint}\"]\n{more}"
    )
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// One credential of user and password, as YAML.
fn basic(directory: &Path) -> String {
    format!(
        "usernameFile: {}, passwordFile: {}",
        write(directory, "username", USER),
        write(directory, "password", &format!("{PASSWORD}\n"))
    )
}

async fn server(text: &str) -> TestServer {
    TestServer::builder().policy(text).start().await
}

fn known(upstream: &FakeUpstream) {
    upstream.protect(|protection| protection.user = Some((USER.into(), PASSWORD.into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_sent_at_once_after_the_first_challenge() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[content(100, 1)]);
    upstream.protect(|protection| protection.basic = Some((USER.into(), PASSWORD.into())));
    let files = tempfile::tempdir().unwrap();
    let credentials = format!("  credentials: [{{{}}}]\n", basic(files.path()));
    let server = server(&policy(&upstream, &credentials)).await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
    let reply = server
        .get(&format!("/v2/a/blobs/{}", image.layers[0]))
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(upstream.count("/manifests/"), 2);
    assert_eq!(upstream.count("/blobs/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_exchanged_for_one_token_and_not_shown_elsewhere() {
    let upstream = FakeUpstream::start().await;
    let storage = FakeUpstream::start().await;
    let layers: Vec<_> = (0..4).map(|seed| content(100, seed)).collect();
    let image = upstream.image("team/a", "v1", &layers);
    for layer in &layers {
        storage.blob("team/a", layer.clone());
    }
    upstream.require_token(None);
    upstream.protect(|protection| protection.private = vec!["team/a".into()]);
    known(&upstream);
    upstream.fault("/blobs/", Fault::Redirect(storage.endpoint()), 99);
    let files = tempfile::tempdir().unwrap();
    let credentials = format!("  credentials: [{{{}}}]\n", basic(files.path()));
    let server = server(&policy(&upstream, &credentials)).await;
    server.get("/v2/team/a/manifests/v1").await.content();
    let paths: Vec<_> = image
        .layers
        .iter()
        .map(|layer| format!("/v2/team/a/blobs/{layer}"))
        .collect();
    let replies = futures::future::join_all(paths.iter().map(|path| server.get(path))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(upstream.count("/token"), 1);
    for headers in upstream.headers("/blobs/") {
        let sent = headers["authorization"].to_str().unwrap();
        assert!(sent.starts_with("Bearer known"), "{sent}");
    }
    assert_eq!(storage.count("GET "), 4);
    for headers in storage.headers("") {
        assert!(!headers.contains_key("authorization"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_is_exchanged_by_post() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("team/a", "v1", &[]);
    upstream.require_token(None);
    upstream.protect(|protection| {
        protection.private = vec!["team/a".into()];
        protection.identity = Some("refresh-7".into());
    });
    let files = tempfile::tempdir().unwrap();
    let config = write(
        files.path(),
        "config.json",
        &format!(r#"{{"auths": {{"https://{HOST}/v2/": {{"identitytoken": "refresh-7"}}}}}}"#),
    );
    let credentials = format!("  credentials: [{{dockerConfigFile: {config}}}]\n");
    let server = server(&policy(&upstream, &credentials)).await;
    let reply = server.get("/v2/team/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
    assert_eq!(upstream.count("POST /token"), 1);
    // The secret is in the body, where no log of a proxy has it.
    assert!(
        upstream
            .requests()
            .iter()
            .all(|line| !line.contains("refresh-7"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_repository_has_the_credentials_and_the_token_of_its_own_prefix() {
    let upstream = FakeUpstream::start().await;
    upstream.image("team/a", "v1", &[]);
    upstream.image("open/a", "v1", &[]);
    upstream.require_token(None);
    upstream.protect(|protection| protection.private = vec!["team/a".into()]);
    known(&upstream);
    let files = tempfile::tempdir().unwrap();
    let credentials = format!(
        "  credentials: [{{repositoryPrefix: team, {}}}]\n",
        basic(files.path())
    );
    let server = server(&policy(&upstream, &credentials)).await;
    assert_eq!(server.get("/v2/team/a/manifests/v1").await.status, 200);
    assert_eq!(server.get("/v2/open/a/manifests/v1").await.status, 200);
    let shown: Vec<_> = upstream
        .headers("/token")
        .iter()
        .map(|headers| headers.contains_key("authorization"))
        .collect();
    assert_eq!(shown, [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_credentials_unlock_is_not_served_through_other_repositories_or_upstreams() {
    let (upstream, other) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let image = upstream.image("team/a", "v1", &[content(5000, 1)]);
    upstream.image("open/a", "v1", &[]);
    upstream.require_token(None);
    upstream.protect(|protection| protection.private = vec!["team/a".into()]);
    known(&upstream);
    let files = tempfile::tempdir().unwrap();
    let credentials = format!(
        "  credentials: [{{repositoryPrefix: team, {}}}]\n- host: other.test\n  endpoints: [\"{}\"]\n",
        basic(files.path()),
        other.endpoint()
    );
    let server = server(&policy(&upstream, &credentials)).await;
    assert_eq!(server.get("/v2/team/a/manifests/v1").await.status, 200);
    let layer = &image.layers[0];
    assert_eq!(
        server
            .get(&format!("/v2/team/a/blobs/{layer}"))
            .await
            .status,
        200
    );
    server.settled().await;
    assert!(server.has_blob(layer));
    for path in [
        format!("/v2/open/a/blobs/{layer}"),
        format!("/v2/open/a/manifests/{}", image.digest),
        format!("/v2/team/a/blobs/{layer}?ns=other.test"),
        format!("/v2/team/a/manifests/{}?ns=other.test", image.digest),
        "/v2/team/a/manifests/v1?ns=other.test".to_owned(),
        format!("/v2/team/a/../../open/a/blobs/{layer}"),
        format!("/v2/team/a/blobs/{layer}?ns=other.test&ns={HOST}"),
    ] {
        let reply = server.get(&path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert!(!reply.headers.contains_key("www-authenticate"), "{path}");
    }
    // What refers to it is not told. Where there is no API for that, the answer is that nothing is known.
    for path in [
        format!("/v2/open/a/referrers/{}", image.digest),
        format!("/v2/team/a/referrers/{}?ns=other.test", image.digest),
    ] {
        let reply = server.get(&path).await;
        let list: serde_json::Value = serde_json::from_slice(reply.content()).unwrap();
        assert_eq!(list["manifests"], serde_json::json!([]), "{path}");
    }
    // Parts of it are not either, and no head says that it is there.
    for path in [
        format!("/v2/open/a/blobs/{layer}"),
        format!("/v2/team/a/blobs/{layer}?ns=other.test"),
    ] {
        assert_eq!(server.get_range(&path, "bytes=0-9").await.status, 404);
        assert_eq!(server.get_range(&path, "bytes=10-").await.status, 404);
        let reply = server.head(&path).await;
        assert_eq!(reply.status, 404);
        assert!(!reply.headers.contains_key("docker-content-digest"));
        let known = format!("\"{layer}\"");
        let headers = [("if-none-match", known.as_str())];
        let reply = server.send(http::Method::GET, &path, &headers).await;
        assert_eq!(reply.status(), 404);
    }
    // The other upstream was asked, and shown nothing.
    assert!(other.count("") > 0);
    for headers in other.headers("") {
        assert!(!headers.contains_key("authorization"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_keep_the_stale_copy_and_are_named_without_their_secret() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("team/a", "v1", &[]);
    upstream.require_token(None);
    known(&upstream);
    let files = tempfile::tempdir().unwrap();
    let credentials = format!("  credentials: [{{{}}}]\n", basic(files.path()));
    let tail = "freshness: {refreshAfter: 1s}\n";
    let server = server(&policy(&upstream, &format!("{credentials}{tail}"))).await;
    assert_eq!(server.get("/v2/team/a/manifests/v1").await.status, 200);

    // Another password: files are read again, and the token of the old one is not used any more.
    write(files.path(), "password", "wrong-8");
    std::fs::write(server.config().join("touched"), "").unwrap();
    eventually("the new password is refused", || async {
        server.advance(std::time::Duration::from_secs(5));
        server
            .get("/v2/team/a/manifests/v1")
            .await
            .cache_status()
            .contains("stale")
    })
    .await;
    let stale = server.get("/v2/team/a/manifests/v1").await;
    assert_eq!(stale.content(), &image.manifest[..]);
    let reply = server.get("/v2/team/b/manifests/v1").await;
    let text = String::from_utf8_lossy(reply.content()).into_owned();
    assert_eq!(reply.status, 503);
    assert!(
        text.contains("failed to sign in at") && text.contains("team/b"),
        "{text}"
    );
    for page in ["/metrics", "/configz"] {
        let (_, page) = server.admin(page).await;
        for secret in ["wrong-8", PASSWORD] {
            assert!(!page.contains(secret) && !text.contains(secret), "{page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realm_elsewhere_sees_no_password_unless_the_policy_names_it() {
    let upstream = FakeUpstream::start().await;
    let elsewhere = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    known(&elsewhere);
    let origin = format!("http://localhost:{}", elsewhere.address.port());
    upstream.require_token(Some(&format!("{origin}/token")));
    let files = tempfile::tempdir().unwrap();
    let credentials = format!("  credentials: [{{{}}}]\n", basic(files.path()));
    let closed = server(&policy(&upstream, &credentials)).await;
    assert_eq!(closed.get("/v2/a/manifests/v1").await.status, 502);
    assert_eq!(elsewhere.requests(), [""; 0]);
    let realms = format!("{credentials}  authRealms: [\"{origin}\"]\n");
    let open = server(&policy(&upstream, &realms)).await;
    assert_eq!(open.get("/v2/a/manifests/v1").await.status, 200);
    assert!(elsewhere.headers("/token")[0].contains_key("authorization"));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_for_everybody_must_be_meant() {
    let upstream = FakeUpstream::start().await;
    let text = policy(&upstream, "  credentials: [{dockerConfigFile: /nowhere}]\n")
        .replace("allowAnonymousPrivate: true", "");
    let server = server(&text).await;
    let (status, reason) = server.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("allowAnonymousPrivate: true"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_is_used_without_a_restart_and_the_old_one_no_more() {
    for exchanged in [false, true] {
        let upstream = FakeUpstream::start().await;
        let image = upstream.image("team/a", "v1", &[content(100, 1)]);
        if exchanged {
            upstream.require_token(None);
        }
        let take = |password: &str| {
            let known = Some((USER.to_owned(), password.to_owned()));
            upstream.protect(|protection| {
                protection.private = vec!["team/a".into()];
                if exchanged {
                    protection.user = known;
                } else {
                    protection.basic = known;
                }
            });
        };
        take("right-9");
        let files = tempfile::tempdir().unwrap();
        let credentials = format!("  credentials: [{{{}}}]\n", basic(files.path()));
        let tail = "freshness: {refreshAfter: 0s}\n";
        let server = server(&policy(&upstream, &format!("{credentials}{tail}"))).await;
        let path = "/v2/team/a/manifests/v1";
        assert_eq!(server.get(path).await.status, 503);
        // Twice: a secret that was wrong, and one that was right until the registry changed it.
        for password in ["right-9", "right-10"] {
            take(password);
            write(files.path(), "password", password);
            let right = format!("Basic {}", STANDARD.encode(format!("{USER}:{password}")));
            // All passwords that were shown since the log was forgotten.
            let shown = || {
                let headers = upstream.headers("").into_iter();
                let shown = headers.filter_map(|headers| headers.get("authorization").cloned());
                let shown = shown.map(|value| value.to_str().unwrap().to_owned());
                shown
                    .filter(|value| value.starts_with("Basic "))
                    .collect::<Vec<_>>()
            };
            eventually("the new password is used", || async {
                let reply = server.get(path).await;
                let is_checked = !reply.cache_status().contains("stale");
                reply.status == 200 && is_checked && shown().contains(&right)
            })
            .await;
            upstream.forget();
            let blob = format!("/v2/team/a/blobs/{}", image.config);
            for path in [path, &blob] {
                assert_eq!(server.get(path).await.status, 200, "{exchanged}");
            }
            assert!(shown().iter().all(|shown| *shown == right), "{exchanged}");
        }
    }
}

/// Changes a file as kubelet does in the mount of a Secret: as a whole, by another directory in the place of the last.
fn swap(directory: &Path, number: u32, text: &str) {
    let version = format!("..{number}");
    std::fs::create_dir(directory.join(&version)).unwrap();
    write(&directory.join(&version), "config.json", text);
    let next = directory.join("..data_tmp");
    std::os::unix::fs::symlink(&version, &next).unwrap();
    std::fs::rename(next, directory.join("..data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_configuration_that_changes_is_used_without_a_restart() {
    let upstream = FakeUpstream::start().await;
    let images = ["v1", "v2"].map(|tag| upstream.image("team/a", tag, &[]));
    let config = |password: &str| {
        let auth = STANDARD.encode(format!("{USER}:{password}"));
        format!(r#"{{"auths": {{"{HOST}": {{"auth": "{auth}"}}}}}}"#)
    };
    upstream.protect(|protection| protection.basic = Some((USER.into(), "first-1".into())));
    let files = tempfile::tempdir().unwrap();
    swap(files.path(), 1, &config("first-1"));
    let file = files.path().join("config.json");
    std::os::unix::fs::symlink("..data/config.json", &file).unwrap();
    let credentials = format!(
        "  credentials: [{{dockerConfigFile: {}}}]\n",
        file.display()
    );
    let server = server(&policy(&upstream, &credentials)).await;
    let path = |image: &crate::support::Image| format!("/v2/team/a/manifests/{}", image.digest);
    let reply = server.get(&path(&images[0])).await;
    assert_eq!(reply.content(), &images[0].manifest[..]);

    // What can't be read takes nothing away.
    swap(files.path(), 2, "{\"auths\": {");
    eventually("the mistake is seen", || async {
        server.admin("/readyz").await.0 == 200
            && server.metric("larder_policy_last_reload_successful").await == 0
    })
    .await;
    upstream.image("team/a", "v3", &[]);
    assert_eq!(server.get("/v2/team/a/manifests/v3").await.status, 200);

    upstream.protect(|protection| protection.basic = Some((USER.into(), "second-2".into())));
    assert_eq!(server.get(&path(&images[1])).await.status, 503);
    swap(files.path(), 3, &config("second-2"));
    eventually("the new password is used", || async {
        server.get(&path(&images[1])).await.status == 200
    })
    .await;
    assert_eq!(
        server.metric("larder_policy_last_reload_successful").await,
        1
    );
}
