//! Elections against an API server on loopback, by the type and by whole processes.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/lease_server.rs"]
mod lease_server;

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lease_server::LeaseServer;
use operator::election::{Election, Error, Timing};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

const QUICK: Timing = Timing {
    duration: Duration::from_secs(1),
    deadline: Duration::from_millis(600),
    renew: Duration::from_millis(50),
    retry: Duration::from_millis(50),
    request: Duration::from_millis(300),
};

fn candidate(server: &LeaseServer, pod: &str) -> Election {
    Election::new(
        server.client(),
        "larder-system",
        "larder-operator",
        pod,
        QUICK,
    )
}

#[tokio::test]
async fn one_of_many_leads_and_the_others_wait() {
    let server = LeaseServer::start().await;
    let leaders = Arc::new(AtomicUsize::new(0));
    let waiting: Vec<Arc<Notify>> = (0..8).map(|_| Arc::new(Notify::new())).collect();
    for (number, waits) in waiting.iter().enumerate() {
        let mut election = candidate(&server, &format!("pod-{number}"));
        let (leaders, waits) = (leaders.clone(), waits.clone());
        tokio::spawn(async move {
            election.acquire(|| waits.notify_one()).await;
            leaders.fetch_add(1, Ordering::SeqCst);
            // The others have seen a leader, which is this one.
            waits.notify_one();
            election.hold().await
        });
    }
    for waits in waiting {
        waits.notified().await;
    }
    assert_eq!(leaders.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn released_lease_goes_to_the_next_at_once() {
    let server = LeaseServer::start().await;
    let (mut first, mut second) = (candidate(&server, "first"), candidate(&server, "second"));
    first.acquire(|| {}).await;
    assert_eq!(server.holder(), first.identity());
    first.release().await.unwrap();
    assert_eq!(server.holder(), "");
    second
        .acquire(|| unreachable!("there is nobody to wait for"))
        .await;
    assert_eq!(server.holder(), second.identity());
    // What is the second's is not given back by the first.
    first.release().await.unwrap();
    assert_eq!(server.holder(), second.identity());
}

#[tokio::test]
async fn lease_of_a_dead_holder_is_taken_over_when_it_has_run_out() {
    let server = LeaseServer::start().await;
    let mut first = candidate(&server, "first");
    first.acquire(|| {}).await;
    drop(first);
    let mut second = candidate(&server, "second");
    let mut waited = 0;
    second.acquire(|| waited += 1).await;
    assert!(waited > 0, "it was taken from a holder that may be alive");
    assert_eq!(server.holder(), second.identity());
}

#[tokio::test]
async fn clocks_that_disagree_take_the_lease_from_nobody() {
    let server = LeaseServer::start().await;
    server.write(&json!({
        "holderIdentity": "late", "leaseDurationSeconds": 3600,
        "acquireTime": "1999-01-01T00:00:00.000000Z", "renewTime": "1999-01-01T00:00:00.000000Z",
    }));
    let waits = Notify::new();
    let mut election = candidate(&server, "first");
    tokio::select! {
        () = election.acquire(|| waits.notify_one()) => unreachable!("it was taken"),
        () = waits.notified() => {}
    }
    assert_eq!(server.holder(), "late");
}

#[tokio::test]
async fn holder_gives_up_when_the_api_server_is_silent() {
    let server = LeaseServer::start().await;
    let mut election = candidate(&server, "first");
    election.acquire(|| {}).await;
    server.fall_silent();
    let error = election.hold().await;
    assert!(matches!(error, Error::Expired { .. }), "{error}");
}

#[tokio::test]
async fn holder_notices_that_somebody_else_took_the_lease() {
    let server = LeaseServer::start().await;
    let mut election = candidate(&server, "first");
    election.acquire(|| {}).await;
    server.write(&json!({"holderIdentity": "thief", "leaseDurationSeconds": 3600}));
    insta::assert_snapshot!(election.hold().await, @"failed to keep Lease larder-system/larder-operator: it was taken by thief");
}

/// An operator as a process, which ends with the test.
struct Operator {
    child: Child,
    health: SocketAddr,
    _files: tempfile::TempDir,
}

impl Operator {
    fn start(server: &LeaseServer, pod: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let kubeconfig = files.path().join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server.url}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": {}}],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let health = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_larder-operator"))
            .args([
                "run",
                "--cache-server-image",
                "image",
                "--pod-namespace",
                "larder-system",
            ])
            .args(["--pod-name", pod, "--health-listen", &health.to_string()])
            .args(["--watch-namespace", "team-a", "--watch-namespace", "team-b"])
            .env("KUBECONFIG", kubeconfig)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            health,
            _files: files,
        }
    }

    /// The answer to a path, once there is one with the status 200.
    async fn ok(&self, path: &str) -> String {
        let mut again = tokio::time::interval(Duration::from_millis(20));
        loop {
            again.tick().await;
            if let Ok(mut stream) = tokio::net::TcpStream::connect(self.health).await {
                let request = format!("GET {path} HTTP/1.0\r\n\r\n");
                let mut answer = String::new();
                stream.write_all(request.as_bytes()).await.unwrap();
                stream.read_to_string(&mut answer).await.unwrap();
                if answer.starts_with("HTTP/1.0 200") {
                    return answer;
                }
            }
        }
    }

    /// Waits for the end of the process.
    async fn end(mut self) -> ExitStatus {
        let wait = move || self.child.wait().unwrap();
        tokio::task::spawn_blocking(wait).await.unwrap()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_operator_is_ready_while_it_waits_and_works_when_the_first_ends() {
    let server = LeaseServer::start().await;
    let first = Operator::start(&server, "first");
    server.until(|holder| holder.starts_with("first")).await;
    first.ok("/readyz").await;
    let second = Operator::start(&server, "second");
    second.ok("/readyz").await;
    assert!(
        first
            .ok("/metrics")
            .await
            .contains("larder_operator_leader 1")
    );
    assert!(
        second
            .ok("/metrics")
            .await
            .contains("larder_operator_leader 0")
    );
    let pid = first.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(first.end().await.success());
    server.until(|holder| holder.starts_with("second")).await;
    second.ok("/readyz").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_namespace_is_watched_and_so_are_kinds_that_were_there_before() {
    // One group is out of order, and hides none of the others.
    let server = LeaseServer::start().await;
    let _operator = Operator::start(&server, "first");
    for namespace in ["team-a", "team-b"] {
        for path in [
            format!("/apis/larder.dev/v1alpha1/namespaces/{namespace}/registrycaches"),
            format!("/apis/larder.dev/v1alpha1/namespaces/{namespace}/cachepolicies"),
            format!("/apis/apps/v1/namespaces/{namespace}/statefulsets"),
            format!("/apis/monitoring.coreos.com/v1/namespaces/{namespace}/servicemonitors"),
        ] {
            server.until_asked(&path).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_lease_ends_the_process() {
    let server = LeaseServer::start().await;
    let operator = Operator::start(&server, "first");
    server.until(|holder| holder.starts_with("first")).await;
    server.write(&json!({"holderIdentity": "thief", "leaseDurationSeconds": 3600}));
    let status = operator.end().await;
    assert_eq!(status.code(), Some(1));
    assert_eq!(server.holder(), "thief");
}
