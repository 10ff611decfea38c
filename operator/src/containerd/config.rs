//! containerd's own configuration, `config.toml`: which directories it reads mirror files from, if any. Pure.

use std::path::{Path, PathBuf};

use crds::node_agent::{NodeProblem, ProblemKind};
use toml::{Table, Value};

use super::Version;

/// Tables of the CRI plugin's registry settings, by the version of the file's format: 3, 2 and 1.
const REGISTRY: [&[&str]; 3] = [
    &["plugins", "io.containerd.cri.v1.images", "registry"],
    &["plugins", "io.containerd.grpc.v1.cri", "registry"],
    &["plugins", "cri", "registry"],
];
/// Tables of settings with which pulls don't go by the transfer service, in the formats 3 and 2.
const IMAGES: [&[&str]; 2] = [
    &["plugins", "io.containerd.cri.v1.images"],
    &["plugins", "io.containerd.grpc.v1.cri"],
];

/// Why a configuration can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read {}: {reason}", .path.display())]
pub struct Error {
    pub path: PathBuf,
    pub reason: String,
}

/// What matters of containerd's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// The first file.
    pub path: PathBuf,
    /// The directories of `config_path`. Empty: it is not set.
    pub roots: Vec<PathBuf>,
    /// Whether mirrors are written in `config.toml` itself, too.
    pub inline_mirrors: bool,
    /// Whether a setting keeps pulls from the transfer service.
    pub local_pull: bool,
}

impl RegistryConfig {
    /// Reads the file and what it imports, in the order in which later files override earlier ones.
    pub fn read(files: &[(PathBuf, String)]) -> Result<Self, Error> {
        let mut config = Self::default();
        if let Some((path, _)) = files.first() {
            config.path.clone_from(path);
        }
        for (path, text) in files {
            let table = parse(path, text)?;
            for registry in REGISTRY.iter().filter_map(|path| find(&table, path)) {
                if let Some(roots) = registry.get("config_path").and_then(Value::as_str) {
                    let roots = roots.split(':').filter(|root| !root.is_empty());
                    config.roots = roots.map(PathBuf::from).collect();
                }
                let filled = |key: &str| {
                    let table = registry.get(key).and_then(Value::as_table);
                    table.is_some_and(|table| !table.is_empty())
                };
                config.inline_mirrors |= filled("mirrors");
            }
            for images in IMAGES.iter().filter_map(|path| find(&table, path)) {
                let set = |key: &str| images.get(key).and_then(Value::as_bool) == Some(true);
                config.local_pull |= set("use_local_image_pull") || set("discard_unpacked_layers");
            }
        }
        Ok(config)
    }

    /// Why mirror files in `root` are not followed. `version` is that of containerd, where it is known.
    pub fn problems(&self, root: &Path, version: Option<Version>) -> Vec<NodeProblem> {
        let mut problems = Vec::new();
        let mut add = |kind, message: String| problems.push(NodeProblem { kind, message });
        let (file, root) = (self.path.display(), root.display());
        let set = format!(
            "set config_path = \"{root}\" in [plugins.'io.containerd.cri.v1.images'.registry] (containerd 2) or [plugins.\"io.containerd.grpc.v1.cri\".registry] (containerd 1), and restart containerd"
        );
        let has_root = |one: &PathBuf| {
            one.components()
                .eq(Path::new(&root.to_string()).components())
        };
        if self.roots.is_empty() {
            add(
                ProblemKind::Other,
                format!(
                    "{file} does not set config_path, so containerd reads no mirror files: {set}."
                ),
            );
        } else if !self.roots.iter().any(has_root) {
            add(
                ProblemKind::Other,
                format!(
                    "config_path in {file} is {}, and the mirror files are in {root}: {set}.",
                    self.joined_roots()
                ),
            );
        } else if self.roots.len() > 1
            && !self.local_pull
            && version.is_none_or(Version::stumbles_over_several_roots)
        {
            add(
                ProblemKind::SeveralRoots,
                format!(
                    "config_path in {file} names {} directories, {}, which containerd 2.1.0 to 2.3.1 takes for the name of one, so that it reads no mirror files: {set}.",
                    self.roots.len(),
                    self.joined_roots()
                ),
            );
        }
        if self.inline_mirrors {
            add(
                ProblemKind::Other,
                format!(
                    "{file} has registry.mirrors, which containerd does not take together with config_path: remove registry.mirrors, and restart containerd."
                ),
            );
        }
        problems
    }

    fn joined_roots(&self) -> String {
        let roots = self.roots.iter().map(|root| root.display().to_string());
        roots.collect::<Vec<_>>().join(":")
    }
}

/// What a file says it imports: paths that may end in a pattern.
pub fn imports(path: &Path, text: &str) -> Result<Vec<PathBuf>, Error> {
    let table = parse(path, text)?;
    let imports = table.get("imports").and_then(Value::as_array);
    let base = path.parent().unwrap_or(Path::new("/"));
    Ok(imports
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|import| base.join(import))
        .collect())
}

fn parse(path: &Path, text: &str) -> Result<Table, Error> {
    text.parse().map_err(|error: toml::de::Error| Error {
        path: path.to_owned(),
        // Not its excerpt of the file, which may hold credentials.
        reason: error.message().to_owned(),
    })
}

fn find<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Table> {
    path.iter()
        .try_fold(table, |table, key| table.get(*key)?.as_table())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "/etc/containerd/certs.d";

    fn messages(text: &str, version: Option<Version>) -> String {
        let files = [(
            PathBuf::from("/etc/containerd/config.toml"),
            text.to_owned(),
        )];
        let config = RegistryConfig::read(&files).unwrap();
        let problems = config.problems(Path::new(ROOT), version);
        let lines: Vec<_> = problems.into_iter().map(|one| one.message).collect();
        lines.join("\n")
    }

    #[test]
    fn each_format_of_the_file_is_read() {
        for table in [
            "[plugins.'io.containerd.cri.v1.images'.registry]",
            "[plugins.\"io.containerd.grpc.v1.cri\".registry]",
            "[plugins.cri.registry]",
        ] {
            let text = format!("{table}\nconfig_path = \"{ROOT}/\"\n");
            assert_eq!(messages(&text, None), "", "{table}");
        }
    }

    #[test]
    fn each_trap_is_told_with_what_to_do() {
        let two = format!(
            "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '{ROOT}:/etc/docker/certs.d'\n"
        );
        let elsewhere = two.replace("containerd/", "other/");
        let inline = format!(
            "{two}[plugins.'io.containerd.cri.v1.images'.registry.mirrors.'docker.io']\nendpoint = ['http://a']\n"
        );
        insta::assert_snapshot!(
            [
                messages("version = 2\n", None),
                messages(&two, Some(Version(2, 1, 4))),
                messages(&two, None),
                messages(&elsewhere, None),
                messages(&inline, Some(Version(1, 7, 0))),
            ]
            .join("\n\n")
        );
    }

    #[test]
    fn several_roots_are_right_where_they_work() {
        let two = format!(
            "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '{ROOT}:/etc/docker/certs.d'\n"
        );
        assert_eq!(messages(&two, Some(Version(1, 7, 20))), "");
        assert_eq!(messages(&two, Some(Version(2, 3, 2))), "");
        let local = format!(
            "{two}[plugins.'io.containerd.cri.v1.images']\ndiscard_unpacked_layers = true\n"
        );
        assert_eq!(messages(&local, Some(Version(2, 1, 4))), "");
    }

    #[test]
    fn a_later_file_overrides_an_earlier_one() {
        let empty = "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = ''\n";
        let set = empty.replace("''", &format!("'{ROOT}'"));
        let file = |text: &str| (PathBuf::from("config.toml"), text.to_owned());
        let config = RegistryConfig::read(&[file(empty), file(&set)]).unwrap();
        assert_eq!(config.roots, [PathBuf::from(ROOT)]);
        let config = RegistryConfig::read(&[file(&set), file(empty)]).unwrap();
        assert!(config.roots.is_empty());
    }

    #[test]
    fn imports_are_found_beside_the_file() {
        let text = "imports = ['conf.d/*.toml', '/run/containerd.toml']\n";
        let found = imports(Path::new("/etc/containerd/config.toml"), text).unwrap();
        assert_eq!(
            found,
            [
                PathBuf::from("/etc/containerd/conf.d/*.toml"),
                PathBuf::from("/run/containerd.toml")
            ]
        );
    }

    #[test]
    fn an_error_shows_nothing_of_the_file() {
        let text = "password = \"secret\" oops";
        let error = RegistryConfig::read(&[(PathBuf::from("config.toml"), text.to_owned())]);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("failed to read config.toml: "), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
