//! What the program writes while it shows credentials: nothing of them, however much it is asked to say.

use crate::support::{Authority, FakeCloud, FakeUpstream, Program, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_has_a_secret_in_it() {
    let [basic, token, cloud] = [
        FakeUpstream::start().await,
        FakeUpstream::start().await,
        FakeUpstream::start().await,
    ];
    for upstream in [&basic, &token, &cloud] {
        upstream.image("team/a", "v1", &[]);
    }
    let password = "S3cr3t-pass";
    basic.protect(|protection| protection.basic = Some(("robot".into(), password.into())));
    token.require_token(None);
    token.protect(|protection| {
        protection.identity = Some("S3cr3t-identity".into());
        protection.private = vec!["team/a".into()];
    });
    cloud.protect(|protection| protection.basic = Some(("AWS".into(), password.into())));
    // Of user and password: QVdTOlMzY3IzdC1wYXNz.
    let answer = r#"{"authorizationData":[{"authorizationToken":"QVdTOlMzY3IzdC1wYXNz"}]}"#;
    let amazon = FakeCloud::start(|_| (200, answer.to_owned())).await;
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let docker = r#"{"auths": {"t.test": {"identitytoken": "S3cr3t-identity"}}}"#;
    let config = format!(
        "server: {{dataListen: '127.0.0.1:0', adminListen: '127.0.0.1:0', store: {}, logFormat: Json}}\npolicy:\n  allowAnonymousPrivate: true\n  upstreams:\n  - {{host: b.test, endpoints: [\"{}\"], credentials: [{{usernameFile: {}, passwordFile: {}}}]}}\n  - {{host: t.test, endpoints: [\"{}\"], credentials: [{{dockerConfigFile: {}}}]}}\n  - {{host: c.test, endpoints: [\"{}\"], credentials: [{{identity: {{provider: Ecr, region: x, keysFile: {}, endpoint: '{}'}}}}]}}\n",
        directory.path().join("store").display(),
        basic.endpoint(),
        write("username", "robot"),
        write("password", password),
        token.endpoint(),
        write("docker.json", docker),
        cloud.endpoint(),
        write(
            "keys",
            "aws_access_key_id = AKIA-S3cr3t\naws_secret_access_key = S3cr3t-key\naws_session_token = S3cr3t-session\n"
        ),
        amazon.endpoint,
    );
    let path = std::path::PathBuf::from(write("config.yaml", &config));
    let program = Program::start(&path, "trace").await;
    for (host, repository, status) in [
        ("b.test", "team/a", 200),
        ("t.test", "team/a", 200),
        ("c.test", "team/a", 200),
        ("b.test", "team/b", 404),
    ] {
        let url = format!("/v2/{repository}/manifests/v1?ns={host}");
        assert_eq!(program.get(&url).await.status(), status);
    }
    token.protect(|protection| protection.identity = None);
    let reply = program.get("/v2/team/c/manifests/v1?ns=t.test").await;
    assert_eq!(reply.status(), 503);
    let reply = reply.text().await.unwrap();
    assert!(
        reply.contains("failed to sign in at t.test for team/c"),
        "{reply}"
    );
    let text = reply + &program.log();
    assert!(text.contains("TRACE"));
    // The password as it is, and as it stands in the header; and what was given for the identity token.
    for secret in [
        "S3cr3t",
        "cm9ib3Q6UzNjcjN0",
        "QVdTOlMzY3Iz",
        "Bearer",
        "known0",
        "Signature=",
    ] {
        let shown = text.lines().find(|line| line.contains(secret));
        assert_eq!(shown, None, "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_log_nor_answer_nor_page_has_a_secret_of_clients_or_of_the_port() {
    let upstream = FakeUpstream::start().await;
    upstream.image("team/a", "v1", &[]);
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let authority = Authority::new();
    let tls = authority.write(&directory.path().join("tls"), true);
    let key = std::fs::read_to_string(&tls.key_file).unwrap();
    let hash = bcrypt::hash("S3cr3t-client", 4).unwrap();
    let config = format!(
        "server:\n  dataListen: '127.0.0.1:0'\n  adminListen: '127.0.0.1:0'\n  store: {}\n  logFormat: Json\n  adminTokenFile: {}\n  tls: {{certificateFile: {}, keyFile: {}, clientCertificateAuthorityFile: {}}}\npolicy:\n  access: {{basic: {{htpasswdFile: {}}}, token: {{tokensFile: {}}}, clientCertificate: true}}\n  upstreams:\n  - {{host: r.test, endpoints: [\"{}\"]}}\n",
        directory.path().join("store").display(),
        write("admin-token", "S3cr3t-admin"),
        tls.certificate_file.display(),
        tls.key_file.display(),
        tls.client_certificate_authority_file
            .as_ref()
            .unwrap()
            .display(),
        write("users", &format!("tenant:{hash}\n")),
        write("tokens", "S3cr3t-token-of-a-node\n"),
        upstream.endpoint(),
    );
    let path = std::path::PathBuf::from(write("config.yaml", &config));
    let program = Program::start(&path, "trace").await;
    let address = |name: &str| program.said(name);
    let base = format!("https://{}", address("data_address").unwrap());
    let root = reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([root])
        .build()
        .unwrap();
    // What answers and pages said, beside the log.
    let mut said = String::new();
    for (user, password, status) in [
        ("tenant", "S3cr3t-client", 200),
        ("tenant", "S3cr3t-guess", 401),
        ("S3cr3t-user", "S3cr3t-guess", 401),
    ] {
        let request = client
            .get(format!("{base}/v2/"))
            .basic_auth(user, Some(password));
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), status);
        said += &reply.text().await.unwrap();
    }
    for (token, status) in [
        ("S3cr3t-token-of-a-node", 404),
        ("S3cr3t-token-of-another", 401),
    ] {
        let url = format!("{base}/v2/x?state=S3cr3t-query");
        let reply = client.get(url).bearer_auth(token).send().await.unwrap();
        assert_eq!(reply.status(), status);
        said += &reply.text().await.unwrap();
    }
    let url = format!("{base}/v2/team/a/manifests/v1?ns=r.test");
    let node = client.get(url).bearer_auth("S3cr3t-token-of-a-node");
    assert_eq!(node.send().await.unwrap().status(), 200);
    // Mistakes in files with secrets, and everything that the admin port shows.
    write("users", "S3cr3t-line-without-a-colon\n");
    std::fs::write(&tls.key_file, "-----BEGIN PRIVATE KEY-----\nS3cr3tS3cr3t\n").unwrap();
    let admin = format!("http://{}", address("admin_address").unwrap());
    let plain = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap();
    let page = async |path: &str, token: &str| {
        let request = plain.get(format!("{admin}{path}")).bearer_auth(token);
        request.send().await.unwrap().text().await.unwrap()
    };
    eventually("both mistakes are seen", || async {
        let metrics = page("/metrics", "").await;
        let is_zero = |name: &str| metrics.contains(&format!("larder_{name} 0\n"));
        is_zero("tls_last_reload_successful") && is_zero("policy_last_reload_successful")
    })
    .await;
    for path in [
        "/",
        "/metrics",
        "/configz",
        "/readyz",
        "/healthz",
        "/v1/status",
        "/v1/ls",
    ] {
        for token in ["S3cr3t-admin", "S3cr3t-guess"] {
            said += &page(path, token).await;
        }
    }
    let text = said + &program.log();
    assert!(text.contains("TRACE"));
    assert!(text.contains("line 1 of") && text.contains("larder_requests_total"));
    let key = key.lines().nth(1).unwrap();
    // Passwords as they are, and as they stand in headers; a hash and a key.
    for secret in ["S3cr3t", "dGVuYW50OlMzY3Iz", &hash[7..], key, "Bearer S"] {
        let shown = text.lines().find(|line| line.contains(secret));
        assert_eq!(shown, None, "{secret}");
    }
}
