//! The program itself: its command line, and what a kill leaves behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use cache_server::oci::{Algorithm, Digest};

use crate::support::{FakeUpstream, Fault, Gate, blob_path, content, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cache-server");

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

struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(directory: &Path, upstream: &FakeUpstream) -> Self {
        Self::start_by(Command::new(PROGRAM), directory, upstream)
    }

    fn start_by(command: Command, directory: &Path, upstream: &FakeUpstream) -> Self {
        Self::start_with(command, directory, upstream, "")
    }

    fn start_with(
        mut command: Command,
        directory: &Path,
        upstream: &FakeUpstream,
        tail: &str,
    ) -> Self {
        let config = directory.join("config.yaml");
        let text = format!(
            "server:\n  dataListen: 127.0.0.1:0\n  adminListen: 127.0.0.1:0\n  store: {}\n  logFormat: Json\npolicy:\n  upstreams: [{{host: r.test, endpoints: [\"{}\"]}}]\n  defaultUpstream: r.test\n{tail}",
            directory.join("store").display(),
            upstream.endpoint()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = command
            .args(["run", "--config"])
            .arg(config)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line: serde_json::Value =
                serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            if let Some(address) = line["data_address"].as_str() {
                break address.to_owned();
            }
        };
        // Read on: a full pipe would stop the program.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    async fn get(&self, path: &str) -> Result<(u16, Vec<u8>), reqwest::Error> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()?;
        let response = client
            .get(format!("http://{}{path}", self.address))
            .send()
            .await?;
        let status = response.status().as_u16();
        Ok((status, response.bytes().await?.to_vec()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file of the store has the content that its name says.
fn all_is_right(store: &Path) -> usize {
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
            process_kill(&process);
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

fn process_kill(process: &Process) {
    let id = rustix::process::Pid::from_child(&process.child);
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
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
    let id = rustix::process::Pid::from_child(&process.child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
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

/// The most memory that a process has had, in bytes (`VmHWM` of proc(5)).
fn peak_memory(process: &Process) -> u64 {
    let path = format!("/proc/{}/status", process.child.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kibibytes.parse::<u64>().unwrap() * 1024
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
    let peak = peak_memory(&process);
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
