//! The table, on the terminal and as a page of the documentation.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

/// All rows so far.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
    begun: Instant,
    load: String,
}

/// One measure.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    value: f64,
    larder: String,
    distribution: String,
    reference: String,
    bar: String,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            rows: Vec::new(),
            begun: Instant::now(),
            load: load(),
        }
    }

    pub(crate) fn progress(&self, what: &str) {
        eprintln!("bench: {:3} s: {what}", self.begun.elapsed().as_secs());
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn table(&self) -> String {
        let mut table =
            "| what | Larder | distribution | nginx or direct | bar |\n|---|---|---|---|---|\n"
                .to_owned();
        for row in &self.rows {
            let _ = writeln!(
                table,
                "| {} | {} | {} | {} | {} |",
                row.what, row.larder, row.distribution, row.reference, row.bar
            );
        }
        table
    }

    /// The whole page.
    pub(crate) fn page(&self) -> String {
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "# Benchmarks

The last run of `cargo xtask bench`, which writes this page. Larder, distribution 3.1.2 as a pull-through cache, and nginx with
static files (`sendfile`, `tcp_nopush`, `open_file_cache`, two workers) take turns in one run; the values are medians of the
rounds. Requests per second are judged by the ratio of the servers within a round, and of the many rounds the
one in the middle counts; from run to run it differs by some hundredths. No access logs. Times of cold blobs are compared with the upstream itself.

Machine: {processors} cores, loopback; the load and the upstream run on the same cores, so ratios within the run mean more than
values. Load average when it began: {}. The stores lie on {}; TCP's congestion control is {}.
On loopback a body costs other things than on a network: nothing here says how fast anything is elsewhere.
An ext4 without a journal makes new files slowly for five minutes after many were removed: cold blobs tell nothing then.
A virtual machine that gets its memory from its host when it is first written keeps blobs slowly: before each round of the 300 small ones
a file is written and removed, so that there is memory.

{}",
            self.load,
            filesystem(&std::env::temp_dir()).unwrap_or_else(|| "an unknown filesystem".to_owned()),
            congestion_control(),
            self.table()
        )
    }
}

impl Row {
    pub(crate) fn new(what: &str) -> Self {
        Self {
            what: what.to_owned(),
            value: f64::NAN,
            larder: String::new(),
            distribution: String::new(),
            reference: String::new(),
            bar: String::new(),
        }
    }

    /// Numbers of all three; `name` is what the third is. One that is none is left out.
    pub(crate) fn values(
        self,
        larder: f64,
        distribution: f64,
        name: &str,
        reference: f64,
        digits: usize,
    ) -> Self {
        Self {
            value: larder,
            larder: format!("{larder:.digits$}"),
            distribution: if distribution.is_nan() {
                String::new()
            } else {
                format!("{distribution:.digits$}")
            },
            reference: format!("{name} {reference:.digits$}"),
            ..self
        }
    }

    pub(crate) fn two(self, larder: String, distribution: String) -> Self {
        Self {
            larder,
            distribution,
            ..self
        }
    }

    /// Larder's value may be that many times another one.
    pub(crate) fn at_most(self, factor: f64, other: f64, name: &str) -> Self {
        let (value, bar) = (self.value, format!("≤ {factor} × {name}"));
        self.verdict(
            value <= factor * other,
            &bar,
            &format!("{:.2}", value / other),
        )
    }

    /// Larder's value must be that many times another one, in the middle of the rounds. `ratios`: of each round.
    pub(crate) fn at_least(self, factor: f64, ratios: &[f64], name: &str) -> Self {
        let [low, middle, high] = quartiles(ratios);
        let bar = format!("≥ {factor} × {name}");
        let ratios = format!("{middle:.2}; half of the rounds {low:.2} to {high:.2}");
        self.verdict(middle >= factor, &bar, &ratios)
    }

    pub(crate) fn no_more_than(self, bound: f64, name: &str) -> Self {
        let value = self.value;
        self.judged(value, bound, name)
    }

    pub(crate) fn judged(self, value: f64, bound: f64, name: &str) -> Self {
        let word = word(value <= bound);
        Self {
            bar: format!("≤ {name}: {word}"),
            ..self
        }
    }

    fn verdict(self, met: bool, bar: &str, ratio: &str) -> Self {
        Self {
            bar: format!("{bar}: {} ({ratio})", word(met)),
            ..self
        }
    }
}

/// The values that stand a quarter, half and three quarters of the way up.
pub(crate) fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| {
        let at = values.len() * quarter / 4;
        values.get(at).copied().unwrap_or(f64::NAN)
    })
}

fn word(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

fn congestion_control() -> String {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// What kind of filesystem a directory is on.
fn filesystem(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, place, kind) = (words.next()?, words.next()?, words.next()?);
        directory
            .starts_with(place)
            .then_some((device, place, kind))
    });
    // Of those on one place, the last covers the others.
    let (device, _, kind) = mounts.max_by_key(|(_, place, _)| place.len())?;
    if kind != "ext4" {
        return Some(kind.to_owned());
    }
    let device = Path::new(device).file_name()?.to_str()?;
    let journal = Path::new("/proc/fs/jbd2").join(format!("{device}-8"));
    let with = if journal.exists() { "with" } else { "without" };
    Some(format!("ext4 {with} a journal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filesystem_of_a_directory_is_known() {
        assert_eq!(filesystem(Path::new("/proc/self")).unwrap(), "proc");
        assert_eq!(filesystem(Path::new("/no/such/directory")), None);
    }

    #[test]
    fn a_row_says_whether_its_bar_was_met() {
        let row = |larder| Row::new("x").values(larder, 3.0, "nginx", 2.0, 1);
        assert_eq!(
            row(2.0).at_most(1.0, 2.0, "nginx").bar,
            "≤ 1 × nginx: met (1.00)"
        );
        assert_eq!(
            row(2.5).at_most(1.0, 2.0, "nginx").bar,
            "≤ 1 × nginx: **missed** (1.25)"
        );
        assert_eq!(
            row(2.0).at_least(1.0, &[0.9, 1.0, 1.2], "nginx").bar,
            "≥ 1 × nginx: met (1.00; half of the rounds 0.90 to 1.20)"
        );
        let below = row(2.0).at_least(1.0, &[0.99; 4], "nginx").bar;
        assert!(below.contains("**missed** (0.99"), "{below}");
        assert_eq!(
            row(2.5).no_more_than(2.0, "2 MiB").bar,
            "≤ 2 MiB: **missed**"
        );
    }
}
