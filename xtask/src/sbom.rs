//! What each program is made of, as a bill of materials in the form of `CycloneDX` 1.6: the crates that are linked into it for one
//! of the platforms, with their licences and the checksums of `Cargo.lock`. The same lock file makes the same bytes: there is no
//! time and no random number in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::command::{cargo, output, root};

/// One of the programs that are released.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    /// What it is called in a release, and in its image.
    pub(crate) name: &'static str,
    /// Its package of the workspace.
    pub(crate) package: &'static str,
    /// What cargo calls it.
    pub(crate) binary: &'static str,
}

/// All that are released.
pub(crate) const PROGRAMS: [Program; 2] = [
    Program {
        name: "larder-operator",
        package: "operator",
        binary: "larder-operator",
    },
    Program {
        name: "larder-cache-server",
        package: "cache-server",
        binary: "cache-server",
    },
];

/// Platforms that images are made for.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// Writes `PROGRAM.cdx.json` for each program.
pub(crate) fn write_to(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    for program in PROGRAMS {
        let path = folder.join(format!("{}.cdx.json", program.name));
        let text = serde_json::to_string_pretty(&bill(program)?)
            .context("failed to write a bill of materials")?;
        fs::write(&path, format!("{text}\n"))
            .with_context(|| format!("failed to write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

fn bill(program: Program) -> Result<Value> {
    let lock = root().join("Cargo.lock");
    let lock =
        fs::read_to_string(&lock).with_context(|| format!("failed to read {}", lock.display()))?;
    let mut tree = cargo(["tree", "--locked", "--package", program.package]);
    // What is linked: neither what only tests or builds need, nor macros, which run in the compiler.
    tree.args(["--edges", "normal,no-proc-macro", "--prefix", "depth"]);
    tree.args(["--format", "\t{p}\t{l}"]);
    for target in TARGETS {
        tree.args(["--target", target]);
    }
    render(program.name, &output(tree)?, &checksums(&lock))
}

/// A crate as the tree names it: `name vVERSION`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
}

impl Crate {
    fn purl(&self) -> String {
        // A plus sign of build metadata would be a space in a package URL.
        let version = self.version.replace('+', "%2B");
        format!("pkg:cargo/{}@{version}", self.name)
    }
}

#[derive(Debug, Default)]
struct Facts {
    license: String,
    needs: BTreeSet<Crate>,
}

fn render(program: &str, tree: &str, checksums: &BTreeMap<Crate, String>) -> Result<Value> {
    let (first, facts) = read(tree)?;
    let mut components = Vec::new();
    for (one, fact) in facts.iter().filter(|(one, _)| **one != first) {
        let mut component = json!({
            "type": "library",
            "bom-ref": one.purl(),
            "name": one.name,
            "version": one.version,
            "purl": one.purl(),
            "licenses": licenses(&fact.license),
        });
        // A crate of the workspace has none.
        if let Some(checksum) = checksums.get(one) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        components.push(component);
    }
    let dependencies: Vec<Value> = facts
        .iter()
        .map(|(one, fact)| {
            let needs: Vec<String> = fact.needs.iter().map(Crate::purl).collect();
            json!({"ref": one.purl(), "dependsOn": needs})
        })
        .collect();
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {
            "type": "application",
            "bom-ref": first.purl(),
            "name": program,
            "version": first.version,
            "licenses": licenses(&facts[&first].license),
        }},
        "components": components,
        "dependencies": dependencies,
    }))
}

/// The first crate, and all with what they need. A crate that was shown before is shown again without what it needs.
fn read(tree: &str) -> Result<(Crate, BTreeMap<Crate, Facts>)> {
    let mut facts: BTreeMap<Crate, Facts> = BTreeMap::new();
    let mut above: Vec<Crate> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let mut parts = line.split('\t');
        let unexpected = || format!("cargo tree printed {line:?}");
        let depth = parts.next().and_then(|depth| depth.parse::<usize>().ok());
        let depth = depth.with_context(unexpected)?;
        let mut words = parts.next().with_context(unexpected)?.split(' ');
        let one = Crate {
            name: words.next().with_context(unexpected)?.to_owned(),
            version: words
                .next()
                .and_then(|version| version.strip_prefix('v'))
                .with_context(unexpected)?
                .to_owned(),
        };
        let license = parts.next().with_context(unexpected)?;
        ensure!(depth <= above.len(), "{}", unexpected());
        above.truncate(depth);
        if let Some(parent) = above.last() {
            let parent = facts.entry(parent.clone()).or_default();
            parent.needs.insert(one.clone());
        }
        license
            .trim_end_matches(" (*)")
            .clone_into(&mut facts.entry(one.clone()).or_default().license);
        above.push(one);
    }
    let first = above
        .into_iter()
        .next()
        .context("cargo tree printed nothing")?;
    Ok((first, facts))
}

/// The old form `MIT/Apache-2.0` is no expression of SPDX.
fn licenses(text: &str) -> Value {
    json!([{"expression": text.replace('/', " OR ")}])
}

/// The checksums of `Cargo.lock`, which are those of the registry's archives.
fn checksums(lock: &str) -> BTreeMap<Crate, String> {
    let field = |block: &str, name: &str| {
        let begin = format!("{name} = \"");
        let line = block.lines().find_map(|line| line.strip_prefix(&begin))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    lock.split("[[package]]")
        .filter_map(|block| {
            let name = field(block, "name")?;
            let version = field(block, "version")?;
            Some((Crate { name, version }, field(block, "checksum")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0\tserver v0.1.0 (/w/server)\tApache-2.0\n\
                        1\ta v1.0.0\tMIT/Apache-2.0\n\
                        2\tb v2.0.0+x\tMIT\n\
                        1\tb v2.0.0+x\tMIT (*)\n";
    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"aa\"\n\n\
                        [[package]]\nname = \"server\"\nversion = \"0.1.0\"\n";

    #[test]
    fn a_bill_names_what_a_program_is_made_of() {
        let bill = render("larder-server", TREE, &checksums(LOCK)).unwrap();
        let expected = json!([
            {
                "type": "library", "bom-ref": "pkg:cargo/a@1.0.0", "name": "a", "version": "1.0.0",
                "purl": "pkg:cargo/a@1.0.0", "licenses": [{"expression": "MIT OR Apache-2.0"}],
                "hashes": [{"alg": "SHA-256", "content": "aa"}],
            },
            {
                "type": "library", "bom-ref": "pkg:cargo/b@2.0.0%2Bx", "name": "b", "version": "2.0.0+x",
                "purl": "pkg:cargo/b@2.0.0%2Bx", "licenses": [{"expression": "MIT"}],
            },
        ]);
        assert_eq!(bill["components"], expected);
        assert_eq!(bill["metadata"]["component"]["name"], "larder-server");
        let expected = json!([
            {"ref": "pkg:cargo/a@1.0.0", "dependsOn": ["pkg:cargo/b@2.0.0%2Bx"]},
            {"ref": "pkg:cargo/b@2.0.0%2Bx", "dependsOn": []},
            {"ref": "pkg:cargo/server@0.1.0", "dependsOn": ["pkg:cargo/a@1.0.0", "pkg:cargo/b@2.0.0%2Bx"]},
        ]);
        assert_eq!(bill["dependencies"], expected);
    }

    #[test]
    fn what_cargo_never_prints_is_an_error() {
        for tree in ["", "x\ta v1\tMIT\n", "0\ta\tMIT\n", "2\ta v1\tMIT\n"] {
            assert!(read(tree).is_err(), "{tree:?}");
        }
    }

    #[test]
    fn bills_of_the_workspace_are_whole_and_always_the_same() {
        for program in PROGRAMS {
            let found = bill(program).unwrap();
            assert_eq!(found, bill(program).unwrap());
            let components = found["components"].as_array().unwrap();
            let names: Vec<&str> = components
                .iter()
                .map(|one| one["name"].as_str().unwrap())
                .collect();
            assert!(
                names.contains(&"rustls") && names.contains(&"crds"),
                "{names:?}"
            );
            assert_eq!(
                names.contains(&"kube-client"),
                program.package == "operator"
            );
            assert!(
                !names.contains(&"insta"),
                "a crate of tests is in {program:?}"
            );
            let without: Vec<&Value> = components
                .iter()
                .filter(|one| one.get("hashes").is_none())
                .map(|one| &one["name"])
                .collect();
            assert_eq!(without, ["crds"], "without a checksum");
        }
    }
}
