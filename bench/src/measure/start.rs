//! A start on a store that holds a million blobs.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Setting;
use crate::client::Client;
use crate::program::Program;
use crate::report::{Report, Row};
use crate::target;

const BLOBS: usize = 1_000_000;
/// Names of one file: filesystems bound its links.
const LINKS: usize = 50_000;
const SIZE: usize = 4096;
const LONGEST: Duration = Duration::from_mins(5);

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let directory = setting.directory.join("million");
    fill(&directory.join("store"))?;
    let (mut command, data, admin) =
        target::larder_command(&directory, setting.upstream.address, "")?;
    let begun = Instant::now();
    let mut program = Program::start(&mut command, &directory.join("log"))?;
    wait(&mut program, begun, || ready(admin) && pings(data))?;
    let ready = begun.elapsed();
    wait(&mut program, begun, || {
        text(admin, "/metrics")
            .is_ok_and(|text| text.contains(&format!("larder_store_blobs {BLOBS}\n")))
    })?;
    let scanned = begun.elapsed();
    let what = "start on a million blobs";
    let milliseconds = ready.as_secs_f64() * 1000.0;
    report.add(
        Row::new(&format!("{what}: ready ms (all known s)"))
            .two(
                format!("{milliseconds:.0} ({:.1})", scanned.as_secs_f64()),
                String::new(),
            )
            .judged(milliseconds, 1000.0, "1 s"),
    );
    let peak = program.memory("VmHWM")?;
    report.add(
        Row::new(&format!("{what}: peak RSS MiB"))
            .two(format!("{peak:.1}"), String::new())
            .judged(peak, 200.0, "200 MiB"),
    );
    Ok(())
}

/// Makes a store of so many names; only a few of them are files of their own.
fn fill(store: &Path) -> Result<()> {
    let failed = || format!("failed to fill {}", store.display());
    let blobs = store.join("blobs/sha256");
    for byte in 0..=u8::MAX {
        fs::create_dir_all(blobs.join(format!("{byte:02x}"))).with_context(failed)?;
    }
    fs::write(store.join("version"), "larder-store 1\n").with_context(failed)?;
    let mut first = None;
    for number in 0..BLOBS {
        let name = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
        let path = blobs.join(&name[..2]).join(name);
        match &first {
            Some(first) if number % LINKS != 0 => fs::hard_link(first, &path),
            _ => {
                first = Some(path.clone());
                fs::write(path, [0; SIZE])
            }
        }
        .with_context(failed)?;
    }
    Ok(())
}

fn wait(program: &mut Program, begun: Instant, met: impl Fn() -> bool) -> Result<()> {
    while !met() {
        program.check_running()?;
        ensure!(
            begun.elapsed() < LONGEST,
            "it is not there after {LONGEST:?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn ready(admin: SocketAddr) -> bool {
    text(admin, "/readyz").is_ok_and(|text| text.starts_with("HTTP/1.0 200"))
}

fn pings(data: SocketAddr) -> bool {
    Client::connect(data).is_ok_and(|mut client| client.get("/v2/").is_ok())
}

/// The whole answer.
fn text(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: bench\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
