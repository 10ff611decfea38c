//! A release, made as `docs/release.md` says, for the kind of machine that this one is, and read by what people read it with.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::tools::packages;
use e2e::{command, larder};
use serde_json::Value;

/// Makes one, built as quickly as can be.
fn release_into(folder: &Path) {
    let mut make = Command::new(env!("CARGO"));
    make.current_dir(larder::workspace())
        .args(["run", "--quiet", "--package", "xtask", "--", "release"])
        .args(["--profile", "trial", "--architectures", "amd64"])
        .arg("--folder")
        .arg(folder);
    command::output(&mut make).unwrap();
}

fn run(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str], folder: &Path) -> String {
    command::output(Command::new(program).args(arguments).current_dir(folder)).unwrap()
}

#[test]
fn a_release_is_whole_can_be_read_and_is_the_same_when_it_is_made_again() {
    packages::ensure(packages::CLIENTS, &|line| eprintln!("{line}")).unwrap();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for folder in &folders {
        release_into(folder.path());
    }
    let [first, second] = &folders;
    let sums = |folder: &Path| fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    assert_eq!(sums(first.path()), sums(second.path()));

    let folder = first.path();
    let listed = sums(folder);
    let names: Vec<_> = listed
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "larder-cache-server-amd64",
            "larder-cache-server.cdx.json",
            "larder-cache-server.oci.tar",
            "larder-operator-amd64",
            "larder-operator.cdx.json",
            "larder-operator.oci.tar",
        ]
    );
    run("sha256sum", &["--check", "--quiet", "SHA256SUMS"], folder);

    let version = env!("CARGO_PKG_VERSION");
    let commit = run("git", &["rev-parse", "HEAD"], larder::workspace());
    for program in ["larder-operator", "larder-cache-server"] {
        let said = run(
            folder.join(format!("{program}-amd64")),
            &["--version"],
            folder,
        );
        assert!(said.contains(version), "{said}");
        let image = format!("oci-archive:{program}.oci.tar:{version}");
        let index = run("skopeo", &["inspect", "--raw", &image], folder);
        let index: Value = serde_json::from_str(&index).unwrap();
        let platforms: Vec<_> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|manifest| &manifest["platform"]["architecture"])
            .collect();
        assert_eq!(platforms, ["amd64"]);
        let config = run("skopeo", &["inspect", "--config", &image], folder);
        let config: Value = serde_json::from_str(&config).unwrap();
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.revision"], commit.trim());
        assert_eq!(config["config"]["User"], "65532:65532");
        let bill = fs::read_to_string(folder.join(format!("{program}.cdx.json"))).unwrap();
        let bill: Value = serde_json::from_str(&bill).unwrap();
        assert_eq!(bill["bomFormat"], "CycloneDX");
        assert!(bill["components"].as_array().unwrap().len() > 100);
    }
}
