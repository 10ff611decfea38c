//! What has to be done to the node's files, given what should be there and what is. Pure.
//!
//! Whatever step a crash comes after, the next plan goes on from what is on the disk then. It holds because a [`Record`] is
//! written before anything of a directory is touched, and removed after everything is as it was.

use std::collections::BTreeMap;

use crds::node_agent::HOSTS_FILE;
use serde::{Deserialize, Serialize};

/// Text of the files of one directory, by name.
pub type Files = BTreeMap<String, String>;

/// What is known of a directory that the agent changed, and how to undo it. Stands outside of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The file of the bundle that the directory is wired by.
    pub source: String,
    /// Whether the directory was there before.
    pub existed: bool,
    /// The agent's files, and whether a file of that name was there before and is kept in the backup.
    pub files: BTreeMap<String, bool>,
}

/// One directory as it is on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub exists: bool,
    /// Contents of the files that are wanted or recorded; what is no text is as if empty.
    pub files: Files,
    /// `None`: the agent has changed nothing here.
    pub record: Option<Record>,
}

/// What should become of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// These files, on behalf of a file of the bundle.
    Install {
        source: String,
        files: Files,
        /// Whether only root may read them.
        confidential: bool,
    },
    /// As it was before the agent came.
    Restore,
}

/// One change. Each can be done twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Copy a file to the backup.
    Save {
        file: String,
    },
    /// Write down what has been saved: from here on the directory is the agent's.
    Record(Record),
    MakeDirectory,
    Write {
        file: String,
        text: String,
        confidential: bool,
    },
    /// Bring a file back from the backup, over what is there.
    PutBack {
        file: String,
    },
    Remove {
        file: String,
    },
    /// Remove the directory if nothing of somebody else came into it.
    RemoveDirectory,
    /// Remove the record, then the backup.
    Forget,
}

/// The steps for one directory.
pub fn plan(wish: &Wish, seen: &Seen) -> Vec<Step> {
    match wish {
        Wish::Install {
            source,
            files,
            confidential,
        } => install(source, files, *confidential, seen),
        Wish::Restore => restore(seen),
    }
}

fn install(source: &str, files: &Files, confidential: bool, seen: &Seen) -> Vec<Step> {
    let mut steps = Vec::new();
    let before = seen.record.as_ref();
    let mut record = Record {
        source: source.to_owned(),
        existed: before.map_or(seen.exists, |record| record.existed),
        files: before
            .map(|record| record.files.clone())
            .unwrap_or_default(),
    };
    for file in files.keys() {
        if !record.files.contains_key(file) {
            let there = seen.files.contains_key(file);
            if there {
                steps.push(Step::Save { file: file.clone() });
            }
            record.files.insert(file.clone(), there);
        }
    }
    if before != Some(&record) {
        steps.push(Step::Record(record.clone()));
    }
    if !seen.exists {
        steps.push(Step::MakeDirectory);
    }
    for (file, text) in in_order(files) {
        if seen.files.get(file) != Some(text) {
            steps.push(Step::Write {
                file: file.clone(),
                text: text.clone(),
                confidential,
            });
        }
    }
    let stale: Vec<(String, bool)> = record
        .files
        .iter()
        .filter(|(file, _)| !files.contains_key(*file))
        .map(|(file, saved)| (file.clone(), *saved))
        .collect();
    if !stale.is_empty() {
        for (file, saved) in stale {
            give_back(&mut steps, &file, saved, seen);
            record.files.remove(&file);
        }
        steps.push(Step::Record(record));
    }
    steps
}

fn restore(seen: &Seen) -> Vec<Step> {
    let Some(record) = &seen.record else {
        return Vec::new();
    };
    let mut steps = Vec::new();
    let mut reversed: Vec<_> = in_order(&record.files).collect();
    reversed.reverse();
    for (file, saved) in reversed {
        give_back(&mut steps, file, *saved, seen);
    }
    if !record.existed && seen.exists {
        steps.push(Step::RemoveDirectory);
    }
    steps.push(Step::Forget);
    steps
}

fn give_back(steps: &mut Vec<Step>, file: &str, saved: bool, seen: &Seen) {
    let file = file.to_owned();
    if saved {
        steps.push(Step::PutBack { file });
    } else if seen.files.contains_key(&file) {
        steps.push(Step::Remove { file });
    }
}

/// What a `hosts.toml` refers to comes before it: with a CA that is missing, containerd's pulls fail.
fn in_order<T>(files: &BTreeMap<String, T>) -> impl Iterator<Item = (&String, &T)> {
    let hosts = files.get_key_value(HOSTS_FILE);
    let others = files.iter().filter(|(name, _)| *name != HOSTS_FILE);
    others.chain(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        list.iter().map(owned).collect()
    }

    fn wish(list: &[(&str, &str)]) -> Wish {
        Wish::Install {
            source: "a.b.json".to_owned(),
            files: files(list),
            confidential: false,
        }
    }

    fn record(existed: bool, list: &[(&str, bool)]) -> Record {
        Record {
            source: "a.b.json".to_owned(),
            existed,
            files: list
                .iter()
                .map(|(name, saved)| ((*name).to_owned(), *saved))
                .collect(),
        }
    }

    /// One line a step.
    fn text(steps: &[Step]) -> String {
        let lines = steps.iter().map(|step| match step {
            Step::Save { file } => format!("save {file}"),
            Step::Record(record) => format!("record {:?}", record.files),
            Step::MakeDirectory => "make directory".to_owned(),
            Step::Write { file, .. } => format!("write {file}"),
            Step::PutBack { file } => format!("put back {file}"),
            Step::Remove { file } => format!("remove {file}"),
            Step::RemoveDirectory => "remove directory".to_owned(),
            Step::Forget => "forget".to_owned(),
        });
        lines.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn authority_comes_before_the_hosts_and_goes_after_them() {
        let wanted = wish(&[("hosts.toml", "h"), ("zebra.crt", "c")]);
        insta::assert_snapshot!(text(&plan(&wanted, &Seen::default())), @r#"record {"hosts.toml": false, "zebra.crt": false}, make directory, write zebra.crt, write hosts.toml"#);
        let seen = Seen {
            exists: true,
            files: files(&[("hosts.toml", "h"), ("zebra.crt", "c")]),
            record: Some(record(
                false,
                &[("hosts.toml", false), ("zebra.crt", false)],
            )),
        };
        assert_eq!(plan(&wanted, &seen), []);
        insta::assert_snapshot!(text(&plan(&Wish::Restore, &seen)), @"remove hosts.toml, remove zebra.crt, remove directory, forget");
    }

    #[test]
    fn what_was_there_is_saved_before_it_is_written_over_and_comes_back() {
        let wanted = wish(&[("hosts.toml", "h")]);
        let mut seen = Seen {
            exists: true,
            files: files(&[("hosts.toml", "theirs")]),
            record: None,
        };
        insta::assert_snapshot!(text(&plan(&wanted, &seen)), @r#"save hosts.toml, record {"hosts.toml": true}, write hosts.toml"#);
        seen.record = Some(record(true, &[("hosts.toml", true)]));
        insta::assert_snapshot!(text(&plan(&Wish::Restore, &seen)), @"put back hosts.toml, forget");
    }

    #[test]
    fn a_file_that_is_no_longer_wanted_goes_after_the_hosts_that_named_it() {
        let seen = Seen {
            exists: true,
            files: files(&[("hosts.toml", "with ca"), ("ca.crt", "c")]),
            record: Some(record(true, &[("hosts.toml", false), ("ca.crt", true)])),
        };
        insta::assert_snapshot!(text(&plan(&wish(&[("hosts.toml", "without")]), &seen)), @r#"write hosts.toml, put back ca.crt, record {"hosts.toml": false}"#);
    }

    #[test]
    fn directories_of_others_are_left_alone() {
        let seen = Seen {
            exists: true,
            files: files(&[("hosts.toml", "theirs")]),
            record: None,
        };
        assert_eq!(plan(&Wish::Restore, &seen), []);
    }
}
