//! Memory of the program under many downloads over TLS of one large blob, which most clients stop to read: it follows neither the
//! blob's size nor what waits for them.

use std::path::{Path, PathBuf};

use cache_server::oci::Digest;
use futures::future::join_all;

use crate::support::{Authority, FakeUpstream, Program, blob_path, eventually};

const SIZE: usize = 128 << 20;
const DOWNLOADS: usize = 300;
/// What the program may need without any of them.
const PROGRAM: u64 = 64 << 20;
/// What a client reads before it stops.
const READ: usize = 64 << 10;

/// How the downloads share connections.
#[derive(Clone, Copy)]
struct Wire {
    version: http::Version,
    /// On each connection.
    downloads: usize,
    /// Bytes that each download may cost.
    each: u64,
}

struct Scene {
    program: Program,
    url: String,
    authority: Authority,
    wire: Wire,
    stored: PathBuf,
    _directory: tempfile::TempDir,
}

impl Scene {
    async fn start(upstream: &FakeUpstream, digest: &Digest, wire: Wire) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let tls = authority.write(&directory.path().join("tls"), false);
        let secure = format!(
            "  tls: {{certificateFile: {}, keyFile: {}}}\n",
            tls.certificate_file.display(),
            tls.key_file.display()
        );
        let store = directory.path().join("store");
        let config = config(directory.path(), &store, &secure, upstream);
        let program = Program::start(&config, "info").await;
        let address = program.said("data_address").unwrap();
        Self {
            url: format!("https://{address}/v2/a/blobs/{digest}"),
            stored: blob_path(&store, digest),
            program,
            authority,
            wire,
            _directory: directory,
        }
    }

    /// One with connections of its own.
    fn client(&self) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(self.authority.pem.as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([root])
            // What one download leaves must not take the room of the others.
            .http2_initial_stream_window_size(64 << 10)
            .http2_initial_connection_window_size(16 << 20);
        if self.wire.version == http::Version::HTTP_11 {
            builder = builder.http1_only();
        }
        builder.build().unwrap()
    }

    /// A download that has begun and goes on when somebody reads it.
    async fn begin(&self, client: &reqwest::Client) -> (reqwest::Response, Vec<u8>) {
        let mut response = client.get(&self.url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.version(), self.wire.version);
        let mut read = Vec::new();
        while read.len() < READ {
            read.extend(response.chunk().await.unwrap().unwrap());
        }
        (response, read)
    }

    /// As many downloads as there are, none of which is read any more.
    async fn begin_all(&self) -> Vec<(reqwest::Response, Vec<u8>)> {
        let shared = self.wire.downloads;
        let clients: Vec<_> = (0..DOWNLOADS / shared).map(|_| self.client()).collect();
        let each = clients.iter().flat_map(|client| vec![client; shared]);
        join_all(each.map(|client| self.begin(client))).await
    }
}

fn config(directory: &Path, store: &Path, secure: &str, upstream: &FakeUpstream) -> PathBuf {
    let text = format!(
        "server:\n  dataListen: 127.0.0.1:0\n  adminListen: 127.0.0.1:0\n  store: {}\n  logFormat: Json\n{secure}policy:\n  upstreams: [{{host: r.test, endpoints: [\"{}\"]}}]\n  defaultUpstream: r.test\n",
        store.display(),
        upstream.endpoint()
    );
    let path = directory.join("config.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

async fn downloads_need_no_memory_of_the_size(wire: Wire) {
    let upstream = FakeUpstream::start().await;
    let bytes = vec![7; SIZE];
    let digest = upstream.blob("a", bytes.clone());
    let scene = Scene::start(&upstream, &digest, wire).await;
    let reader = scene.client();
    // Cold, and then stored: most clients stop reading, which must not fill the server's memory either.
    for _ in 0..2 {
        let whole = async {
            let (response, mut read) = scene.begin(&reader).await;
            read.extend(response.bytes().await.unwrap());
            read
        };
        let (mut slow, whole) = tokio::join!(scene.begin_all(), whole);
        assert!(whole == bytes);
        // Those that go on get the rest.
        let (response, mut read) = slow.swap_remove(DOWNLOADS / 2);
        read.extend(response.bytes().await.unwrap());
        assert!(read == bytes);
        drop(slow);
        eventually("it is stored", || async { scene.stored.exists() }).await;
    }
    let peak = scene.program.peak_memory();
    assert!(peak < PROGRAM + wire.each * DOWNLOADS as u64, "{peak}");
    assert_eq!(upstream.body_bytes(), SIZE as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_over_tls_need_no_memory_of_the_size_of_the_blob() {
    let wire = Wire {
        version: http::Version::HTTP_11,
        downloads: 1,
        each: 128 << 10,
    };
    downloads_need_no_memory_of_the_size(wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_that_share_connections_need_no_memory_of_the_size_of_the_blob() {
    let wire = Wire {
        version: http::Version::HTTP_2,
        downloads: 50,
        each: 96 << 10,
    };
    downloads_need_no_memory_of_the_size(wire).await;
}
