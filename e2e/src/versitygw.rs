//! versitygw: a server of the S3 API whose buckets are directories. It judges signatures, as AWS does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::component::Component;
use crate::node::ADDRESS;
use crate::{Tools, wait};

const PORT: u16 = 7070;
const START_LIMIT: Duration = Duration::from_secs(30);
const BUCKET: &str = "images";
const ACCESS_KEY: &str = "access";
const SECRET_KEY: &str = "not-for-everybody";

/// A running server with one bucket. Dropping it ends it.
#[derive(Debug)]
pub struct Versitygw {
    _component: Component,
    directory: PathBuf,
}

impl Versitygw {
    /// Starts it with its log, its keys and an empty bucket in `directory`.
    pub fn start(tools: &Tools, directory: &Path) -> Result<Self> {
        let make = |name: &str| {
            let path = directory.join(name);
            fs::create_dir_all(&path)
                .with_context(|| format!("failed to create {}", path.display()))?;
            anyhow::Ok(path)
        };
        let (root, metadata) = (make("buckets")?, make("metadata")?);
        make(&format!("buckets/{BUCKET}"))?;
        for (file, key) in [("access-key", ACCESS_KEY), ("secret-key", SECRET_KEY)] {
            fs::write(directory.join(file), key).context("failed to write the bucket's keys")?;
        }
        let mut command = Command::new(tools.path("versitygw")?);
        command.arg("--port").arg(format!("{ADDRESS}:{PORT}"));
        command.args(["--access", ACCESS_KEY, "--secret", SECRET_KEY]);
        // Not every filesystem has extended attributes.
        command
            .arg("posix")
            .arg("--sidecar")
            .arg(metadata)
            .arg(root);
        let log = directory.join("versitygw.log");
        let mut component = Component::start("versitygw", &mut command, &log)?;
        wait::until("versitygw", START_LIMIT, || {
            component.check_running()?;
            std::net::TcpStream::connect((ADDRESS, PORT)).context("it does not listen")
        })?;
        Ok(Self {
            _component: component,
            directory: directory.to_owned(),
        })
    }

    /// What a cache server's settings say of it.
    pub fn settings(&self) -> String {
        let file = |name: &str| self.directory.join(name).display().to_string();
        format!(
            "objectStorage: {{endpoint: \"http://{ADDRESS}:{PORT}\", bucket: {BUCKET}, prefix: team/one, credentials: {{accessKeyIdFile: {}, secretAccessKeyFile: {}}}}}",
            file("access-key"),
            file("secret-key")
        )
    }

    /// Where the object is.
    pub fn object(&self, key: &str) -> PathBuf {
        let bucket = self.directory.join("buckets").join(BUCKET);
        bucket.join("team/one").join(key)
    }
}
