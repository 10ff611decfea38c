//! `cache-server warm`: has a running server fetch images, and shows how far it is.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{client, parse, send};

/// The server's events, as far as they are looked at.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
enum Event {
    Planned {
        image: String,
        contents: usize,
        bytes: u64,
    },
    Progress {
        digest: String,
        bytes: u64,
    },
    Content {
        image: String,
        digest: String,
        bytes: u64,
        fetched: bool,
    },
    Failed {
        image: String,
        reason: String,
    },
    Done {
        image: String,
        complete: bool,
    },
}

/// What of an image has been told.
#[derive(Debug, Default)]
struct Image {
    contents: usize,
    bytes: u64,
    fetched: usize,
}

/// All that has been told.
#[derive(Debug, Default)]
struct Told {
    images: HashMap<String, Image>,
    planned: u64,
    stored: u64,
    running: HashMap<String, u64>,
    failures: Vec<String>,
    done: usize,
}

impl Told {
    /// Takes an event in. The answer: a line that people read.
    fn take(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Planned {
                image,
                contents,
                bytes,
            } => {
                self.planned += bytes;
                let one = self.images.entry(image).or_default();
                (one.contents, one.bytes) = (contents, bytes);
                None
            }
            Event::Progress { digest, bytes } => {
                self.running.insert(digest, bytes);
                None
            }
            Event::Content {
                image,
                digest,
                bytes,
                fetched,
            } => {
                self.running.remove(&digest);
                self.stored += bytes;
                self.images.entry(image).or_default().fetched += usize::from(fetched);
                None
            }
            Event::Failed { image, reason } => {
                let line = format!("{image}: failed: {reason}");
                self.failures.push(line.clone());
                Some(line)
            }
            Event::Done { image, complete } => {
                self.done += 1;
                let told = self.images.remove(&image).unwrap_or_default();
                let Image {
                    contents,
                    bytes,
                    fetched,
                } = told;
                let there = contents.saturating_sub(fetched);
                let size = bytes.div_ceil(1 << 20);
                complete.then(|| {
                    format!("{image}: {contents} contents, {size} MiB: {fetched} fetched, {there} there already")
                })
            }
        }
    }

    fn position(&self) -> u64 {
        self.stored + self.running.values().sum::<u64>()
    }
}

/// Has the images fetched: `docker.io/library/alpine:3.20`. `file` lists more, one a line, each with its own platforms
/// behind it if it has some.
pub async fn warm(
    server: &str,
    token_file: &Path,
    images: &[String],
    file: Option<&Path>,
    platforms: &[String],
) -> anyhow::Result<()> {
    let mut wanted = Vec::new();
    for image in images {
        wanted.push(item(image, platforms)?);
    }
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        wanted.extend(list(&text, platforms).with_context(|| format!("{}", path.display()))?);
    }
    if wanted.is_empty() {
        bail!("there is nothing to fetch: name images, or a file that lists them");
    }
    let count = wanted.len();
    let url = format!("{}/v1/warm", server.trim_end_matches('/'));
    let request = client()?.post(url).json(&json!({"images": wanted}));
    let mut response = send(request, token_file).await?;
    // Shown on a terminal only.
    let bar = ProgressBar::new(0).with_style(style());
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut told = Told::default();
    let mut rest = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .context("failed to read the answer: the connection broke")?
    {
        rest.extend_from_slice(&piece);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let event = serde_json::from_slice(&line).context("failed to read the answer")?;
            if let Some(text) = told.take(event) {
                bar.suspend(|| println!("{text}"));
            }
        }
        bar.set_length(told.planned);
        bar.set_position(told.position());
        bar.set_message(format!("{} of {count} images", told.done));
    }
    bar.finish_and_clear();
    if told.done < count {
        bail!("the server ended after {} of {count} images", told.done);
    }
    if told.failures.is_empty() {
        return Ok(());
    }
    bail!(
        "{} failed:\n{}",
        told.failures.len(),
        told.failures.join("\n")
    )
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn item(image: &str, platforms: &[String]) -> anyhow::Result<Value> {
    let mut item = parse(image)?;
    item["platforms"] = json!(platforms);
    Ok(item)
}

/// One image a line; what stands behind it are platforms. Empty lines and those that begin with # are left out.
fn list(text: &str, platforms: &[String]) -> anyhow::Result<Vec<Value>> {
    let mut items = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split_whitespace();
        let Some(image) = words.next().filter(|word| !word.starts_with('#')) else {
            continue;
        };
        let own: Vec<_> = words.map(str::to_owned).collect();
        let platforms = if own.is_empty() { platforms } else { &own };
        items.push(item(image, platforms).with_context(|| format!("line {number}"))?);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_an_image_a_line_with_its_platforms() {
        let all = ["linux/amd64".to_owned()];
        let text = "# ours\n\nr.example/a:v1\n  r.example/b:v2  linux/arm64 linux/arm/v7\n";
        assert_eq!(
            list(text, &all).unwrap(),
            [
                json!({"upstream": "r.example", "repository": "a", "tag": "v1", "platforms": ["linux/amd64"]}),
                json!({"upstream": "r.example", "repository": "b", "tag": "v2", "platforms": ["linux/arm64", "linux/arm/v7"]}),
            ]
        );
        let error = list("r.example/a:v1\nalpine\n", &all).unwrap_err();
        assert!(format!("{error:#}").starts_with("line 2: \"alpine\" is not an image"));
    }

    #[test]
    fn what_is_told_becomes_a_line_and_a_position() {
        let mut told = Told::default();
        let mut take = |text: &str| told.take(serde_json::from_str(text).unwrap());
        take(r#"{"event": "planned", "image": "i", "contents": 2, "bytes": 3000000}"#);
        take(r#"{"event": "progress", "digest": "d", "bytes": 7}"#);
        take(r#"{"event": "content", "image": "i", "digest": "e", "bytes": 10, "fetched": true}"#);
        assert_eq!(told.position(), 17);
        let mut take = |text: &str| told.take(serde_json::from_str(text).unwrap());
        take(r#"{"event": "content", "image": "i", "digest": "d", "bytes": 20, "fetched": false}"#);
        assert_eq!(
            take(r#"{"event": "done", "image": "i", "complete": true}"#).unwrap(),
            "i: 2 contents, 3 MiB: 1 fetched, 1 there already"
        );
        let failed = take(r#"{"event": "failed", "image": "j", "reason": "r"}"#);
        assert_eq!(failed.unwrap(), "j: failed: r");
        assert_eq!(
            (told.position(), told.planned, told.done),
            (30, 3_000_000, 1)
        );
    }
}
