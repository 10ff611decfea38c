//! Clients that must show who they are.

use base64::Engine as _;
use http::Method;

use crate::support::{Builder, FakeUpstream, HOST, Reply, TestServer, content, eventually};

const TOKEN: &str = "a-token-of-a-node";

fn basic(user: &str, password: &str) -> String {
    let engine = base64::engine::general_purpose::STANDARD;
    format!("Basic {}", engine.encode(format!("{user}:{password}")))
}

fn line(user: &str, password: &str) -> String {
    format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())
}

/// Files that a test's policy names.
struct Secrets(tempfile::TempDir);

impl Secrets {
    fn new() -> Self {
        let secrets = Self(tempfile::tempdir().unwrap());
        secrets.users(&[line("robot", "right"), line("other", "word")]);
        std::fs::write(secrets.path("tokens"), format!("{TOKEN}\n")).unwrap();
        secrets
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn users(&self, lines: &[String]) {
        // As a mounted Secret changes: whole, or not yet.
        std::fs::write(self.path("users.new"), lines.concat()).unwrap();
        std::fs::rename(self.path("users.new"), self.path("users")).unwrap();
    }

    fn passwords(&self) -> String {
        format!(
            "access: {{basic: {{htpasswdFile: {}}}}}\n",
            self.path("users")
        )
    }

    fn all(&self) -> String {
        format!(
            "access: {{basic: {{htpasswdFile: {}}}, token: {{tokensFile: {}}}}}\n",
            self.path("users"),
            self.path("tokens")
        )
    }
}

fn builder(upstream: &FakeUpstream, tail: &str) -> Builder {
    TestServer::builder().upstream(HOST, upstream).tail(tail)
}

async fn get(server: &TestServer, path: &str, authorization: &str) -> Reply {
    let headers = [("authorization", authorization)];
    server.send(Method::GET, path, &headers).await.rest().await
}

fn code(reply: &Reply) -> String {
    let body: serde_json::Value = serde_json::from_slice(reply.content()).unwrap();
    body["errors"][0]["code"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_logs_in_as_registries_clients_do() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[content(100, 1)]);
    let secrets = Secrets::new();
    let server = builder(&upstream, &secrets.all()).start().await;
    let paths = [
        "/v2/".to_owned(),
        "/v2/a/manifests/v1".to_owned(),
        format!("/v2/a/blobs/{}", image.layers[0]),
        "/v2/a/tags/list".to_owned(),
        "/v2/unknown.test/a/manifests/v1".to_owned(),
        "/anything".to_owned(),
    ];
    for path in &paths {
        let strangers = [
            server.get(path).await,
            get(&server, path, &basic("robot", "wrong")).await,
            get(&server, path, &basic("nobody", "right")).await,
            get(&server, path, "Bearer another-token-of-a-node").await,
        ];
        for reply in strangers {
            assert_eq!(reply.status, 401, "{path}");
            assert!(reply.header("www-authenticate").starts_with("Basic realm="));
            assert_eq!(code(&reply), "UNAUTHORIZED");
        }
        assert_eq!(server.head(path).await.content(), b"");
    }
    assert_eq!(upstream.requests(), [""; 0]);
    for shown in [
        basic("robot", "right"),
        basic("other", "word"),
        format!("Bearer {TOKEN}"),
    ] {
        for path in &paths[..4] {
            assert_eq!(get(&server, path, &shown).await.status, 200, "{path}");
        }
    }
    let strangers = server.metric("larder_requests_total{kind=\"other\",outcome=\"unauthorized\"}");
    assert_eq!(strangers.await, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_names_its_upstream_is_never_challenged() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[content(100, 1)]);
    let secrets = Secrets::new();
    for access in [secrets.passwords(), secrets.all()] {
        let server = builder(&upstream, &access).start().await;
        for path in [
            format!("/v2/a/manifests/v1?ns={HOST}"),
            format!("/v2/a/blobs/{}?ns={HOST}", image.layers[0]),
            format!("/v2/a/tags/list?n=1&ns={HOST}"),
            format!("/v2/a/manifests/v1?%6es={HOST}"),
            "/v2/a/manifests/v1?ns=unknown.test".to_owned(),
            "/v2/?ns=docker.io".to_owned(),
        ] {
            for shown in ["", &basic("tenant", "of-the-upstream")] {
                let reply = get(&server, &path, shown).await;
                assert_eq!(reply.status, 403, "{path}");
                assert!(!reply.headers.contains_key("www-authenticate"), "{path}");
                assert_eq!(code(&reply), "DENIED");
            }
        }
        let path = format!("/v2/a/manifests/v1?ns={HOST}");
        let reply = get(&server, &path, &basic("robot", "right")).await;
        assert_eq!(reply.content(), &image.manifest[..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_show_stays_here() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[content(100_000, 1)]);
    let secrets = Secrets::new();
    for tail in ["", "defaultAction: Forward\n"] {
        let server = builder(&upstream, &format!("{}{tail}", secrets.all()))
            .start()
            .await;
        for shown in [basic("robot", "right"), format!("Bearer {TOKEN}")] {
            for path in [
                "/v2/a/manifests/v1".to_owned(),
                format!("/v2/a/blobs/{}", image.layers[0]),
                format!("/v2/a/referrers/{}", image.digest),
                "/v2/a/tags/list".to_owned(),
            ] {
                get(&server, &path, &shown).await;
            }
        }
    }
    assert!(upstream.count("") > 4);
    for headers in upstream.headers("") {
        assert!(!headers.contains_key("authorization"));
        assert!(!headers.contains_key("cookie"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_removed_is_a_stranger_and_a_new_one_is_not() {
    let upstream = FakeUpstream::start().await;
    let secrets = Secrets::new();
    let server = builder(&upstream, &secrets.all()).start().await;
    let status = |shown: String| {
        let server = &server;
        async move { get(server, "/v2/", &shown).await.status.as_u16() }
    };
    assert_eq!(status(basic("robot", "right")).await, 200);
    assert_eq!(status(basic("new", "word")).await, 401);
    secrets.users(&[line("other", "word"), line("new", "word")]);
    eventually("robot is a stranger", || async {
        status(basic("robot", "right")).await == 401
    })
    .await;
    assert_eq!(status(basic("new", "word")).await, 200);
    std::fs::write(secrets.path("tokens"), "").unwrap();
    eventually("the token is worth nothing", || async {
        status(format!("Bearer {TOKEN}")).await == 401
    })
    .await;
    // A mistake in the file leaves things as they are, and is said.
    secrets.users(&["S3cr3t-without-a-colon\n".to_owned()]);
    eventually("the mistake is said", || async {
        let error = server.configz().await["lastError"].to_string();
        assert!(!error.contains("S3cr3t"), "{error}");
        error.contains("line 1 of")
    })
    .await;
    assert_eq!(status(basic("new", "word")).await, 200);
    // And a policy that wants nothing lets everybody in.
    let open = format!(
        "upstreams: [{{host: {HOST}, endpoints: [\"{}\"]}}]\n",
        upstream.endpoint()
    );
    std::fs::write(server.config().join("policy.yaml"), open).unwrap();
    eventually("everybody gets in", || async {
        server.get("/v2/").await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_upstreams_need_no_permission_where_clients_show_who_they_are() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    upstream.protect(|protection| protection.basic = Some(("robot".into(), "upstream".into())));
    let secrets = Secrets::new();
    std::fs::write(secrets.path("name"), "robot").unwrap();
    std::fs::write(secrets.path("password"), "upstream").unwrap();
    let policy = format!(
        "{}defaultUpstream: {HOST}\nupstreams:\n- host: {HOST}\n  endpoints: [\"{}\"]\n  credentials: [{{usernameFile: {}, passwordFile: {}}}]\n",
        secrets.passwords(),
        upstream.endpoint(),
        secrets.path("name"),
        secrets.path("password"),
    );
    let server = TestServer::builder().policy(&policy).start().await;
    // What opens the upstream opens nothing here.
    let upstreams = basic("robot", "upstream");
    assert_eq!(
        get(&server, "/v2/a/manifests/v1", &upstreams).await.status,
        401
    );
    let reply = get(&server, "/v2/a/manifests/v1", &basic("robot", "right")).await;
    assert_eq!(reply.content(), &image.manifest[..]);
    // Stored, and still not for strangers.
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_opens_where_the_policy_wants_one() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let server = builder(&upstream, "access: {clientCertificate: true}\n")
        .mutual_tls()
        .start()
        .await;
    let stranger = server.get("/v2/a/manifests/v1").await;
    assert_eq!(stranger.status, 403);
    assert!(!stranger.headers.contains_key("www-authenticate"));
    let pair = server.authority.as_ref().unwrap().issue("node.test");
    let url = format!("{}/v2/a/manifests/v1?ns={HOST}", server.data_url());
    let reply = server
        .other_client(Some(&pair))
        .get(url)
        .send()
        .await
        .unwrap();
    assert_eq!(reply.bytes().await.unwrap(), image.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_that_cannot_be_kept_is_no_open_door() {
    let upstream = FakeUpstream::start().await;
    let secrets = Secrets::new();
    std::fs::remove_file(secrets.path("users")).unwrap();
    for (access, reason) in [
        (
            "access: {clientCertificate: true}\n".to_owned(),
            "clientCertificateAuthorityFile",
        ),
        (secrets.passwords(), "htpasswdFile"),
    ] {
        let server = builder(&upstream, &access).start().await;
        let (status, text) = server.admin("/readyz").await;
        assert!(status == 503 && text.contains(reason), "{text}");
        assert_eq!(server.get("/v2/a/manifests/v1").await.status, 503);
    }
}
