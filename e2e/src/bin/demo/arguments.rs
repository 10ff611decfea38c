//! The demo's command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// What a person asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Leave everything running.
    pub(crate) keep: bool,
    /// The cluster that exists. Without one, the demo makes a node of its own.
    pub(crate) cluster: Option<Options>,
}

/// A cluster, and what it has to be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) kubeconfig: PathBuf,
    /// `repository:tag` of the operator. Default: the chart's.
    pub(crate) operator_image: Option<String>,
    /// `repository:tag` of the cache server. Default: the chart's.
    pub(crate) cache_server_image: Option<String>,
    /// Where Docker Hub is reached from the cluster. Default: at its own address.
    pub(crate) upstream: Option<String>,
    /// `name:tag` of the official image that is asked for.
    pub(crate) image: String,
}

const DEFAULT_IMAGE: &str = "hello-world:latest";

impl Arguments {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut keep = false;
        let mut kubeconfig = None;
        let mut special = Vec::new();
        let mut options = Options {
            kubeconfig: PathBuf::new(),
            operator_image: None,
            cache_server_image: None,
            upstream: None,
            image: DEFAULT_IMAGE.to_owned(),
        };
        while let Some(option) = arguments.next() {
            if option == "--keep" {
                keep = true;
                continue;
            }
            let mut value = || {
                let value = arguments.next();
                value.with_context(|| format!("{option} needs a value"))
            };
            match option.as_str() {
                "--kubeconfig" => kubeconfig = Some(PathBuf::from(value()?)),
                "--operator-image" => options.operator_image = Some(image(value()?)?),
                "--cache-server-image" => options.cache_server_image = Some(image(value()?)?),
                "--upstream" => options.upstream = Some(value()?),
                "--image" => options.image = image(value()?)?,
                other => bail!(
                    "the demo's options are --keep, --kubeconfig, --operator-image, --cache-server-image, --upstream and --image; {other} is none"
                ),
            }
            special.push(option);
        }
        let Some(kubeconfig) = kubeconfig else {
            ensure!(
                special.is_empty(),
                "{} is for a cluster that exists: name it with --kubeconfig",
                special.join(", ")
            );
            return Ok(Self {
                keep,
                cluster: None,
            });
        };
        options.kubeconfig = kubeconfig;
        Ok(Self {
            keep,
            cluster: Some(options),
        })
    }
}

/// The text if it is a name and a tag.
fn image(text: String) -> Result<String> {
    let tag = text.rsplit_once(':').map(|(_, tag)| tag);
    ensure!(
        tag.is_some_and(|tag| !tag.is_empty() && !tag.contains('/')),
        "{text} has no tag: write NAME:TAG"
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_a_kubeconfig_the_demo_makes_a_node() {
        let expected = Arguments {
            keep: true,
            cluster: None,
        };
        assert_eq!(parse("--keep").unwrap(), expected);
    }

    #[test]
    fn a_cluster_is_told_by_options() {
        let all =
            "--kubeconfig a --operator-image r:5000/o:1 --upstream http://u --image busybox:1";
        let options = parse(all).unwrap().cluster.unwrap();
        assert_eq!(options.kubeconfig, PathBuf::from("a"));
        assert_eq!(options.operator_image.as_deref(), Some("r:5000/o:1"));
        assert_eq!(options.cache_server_image, None);
        assert_eq!(options.image, "busybox:1");
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for (line, word) in [
            ("--image busybox:1", "--kubeconfig"),
            ("--kubeconfig", "needs a value"),
            ("--kubeconfig a --image busybox", "NAME:TAG"),
            ("--kubeconfig a --operator-image r:5000/o", "NAME:TAG"),
            ("--fast", "--fast is none"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
