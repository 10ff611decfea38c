//! What goes on on one connection, and when it is too little. The decision is pure; `serve` carries it out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crds::static_config::Connections;

/// Counts of one connection, whatever protocol it speaks.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Requests whose answer is not over.
    running: AtomicUsize,
    /// Pieces of bodies that the client has not taken whole.
    offered: AtomicUsize,
    /// Bytes of bodies that the socket has taken, ever.
    taken: AtomicU64,
}

/// A request that runs until this is dropped.
#[derive(Debug)]
pub struct Running(Arc<Traffic>);

/// The counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub running: usize,
    pub offered: usize,
    pub taken: u64,
}

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    Fine,
    /// No request for a while: it may end when the one that comes now, if any, is answered.
    Idle,
    /// The client takes too little.
    Slow,
}

/// Looks at samples of one connection.
#[derive(Debug)]
pub struct Watch {
    idle_after: Duration,
    window: Duration,
    /// Bytes in a window.
    least: u64,
    idle_since: Option<Instant>,
    /// Since when bytes wait for the client without a pause, and what it had taken by then.
    waiting_since: Option<(Instant, u64)>,
}

impl Traffic {
    pub fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    pub fn is_idle(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }

    pub fn sample(&self) -> Sample {
        Sample {
            running: self.running.load(Ordering::Relaxed),
            offered: self.offered.load(Ordering::Relaxed),
            taken: self.taken.load(Ordering::Relaxed),
        }
    }
}

impl Running {
    /// A piece of a body goes to the HTTP library.
    pub fn offer(&self) {
        self.0.offered.fetch_add(1, Ordering::Relaxed);
    }

    /// The library has no more use for a piece.
    pub fn withdraw(&self) {
        self.0.offered.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn take(&self, bytes: u64) {
        self.0.taken.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watch {
    pub fn new(limits: &Connections) -> Self {
        let window = Duration::from(limits.rate_window);
        Self {
            idle_after: limits.header_timeout.into(),
            window,
            least: limits
                .minimum_rate
                .as_bytes()
                .saturating_mul(window.as_secs()),
            idle_since: None,
            waiting_since: None,
        }
    }

    /// How often to look.
    pub fn interval(&self) -> Duration {
        (self.window / 8).min(self.idle_after / 2)
    }

    /// A client is slow only where bytes waited for it all the time: an upstream's slowness is none of its own. The socket
    /// takes bytes in large bites from a slow client, hence the long window.
    pub fn look(&mut self, sample: Sample, now: Instant) -> Finding {
        if sample.running > 0 {
            self.idle_since = None;
        } else if now.duration_since(*self.idle_since.get_or_insert(now)) >= self.idle_after {
            return Finding::Idle;
        }
        if sample.offered == 0 {
            self.waiting_since = None;
            return Finding::Fine;
        }
        let (since, before) = *self.waiting_since.get_or_insert((now, sample.taken));
        if now.duration_since(since) < self.window {
            return Finding::Fine;
        }
        self.waiting_since = Some((now, sample.taken));
        if sample.taken - before < self.least {
            Finding::Slow
        } else {
            Finding::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Seen {
        watch: Watch,
        start: Instant,
    }

    impl Seen {
        fn new() -> Self {
            Self {
                watch: Watch::new(&Connections::default()),
                start: Instant::now(),
            }
        }

        fn at(&mut self, seconds: u64, offered: usize, taken: u64) -> Finding {
            let sample = Sample {
                running: 1,
                offered,
                taken,
            };
            let now = self.start + Duration::from_secs(seconds);
            self.watch.look(sample, now)
        }
    }

    #[test]
    fn a_client_below_the_rate_for_a_whole_window_is_slow() {
        let mut seen = Seen::new();
        let least = 4096 * 300;
        assert_eq!(seen.at(0, 1, 0), Finding::Fine);
        assert_eq!(seen.at(299, 1, 0), Finding::Fine);
        assert_eq!(seen.at(300, 1, least), Finding::Fine);
        assert_eq!(seen.at(600, 1, 2 * least - 1), Finding::Slow);
    }

    #[test]
    fn a_moment_without_waiting_bytes_begins_a_new_window() {
        let mut seen = Seen::new();
        assert_eq!(seen.at(0, 1, 0), Finding::Fine);
        assert_eq!(seen.at(200, 0, 10), Finding::Fine);
        assert_eq!(seen.at(400, 1, 10), Finding::Fine);
        assert_eq!(seen.at(699, 1, 10), Finding::Fine);
        assert_eq!(seen.at(700, 1, 10), Finding::Slow);
    }

    #[test]
    fn a_connection_is_idle_only_without_a_request() {
        let mut seen = Seen::new();
        let nothing = Sample {
            running: 0,
            offered: 0,
            taken: 0,
        };
        let at = |seconds| seen.start + Duration::from_secs(seconds);
        let moments = [at(0), at(29), at(30)];
        let found = moments.map(|now| seen.watch.look(nothing, now));
        assert_eq!(found, [Finding::Fine, Finding::Fine, Finding::Idle]);
        assert_eq!(seen.at(31, 0, 0), Finding::Fine);
        let later = seen.start + Duration::from_secs(40);
        assert_eq!(seen.watch.look(nothing, later), Finding::Fine);
    }

    #[test]
    fn no_rate_is_too_low_where_none_is_wanted() {
        let limits = Connections {
            minimum_rate: crds::values::ByteSize::from_bytes(0),
            ..Connections::default()
        };
        let mut seen = Seen {
            watch: Watch::new(&limits),
            start: Instant::now(),
        };
        assert_eq!(seen.at(0, 1, 0), Finding::Fine);
        assert_eq!(seen.at(9000, 1, 0), Finding::Fine);
    }
}
