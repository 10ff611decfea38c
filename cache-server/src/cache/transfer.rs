//! Moves a blob's bytes to the thread that writes them: over one connection, or over several where the blob is large.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::{try_join, try_join_all};
use tokio::sync::mpsc;

use super::turns::{Turn, Turns};
use super::writer::Message;
use crate::upstream::{self, BlobStream, Place};

/// Why it ended early.
pub(super) enum Stopped {
    Upstream(upstream::Error),
    /// The writer is gone, and knows why.
    Writer,
}

/// What is behind the front of a blob. Whoever is free takes the next part, so that who reads the blob from its front is never
/// far behind what has come.
struct Parts {
    place: Place,
    /// Of the whole blob.
    length: u64,
    /// In order.
    untaken: Mutex<VecDeque<Range<u64>>>,
}

impl Parts {
    /// Moves parts over one connection until none is left, or until one can't be opened: there is one connection less then, as
    /// where an upstream's limit has no place for it, and others have the part.
    async fn share(&self, writer: &mpsc::Sender<Message>, turn: &mut Turn) -> Result<(), Stopped> {
        while let Some(part) = self.take() {
            match self.open(part.clone()).await {
                Ok(stream) => pump(stream, writer, turn).await?,
                Err(error) => {
                    tracing::debug!(%error, "a part of a blob is left to other connections");
                    self.untaken().push_front(part);
                    break;
                }
            }
        }
        Ok(())
    }

    async fn open(&self, part: Range<u64>) -> Result<BlobStream, upstream::Error> {
        self.place.clone().open_part(part, self.length).await
    }

    fn take(&self) -> Option<Range<u64>> {
        self.untaken().pop_front()
    }

    fn untaken(&self) -> MutexGuard<'_, VecDeque<Range<u64>>> {
        self.untaken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of the blob that the stream is the front of.
pub(super) async fn transfer(
    front: BlobStream,
    writer: &mpsc::Sender<Message>,
    turns: &Turns,
) -> Result<(), Stopped> {
    // A single part is asked for at once too: after the front, it would cost the way to the upstream once more.
    let rest = front.rest();
    let parts = Parts {
        place: front.place(),
        length: front.length().unwrap_or_default(),
        untaken: Mutex::new(rest.parts),
    };
    let sharing = (0..rest.connections).map(|_| async {
        let mut turn = Turn::none();
        parts.share(writer, &mut turn).await
    });
    let beginning = async {
        let mut turn = turns.take().await;
        pump(front, writer, &mut turn).await?;
        // Apart: requests need much room, and most blobs have one part only.
        Box::pin(parts.share(writer, &mut turn)).await?;
        Ok(turn)
    };
    let (turn, _) = try_join(beginning, try_join_all(sharing)).await?;
    // What nobody could open while others were at work.
    while let Some(part) = parts.take() {
        let stream = parts.open(part).await.map_err(Stopped::Upstream)?;
        Box::pin(pump(stream, writer, &mut Turn::none())).await?;
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
