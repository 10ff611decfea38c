//! Reads a file while a fill writes it. The end of the whole is held back until the content is known to be right.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::watch;

use super::Error;
use super::fill::{End, Progress};

/// Bytes at the end of the whole that no reader gets before the digest matched.
pub const HELD_BACK: u64 = 1024;

/// A reader of a part of a growing file.
#[derive(Debug)]
pub struct Growing {
    progress: watch::Receiver<Progress>,
    file: Arc<File>,
    size: u64,
    left: Range<u64>,
}

impl Growing {
    /// `range` lies within `size`.
    pub(super) fn new(
        progress: watch::Receiver<Progress>,
        file: Arc<File>,
        size: u64,
        range: Range<u64>,
    ) -> Self {
        Self {
            progress,
            file,
            size,
            left: range,
        }
    }

    pub fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// What is still to be read.
    pub fn left(&self) -> Range<u64> {
        self.left.clone()
    }

    /// Waits until something can be read, and says what. Empty at the end.
    pub async fn readable(&mut self) -> Result<Range<u64>, Error> {
        if self.left.is_empty() {
            return Ok(self.left.clone());
        }
        let (size, left) = (self.size, self.left.clone());
        let progress = self
            .progress
            .wait_for(|progress| {
                progress.end.is_some() || progress.readable_to(size, left.start) > left.start
            })
            .await
            .map_err(|_| Error::Gone)?;
        let to = progress.readable_to(size, left.start);
        match &progress.end {
            Some(End::Failed(error)) if to <= left.start => Err(error.clone()),
            Some(End::AlreadyThere) => Err(Error::Gone),
            _ => Ok(left.start..to.min(left.end)),
        }
    }

    /// Says that so many bytes from the start of what is left were read.
    pub fn advance(&mut self, count: u64) {
        self.left.start += count;
    }
}

impl Progress {
    /// Up to where a reader that stands at `position` may read.
    fn readable_to(&self, size: u64, position: u64) -> u64 {
        match self.verified {
            Some(_) => size,
            None => self
                .segments
                .end_from(position)
                .min(size.saturating_sub(HELD_BACK)),
        }
    }
}
