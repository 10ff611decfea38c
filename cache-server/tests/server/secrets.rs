//! What the program writes while it shows credentials: nothing of them, however much it is asked to say.

use crate::support::{FakeCloud, FakeUpstream, Program};

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
