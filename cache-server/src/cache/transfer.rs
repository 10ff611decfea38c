//! Moves a blob's bytes to the thread that writes them: over one connection, or over several where the blob is large.

use std::ops::Range;

use futures::future::{try_join, try_join_all};
use tokio::sync::mpsc;

use super::turns::{Turn, Turns};
use super::writer::Message;
use crate::upstream::{self, BlobStream};

/// So many bytes of a blob are moved in a turn; most layers have fewer. The rest of a larger one is in nobody's way.
const IN_TURN: u64 = 4 * 1024 * 1024;

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
    let rest = front.rest();
    // A small rest is not worth a second connection.
    let (parts, mut left) = if rest.len() > 1 {
        (rest, Vec::new())
    } else {
        (Vec::new(), rest)
    };
    let sharing = parts.into_iter().map(|part| async move {
        match open(part.clone()).await {
            Ok(stream) => pump(stream, writer, Turn::none()).await.map(|_| None),
            // One connection less: the front's takes it over.
            Err(error) => {
                tracing::debug!(%error, "a part of a blob is left for later");
                Ok(Some(part))
            }
        }
    });
    let beginning = async { pump(front, writer, turns.take().await).await };
    let (turn, untouched) = try_join(beginning, try_join_all(sharing)).await?;
    left.extend(untouched.into_iter().flatten());
    for part in left {
        let stream = open(part).await.map_err(Stopped::Upstream)?;
        pump(stream, writer, Turn::none()).await?;
    }
    writer
        .send(Message::End(turn))
        .await
        .map_err(|_| Stopped::Writer)
}

/// All of the stream. Returns the turn, if it still is its turn.
pub(super) async fn pump(
    mut stream: BlobStream,
    writer: &mpsc::Sender<Message>,
    mut turn: Turn,
) -> Result<Turn, Stopped> {
    let begun = stream.offset();
    loop {
        let offset = stream.offset();
        if offset - begun >= IN_TURN {
            turn.give_up();
        }
        let next = turn.wait_for(stream.next()).await;
        let Some(bytes) = next.map_err(Stopped::Upstream)? else {
            return Ok(turn);
        };
        writer
            .send(Message::Bytes { offset, bytes })
            .await
            .map_err(|_| Stopped::Writer)?;
    }
}
