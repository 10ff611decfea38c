//! Moves a blob's bytes to the thread that writes them: over one connection, or over several where the blob is large.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

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

/// Parts that no connection has taken, in order: whoever is free takes the next one, so that who reads the blob from its
/// front is never far behind what has come.
struct Untaken(Mutex<VecDeque<Range<u64>>>);

impl Untaken {
    fn take(&self) -> Option<Range<u64>> {
        self.parts().pop_front()
    }

    fn give_back(&self, part: Range<u64>) {
        self.parts().push_front(part);
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, VecDeque<Range<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of the blob that the stream is the front of.
pub(super) async fn transfer(
    front: BlobStream,
    writer: &mpsc::Sender<Message>,
    turns: &Turns,
) -> Result<(), Stopped> {
    let (place, length) = (front.place(), front.length().unwrap_or_default());
    let open = |part: Range<u64>| place.clone().open_part(part, length);
    // A single part is asked for at once too: after the front, it would cost the way to the upstream once more.
    let rest = front.rest();
    let untaken = Untaken(Mutex::new(rest.parts));
    let sharing = (0..rest.connections).map(|_| async {
        while let Some(part) = untaken.take() {
            match open(part.clone()).await {
                Ok(stream) => pump(stream, writer, &mut Turn::none()).await?,
                // One connection less: the others take it over, and in the end the front's.
                Err(error) => {
                    tracing::debug!(%error, "a part of a blob is left to other connections");
                    untaken.give_back(part);
                    break;
                }
            }
        }
        Ok(())
    });
    let beginning = async {
        let mut turn = turns.take().await;
        pump(front, writer, &mut turn).await?;
        while let Some(part) = untaken.take() {
            let stream = open(part).await.map_err(Stopped::Upstream)?;
            pump(stream, writer, &mut turn).await?;
        }
        Ok(turn)
    };
    let (turn, _) = try_join(beginning, try_join_all(sharing)).await?;
    // What others gave back after the front's connection had found nothing more to do.
    while let Some(part) = untaken.take() {
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
