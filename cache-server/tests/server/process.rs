//! The program itself: its command line, and what a kill leaves behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use cache_server::oci::{Algorithm, Digest};

use crate::support::{FakeUpstream, Fault, Gate, Raw, blob_path, content, eventually, peak_memory};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_cache-server");

fn check(path: &Path) -> Output {
    Command::new(PROGRAM)
        .arg("check")
        .arg(path)
        .output()
        .unwrap()
}

#[test]
fn the_example_is_valid() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/standalone.yaml");
    let output = check(&example);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn check_says_what_is_wrong_and_where() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("static.yaml", "store: /data\n");
    assert!(check(directory.path()).status.success());
    for (name, text) in [
        ("policy.yaml", "upstreams:\n- host: docker.io\n  prot: 1\n"),
        (
            "policy.yaml",
            "upstreams:\n- host: docker.io\ndefaultUpstream: quay.io\n",
        ),
        ("static.yaml", "stroe: /data\n"),
    ] {
        write(name, text);
        let output = check(directory.path());
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        let error = error.replace(directory.path().to_str().unwrap(), "<directory>");
        insta::assert_snapshot!(error);
    }
    assert_eq!(
        check(&directory.path().join("nothing")).status.code(),
        Some(1)
    );
}

#[test]
fn what_check_says_of_one_file_names_line_and_field() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    let upstreams = "policy:\n  upstreams:\n  - host: docker.io\n";
    let said: Vec<_> = [
        ("duplicate key", format!("{upstreams}    host: quay.io\n")),
        ("duplicate section", format!("{upstreams}policy: {{}}\n")),
        ("unknown section", "server: {}\nrules: []\n".to_owned()),
        (
            "unknown field",
            format!("{upstreams}    endpoint: https://a\n"),
        ),
        (
            "number for a list",
            format!("{upstreams}    endpoints: 7\n"),
        ),
        (
            "text for a number",
            format!("{upstreams}    limits: {{concurrency: many}}\n"),
        ),
        ("list for a text", "server:\n  store: [a]\n".to_owned()),
        (
            "bad address",
            "server:\n  dataListen: localhost\n".to_owned(),
        ),
        (
            "bad duration",
            format!("{upstreams}  freshness: {{refreshAfter: 5 minutes}}\n"),
        ),
        (
            "bad host",
            "policy:\n  upstreams:\n  - host: https://docker.io\n".to_owned(),
        ),
        ("bad action", format!("{upstreams}  defaultAction: Drop\n")),
        (
            "missing field",
            "policy:\n  upstreams:\n  - endpoints: []\n".to_owned(),
        ),
        ("tabs", "policy:\n\tupstreams: []\n".to_owned()),
        ("unclosed", "policy: {upstreams: [\n".to_owned()),
        ("no upstream", "policy: {upstreams: []}\n".to_owned()),
        (
            "a rule for nobody",
            format!(
                "{upstreams}  rules:\n  - name: a\n    upstreams: [quay.io]\n    action: Cache\n"
            ),
        ),
        (
            "one port for two",
            "server:\n  dataListen: \"[::]:1\"\n  adminListen: \"[::]:1\"\n".to_owned(),
        ),
        (
            "missing file",
            format!("{upstreams}    caFile: /nowhere/ca.pem\n"),
        ),
    ]
    .into_iter()
    .map(|(name, text)| {
        std::fs::write(&file, text).unwrap();
        let output = check(&file);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let error = String::from_utf8(output.stderr).unwrap();
        let error = error.replace(file.to_str().unwrap(), "<file>");
        format!("== {name}\n{error}")
    })
    .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_broken_static_file_refuses_to_start() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("static.yaml"), "stroe: /data\n").unwrap();
    let output = Command::new(PROGRAM)
        .arg("--config")
        .arg(directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stroe"));
}

/// The program, killed when the test ends.
pub(crate) struct Process {
    pub(crate) child: Child,
    address: String,
    admin_address: String,
    client: reqwest::Client,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn start(directory: &Path, upstream: &FakeUpstream) -> Self {
        Self::start_by(Command::new(PROGRAM), directory, upstream)
    }

    pub(crate) fn start_by(command: Command, directory: &Path, upstream: &FakeUpstream) -> Self {
        Self::start_with(command, directory, upstream, "")
    }

    /// Starts it, and does not wait until it serves.
    pub(crate) fn spawn(
        mut command: Command,
        directory: &Path,
        upstream: &FakeUpstream,
        tail: &str,
    ) -> Child {
        let config = directory.join("config.yaml");
        let text = format!(
            "server:\n  dataListen: 127.0.0.1:0\n  adminListen: 127.0.0.1:0\n  store: {}\n  logFormat: Json\npolicy:\n  upstreams: [{{host: r.test, endpoints: [\"{}\"]}}]\n  defaultUpstream: r.test\n{tail}",
            directory.join("store").display(),
            upstream.endpoint()
        );
        std::fs::write(&config, text).unwrap();
        command
            .args(["run", "--config"])
            .arg(config)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn start_with(command: Command, directory: &Path, upstream: &FakeUpstream, tail: &str) -> Self {
        Self::try_start(command, directory, upstream, tail)
            .unwrap_or_else(|said| panic!("the program ended at its start: {said:?}"))
    }

    /// `Err`: it ended, and said this.
    pub(crate) fn try_start(
        command: Command,
        directory: &Path,
        upstream: &FakeUpstream,
        tail: &str,
    ) -> Result<Self, Vec<String>> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut child = Self::spawn(command, directory, upstream, tail);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut before = Vec::new();
        let (address, admin_address) = loop {
            let Some(line) = lines.next() else {
                let _ = child.wait();
                return Err(before);
            };
            let line = line.unwrap();
            before.push(line.clone());
            let Ok(line) = serde_json::from_str::<serde_json::Value>(&line) else {
                continue;
            };
            if let (Some(data), Some(admin)) = (
                line["data_address"].as_str(),
                line["admin_address"].as_str(),
            ) {
                break (data.to_owned(), admin.to_owned());
            }
        };
        let log = Arc::new(Mutex::new(before));
        let kept = log.clone();
        // Read on: a full pipe would stop the program.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .unwrap();
        Ok(Self {
            child,
            address,
            admin_address,
            client,
            log,
        })
    }

    /// Whether a line of its log has the text in it.
    pub(crate) fn has_said(&self, text: &str) -> bool {
        let log = self.log.lock().unwrap();
        log.iter().any(|line| line.contains(text))
    }

    pub(crate) async fn send(&self, path: &str) -> Result<reqwest::Response, reqwest::Error> {
        let url = format!("http://{}{path}", self.address);
        self.client.get(url).send().await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<(u16, Vec<u8>), reqwest::Error> {
        let response = self.send(path).await?;
        let status = response.status().as_u16();
        Ok((status, response.bytes().await?.to_vec()))
    }

    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.admin_address);
        let response = self.client.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// The value of one line of the metrics page; 0 if it is not there.
    pub(crate) async fn metric(&self, line: &str) -> u64 {
        let (_, page) = self.admin("/metrics").await;
        page.lines()
            .find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0)
    }

    /// Waits until no fill runs: what was fetched is durable then.
    pub(crate) async fn settled(&self) {
        eventually("no fill runs", || async {
            self.metric("larder_fills_running").await == 0
        })
        .await;
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file of the store has the content that its name says.
pub(crate) fn all_is_right(store: &Path) -> usize {
    let mut count = 0;
    for prefix in std::fs::read_dir(store.join("blobs/sha256"))
        .into_iter()
        .flatten()
    {
        for file in std::fs::read_dir(prefix.unwrap().path()).unwrap() {
            let file = file.unwrap();
            let found = Digest::of(Algorithm::Sha256, &std::fs::read(file.path()).unwrap());
            assert_eq!(found.hex(), file.file_name().to_str().unwrap());
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_fill_leaves_nothing_wrong() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let upstream = FakeUpstream::start().await;
    let blobs: Vec<_> = (0..12)
        .map(|seed| content(120_000 + 7 * usize::try_from(seed).unwrap(), seed))
        .collect();
    for (round, bytes) in blobs.iter().enumerate() {
        let digest = upstream.blob("a", bytes.clone());
        let path = format!("/v2/a/blobs/{digest}");
        let gate = Gate::closed();
        upstream.heal();
        upstream.fault(digest.hex(), Fault::Gated(gate.clone()), 1);
        let mut process = Process::start(directory.path(), &upstream);
        // Up to eight pieces make the whole: the last rounds kill around the commit.
        gate.open(1 + round % 9);
        let sent = upstream.body_bytes();
        let (reply, ()) = tokio::join!(process.get(&path), async {
            eventually("the upstream sends", || async {
                upstream.body_bytes() > sent
            })
            .await;
            process.signal(rustix::process::Signal::KILL);
        });
        if let Ok((status, body)) = reply {
            assert!(status == 200 && body == *bytes);
        }
        process.child.wait().unwrap();
        all_is_right(&store);
        drop(process);

        upstream.heal();
        let process = Process::start(directory.path(), &upstream);
        assert_eq!(std::fs::read_dir(store.join("tmp")).unwrap().count(), 0);
        let (status, body) = process.get(&path).await.unwrap();
        assert!(status == 200 && body == *bytes);
        let stored = blob_path(&store, &digest);
        eventually("it is stored", || async { stored.exists() }).await;
    }
    assert_eq!(all_is_right(&store), blobs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_program_with_success() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start().await;
    let digest = upstream.blob("a", content(5000, 1));
    let mut process = Process::start(directory.path(), &upstream);
    assert_eq!(
        process
            .get(&format!("/v2/a/blobs/{digest}"))
            .await
            .unwrap()
            .0,
        200
    );
    process.signal(rustix::process::Signal::TERM);
    let status = tokio::task::spawn_blocking(move || process.child.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_download_end_and_then_ends_the_program() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start().await;
    let bytes = content(200_000, 1);
    let digest = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("GET ", Fault::Gated(gate.clone()), 1);
    let mut process = Process::start(directory.path(), &upstream);
    gate.open(1);
    let path = format!("/v2/a/blobs/{digest}");
    let (reply, ()) = tokio::join!(process.get(&path), async {
        eventually("the download is under way", || async {
            upstream.body_bytes() > 0
        })
        .await;
        let id = rustix::process::Pid::from_child(&process.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        eventually("no one is let in", || async {
            tokio::net::TcpStream::connect(&process.address)
                .await
                .is_err()
        })
        .await;
        gate.open_for_good();
    });
    let (status, body) = reply.unwrap();
    assert!(status == 200 && body == bytes);
    let status = tokio::task::spawn_blocking(move || process.child.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(all_is_right(&directory.path().join("store")), 1);
}

/// Begins a download and reads no more than its first mebibyte; the connection stays open.
async fn begin(process: &Process, path: &str) -> tokio::net::TcpStream {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut connection = tokio::net::TcpStream::connect(&process.address)
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 1 << 20];
    connection.read_exact(&mut bytes).await.unwrap();
    assert!(bytes.starts_with(b"HTTP/1.1 200 "));
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_of_a_large_blob_need_no_memory_of_its_size() {
    const SIZE: usize = 256 << 20;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start().await;
    let bytes = vec![7; SIZE];
    let digest = upstream.blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    let process = Process::start(directory.path(), &upstream);
    // Cold, and then stored: most clients stop reading, which must not fill the server's memory either.
    for _ in 0..2 {
        let slow = futures::future::join_all((0..300).map(|_| begin(&process, &path)));
        let (slow, whole) = tokio::join!(slow, process.get(&path));
        assert!(whole.unwrap().1 == bytes);
        drop(slow);
        let stored = blob_path(&directory.path().join("store"), &digest);
        eventually("it is stored", || async { stored.exists() }).await;
    }
    let peak = peak_memory(&process.child);
    assert!(peak < SIZE as u64 / 2, "{peak}");
    assert_eq!(upstream.body_bytes(), SIZE as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_breaks_one_body_at_most_and_stops_no_pull() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let upstream = FakeUpstream::start().await;
    let bytes = content(400_000, 1);
    let digest = upstream.blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    // A limit on the size of files: writes beyond it fail, once its signal is ignored.
    let mut limited = Command::new("bash");
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"",
        PROGRAM,
    ]);
    let process = Process::start_by(limited, directory.path(), &upstream);
    // Broken, unless the write failed before anything was promised.
    if let Ok((status, body)) = process.get(&path).await {
        assert!(status == 200 && body == bytes);
    }
    for _ in 0..2 {
        let (status, body) = process.get(&path).await.unwrap();
        assert!(status == 200 && body == bytes);
    }
    assert_eq!(all_is_right(&store), 0);
    assert_eq!(std::fs::read_dir(store.join("tmp")).unwrap().count(), 0);
    // What fits goes on being stored, later on; what is stored is a hit now.
    drop(process);
    let process = Process::start(directory.path(), &upstream);
    assert_eq!(process.get(&path).await.unwrap().1, bytes);
    let stored = blob_path(&store, &digest);
    eventually("it is stored", || async { stored.exists() }).await;
    assert_eq!(all_is_right(&store), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_neither_hits_nor_misses() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start().await;
    let store = directory.path().join("store");
    std::fs::create_dir(&store).unwrap();
    // A disk of four megabytes that nobody else sees.
    let mut limited = Command::new("unshare");
    limited.args(["--map-root-user", "--mount", "bash", "-c"]);
    limited.arg("mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"");
    limited.arg(&store).arg(PROGRAM);
    let process = Process::start_with(
        limited,
        directory.path(),
        &upstream,
        "  capacity: {maxSize: 64Mi}\n",
    );
    let blobs: Vec<_> = (0..8).map(|seed| content(1_000_000, seed)).collect();
    for round in 0..2 {
        for bytes in &blobs {
            let path = format!("/v2/a/blobs/{}", upstream.blob("a", bytes.clone()));
            let (status, body) = process.get(&path).await.unwrap();
            assert!(status == 200 && body == *bytes, "round {round}");
        }
    }
    // The first ones were stored, and asked for once.
    let first = Digest::of(Algorithm::Sha256, &blobs[0]);
    assert_eq!(upstream.count(first.hex()), 1);
    let last = Digest::of(Algorithm::Sha256, &blobs[7]);
    assert!(upstream.count(last.hex()) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fsck_finds_a_flipped_byte_and_repairs_it() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let upstream = FakeUpstream::start().await;
    let bytes = content(100_000, 1);
    let digest = upstream.blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    let process = Process::start(directory.path(), &upstream);
    assert_eq!(process.get(&path).await.unwrap().1, bytes);
    let stored = blob_path(&store, &digest);
    eventually("it is stored", || async { stored.exists() }).await;
    let fsck = |more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("fsck").arg(&store).args(more).output().unwrap()
    };
    assert!(fsck(&[]).status.success());
    let file = blob_path(&store, &digest);
    let mut rotten = bytes.clone();
    rotten[7] ^= 0x80;
    std::fs::write(&file, rotten).unwrap();
    let found = fsck(&[]);
    assert_eq!(found.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&found.stdout),
        format!("wrong: {digest}\n")
    );
    assert!(fsck(&["--repair"]).status.success() && !file.exists());
    // The server that runs on it goes on.
    assert_eq!(process.get(&path).await.unwrap().1, bytes);
    assert!(fsck(&[]).status.success());
    let nothing = Command::new(PROGRAM)
        .arg("fsck")
        .arg(directory.path())
        .output();
    assert_eq!(nothing.unwrap().status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_can_open_nothing_more_waits_for_room_instead_of_spinning() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start().await;
    let process = Process::start(directory.path(), &upstream);
    // Accepted before, since the admin port can't accept either.
    let mut admin = Raw::connect(process.admin_address.parse().unwrap()).await;
    assert_eq!(admin.get("/healthz").await.status, 200);
    let id = rustix::process::Pid::from_child(&process.child);
    let limit = |files| {
        let limit = rustix::process::Rlimit {
            current: Some(files),
            maximum: Some(1024),
        };
        rustix::process::prlimit(Some(id), rustix::process::Resource::Nofile, limit).unwrap()
    };
    // No number is left: these are input, output and errors.
    limit(3);
    let _waiting = Raw::connect(process.address.parse().unwrap()).await;
    let mut failures = 0;
    // The first pauses are those of a few milliseconds: a loop without them would count thousands.
    while failures < 6 {
        let page = admin.get("/metrics").await.body;
        let page = String::from_utf8(page).unwrap();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("larder_accept_failures_total "));
        failures = line.unwrap().parse().unwrap();
    }
    assert!(failures < 50, "{failures}");
    limit(1024);
    let served = || async {
        process
            .get("/v2/")
            .await
            .is_ok_and(|(status, _)| status == 200)
    };
    eventually("there is room again", served).await;
}
