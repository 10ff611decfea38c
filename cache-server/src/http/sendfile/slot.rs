//! What connects the bodies of a connection with its socket: the files that markers on their way stand for, in order.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::data::{Data, Region};
use super::job::Job;

/// The jobs of one connection. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Slot(Arc<Mutex<VecDeque<Job>>>);

impl Slot {
    /// Takes a job, and gives what stands for it. The caller gives it to the HTTP library at once.
    pub fn arm(&self, file: Arc<File>, region: Range<u64>) -> Data {
        let length = region.end.saturating_sub(region.start);
        self.jobs().push_back(Job::new(file, region));
        Data::Region(Region::new(length))
    }

    /// Whether a marker must come next.
    pub fn is_armed(&self) -> bool {
        !self.jobs().is_empty()
    }

    pub(super) fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
