//! Stored blobs as the kernel sends them: what comes out of the socket is the content, or less of it, never anything else.

use std::path::Path;
use std::sync::Arc;

use cache_server::oci::Digest;
use tokio::io::AsyncWriteExt;

use crate::support::{
    FakeUpstream, Fault, Gate, HOST, Raw, TestServer, blob_path, content, digest, eventually,
};

/// Around the size from which files are sent, around the length of a marker, and beyond a burst.
const SIZES: [usize; 6] = [
    64 * 1024 - 1,
    64 * 1024,
    64 * 1024 + 1,
    2 * 1024 * 1024,
    2 * 1024 * 1024 + 1,
    9 * 1024 * 1024 + 7,
];

struct Setting {
    _upstream: FakeUpstream,
    server: TestServer,
    content: Vec<u8>,
    digest: Digest,
    path: String,
}

/// A server that has one blob.
async fn stored(size: usize) -> Setting {
    let upstream = FakeUpstream::start().await;
    let content = content(size, 1);
    let digest = upstream.blob("a", content.clone());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{digest}");
    server.get(&path).await.body.unwrap();
    server.settled().await;
    Setting {
        _upstream: upstream,
        server,
        content,
        digest,
        path,
    }
}

async fn guard_failures(server: &TestServer) -> u64 {
    server.metric("larder_sendfile_guard_failures_total").await
}

/// Open descriptors of a file, in this process, where the server runs too.
fn descriptors(path: &Path) -> usize {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter(|entry| {
            let link = entry
                .as_ref()
                .ok()
                .and_then(|entry| std::fs::read_link(entry.path()).ok());
            link.is_some_and(|link| link == path)
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_files_of_every_size_are_what_was_stored() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    for (seed, size) in (1..).zip(SIZES) {
        let blob = upstream.blob("a", content(size, seed));
        let path = format!("/v2/a/blobs/{blob}");
        for outcome in ["larder; fwd=miss; stored", "larder; hit", "larder; hit"] {
            let reply = server.get(&path).await;
            assert_eq!(reply.cache_status(), outcome);
            assert_eq!(digest(reply.content()), blob, "{size}");
        }
    }
    assert_eq!(guard_failures(&server).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_any_place_and_length_are_what_was_stored() {
    let setting = stored(9 * 1024 * 1024 + 7).await;
    let mut random = fastrand::Rng::with_seed(7);
    let mut client = Raw::connect(setting.server.data_address()).await;
    for _ in 0..60 {
        let first = random.usize(..setting.content.len());
        let last = random.usize(first..setting.content.len());
        client
            .write(&format!(
                "GET {} HTTP/1.1\r\nHost: cache\r\nRange: bytes={first}-{last}\r\n\r\n",
                setting.path
            ))
            .await;
        let reply = client.reply(false).await;
        assert_eq!(reply.status, 206);
        assert!(
            reply.body == setting.content[first..=last],
            "{first}-{last}"
        );
    }
    assert_eq!(guard_failures(&setting.server).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_of_all_kinds_are_answered_in_order_to_a_slow_reader() {
    let upstream = FakeUpstream::start().await;
    let layer = content(3 * 1024 * 1024, 1);
    let image = upstream.image("a", "v1", std::slice::from_ref(&layer));
    let server = TestServer::of(&upstream).await;
    let manifest = format!("/v2/a/manifests/{}", image.digest);
    let blob = format!("/v2/a/blobs/{}", image.layers[0]);
    server.get(&manifest).await.body.unwrap();
    server.get(&blob).await.body.unwrap();

    let mut client = Raw::connect_narrow(server.data_address()).await;
    let request = |number: usize| match number % 5 {
        0 => format!("GET {manifest} HTTP/1.1\r\nHost: c\r\n\r\n"),
        1 => format!("GET {blob} HTTP/1.1\r\nHost: c\r\nRange: bytes={number}-2000000\r\n\r\n"),
        2 => format!("HEAD {blob} HTTP/1.1\r\nHost: c\r\n\r\n"),
        3 => format!("GET {blob} HTTP/1.1\r\nHost: c\r\nRange: bytes=5-99\r\n\r\n"),
        _ => "GET /nothing HTTP/1.1\r\nHost: c\r\n\r\n".to_owned(),
    };
    let requests: Vec<String> = (0..40).map(request).collect();
    client.write(&requests.concat()).await;
    for number in 0..40 {
        let reply = client.reply(number % 5 == 2).await;
        assert!(reply.whole);
        match number % 5 {
            0 => assert_eq!(reply.body, image.manifest),
            1 => assert!(reply.body == layer[number..=2_000_000], "{number}"),
            2 => assert_eq!(reply.headers["content-length"], layer.len().to_string()),
            3 => assert_eq!(reply.body, layer[5..=99]),
            _ => assert_eq!(reply.status, 404),
        }
    }
    assert_eq!(guard_failures(&server).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_and_those_that_close_get_whole_files_and_an_end() {
    let setting = stored(300_000).await;
    for request in [
        format!("GET {} HTTP/1.0\r\n\r\n", setting.path),
        format!(
            "GET {} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n",
            setting.path
        ),
    ] {
        let mut client = Raw::connect(setting.server.data_address()).await;
        client.write(&request).await;
        let reply = client.reply(false).await;
        assert!(reply.body == setting.content, "{request}");
        assert!(client.is_at_end().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_nothing_more_to_say_gets_the_whole_file() {
    let setting = stored(5 * 1024 * 1024).await;
    for _ in 0..5 {
        let mut client = Raw::connect_narrow(setting.server.data_address()).await;
        client
            .write(&format!("GET {} HTTP/1.1\r\nHost: c\r\n\r\n", setting.path))
            .await;
        client.stream.shutdown().await.unwrap();
        assert!(client.reply(false).await.body == setting.content);
        assert!(client.is_at_end().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_in_the_middle_leave_no_open_files() {
    let setting = stored(9 * 1024 * 1024).await;
    let address = setting.server.data_address();
    for number in 0..40 {
        let mut client = Raw::connect_narrow(address).await;
        client
            .write(&format!("GET {} HTTP/1.1\r\nHost: c\r\n\r\n", setting.path))
            .await;
        client.head().await;
        if number % 2 == 0 {
            // Unread bytes make it a reset anyway; this one says it at once.
            client.stream.set_zero_linger().unwrap();
        }
    }
    let path = blob_path(&setting.server.store(), &setting.digest);
    eventually("the file is closed", || async { descriptors(&path) == 0 }).await;
    let reply = setting.server.get(&setting.path).await;
    assert!(reply.content() == setting.content);
    assert_eq!(guard_failures(&setting.server).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_while_it_is_sent_breaks_the_connection() {
    let setting = stored(16 * 1024 * 1024).await;
    let mut client = Raw::connect_narrow(setting.server.data_address()).await;
    client
        .write(&format!("GET {} HTTP/1.1\r\nHost: c\r\n\r\n", setting.path))
        .await;
    let path = blob_path(&setting.server.store(), &setting.digest);
    eventually("the file is open", || async { descriptors(&path) == 1 }).await;
    // At the end of a page: the kernel clears the rest of one that is cut, and the socket's queue holds pages, not copies.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1024 * 1024)
        .unwrap();
    let reply = client.reply(false).await;
    assert!(!reply.whole);
    assert!(setting.content.starts_with(&reply.body), "other bytes came");
    assert!(client.is_at_end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_removed_while_it_is_sent_is_sent_to_the_end() {
    let setting = stored(9 * 1024 * 1024).await;
    let mut client = Raw::connect_narrow(setting.server.data_address()).await;
    client
        .write(&format!("GET {} HTTP/1.1\r\nHost: c\r\n\r\n", setting.path))
        .await;
    client.head().await;
    std::fs::remove_file(blob_path(&setting.server.store(), &setting.digest)).unwrap();
    // The head was read already; the rest of the connection is the body.
    let mut next = Raw::connect(setting.server.data_address()).await;
    let cold = next.get(&setting.path).await;
    assert!(cold.body == setting.content);
    assert!(client.rest(setting.content.len()).await == setting.content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_behind_its_fill_gets_what_was_written() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(4 * 1024 * 1024, 1);
    let blob = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("GET ", Fault::Gated(gate.clone()), 1);
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{blob}");
    gate.open(200);
    let mut first = Raw::connect(server.data_address()).await;
    first
        .write(&format!("GET {path} HTTP/1.1\r\nHost: c\r\n\r\n"))
        .await;
    first.head().await;
    let received = first.rest(3 * 1024 * 1024).await;
    assert!(received == bytes[..received.len()]);
    // It finds three mebibytes at once.
    let mut second = Raw::connect_narrow(server.data_address()).await;
    second
        .write(&format!("GET {path} HTTP/1.1\r\nHost: c\r\n\r\n"))
        .await;
    second.head().await;
    gate.open_for_good();
    assert!(second.rest(bytes.len()).await == bytes);
    assert_eq!(guard_failures(&server).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_memory_is_read_by_a_thread_that_may_wait() {
    let upstream = FakeUpstream::start().await;
    let content = content(4 * 1024 * 1024, 1);
    let digest = upstream.blob("a", content.clone());
    // On a disk: a directory for temporary files may be memory, which forgets nothing.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .directory(&Arc::new(directory))
        .start()
        .await;
    let path = format!("/v2/a/blobs/{digest}");
    server.get(&path).await.body.unwrap();
    server.settled().await;
    let file = std::fs::File::open(blob_path(&server.store(), &digest)).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let read_aheads = async || server.metric("larder_sendfile_read_aheads_total").await;
    let before = read_aheads().await;
    assert_eq!(server.get(&path).await.content(), content);
    let after = read_aheads().await;
    assert!(after > before);
    assert_eq!(server.get(&path).await.content(), content);
    assert_eq!(read_aheads().await, after);
}
