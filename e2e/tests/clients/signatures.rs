//! What a release is published and signed with (docs/release.md), by a key where its workflow has an identity, and how a cluster
//! behind a cache makes sure of it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::cache_server::CacheServer;
use e2e::images::write_archive;
use e2e::{Registries, command};
use serde_json::{Value, json};

const REPOSITORY: &str = "larder/larder-operator";
const VERSION: &str = "0.1.0";

pub(crate) fn cosign_verifies_a_release_and_its_bill_through_the_cache(
    registries: &mut Registries,
) -> Result<()> {
    let cosign = Cosign::new(registries)?;
    let bill = json!({ "bomFormat": "CycloneDX", "specVersion": "1.6", "components": [] });
    cosign.write("bill.cdx.json", &bill.to_string())?;
    let signed = published(registries, &cosign)?;
    cosign.sign("sign", &[&signed])?;
    let attest = ["--type", "cyclonedx", "--predicate", "bill.cdx.json"];
    cosign.sign("attest", &[&attest[..], &[&signed]].concat())?;

    let cache = registries.empty_cache()?;
    let repository = format!("{}/ghcr.io/{REPOSITORY}", CacheServer::address());
    let digest = &registries.images.multi.manifest().digest;
    let by_digest = format!("{repository}@{digest}");
    let verified: Value =
        serde_json::from_str(&cosign.verify("verify", "release", &[&by_digest])?)
            .context("cosign wrote something that is not JSON")?;
    let claims = verified.as_array().context("cosign wrote no list")?;
    let named = |claim: &Value| claim["critical"]["image"]["docker-manifest-digest"] == **digest;
    ensure!(
        !claims.is_empty() && claims.iter().all(named),
        "it is {verified}"
    );

    let by_tag = format!("{repository}:{VERSION}");
    let attested = ["--type", "cyclonedx", &by_tag];
    let statement = cosign.verify("verify-attestation", "release", &attested)?;
    ensure!(
        predicate(&statement)? == bill,
        "the bill that came is in {statement}"
    );

    let refused = cosign.verify("verify", "stranger", &[&by_digest]);
    ensure!(
        refused.is_err_and(|error| error.to_string().contains("signature")),
        "a stranger's key is as good"
    );
    registries.upstream.only_caches_asked()?;

    // Who admits pods asks for the same again and again.
    registries.upstream.clear_requests()?;
    cosign.verify("verify", "release", &[&by_digest])?;
    let asked = registries.upstream.requests()?;
    ensure!(asked.is_empty(), "the upstream was asked: {asked:?}");
    drop(cache);
    Ok(())
}

pub(crate) fn cosign_verifies_the_sums_of_a_release(registries: &mut Registries) -> Result<()> {
    let cosign = Cosign::new(registries)?;
    cosign.write("SHA256SUMS", "0123  larder-operator.oci.tar\n")?;
    let bundle = ["--bundle", "SHA256SUMS.bundle", "SHA256SUMS"];
    cosign.sign("sign-blob", &bundle)?;
    cosign.verify("verify-blob", "release", &bundle)?;
    cosign.write("SHA256SUMS", "4567  larder-operator.oci.tar\n")?;
    ensure!(
        cosign.verify("verify-blob", "release", &bundle).is_err(),
        "other sums are as good"
    );
    Ok(())
}

/// Has ORAS copy an archive like a release's to the upstream. Returns the name to sign.
fn published(registries: &Registries, cosign: &Cosign) -> Result<String> {
    let image = &registries.images.multi;
    let archive = cosign.directory.join("larder-operator.oci.tar");
    write_archive(image, &format!("larder-operator:{VERSION}"), &archive)?;
    let source = format!("{}:{VERSION}", archive.display());
    let repository = format!("{}/{REPOSITORY}", registries.upstream.address());
    let mut oras = Command::new(registries.tools.path("oras")?);
    oras.args(["cp", "--from-oci-layout", &source, "--to-plain-http"])
        .arg(format!("{repository}:{VERSION}"))
        .env("HOME", &cosign.directory);
    command::output(&mut oras)?;
    Ok(format!("{repository}@{}", image.manifest().digest))
}

/// What was said of an image, out of the envelope that cosign prints.
fn predicate(envelope: &str) -> Result<Value> {
    let envelope: Value =
        serde_json::from_str(envelope).context("cosign wrote something that is not JSON")?;
    let payload = envelope["payload"].as_str().context("it has no payload")?;
    let statement = STANDARD
        .decode(payload)
        .context("the payload is not base64")?;
    let mut statement: Value =
        serde_json::from_slice(&statement).context("the payload is not JSON")?;
    Ok(statement["predicate"].take())
}

/// cosign with keys instead of identities, and without the public services of its makers, which nobody can reach from here.
struct Cosign {
    program: PathBuf,
    directory: PathBuf,
}

impl Cosign {
    fn new(registries: &mut Registries) -> Result<Self> {
        let cosign = Self {
            program: registries.tools.path("cosign")?,
            directory: registries.directory()?,
        };
        for key in ["release", "stranger"] {
            cosign.run(&["generate-key-pair", "--output-key-prefix", key])?;
        }
        cosign.run(&["signing-config", "create", "--out", "signing.json"])?;
        cosign.run(&["trusted-root", "create", "--out", "trusted.json"])?;
        Ok(cosign)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    fn sign(&self, what: &str, arguments: &[&str]) -> Result<String> {
        let key = ["--key", "release.key", "--signing-config", "signing.json"];
        let trusted = ["--trusted-root", "trusted.json", "--yes"];
        self.run(&[&[what], &key[..], &trusted[..], &plain(what), arguments].concat())
    }

    /// By the public key of that name.
    fn verify(&self, what: &str, key: &str, arguments: &[&str]) -> Result<String> {
        let key = format!("{key}.pub");
        let trusted = ["--key", &key, "--trusted-root", "trusted.json"];
        let offline = ["--insecure-ignore-tlog"];
        self.run(&[&[what], &trusted[..], &offline[..], &plain(what), arguments].concat())
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut cosign = Command::new(&self.program);
        cosign
            .current_dir(&self.directory)
            .args(arguments)
            .env("HOME", &self.directory)
            .env("COSIGN_PASSWORD", "");
        command::output(&mut cosign)
    }
}

/// Registries here speak no TLS; files are in none.
fn plain(what: &str) -> Vec<&'static str> {
    if what.ends_with("blob") {
        Vec::new()
    } else {
        vec!["--allow-http-registry"]
    }
}
