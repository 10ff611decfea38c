//! Steps on the disk that fail under a whole server that is at work: `strace` answers for the kernel. `LARDER_SEED` repeats a run, and
//! `LARDER_LONG` makes it long.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use crate::crashes::{images, pull, rounds, seeded};
use crate::process::{PROGRAM, Process, all_is_right};
use crate::support::{FakeUpstream, Image};

/// System calls of one kind of step, and what they are answered.
const STEPS: [(&str, &str); 12] = [
    ("openat", "EMFILE"),
    ("openat", "EIO"),
    ("statx", "EIO"),
    ("pread64", "EIO"),
    ("sendfile", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("fsync,fdatasync", "EIO"),
    ("rename,renameat,renameat2", "ENOSPC"),
    ("link,linkat", "EROFS"),
    ("mkdir,mkdirat", "ENOSPC"),
    ("unlink,unlinkat", "EIO"),
];

/// `strace`, which lets those of the calls fail that `when` says, counted in each thread, and writes what it saw to `log`.
fn strace((calls, error): (&str, &str), when: &str, log: &Path) -> Command {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-e", &format!("trace={calls}"), "-e"])
        .arg(format!("inject={calls}:error={error}:when={when}"))
        .arg("-o")
        .arg(log);
    command
}

/// Lets system calls of a program fail until it is told to stop.
struct Refusal(Child);

impl Refusal {
    /// In each thread the `first` of these calls fails, and then one of `every`.
    fn begin(
        process: &Process,
        step: (&str, &str),
        (first, every): (usize, usize),
        log: &Path,
    ) -> Self {
        let mut child = strace(step, &format!("{first}+{every}"), log)
            .args(["-p", &process.child.id().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        errors.read_line(&mut said).unwrap();
        assert!(said.contains("attached"), "{said}");
        // Read on: a full pipe would stop it.
        std::thread::spawn(move || errors.read_to_end(&mut Vec::new()));
        Self(child)
    }

    /// How many calls failed.
    fn end(mut self, log: &Path) -> usize {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap();
        injected(log)
    }
}

/// The failures that a trace shows.
fn injected(log: &Path) -> usize {
    let log = std::fs::read_to_string(log).unwrap();
    log.lines()
        .filter(|line| line.contains("(INJECTED)"))
        .count()
}

/// All that is pulled at the same time; how many of the pulls broke off.
async fn pull_all(process: &Process, images: &[(String, Image)]) -> usize {
    let received = watch::channel(0).0;
    let pulls = images.iter().map(|image| pull(process, image, &received));
    let results = join_all(pulls).await;
    results.iter().filter(|result| result.is_err()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_fail_under_load_break_bodies_at_most_and_lose_nothing() {
    let mut random = seeded("failing steps");
    let upstream = FakeUpstream::start().await;
    let images = images(&upstream);
    for _ in 0..rounds(1, 20) {
        let directory = tempfile::tempdir().unwrap();
        let (store, log) = (directory.path().join("store"), directory.path().join("log"));
        let mut failures = 0;
        for (number, step) in STEPS.iter().enumerate() {
            let process = Process::start(directory.path(), &upstream);
            assert_eq!(std::fs::read_dir(store.join("tmp")).unwrap().count(), 0);
            let known = &images[..2 * number];
            assert_eq!(pull_all(&process, known).await, 0, "before {step:?}");
            process.settled().await;
            let when = (random.usize(1..3), random.usize(1..5));
            let refusal = Refusal::begin(&process, *step, when, &log);
            let load = &images[..2 * number + 2];
            let broken = pull_all(&process, load).await;
            let failed = refusal.end(&log);
            failures += failed;
            println!("{step:?} {when:?}: {failed} failed, {broken} pulls broke off");
            assert_eq!(pull_all(&process, load).await, 0, "after {step:?}");
            process.settled().await;
        }
        assert!(failures > 20, "{failures}");
        let process = Process::start(directory.path(), &upstream);
        assert_eq!(pull_all(&process, &images[..2 * STEPS.len()]).await, 0);
        process.settled().await;
        all_is_right(&store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_answers_no_question_stops_no_server() {
    let upstream = FakeUpstream::start().await;
    let images = images(&upstream);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let process = Process::start(directory.path(), &upstream);
    let refusal = Refusal::begin(&process, ("statx", "EIO"), (1, 1), &log);
    pull_all(&process, &images[..4]).await;
    let failed = refusal.end(&log);
    assert!(failed > 4, "{failed}");
    assert_eq!(pull_all(&process, &images[..4]).await, 0);
    process.settled().await;
    all_is_right(&directory.path().join("store"));
}

/// Steps of a start: what it reads and makes.
const STEPS_OF_A_START: [(&str, &str); 7] = [
    ("openat", "EIO"),
    ("statx", "EIO"),
    ("mkdir,mkdirat", "EROFS"),
    ("getdents64", "EIO"),
    ("unlink,unlinkat", "EIO"),
    ("rename,renameat,renameat2", "ENOSPC"),
    ("fsync,fdatasync", "EIO"),
];
/// A start takes no more of one kind.
const MOST: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_steps_fail_serves_or_says_what_failed_and_loses_nothing() {
    let mut random = seeded("failing steps of a start");
    let upstream = FakeUpstream::start().await;
    let images = images(&upstream);
    let directory = tempfile::tempdir().unwrap();
    let (store, log) = (directory.path().join("store"), directory.path().join("log"));
    let process = Process::start(directory.path(), &upstream);
    assert_eq!(pull_all(&process, &images[..4]).await, 0);
    process.settled().await;
    drop(process);
    let mut failures = 0;
    for step in STEPS_OF_A_START {
        let others = (0..rounds(2, 200)).map(|_| random.usize(4..MOST));
        for nth in (1..4).chain(others) {
            // Something to remove in the start.
            std::fs::create_dir_all(store.join("tmp")).unwrap();
            std::fs::write(store.join("tmp/left"), "left").unwrap();
            let mut command = strace(step, &nth.to_string(), &log);
            // The program is the child, and strace ends with it.
            command.args(["-D", "-q", PROGRAM]);
            match Process::try_start(command, directory.path(), &upstream, "") {
                Ok(process) => {
                    pull_all(&process, &images[..2]).await;
                }
                // By itself or by the loader of its libraries.
                Err(said) => {
                    let said = said.join(" | ");
                    println!("{step:?} {nth}: {said}");
                    let clear = ["failed to", "error while loading shared libraries"];
                    assert!(clear.iter().any(|text| said.contains(text)), "{said}");
                    assert!(!said.contains("panicked"), "{said}");
                }
            }
            failures += injected(&log);
        }
    }
    assert!(failures > 10, "{failures}");
    let process = Process::start(directory.path(), &upstream);
    upstream.forget();
    assert_eq!(pull_all(&process, &images[..4]).await, 0);
    assert_eq!(upstream.count("/blobs/"), 0, "something stored was lost");
    all_is_right(&store);
}
