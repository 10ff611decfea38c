//! What the program writes while it shows credentials: nothing of them, however much it is asked to say.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use crate::support::{FakeCloud, FakeUpstream, eventually};

/// Killed when the test ends, whatever its end.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_has_a_secret_in_it() {
    let _ = rustls::crypto::ring::default_provider().install_default();
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
    // Not in the watched directory: each line would be an event that makes another line.
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let program = Command::new(env!("CARGO_BIN_EXE_cache-server"))
        .args(["run", "--config", &write("config.yaml", &config)])
        .env("RUST_LOG", "trace")
        .stderr(Stdio::from(File::create(&log).unwrap()))
        .spawn()
        .map(Program)
        .unwrap();
    let address = || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line["data_address"].as_str().map(str::to_owned)
        })
    };
    eventually("the program serves", || async { address().is_some() }).await;
    let base = format!("http://{}", address().unwrap());
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap();
    for (host, repository, status) in [
        ("b.test", "team/a", 200),
        ("t.test", "team/a", 200),
        ("c.test", "team/a", 200),
        ("b.test", "team/b", 404),
    ] {
        let url = format!("{base}/v2/{repository}/manifests/v1?ns={host}");
        assert_eq!(client.get(url).send().await.unwrap().status(), status);
    }
    token.protect(|protection| protection.identity = None);
    let url = format!("{base}/v2/team/c/manifests/v1?ns=t.test");
    let reply = client.get(url).send().await.unwrap();
    assert_eq!(reply.status(), 503);
    let reply = reply.text().await.unwrap();
    assert!(
        reply.contains("failed to sign in at t.test for team/c"),
        "{reply}"
    );
    drop(program);
    let text = reply + &std::fs::read_to_string(&log).unwrap();
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
