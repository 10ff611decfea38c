//! `cache-server ls`, `purge` and `warm`: calls of a running server's admin port.

mod warm;

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::json;

pub use warm::warm;

/// Prints what is stored, one JSON object a line.
pub async fn list(server: &str, token_file: &Path, prefix: &str) -> anyhow::Result<()> {
    let url = format!("{}/v1/ls?prefix={prefix}", server.trim_end_matches('/'));
    let mut response = send(client()?.get(url), token_file).await?;
    let mut out = std::io::stdout();
    while let Some(piece) = response
        .chunk()
        .await
        .context("failed to read the answer")?
    {
        out.write_all(&piece).context("failed to write")?;
    }
    Ok(())
}

/// Takes an image out of the store: `docker.io/library/alpine:3.20`, or `…@sha256:…`.
pub async fn purge(server: &str, token_file: &Path, image: &str) -> anyhow::Result<()> {
    let url = format!("{}/v1/purge", server.trim_end_matches('/'));
    let request = client()?.post(url).json(&parse(image)?);
    let answer = send(request, token_file).await?;
    let text = answer.text().await.context("failed to read the answer")?;
    println!("{text}");
    Ok(())
}

fn parse(image: &str) -> anyhow::Result<serde_json::Value> {
    let wrong = || {
        anyhow!(
            "{image:?} is not an image: write upstream, repository and tag or digest, like docker.io/library/alpine:3.20"
        )
    };
    let (upstream, rest) = image.split_once('/').ok_or_else(wrong)?;
    Ok(if let Some((repository, digest)) = rest.split_once('@') {
        json!({"upstream": upstream, "repository": repository, "digest": digest})
    } else {
        let (repository, tag) = rest.rsplit_once(':').ok_or_else(wrong)?;
        json!({"upstream": upstream, "repository": repository, "tag": tag})
    })
}

fn client() -> anyhow::Result<Client> {
    Client::builder().build().context("failed to make a client")
}

async fn send(request: RequestBuilder, token_file: &Path) -> anyhow::Result<Response> {
    let token = std::fs::read_to_string(token_file)
        .with_context(|| format!("failed to read {}", token_file.display()))?;
    let response = request
        .bearer_auth(token.trim())
        .send()
        .await
        .context("failed to reach the server")?;
    let status = response.status();
    if !status.is_success() {
        let text = response.text().await.unwrap_or_default();
        bail!("the server refused it: {status}: {}", text.trim());
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_upstream_repository_and_reference() {
        assert_eq!(
            parse("r.example:5000/a/b:v1").unwrap(),
            json!({"upstream": "r.example:5000", "repository": "a/b", "tag": "v1"})
        );
        assert_eq!(
            parse("docker.io/a@sha256:00").unwrap(),
            json!({"upstream": "docker.io", "repository": "a", "digest": "sha256:00"})
        );
        assert!(parse("alpine").is_err() && parse("docker.io/alpine").is_err());
    }
}
