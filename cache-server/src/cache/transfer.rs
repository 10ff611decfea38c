//! Moves a blob's bytes to the thread that writes them: over one connection, or over several where the blob is large.

use std::ops::Range;

use futures::future::{try_join, try_join_all};
use tokio::sync::mpsc;

use super::turns::{Turn, Turns};
use super::writer::Message;
use crate::upstream::{self, BlobStream};

/// Why it ended early.
pub(super) enum Stopped {
    Upstream(upstream::Error),
    /// The writer is gone, and knows why.
    Writer,
}

/// All of the blob that the stream is the front of.
pub(super) async fn transfer(
    front: BlobStream,
    writer: &mpsc::Sender<Message>,
    turns: &Turns,
) -> Result<(), Stopped> {
    let (place, length) = (front.place(), front.length().unwrap_or_default());
    let open = |part: Range<u64>| place.clone().open_part(part, length);
    // A single part too: asked for after the front, it would cost the way to the upstream once more.
    let sharing = front.rest().into_iter().map(|part| async move {
        match open(part.clone()).await {
            Ok(stream) => pump(stream, writer, &mut Turn::none()).await.map(|()| None),
            // One connection less: the front's takes it over.
            Err(error) => {
                tracing::debug!(%error, "a part of a blob is left for later");
                Ok(Some(part))
            }
        }
    });
    let beginning = async {
        let mut turn = turns.take().await;
        pump(front, writer, &mut turn).await.map(|()| turn)
    };
    let (turn, untouched) = try_join(beginning, try_join_all(sharing)).await?;
    for part in untouched.into_iter().flatten() {
        let stream = open(part).await.map_err(Stopped::Upstream)?;
        pump(stream, writer, &mut Turn::none()).await?;
    }
    writer
        .send(Message::End(turn))
        .await
        .map_err(|_| Stopped::Writer)
}

/// All of the stream.
pub(super) async fn pump(
    mut stream: BlobStream,
    writer: &mpsc::Sender<Message>,
    turn: &mut Turn,
) -> Result<(), Stopped> {
    loop {
        let offset = stream.offset();
        let next = turn.wait_for(stream.next()).await;
        let Some(bytes) = next.map_err(Stopped::Upstream)? else {
            return Ok(());
        };
        let count = bytes.len() as u64;
        writer
            .send(Message::Bytes { offset, bytes })
            .await
            .map_err(|_| Stopped::Writer)?;
        turn.moved(count);
    }
}
