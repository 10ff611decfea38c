//! Numbers from a page of metrics.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use reqwest::blocking::Client;

/// Samples by name with labels, as they stand on the page.
#[derive(Debug, Clone, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Asks a server for its page.
    pub fn from_server(url: &str) -> Result<Self> {
        let client = Client::builder()
            .no_proxy()
            .build()
            .context("failed to build a client")?;
        let answer = client
            .get(url)
            .send()
            .with_context(|| format!("failed to ask {url}"))?;
        ensure!(
            answer.status().is_success(),
            "{url} answers {}",
            answer.status()
        );
        Ok(Self::parse(
            &answer
                .text()
                .with_context(|| format!("failed to read {url}"))?,
        ))
    }

    pub fn parse(page: &str) -> Self {
        let samples = page
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            });
        Self(samples.collect())
    }

    pub fn add(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            *self.0.entry(name.clone()).or_default() += value;
        }
    }

    /// The sum of all samples of `name` whose labels have all of `labels`, each written `key="value"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.0
            .iter()
            .filter(|(sample, _)| {
                let (base, rest) = sample.split_once('{').unwrap_or((sample, ""));
                base == name && labels.iter().all(|label| rest.contains(label))
            })
            .map(|(_, value)| value)
            .sum()
    }

    /// The samples of `name` that are larger than `before`, each with its labels and by how much.
    pub fn grown_since(&self, before: &Self, name: &str) -> Vec<String> {
        let of_name = self.0.iter().filter_map(|(sample, value)| {
            let labels = sample.strip_prefix(name)?.strip_prefix('{')?;
            Some((sample, labels.trim_end_matches('}'), value))
        });
        of_name
            .map(|(sample, labels, value)| (labels, value - before.0.get(sample).unwrap_or(&0.0)))
            .filter(|(_, more)| *more > 0.0)
            .map(|(labels, more)| format!("{labels} {more}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_added_up_by_labels() {
        let page = "# HELP a b\na{kind=\"x\",of=\"y\"} 2\na{kind=\"z\"} 3\nab 7\n";
        let mut metrics = Metrics::parse(page);
        let before = metrics.clone();
        metrics.add(&Metrics::parse("a{kind=\"z\"} 1\n"));
        assert_eq!(metrics.grown_since(&before, "a"), ["kind=\"z\" 1"]);
        assert!((metrics.sum("a", &[]) - 6.0).abs() < f64::EPSILON);
        assert!((metrics.sum("a", &["kind=\"z\""]) - 4.0).abs() < f64::EPSILON);
    }
}
