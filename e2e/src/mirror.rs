//! A mirror configuration as `larder-operator render` writes it without a cluster: what clients are given here is what nodes get.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::command;

/// The files of one mirror, by their keys in the object.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Whether they are in a Secret.
    pub secret: bool,
    pub files: BTreeMap<String, String>,
}

/// What is rendered from.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// The upstreams, as YAML.
    pub upstreams: &'a str,
    /// The cache as the clients reach it.
    pub endpoint: &'a str,
    /// More fields of the mirror, as YAML in one line: `fallback: Forbid`.
    pub fields: &'a str,
    /// Keys and values of the Secret `given`, for what the fields name.
    pub secret: &'a [(&'a str, &'a str)],
}

impl Mirror {
    /// Renders with `operator`; `directory` takes the declaration.
    pub fn render(operator: &Path, directory: &Path, declared: Declared<'_>) -> Result<Self> {
        let Declared {
            upstreams,
            endpoint,
            fields,
            secret,
        } = declared;
        let values: BTreeMap<&str, &str> = secret.iter().copied().collect();
        let values = serde_json::to_string(&values).context("failed to write the Secret")?;
        let separator = if fields.is_empty() { "" } else { ", " };
        let text = format!(
            "apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {{name: cache}}
spec:
  upstreams: {upstreams}
  defaultUpstream: docker.io
  storage: {{volume: {{size: 1Gi}}}}
  mirrors: [{{name: nodes, endpoint: \"{endpoint}\"{separator}{fields}}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: given}}
stringData: {values}
"
        );
        Self::render_text(operator, directory, &text, "cache-mirror-nodes")
    }

    /// Renders the objects of the text, and takes the mirror's object of that name.
    pub fn render_text(
        operator: &Path,
        directory: &Path,
        text: &str,
        object: &str,
    ) -> Result<Self> {
        let path = directory.join("cache.yaml");
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        let mut render = Command::new(operator);
        render.args(["render", "--without-monitoring", "--file"]);
        let output = command::output(render.arg(&path))?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&output)
            .map_err(|error| anyhow!("failed to read what the operator rendered: {error}"))?;
        let mirror = objects
            .iter()
            .find(|one| one["metadata"]["name"] == object)
            .with_context(|| format!("the operator rendered no {object}"))?;
        let secret = mirror["kind"] == "Secret";
        let data = mirror["data"].as_object().context("it has no data")?;
        let file = |(key, value): (&String, &Value)| -> Result<(String, String)> {
            let text = value.as_str().context("a value is no text")?;
            let text = if secret {
                let bytes = STANDARD.decode(text).context("a value is not base64")?;
                String::from_utf8(bytes).context("a value is not UTF-8")?
            } else {
                text.to_owned()
            };
            Ok((key.clone(), text))
        };
        Ok(Self {
            secret,
            files: data.iter().map(file).collect::<Result<_>>()?,
        })
    }

    /// One of the files.
    pub fn file(&self, key: &str) -> Result<&str> {
        let keys: Vec<&String> = self.files.keys().collect();
        let text = self.files.get(key);
        text.map(String::as_str)
            .with_context(|| format!("the mirror has no {key}, but {keys:?}"))
    }

    /// Writes what containerd reads below `certs.d`, as an administrator or an agent does it.
    pub fn write_hosts(&self, certs: &Path) -> Result<()> {
        for (key, text) in &self.files {
            let Some(host) = key.strip_suffix(".hosts.toml") else {
                continue;
            };
            let directory = certs.join(host);
            fs::create_dir_all(&directory)
                .with_context(|| format!("failed to create {}", directory.display()))?;
            if let Some(authority) = self.files.get("ca.crt") {
                replace(&directory.join("ca.crt"), authority)?;
            }
            replace(&directory.join("hosts.toml"), text)?;
        }
        Ok(())
    }
}

/// Whoever reads meanwhile has the old text or the new one.
fn replace(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("failed to write {}", path.display()))
}
