//! A node: whether containerd reads mirror files, what they say, and whether the caches in them answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use crds::node_agent::HOSTS_FILE;

use super::Finding;
use crate::args::NodeFiles;
use crate::containerd::hosts::{directories, registry};
use crate::containerd::{Hosts, RegistryConfig, Version, files};
use crate::node_agent::bundle::Target;
use crate::node_agent::disk::Disk;
use crate::node_agent::probe::probe;
use crate::report::chain;

/// What was read on a node.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Where mirror files are expected.
    pub root: PathBuf,
    pub config_file: PathBuf,
    pub config: Option<Result<RegistryConfig, String>>,
    /// `None`: containerd's program does not say it.
    pub version: Option<Version>,
    /// `Err`: the directory can't be read.
    pub directories: Option<Result<BTreeMap<String, Directory>, String>>,
    /// Why targets don't answer; those that do are not here.
    pub silent: BTreeMap<Target, String>,
    /// Why targets don't let this node in.
    pub refused: BTreeMap<Target, String>,
    pub image: Option<String>,
}

/// One directory below `certs.d`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// Text of its `hosts.toml`.
    pub hosts: Option<String>,
    /// Certificates that it names, by the name that it has for them; `None`: there is no such file.
    pub authorities: BTreeMap<String, Option<String>>,
    /// Whether the node agent wrote it.
    pub ours: bool,
}

/// Reads the node. What can't be read is a fact, too.
pub async fn look(paths: &NodeFiles, image: Option<&str>) -> Facts {
    let root = paths.certs_directory.clone();
    let mut facts = Facts {
        config_file: paths.containerd_config.clone(),
        config: Some(files::read(&paths.containerd_config).map_err(|error| chain(&error))),
        version: version().await,
        directories: Some(read(&root)),
        image: image.map(str::to_owned),
        root,
        ..Facts::default()
    };
    let outcomes = probe(targets(&facts)).await;
    for (target, outcome) in outcomes {
        let Err(error) = outcome else { continue };
        let kind = if error.is_refusal() {
            &mut facts.refused
        } else {
            &mut facts.silent
        };
        kind.insert(target, error.to_string());
    }
    facts
}

/// What the program in the search path says, which is what runs unless it was replaced a moment ago.
async fn version() -> Option<Version> {
    let mut containerd = tokio::process::Command::new("containerd");
    let output = containerd.arg("--version").output().await.ok()?;
    Version::find(&String::from_utf8_lossy(&output.stdout))
}

fn read(root: &std::path::Path) -> Result<BTreeMap<String, Directory>, String> {
    let failed = |error: std::io::Error| format!("failed to read {}: {error}", root.display());
    let recorded = Disk::new(root).recorded().map_err(|error| chain(&error))?;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let special = name.starts_with('_') && name != "_default";
        if special || !path.is_dir() {
            continue;
        }
        let hosts = fs::read_to_string(path.join(HOSTS_FILE)).ok();
        let parsed = hosts.as_deref().and_then(|text| Hosts::parse(text).ok());
        let names = parsed.into_iter().flat_map(|hosts| hosts.hosts);
        let authorities = names.flat_map(|host| host.ca).map(|name| {
            let text = fs::read_to_string(path.join(&name)).ok();
            (name, text)
        });
        let directory = Directory {
            authorities: authorities.collect(),
            ours: recorded.contains(name.as_ref()),
            hosts,
        };
        found.insert(name.into_owned(), directory);
    }
    Ok(found)
}

fn targets(facts: &Facts) -> BTreeSet<Target> {
    let Some(Ok(directories)) = &facts.directories else {
        return BTreeSet::new();
    };
    let mut targets = BTreeSet::new();
    for directory in directories.values() {
        let hosts = directory
            .hosts
            .as_deref()
            .and_then(|text| Hosts::parse(text).ok());
        for host in hosts.into_iter().flat_map(|hosts| hosts.hosts) {
            targets.insert(target(directory, &host));
        }
    }
    targets
}

fn target(directory: &Directory, host: &crate::containerd::hosts::Host) -> Target {
    let texts = host
        .ca
        .iter()
        .filter_map(|name| directory.authorities.get(name)?.clone());
    Target {
        url: host.probe_url(),
        authorities: texts.collect::<Vec<_>>().join("\n"),
        headers: host.headers.clone(),
    }
}

/// What the facts mean.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    of_configuration(facts, &mut findings);
    match &facts.directories {
        None => {}
        Some(Err(error)) => findings.push(
            Finding::wrong(facts.root.display().to_string(), error).remedy(
                "Run this as root on the node, or name the directory by --certs-directory.",
            ),
        ),
        Some(Ok(directories)) => {
            if directories.is_empty() {
                findings.push(
                    Finding::wrong(
                        facts.root.display().to_string(),
                        "there are no mirror files: images are pulled from their registries",
                    )
                    .remedy("Enable the chart's nodeAgent, or copy the files of a mirror's ConfigMap here."),
                );
            }
            for (name, directory) in directories {
                of_directory(facts, name, directory, &mut findings);
            }
            if let Some(image) = &facts.image {
                findings.push(of_image(facts, image, directories));
            }
        }
    }
    findings
}

fn of_configuration(facts: &Facts, findings: &mut Vec<Finding>) {
    if let Some(version) = facts.version
        && !version.knows_dial_timeout()
    {
        findings.push(Finding::note(
            "containerd",
            format!("version {version} knows no dial_timeout: while a cache is gone, each request to it takes 30 s, until its files are removed"),
        ));
    }
    let file = facts.config_file.display().to_string();
    match &facts.config {
        None => {}
        Some(Err(error)) => findings.push(Finding::wrong(file, error).remedy(format!(
            "Run this as root on the node, name the file by --containerd-config, or write one that sets config_path = \"{}\".",
            facts.root.display()
        ))),
        Some(Ok(config)) => {
            let problems = config.problems(&facts.root, facts.version);
            if problems.is_empty() {
                let message = format!("containerd reads mirror files from {}", facts.root.display());
                findings.push(Finding::right(file, message));
            } else {
                let wrong = |message: String| Finding::wrong(file.clone(), message.trim_end_matches('.'));
                findings.extend(problems.into_iter().map(|problem| wrong(problem.message)));
            }
        }
    }
}

fn of_directory(facts: &Facts, name: &str, directory: &Directory, findings: &mut Vec<Finding>) {
    let subject = format!("{name}/{HOSTS_FILE}");
    let whose = if directory.ours {
        "written by Larder's node agent"
    } else {
        "not written by Larder's node agent"
    };
    let hosts = match directory.hosts.as_deref().map(Hosts::parse) {
        None => {
            let message = "there is none, so the registry itself is asked";
            findings.push(Finding::note(subject, message));
            return;
        }
        Some(Err(error)) => {
            findings.push(
                Finding::wrong(
                    subject,
                    format!("containerd passes over it ({whose}): {error}"),
                )
                .remedy("Mend it, or remove it."),
            );
            return;
        }
        Some(Ok(hosts)) => hosts,
    };
    let missing: Vec<&str> = directory
        .authorities
        .iter()
        .filter(|(_, text)| text.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if !missing.is_empty() {
        findings.push(
            Finding::wrong(
                subject,
                format!(
                    "every pull fails, because {} can't be read ({whose})",
                    missing.join(", ")
                ),
            )
            .remedy(format!(
                "Bring the file back, or remove {HOSTS_FILE} until it is there."
            )),
        );
        return;
    }
    let silent: Vec<&String> = hosts
        .hosts
        .iter()
        .filter_map(|host| facts.silent.get(&target(directory, host)))
        .collect();
    // Of a registry that is no cache, a refusal is a question that containerd answers.
    let refused = hosts
        .hosts
        .iter()
        .filter(|_| directory.ours)
        .find_map(|host| facts.refused.get(&target(directory, host)));
    if let Some(reason) = refused {
        findings.push(
            Finding::wrong(subject, format!("{reason} ({whose})")).remedy(
                "Compare spec.access of the cache with credentialsSecretRef of its mirror: both have to know the same user.",
            ),
        );
    } else if hosts.hosts.is_empty() {
        findings.push(Finding::note(
            subject,
            format!("it names no mirror ({whose})"),
        ));
    } else if silent.is_empty() {
        let urls: Vec<&str> = hosts.hosts.iter().map(|host| host.url.as_str()).collect();
        findings.push(Finding::right(
            subject,
            format!("{} answers ({whose})", urls.join(" and ")),
        ));
    } else {
        let remedy = if hosts.forbids_fallback() {
            "Look at the cache's pods and its Service. Until it is back no image of this registry can be pulled, since the mirror forbids the fallback."
        } else {
            "Look at the cache's pods and its Service. Until it is back, images come from the registry itself."
        };
        for reason in silent {
            findings.push(
                Finding::wrong(subject.clone(), format!("{reason} ({whose})")).remedy(remedy),
            );
        }
    }
}

/// Whom containerd would ask for an image.
fn of_image(facts: &Facts, image: &str, found: &BTreeMap<String, Directory>) -> Finding {
    let registry = registry(image);
    let subject = format!("image {image}");
    let unread = facts
        .config
        .as_ref()
        .is_none_or(|config| config.as_ref().is_err());
    let ignored = facts
        .config
        .iter()
        .flatten()
        .any(|config| !config.problems(&facts.root, facts.version).is_empty());
    if ignored {
        return Finding::wrong(
            subject,
            format!("containerd reads no mirror files, and asks {registry} itself"),
        );
    }
    let candidates = directories(registry);
    let directory = candidates.iter().find_map(|name| found.get_key_value(name));
    let hosts = directory.and_then(|(_, directory)| Hosts::parse(directory.hosts.as_deref()?).ok());
    match (directory, hosts) {
        (Some((name, _)), Some(hosts)) if !hosts.hosts.is_empty() => {
            let mut asked: Vec<String> = hosts.hosts.iter().map(|host| host.url.clone()).collect();
            if !hosts.forbids_fallback() {
                asked.push(
                    hosts
                        .server
                        .unwrap_or_else(|| format!("https://{registry}")),
                );
            }
            let guess = if unread {
                ", if containerd reads it"
            } else {
                ""
            };
            Finding::right(
                subject,
                format!(
                    "by {name}/{HOSTS_FILE}{guess}, containerd asks {}",
                    asked.join(", then ")
                ),
            )
        }
        _ => Finding::wrong(
            subject,
            format!(
                "containerd asks {registry} itself: none of {} has a mirror for it",
                candidates.join(", ")
            ),
        )
        .remedy(format!(
            "Add {registry} to the upstreams of a RegistryCache whose mirror these nodes use."
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::finding::text;
    use super::*;

    fn config(roots: &str) -> RegistryConfig {
        let text =
            format!("[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '{roots}'\n");
        RegistryConfig::read(&[(PathBuf::from("/etc/containerd/config.toml"), text)]).unwrap()
    }

    fn directory(hosts: &str, ours: bool) -> Directory {
        Directory {
            hosts: Some(hosts.to_owned()),
            ours,
            ..Directory::default()
        }
    }

    fn facts(roots: &str, directories: &[(&str, Directory)]) -> Facts {
        Facts {
            root: PathBuf::from("/etc/containerd/certs.d"),
            config_file: PathBuf::from("/etc/containerd/config.toml"),
            config: Some(Ok(config(roots))),
            version: Some(Version(2, 2, 0)),
            directories: Some(Ok(directories
                .iter()
                .map(|(a, b)| ((*a).to_owned(), b.clone()))
                .collect())),
            ..Facts::default()
        }
    }

    const ROOT: &str = "/etc/containerd/certs.d";
    const CACHE: &str =
        "server = \"https://registry-1.docker.io\"\n[host.\"http://10.0.0.9:5000\"]\n";

    #[test]
    fn each_state_of_a_node_is_told_with_a_remedy() {
        let mut well = facts(
            ROOT,
            &[
                ("docker.io", directory(CACHE, true)),
                ("quay.io", Directory::default()),
            ],
        );
        well.image = Some("alpine:3".to_owned());
        let mut trap = facts(
            &format!("{ROOT}:/etc/docker/certs.d"),
            &[("docker.io", directory(CACHE, true))],
        );
        trap.image = Some("alpine:3".to_owned());
        let mut gone = facts(
            ROOT,
            &[
                ("docker.io", directory(CACHE, true)),
                (
                    "ghcr.io",
                    directory("[host.\"http://a\"]\ncapabilities = [\"pul\"]", false),
                ),
                (
                    "quay.io",
                    Directory {
                        authorities: BTreeMap::from([("ca.crt".to_owned(), None)]),
                        ..directory("[host.\"https://c\"]\nca = \"ca.crt\"", false)
                    },
                ),
            ],
        );
        gone.version = Some(Version(1, 6, 20));
        gone.image = Some("gcr.io/a".to_owned());
        gone.silent = targets(&gone)
            .into_iter()
            .map(|target| {
                (
                    target.clone(),
                    format!("failed to reach {}: connection refused", target.url),
                )
            })
            .collect();
        let theirs = "[host.\"https://mirror\"]\n";
        let mut refused = facts(
            ROOT,
            &[
                ("docker.io", directory(CACHE, true)),
                ("quay.io", directory(theirs, false)),
            ],
        );
        refused.refused = targets(&refused)
            .into_iter()
            .map(|target| {
                let url = &target.url;
                let reason = format!("failed to use {url}: it answers 401 Unauthorized");
                (target, reason)
            })
            .collect();
        let mut nothing = facts(ROOT, &[]);
        nothing.config = Some(Err(
            "failed to read /etc/containerd/config.toml: No such file".to_owned(),
        ));
        let cases = [
            ("well", well),
            ("trap", trap),
            ("gone", gone),
            ("refused", refused),
            ("nothing", nothing),
        ];
        let texts = cases.map(|(name, facts)| format!("# {name}\n{}", text(&findings(&facts))));
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn the_other_form_is_for_programs() {
        let facts = facts(ROOT, &[("docker.io", directory(CACHE, true))]);
        insta::assert_json_snapshot!(findings(&facts));
    }

    #[test]
    fn a_node_is_read_as_containerd_does() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("quay.io")).unwrap();
        fs::create_dir_all(path("_larder-backup")).unwrap();
        fs::write(path("_larder-backup/quay.io.json"), "{}").unwrap();
        fs::write(
            path("quay.io/hosts.toml"),
            "[host.\"https://c\"]\nca = [\"ca.crt\", \"none.crt\"]\n",
        )
        .unwrap();
        fs::write(path("quay.io/ca.crt"), "PEM").unwrap();
        let found = read(root.path()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["quay.io"]);
        assert!(found["quay.io"].ours);
        assert_eq!(
            found["quay.io"].authorities["ca.crt"].as_deref(),
            Some("PEM")
        );
        assert_eq!(found["quay.io"].authorities["none.crt"], None);
        assert!(read(Path::new("/nowhere")).is_err());
    }
}
