//! How many nodes pull through a cache, out of what their agents answered. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crds::node_agent::{AgentStatus, NodeProblem, ProblemKind};

use super::wiring::CacheKey;
use crate::containerd::Version;

/// Nodes that are named in a message; more are counted.
const NAMED: usize = 5;

/// What the agent of one node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub node: String,
    pub pod: String,
    pub outcome: Result<AgentStatus, String>,
}

/// What all nodes said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// Nodes that should run an agent.
    pub total: i32,
    pub answers: Vec<Answer>,
    /// containerd's version, where it matters and is known.
    pub versions: BTreeMap<String, Version>,
}

/// How far the nodes are with one cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodesSeen {
    pub ready: i32,
    pub total: i32,
    /// Nodes that are not, and why.
    pub behind: BTreeMap<String, String>,
    /// What concerns all nodes.
    pub trouble: Option<Trouble>,
}

/// What is known of the nodes of a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sighting {
    /// Nobody was asked since the operator's start: what was said before stays.
    #[default]
    Unknown,
    /// The node agents don't wire this cache.
    NotWired,
    Seen(NodesSeen),
}

/// Why no node can be wired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The agents' `ConfigMap` belongs to somebody else.
    NotOwned {
        message: String,
    },
    Other {
        message: String,
    },
}

impl NodesSeen {
    /// Whether a status that tells of the other tells of this one as well.
    pub fn tells_the_same(&self, other: &Self) -> bool {
        let names = |one: &Self| one.behind.keys().cloned().collect::<BTreeSet<_>>();
        (self.ready, self.total, &self.trouble) == (other.ready, other.total, &other.trouble)
            && names(self) == names(other)
    }

    /// Whether there is nothing left to wait for.
    pub fn complete(&self) -> bool {
        self.ready == self.total && self.total > 0 && self.trouble.is_none()
    }

    /// A sentence.
    pub fn message(&self) -> String {
        match &self.trouble {
            Some(Trouble::NotOwned { message } | Trouble::Other { message }) => {
                return message.clone();
            }
            None if self.total == 0 => return "No node should run an agent yet.".to_owned(),
            None if self.complete() => {
                return match self.total {
                    1 => "The node pulls through the cache.".to_owned(),
                    total => format!("All {total} nodes pull through the cache."),
                };
            }
            None => {}
        }
        let mut parts: Vec<String> = self
            .behind
            .iter()
            .take(NAMED)
            .map(|(node, why)| format!("{node}: {}", why.trim_end_matches('.')))
            .collect();
        if self.behind.len() > NAMED {
            parts.push(format!("and {} more", self.behind.len() - NAMED));
        }
        let silent = usize::try_from(self.total - self.ready).unwrap_or(0);
        if silent > self.behind.len() {
            parts.push(format!("{} have no agent yet", silent - self.behind.len()));
        }
        format!(
            "{} of {} nodes pull through the cache. {}.",
            self.ready,
            self.total,
            parts.join("; ")
        )
    }
}

/// Counts for one cache. `hash` is that of what the agents should act on.
pub fn count(key: &CacheKey, hash: &str, all: &Answers) -> NodesSeen {
    let mut seen = NodesSeen {
        total: all.total,
        ..NodesSeen::default()
    };
    for answer in &all.answers {
        match why_not(key, hash, answer, &all.versions) {
            None => seen.ready += 1,
            Some(reason) => {
                seen.behind.insert(answer.node.clone(), reason);
            }
        }
    }
    // An agent more than there should be is one that is about to go.
    seen.ready = seen.ready.min(seen.total);
    seen
}

/// Pods of the agents that do not act on what was handed over last.
pub fn lagging<'a>(
    hashes: &'a BTreeMap<CacheKey, String>,
    answers: &'a [Answer],
) -> impl Iterator<Item = &'a Answer> {
    answers.iter().filter(|answer| {
        answer.outcome.as_ref().is_ok_and(|status| {
            let known: BTreeMap<CacheKey, &String> = status
                .caches
                .iter()
                .map(|one| ((one.namespace.clone(), one.cache.clone()), &one.hash))
                .collect();
            known.len() != hashes.len()
                || hashes
                    .iter()
                    .any(|(key, hash)| known.get(key) != Some(&hash))
        })
    })
}

fn why_not(
    key: &CacheKey,
    hash: &str,
    answer: &Answer,
    versions: &BTreeMap<String, Version>,
) -> Option<String> {
    let status = match &answer.outcome {
        Ok(status) => status,
        Err(reason) => return Some(format!("its agent gives no answer: {reason}")),
    };
    let matters = |problem: &&NodeProblem| {
        problem.kind != ProblemKind::SeveralRoots
            || versions
                .get(&answer.node)
                .is_none_or(|version| version.stumbles_over_several_roots())
    };
    if let Some(problem) = status.problems.iter().find(matters) {
        return Some(problem.message.clone());
    }
    let cache = status
        .caches
        .iter()
        .find(|one| (&one.namespace, &one.cache) == (&key.0, &key.1));
    match cache {
        Some(cache) if cache.wired && cache.hash == hash => None,
        Some(cache) if cache.wired || cache.message.is_empty() => {
            Some("it has not taken up the newest files yet".to_owned())
        }
        Some(cache) => Some(cache.message.clone()),
        None => Some("it has not got the cache's files yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crds::node_agent::CacheOnNode;

    use super::*;

    fn key() -> CacheKey {
        ("team-a".to_owned(), "images".to_owned())
    }

    fn answer(node: &str, hash: &str, wired: bool, message: &str) -> Answer {
        let cache = CacheOnNode {
            namespace: "team-a".to_owned(),
            cache: "images".to_owned(),
            hash: hash.to_owned(),
            wired,
            message: message.to_owned(),
        };
        Answer {
            node: node.to_owned(),
            pod: format!("agent-{node}"),
            outcome: Ok(AgentStatus {
                node: node.to_owned(),
                caches: vec![cache],
                ..AgentStatus::default()
            }),
        }
    }

    fn silent(node: &str) -> Answer {
        Answer {
            node: node.to_owned(),
            pod: String::new(),
            outcome: Err("failed to get /status within 800 ms".to_owned()),
        }
    }

    fn trapped(node: &str) -> Answer {
        let mut answer = answer(node, "h", true, "");
        answer.outcome.as_mut().unwrap().problems = vec![NodeProblem {
            kind: ProblemKind::SeveralRoots,
            message: "config_path names 2 directories.".to_owned(),
        }];
        answer
    }

    fn counted(total: i32, answers: Vec<Answer>, versions: &[(&str, Version)]) -> NodesSeen {
        let versions = versions
            .iter()
            .map(|(node, version)| ((*node).to_owned(), *version))
            .collect();
        count(
            &key(),
            "h",
            &Answers {
                total,
                answers,
                versions,
            },
        )
    }

    #[test]
    fn messages_say_which_nodes_and_why() {
        let well = |node| answer(node, "h", true, "");
        let many = (0..8).map(|number| silent(&format!("n{number}"))).collect();
        let texts = [
            counted(1, vec![well("a")], &[]),
            counted(2, vec![well("a"), well("b")], &[]),
            counted(0, vec![], &[]),
            counted(
                4,
                vec![
                    well("a"),
                    answer("b", "old", true, ""),
                    answer("c", "h", false, "no route to host"),
                ],
                &[],
            ),
            counted(9, many, &[]),
            counted(2, vec![trapped("a"), silent("b")], &[]),
        ]
        .map(|seen| format!("{}/{} {}", seen.ready, seen.total, seen.message()));
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn a_trap_counts_where_containerd_falls_into_it() {
        let old = [("a", Version(1, 7, 0))];
        assert!(counted(1, vec![trapped("a")], &old).complete());
        let new = [("a", Version(2, 2, 0))];
        assert!(!counted(1, vec![trapped("a")], &new).complete());
    }

    #[test]
    fn an_agent_that_acts_on_old_files_lags() {
        let answers = [
            answer("a", "h", false, ""),
            answer("b", "old", true, ""),
            silent("c"),
        ];
        let hashes = BTreeMap::from([(key(), "h".to_owned())]);
        let behind: Vec<_> = lagging(&hashes, &answers)
            .map(|one| one.node.as_str())
            .collect();
        assert_eq!(behind, ["b"]);
        // A cache that is gone, and is still there for them.
        assert_eq!(lagging(&BTreeMap::new(), &answers).count(), 2);
    }

    #[test]
    fn another_error_of_the_same_node_is_no_news() {
        let mut one = counted(1, vec![silent("a")], &[]);
        let other = counted(1, vec![answer("a", "h", false, "no route")], &[]);
        assert!(one.tells_the_same(&other));
        one.total = 2;
        assert!(!one.tells_the_same(&other));
    }
}
