//! olareg: a registry that has all of the specification, the referrers API and sha512 too. It forgets everything at its end.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::component::Component;
use crate::node::ADDRESS;
use crate::{Tools, wait};

const PORT: u16 = 5556;
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running olareg. Dropping it ends it.
#[derive(Debug)]
pub struct Olareg {
    _component: Component,
}

impl Olareg {
    /// Starts it with its log in `directory`.
    pub fn start(tools: &Tools, directory: &Path) -> Result<Self> {
        let mut command = Command::new(tools.path("olareg")?);
        command.args(["serve", "--addr", ADDRESS, "--store-type", "mem"]);
        command.arg("--port").arg(PORT.to_string());
        command.args(["--api-delete", "--api-blob-delete"]);
        command.args(["--api-sparse-image", "--api-sparse-index"]);
        let mut component =
            Component::start("olareg", &mut command, &directory.join("olareg.log"))?;
        wait::until("olareg", START_LIMIT, || {
            component.check_running()?;
            std::net::TcpStream::connect((ADDRESS, PORT)).context("it does not listen")
        })?;
        Ok(Self {
            _component: component,
        })
    }

    /// `address:port`
    pub fn address() -> String {
        format!("{ADDRESS}:{PORT}")
    }

    /// Its URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", Self::address())
    }
}
