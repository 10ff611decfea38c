//! Both ends of a socket: what a connection writes, and what it refuses to.

use std::fs::File;
use std::future::poll_fn;
use std::io::Write as _;

use bytes::Buf;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;
use crate::http::sendfile::Data;

struct Ends {
    connection: Connection,
    slot: Slot,
    client: TcpStream,
    metrics: Arc<Metrics>,
}

async fn ends() -> Ends {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let (slot, metrics) = (Slot::default(), Arc::new(Metrics::new().unwrap()));
    Ends {
        connection: Connection::new(stream, slot.clone(), Buffers::default(), metrics.clone()),
        slot,
        client,
        metrics,
    }
}

fn file(content: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Arc::new(file)
}

async fn write_vectored(connection: &mut Connection, slices: &[&[u8]]) -> io::Result<usize> {
    let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
    poll_fn(|context| Pin::new(&mut *connection).poll_write_vectored(context, &slices)).await
}

/// All that the client gets until the end.
async fn received(ends: Ends) -> Vec<u8> {
    let Ends {
        connection,
        mut client,
        ..
    } = ends;
    drop(connection);
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    bytes
}

async fn send_all(ends: &mut Ends, mut data: Data) -> io::Result<()> {
    while data.has_remaining() {
        let count = write_vectored(&mut ends.connection, &[data.chunk()]).await?;
        data.advance(count);
    }
    Ok(())
}

#[tokio::test]
async fn a_head_is_followed_by_its_file() {
    let mut ends = ends().await;
    let mut data = ends.slot.arm(file(b"0123456789"), 2..8);
    let count = write_vectored(&mut ends.connection, &[b"head ", data.chunk()])
        .await
        .unwrap();
    data.advance(count - 5);
    send_all(&mut ends, data).await.unwrap();
    assert!(!ends.slot.is_armed());
    assert_eq!(
        write_vectored(&mut ends.connection, &[b" more"])
            .await
            .unwrap(),
        5
    );
    assert_eq!(received(ends).await, b"head 234567 more");
}

#[tokio::test]
async fn a_file_that_the_kernel_does_not_send_is_copied() {
    let mut ends = ends().await;
    let data = ends.slot.arm(file(&[7; 10_000]), 0..10_000);
    for job in ends.slot.jobs().iter_mut() {
        job.copy();
    }
    send_all(&mut ends, data).await.unwrap();
    assert_eq!(received(ends).await, [7; 10_000]);
}

#[tokio::test]
async fn bytes_while_a_file_is_due_fail_the_connection() {
    for way in 0..3 {
        let mut ends = ends().await;
        let _data = ends.slot.arm(file(&[7; 100]), 0..100);
        // What a library that copies the marker would write.
        let result = match way {
            0 => write_vectored(&mut ends.connection, &[&[0; 100]]).await,
            1 => {
                poll_fn(|context| Pin::new(&mut ends.connection).poll_write(context, &[0; 100]))
                    .await
            }
            _ => write_vectored(&mut ends.connection, &[]).await,
        };
        result.unwrap_err();
        assert_eq!(ends.metrics.sendfile_guard_failures.get(), 1);
        assert_eq!(received(ends).await, b"");
    }
}

#[tokio::test]
async fn a_marker_that_no_file_belongs_to_fails_the_connection() {
    let marker = crate::http::sendfile::data::marker(100);
    let mut ends = ends().await;
    write_vectored(&mut ends.connection, &[b"head", marker])
        .await
        .unwrap_err();
    poll_fn(|context| Pin::new(&mut ends.connection).poll_write(context, marker))
        .await
        .unwrap_err();
    // Of another length than the file that is due.
    let _data = ends.slot.arm(file(&[7; 99]), 0..99);
    write_vectored(&mut ends.connection, &[marker])
        .await
        .unwrap_err();
    assert_eq!(ends.metrics.sendfile_guard_failures.get(), 3);
    assert_eq!(received(ends).await, b"");
}

#[tokio::test]
async fn a_file_that_became_shorter_fails_the_connection_and_pads_nothing() {
    let mut ends = ends().await;
    let data = ends.slot.arm(file(&[7; 100]), 0..200);
    assert_eq!(
        send_all(&mut ends, data).await.unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
    assert!(received(ends).await.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn after_a_burst_others_have_a_turn() {
    let mut ends = ends().await;
    let data = ends.slot.arm(file(&[7; 100]), 0..100);
    ends.connection.burst = BURST;
    let mut pauses = 0;
    let count = poll_fn(|context| {
        let slices = [IoSlice::new(data.chunk())];
        let poll = Pin::new(&mut ends.connection).poll_write_vectored(context, &slices);
        pauses += usize::from(poll.is_pending());
        poll
    })
    .await
    .unwrap();
    assert_eq!((count, pauses), (100, 1));
}

#[tokio::test]
async fn a_head_and_a_body_arrive_whole_whatever_their_size_and_however_slow_the_client_is() {
    for size in [0, 1, SMALL - 10, SMALL, 5 * SMALL] {
        let mut ends = ends().await;
        let answer = [vec![1; 10], vec![2; size]].concat();
        // More than the sockets hold, so that some writes end in the middle.
        let answers = 8 * 1024 * 1024 / answer.len().max(SMALL);
        let client = &mut ends.client;
        let connection = &mut ends.connection;
        let writing = async {
            for _ in 0..answers {
                let mut written = 0;
                while written < answer.len() {
                    let slices = [&answer[written.min(10)..10], &answer[written.max(10)..]];
                    written += write_vectored(connection, &slices).await.unwrap();
                }
            }
        };
        let reading = async {
            let mut read = vec![0; answer.len()];
            for _ in 0..answers {
                client.read_exact(&mut read).await.unwrap();
                assert!(read == answer, "an answer of {size} bytes");
            }
        };
        tokio::join!(writing, reading);
        assert_eq!(received(ends).await, b"");
    }
}
