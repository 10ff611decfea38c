//! What goes on on one connection, and when it is too little. The decision is pure; `serve` carries it out.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crds::static_config::Connections;

/// Counts of one connection, whatever protocol it speaks.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Requests, ever.
    begun: AtomicUsize,
    /// Those whose answer is over.
    ended: AtomicUsize,
    /// Pieces of bodies that the client has not taken whole.
    offered: AtomicUsize,
    /// Bytes of bodies that the socket has taken, ever.
    taken: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub begun: usize,
    pub ended: usize,
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
    /// Since when no request runs, and how many there had been by then.
    idle_since: Option<(Instant, usize)>,
    /// Since when bytes wait for the client without a pause, and what it had taken by then.
    waiting_since: Option<(Instant, u64)>,
}

impl Traffic {
    /// A request came.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// The answer to one is over.
    pub fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// A piece of a body goes to the HTTP library.
    pub fn offer(&self) {
        self.offered.fetch_add(1, Ordering::Relaxed);
    }

    /// The library has no more use for a piece.
    pub fn withdraw(&self) {
        self.offered.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn take(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn is_idle(&self) -> bool {
        self.sample().is_idle()
    }

    pub fn sample(&self) -> Sample {
        Sample {
            begun: self.begun.load(Ordering::Relaxed),
            ended: self.ended.load(Ordering::Relaxed),
            offered: self.offered.load(Ordering::Relaxed),
            taken: self.taken.load(Ordering::Relaxed),
        }
    }
}

impl Sample {
    fn is_idle(self) -> bool {
        self.begun == self.ended
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
        (self.window / 8).min(self.idle_after / 4)
    }

    /// A client is slow only where bytes waited for it all the time: an upstream's slowness is none of its own. The socket
    /// takes bytes in large bites from a slow client, hence the long window.
    pub fn look(&mut self, sample: Sample, now: Instant) -> Finding {
        if self.is_idle_for_long(sample, now) {
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

    /// Most requests begin and end between two looks.
    fn is_idle_for_long(&mut self, sample: Sample, now: Instant) -> bool {
        if !sample.is_idle() {
            self.idle_since = None;
            return false;
        }
        match self.idle_since {
            Some((since, begun)) if begun == sample.begun => {
                now.duration_since(since) >= self.idle_after
            }
            _ => {
                self.idle_since = Some((now, sample.begun));
                false
            }
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
                begun: 1,
                ended: 0,
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
            begun: 0,
            ended: 0,
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
    fn a_connection_whose_requests_are_short_is_not_idle() {
        let mut seen = Seen::new();
        let after = |requests| Sample {
            begun: requests,
            ended: requests,
            offered: 0,
            taken: 0,
        };
        let found = [(0, 0), (29, 1), (58, 2), (87, 2), (88, 2)].map(|(seconds, requests)| {
            let now = seen.start + Duration::from_secs(seconds);
            seen.watch.look(after(requests), now)
        });
        let mut wanted = [Finding::Fine; 5];
        wanted[4] = Finding::Idle;
        assert_eq!(found, wanted);
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
