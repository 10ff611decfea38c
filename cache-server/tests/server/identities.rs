//! Registries of clouds: the cache signs in as what the cloud says it is, and renews that in time.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cache_server::upstream::Surroundings;

use crate::support::{
    FakeCloud, FakeUpstream, HOST, Seen, TestServer, check_signature, content, eventually,
};

const SECRET: &str = "S3cr3t/Key+1";
const ROLE: &str = "arn:aws:iam::123456789012:role/puller";
const HOUR: Duration = Duration::from_hours(1);

fn policy(upstream: &FakeUpstream, identity: &str) -> String {
    let endpoint = upstream.endpoint();
    format!(
        "allowAnonymousPrivate: true\ndefaultUpstream: {HOST}\nfreshness: {{refreshAfter: 1s, serveStaleFor: 30d}}\nupstreams:\n- host: {HOST}\n  endpoints: [\"{endpoint}\"]\n  credentials: [{{identity: {{{identity}}}}}]\n"
    )
}

async fn server(text: &str, surroundings: &[(&str, &str)]) -> TestServer {
    let surroundings: Surroundings = surroundings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    TestServer::builder()
        .policy(text)
        .tune(|options| options.surroundings = surroundings)
        .start()
        .await
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Seconds since 1970 of `20150830T123600Z`.
fn seconds(date: &str) -> i64 {
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..8],
        &date[9..11],
        &date[11..13],
        &date[13..15]
    );
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

/// Security token service and registry API of Amazon: takes the pod's token, and requests that are signed with what it
/// gave for it.
fn amazon(seen: &Seen, password: &str) -> (u16, String) {
    if seen.body.contains("Action=AssumeRoleWithWebIdentity") {
        let is_known = seen
            .body
            .contains("RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fpuller")
            && seen.body.contains("WebIdentityToken=pod-token");
        let keys = format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>session-1</SessionToken></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        );
        return if is_known {
            (200, keys)
        } else {
            (403, String::new())
        };
    }
    registry(seen, password)
}

fn registry(seen: &Seen, password: &str) -> (u16, String) {
    let target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
    let is_asked = seen.header("x-amz-target") == target
        && seen.header("content-type") == "application/x-amz-json-1.1";
    if !is_asked || check_signature(seen, SECRET, "ecr").is_err() {
        // What the service says may repeat what was sent.
        return (
            403,
            format!("{{\"message\": \"{}\"}}", seen.header("authorization")),
        );
    }
    let token = STANDARD.encode(format!("AWS:{password}"));
    let expires = seconds(seen.header("x-amz-date")) + 12 * 3600;
    (
        200,
        format!(
            r#"{{"authorizationData":[{{"authorizationToken":"{token}","expiresAt":{expires}.5,"proxyEndpoint":"https://x"}}]}}"#
        ),
    )
}

fn takes(upstream: &FakeUpstream, password: &str) {
    upstream.protect(|protection| protection.basic = Some(("AWS".into(), password.into())));
}

fn by_role(directory: &Path, cloud: &FakeCloud) -> String {
    format!(
        "provider: Ecr, region: eu-west-1, role: '{ROLE}', tokenFile: {}, endpoint: '{}', authority: '{}'",
        write(directory, "token", "pod-token\n"),
        cloud.endpoint,
        cloud.endpoint
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_of_a_registry_of_amazon_sign_in_once() {
    let upstream = FakeUpstream::start().await;
    let layers: Vec<_> = (0..20).map(|seed| content(100, seed)).collect();
    let image = upstream.image("a", "v1", &layers);
    takes(&upstream, "one");
    let cloud = FakeCloud::start(|seen| amazon(seen, "one")).await;
    let files = tempfile::tempdir().unwrap();
    let server = server(&policy(&upstream, &by_role(files.path(), &cloud)), &[]).await;
    let paths = image.layer_paths("a");
    let replies = futures::future::join_all(paths.iter().map(|path| server.get(path))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(cloud.count("AssumeRole"), 1);
    assert_eq!(cloud.seen().len(), 2);
    let signed = &cloud.seen()[1];
    assert_eq!(check_signature(signed, SECRET, "ecr"), Ok(()));
    assert!(check_signature(signed, "another", "ecr").is_err());
    assert_eq!(signed.header("x-amz-security-token"), "session-1");
    let line = format!("larder_upstream_sign_ins_total{{result=\"ok\",upstream=\"{HOST}\"}}");
    assert_eq!(server.metric(&line).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_password_is_renewed_and_a_due_one_ahead_of_its_end() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    takes(&upstream, "one");
    let cloud = FakeCloud::start(|seen| amazon(seen, "one")).await;
    let files = tempfile::tempdir().unwrap();
    let server = server(&policy(&upstream, &by_role(files.path(), &cloud)), &[]).await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);

    server.advance(8 * HOUR);
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);
    assert_eq!(cloud.seen().len(), 2);
    server.advance(5 * HOUR);
    takes(&upstream, "two");
    cloud.answer(|seen| amazon(seen, "two"));
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
    assert_eq!(reply.cache_status(), "larder; hit; detail=revalidated");
    assert_eq!(cloud.seen().len(), 4);

    // Due, and the cloud does not answer: what is there serves on to its end, and then stale copies do.
    cloud.answer(|_| (500, SECRET.to_owned()));
    server.advance(10 * HOUR);
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.cache_status(), "larder; hit; detail=revalidated");
    eventually("it was tried ahead of the end", || async {
        cloud.seen().len() == 5
    })
    .await;
    server.advance(3 * HOUR);
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
    assert_eq!(reply.cache_status(), "larder; hit; detail=stale");
    let reply = server.get("/v2/b/manifests/v1").await;
    assert_eq!(reply.status, 503);
    let text = String::from_utf8_lossy(reply.content()).into_owned();
    assert!(
        text.contains("failed to sign in for r.test as the identity of Ecr: 127.0.0.1: status 500"),
        "{text}"
    );
    cloud.answer(|seen| amazon(seen, "two"));
    server.advance(HOUR);
    assert_eq!(server.get("/v2/b/manifests/v1").await.status, 404);

    // Ahead of its end it is renewed while requests go on with what is there.
    server.advance(10 * HOUR);
    let before = cloud.seen().len();
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);
    eventually("it is renewed", || async {
        cloud.seen().len() == before + 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_the_registry_refuses_is_got_anew() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    takes(&upstream, "one");
    let cloud = FakeCloud::start(|seen| amazon(seen, "one")).await;
    let files = tempfile::tempdir().unwrap();
    let server = server(&policy(&upstream, &by_role(files.path(), &cloud)), &[]).await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);
    server.advance(HOUR);
    takes(&upstream, "two");
    cloud.answer(|seen| amazon(seen, "two"));
    assert_eq!(server.get("/v2/b/manifests/v1").await.status, 503);
    server.advance(HOUR);
    assert_eq!(server.get("/v2/b/manifests/v1").await.status, 404);
    assert_eq!(cloud.seen().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_file_are_used_and_wrong_ones_are_named_without_them() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    takes(&upstream, "one");
    let cloud = FakeCloud::start(|seen| registry(seen, "one")).await;
    let directory = tempfile::tempdir().unwrap();
    let keys = |secret: &str| {
        format!("[default]\naws_access_key_id = AKIA1\naws_secret_access_key = {secret}\n")
    };
    let file = write(directory.path(), "keys", &keys("wr0ng-k3y"));
    let identity = format!(
        "provider: Ecr, region: eu-west-1, keysFile: {file}, endpoint: '{}'",
        cloud.endpoint
    );
    let server = server(&policy(&upstream, &identity), &[]).await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.status, 503);
    let text = String::from_utf8_lossy(reply.content()).into_owned();
    assert!(text.contains("status 403"), "{text}");
    for secret in ["wr0ng-k3y", "AKIA1", "Signature"] {
        let (_, page) = server.admin("/metrics").await;
        assert!(!text.contains(secret) && !page.contains(secret), "{text}");
    }

    write(directory.path(), "keys", &keys(SECRET));
    std::fs::write(server.config().join("touched"), "").unwrap();
    eventually("the new keys are used", || async {
        server.advance(Duration::from_secs(5));
        server.get("/v2/a/manifests/v1").await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_on_a_node_of_amazon_gives_keys() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    takes(&upstream, "one");
    let cloud = FakeCloud::start(|seen| {
        if seen.line != "GET /v1/credentials" {
            return registry(seen, "one");
        }
        let keys = format!(
            r#"{{"AccessKeyId":"ASIA2","SecretAccessKey":"{SECRET}","Token":"session-2","Expiration":"2027-01-15T08:00:00Z"}}"#
        );
        match seen.header("authorization") {
            "pod-token" => (200, keys),
            _ => (401, String::new()),
        }
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let token = write(directory.path(), "token", "pod-token");
    let agent = format!("{}/v1/credentials", cloud.endpoint);
    let identity = format!(
        "provider: Ecr, region: eu-west-1, endpoint: '{}'",
        cloud.endpoint
    );
    let surroundings = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
    ];
    let with = server(&policy(&upstream, &identity), &surroundings).await;
    assert_eq!(with.get("/v2/a/manifests/v1").await.status, 200);
    assert_eq!(cloud.seen()[1].header("x-amz-security-token"), "session-2");

    let without = server(&policy(&upstream, &identity), &[]).await;
    let (status, reason) = without.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(
        reason.contains("write role and tokenFile, or keysFile"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_google_has_a_token_of_its_own() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    upstream.require_token(None);
    upstream.protect(|protection| {
        protection.private = vec!["a".into()];
        protection.user = Some(("oauth2accesstoken".into(), "ya29.one".into()));
    });
    let cloud = FakeCloud::start(|seen| {
        let path = "GET /computeMetadata/v1/instance/service-accounts/default/token";
        if seen.line == path && seen.header("metadata-flavor") == "Google" {
            let text = r#"{"access_token":"ya29.one","expires_in":3599,"token_type":"Bearer"}"#;
            (200, text.to_owned())
        } else {
            (403, String::new())
        }
    })
    .await;
    let identity = format!("provider: Gar, endpoint: '{}'", cloud.endpoint);
    let server = server(&policy(&upstream, &identity), &[]).await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);
    server.advance(HOUR);
    assert_eq!(server.get("/v2/b/manifests/v1").await.status, 404);
    assert_eq!(cloud.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn google_takes_the_token_of_a_federated_pod() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    upstream.require_token(None);
    upstream.protect(|protection| {
        protection.private = vec!["a".into()];
        protection.user = Some(("oauth2accesstoken".into(), "ya29.two".into()));
    });
    let cloud = FakeCloud::start(|seen| match seen.line.as_str() {
        "POST /v1/token" if seen.body.contains("subject_token=pod-token") => (
            200,
            r#"{"access_token":"federated","expires_in":3600}"#.to_owned(),
        ),
        "POST /impersonate" if seen.header("authorization") == "Bearer federated" => (
            200,
            r#"{"accessToken":"ya29.two","expireTime":"2027-01-15T09:00:00Z"}"#.to_owned(),
        ),
        _ => (403, String::new()),
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let token = write(directory.path(), "token", "pod-token\n");
    let account = serde_json::json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{}/v1/token", cloud.endpoint),
        "service_account_impersonation_url": format!("{}/impersonate", cloud.endpoint),
        "credential_source": {"file": token},
    });
    let account = write(directory.path(), "account.json", &account.to_string());
    let identity = format!("provider: Gar, accountFile: {account}");
    let server = server(&policy(&upstream, &identity), &[]).await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_exchanges_the_token_of_a_pod_twice() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    upstream.require_token(None);
    upstream.protect(|protection| {
        protection.private = vec!["a".into()];
        protection.exchange = Some("entra-1".into());
        protection.identity = Some("refresh-9".into());
    });
    let cloud = FakeCloud::start(|seen| {
        let is_known = seen.line == "POST /tenant-1/oauth2/v2.0/token"
            && seen.body.contains("client_id=client-1")
            && seen.body.contains("client_assertion=pod-token");
        if is_known {
            (
                200,
                r#"{"access_token":"entra-1","expires_in":3599}"#.to_owned(),
            )
        } else {
            (401, String::new())
        }
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let token = write(directory.path(), "token", "pod-token\n");
    let authority = format!("{}/", cloud.endpoint);
    let surroundings = [
        ("AZURE_TENANT_ID", "tenant-1"),
        ("AZURE_CLIENT_ID", "client-1"),
        ("AZURE_FEDERATED_TOKEN_FILE", token.as_str()),
        ("AZURE_AUTHORITY_HOST", &authority),
    ];
    let server = server(&policy(&upstream, "provider: Acr"), &surroundings).await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    assert_eq!(upstream.count("POST /oauth2/exchange"), 1);
    assert_eq!(upstream.count("POST /token"), 1);
    assert_eq!(cloud.seen().len(), 1);
}
