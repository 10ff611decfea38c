//! Formats whose consumers can't run here: their own code reads what is rendered, and says what it understood.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::authority::Authority;
use e2e::mirror::{Declared, Mirror};
use e2e::{Registries, command};
use serde_json::{Value, json};

/// One upstream as usual, and one at another place.
const UPSTREAMS: &str = "[{host: docker.io}, {host: 'corp.example:5000', endpoints: ['http://10.0.0.5:5000'], repositoryPrefix: proxy/corp}]";

pub(crate) fn k3s_reads_the_rendered_file(registries: &mut Registries) -> Result<()> {
    let authority = Authority::new()?.pem();
    let fields = "runtime: {type: K3s, version: v1.34.1+k3s1}, caSecretRef: {name: given}";
    let mirror = render(registries, fields, &authority)?;
    let understood = read(registries, "k3s", mirror.file("registries.yaml")?)?;
    let endpoints = |host: &str| understood["mirrors"][host]["endpoint"].clone();
    ensure!(
        endpoints("docker.io") == json!(["https://cache.example"]),
        "{understood}"
    );
    let corp = json!([
        "https://cache.example",
        "http://10.0.0.5:5000/v2/proxy/corp"
    ]);
    ensure!(endpoints("corp.example:5000") == corp, "{understood}");
    let tls = &understood["configs"]["cache.example"]["tls"];
    ensure!(tls["ca_file"] == "/etc/rancher/k3s/ca.crt", "{understood}");
    ensure!(
        mirror.file("ca.crt")? == authority,
        "the authority is another"
    );
    Ok(())
}

pub(crate) fn talos_reads_the_rendered_patch(registries: &mut Registries) -> Result<()> {
    let authority = Authority::new()?.pem();
    for version in ["1.12", "1.11"] {
        let mirror = |fields: &str| {
            format!(
                "runtime: {{type: Talos, version: '{version}'}}, caSecretRef: {{name: given}}{fields}"
            )
        };
        let allowing = render(registries, &mirror(""), &authority)?;
        let understood = read(registries, "talos", allowing.file("talos.yaml")?)?;
        let hub = &understood["mirrors"]["docker.io"];
        ensure!(
            hub["endpoints"][0]["url"] == "https://cache.example",
            "{understood}"
        );
        ensure!(hub["skipFallback"] == false, "{understood}");
        let corp = &understood["mirrors"]["corp.example:5000"]["endpoints"];
        let own = json!({"url": "http://10.0.0.5:5000/v2/proxy/corp", "overridePath": true});
        ensure!(corp[1] == own, "{understood}");
        ensure!(
            understood["authorities"]["cache.example"] == authority,
            "{understood}"
        );

        let forbidding = render(registries, &mirror(", fallback: Forbid"), &authority)?;
        let understood = read(registries, "talos", forbidding.file("talos.yaml")?)?;
        for host in ["docker.io", "corp.example:5000"] {
            let mirror = &understood["mirrors"][host];
            ensure!(mirror["skipFallback"] == true, "{understood}");
            let endpoints = mirror["endpoints"].as_array().map(Vec::len);
            ensure!(endpoints == Some(1), "{understood}");
        }
    }
    Ok(())
}

pub(crate) fn cluster_api_reads_the_rendered_files(registries: &mut Registries) -> Result<()> {
    let authority = Authority::new()?.pem();
    let fields = |target: &str| {
        format!(
            "runtime: {{type: ClusterApi}}, caSecretRef: {{name: given}}, target: {{kind: {target}}}"
        )
    };
    let paths = |understood: &Value| {
        let files = understood["files"].as_array().into_iter().flatten();
        files
            .filter_map(|file| file["path"].as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let expected = [
        "/etc/containerd/certs.d/corp.example_5000_/ca.crt",
        "/etc/containerd/certs.d/corp.example_5000_/hosts.toml",
        "/etc/containerd/certs.d/docker.io/ca.crt",
        "/etc/containerd/certs.d/docker.io/hosts.toml",
    ];
    let whole = render(registries, &fields("ConfigMap"), &authority)?;
    let understood = read(registries, "kubeadm", whole.file("kubeadm-files.yaml")?)?;
    ensure!(paths(&understood) == expected, "{understood}");
    ensure!(
        understood["files"][0]["content"] == authority,
        "{understood}"
    );

    let references = render(registries, &fields("Secret"), &authority)?;
    let understood = read(
        registries,
        "kubeadm",
        references.file("kubeadm-files.yaml")?,
    )?;
    ensure!(paths(&understood) == expected, "{understood}");
    for file in understood["files"].as_array().into_iter().flatten() {
        let secret = &file["contentFrom"]["secret"];
        ensure!(secret["name"] == "cache-mirror-nodes", "{understood}");
        // What is referred to is there.
        references.file(secret["key"].as_str().context("there is no key")?)?;
    }
    Ok(())
}

fn render(registries: &mut Registries, fields: &str, authority: &str) -> Result<Mirror> {
    let declared = Declared {
        upstreams: UPSTREAMS,
        endpoint: "https://cache.example",
        fields,
        secret: &[("ca.crt", authority)],
    };
    let directory = registries.directory()?;
    Mirror::render(&registries.operator, &directory, declared)
}

/// What the consumer's code makes of the text.
fn read(registries: &mut Registries, format: &str, text: &str) -> Result<Value> {
    let path = registries.directory()?.join(format);
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    let mut reader = Command::new(registries.tools.path("mirrorstools")?);
    let output = command::output(reader.arg(format).arg(&path))?;
    serde_json::from_str(&output).context("failed to read what was understood")
}
