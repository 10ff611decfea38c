//! The import rule: who may use whom. The table is the architecture's, in docs/architecture.md.

use anyhow::{Result, ensure};

use super::rust_files;

struct Rule {
    /// Files that the rule is for: beginnings of paths.
    scope: &'static [&'static str],
    /// What must not stand in their code.
    forbidden: &'static [&'static str],
    reason: &'static str,
}

const RULES: [Rule; 16] = [
    Rule {
        scope: &["crds/src/values"],
        forbidden: &[
            "crate::policy",
            "crate::static_config",
            "crate::registry_cache",
            "crate::cache_policy",
            "kube::",
        ],
        reason: "values know nothing else of ours",
    },
    Rule {
        scope: &[
            "crds/src/policy",
            "crds/src/static_config",
            "crds/src/standalone",
        ],
        forbidden: &[
            "crate::registry_cache",
            "crate::cache_policy",
            "kube::",
            "k8s_openapi",
        ],
        reason: "the server reads these files without Kubernetes",
    },
    Rule {
        scope: &["cache-server/src/oci"],
        forbidden: &[
            "crate::storage",
            "crate::upstream",
            "crate::bucket",
            "crate::cache",
            "crate::http",
            "crate::app",
            "crate::config",
        ],
        reason: "oci is the words of the specification, nothing of ours",
    },
    Rule {
        scope: &["cache-server/src/storage"],
        forbidden: &[
            "crate::upstream",
            "crate::bucket",
            "crate::cache",
            "crate::http",
            "crate::app",
            "crate::config",
            "hyper",
            "reqwest",
            "object_store",
        ],
        reason: "storage knows digests and files",
    },
    Rule {
        scope: &["cache-server/src/bucket"],
        forbidden: &[
            "crate::storage",
            "crate::upstream",
            "crate::cache",
            "crate::http",
            "crate::app",
            "crate::config",
            "hyper",
        ],
        reason: "a bucket knows keys and objects, neither the store nor who asks",
    },
    Rule {
        scope: &["cache-server/src/upstream"],
        forbidden: &[
            "crate::storage",
            "crate::bucket",
            "crate::cache",
            "crate::http",
            "crate::app",
            "hyper::",
        ],
        reason: "an upstream knows one registry, and no store",
    },
    Rule {
        scope: &["cache-server/src/cache"],
        forbidden: &[
            "crate::http",
            "crate::app",
            "crate::admin",
            "hyper",
            "object_store",
        ],
        reason: "the cache speaks digests and byte streams, not HTTP",
    },
    Rule {
        scope: &["cache-server/src/http"],
        forbidden: &[
            "crate::storage",
            "crate::upstream",
            "crate::bucket",
            "crate::app",
            "reqwest",
        ],
        reason: "HTTP ends here, and everything behind it goes through the cache",
    },
    Rule {
        scope: &["cache-server/src"],
        forbidden: &["operator::", "kube::", "k8s_openapi"],
        reason: "the server runs without Kubernetes",
    },
    Rule {
        scope: &["operator/src/resolve", "operator/src/render"],
        forbidden: &[
            "kube::Client",
            "kube::Api",
            "kube::client",
            "async fn",
            ".await",
            "std::env",
            "SystemTime",
            "Instant::now",
            "Timestamp::now",
        ],
        reason: "resolve and render are pure",
    },
    Rule {
        scope: &[
            "operator/src/election/record",
            "operator/src/policy_status/status",
            "operator/src/policy_status/conflicts",
            "operator/src/policy_status/coverage",
        ],
        forbidden: &[
            "kube::Client",
            "kube::Api",
            "async fn",
            ".await",
            "Instant::now",
            "Timestamp::now",
        ],
        reason: "what stands in a lease or a status is decided without clients and clocks",
    },
    Rule {
        scope: &["operator/src/resolve", "operator/src/render"],
        forbidden: &[
            "crate::apply",
            "crate::report",
            "crate::reconcile",
            "crate::controller",
        ],
        reason: "a step knows the types of the steps before it only",
    },
    Rule {
        scope: &[
            "operator/src/observe",
            "operator/src/apply",
            "operator/src/report",
        ],
        forbidden: &["crate::reconcile", "crate::controller"],
        reason: "steps are called by reconcile, never the other way round",
    },
    Rule {
        scope: &[
            "operator/src/containerd/config",
            "operator/src/containerd/hosts",
            "operator/src/containerd/version",
            "operator/src/node_agent/health",
            "operator/src/node_agent/plan",
            "operator/src/node_agent/wishes",
            "operator/src/nodes/count",
            "operator/src/nodes/wiring",
        ],
        forbidden: &[
            "std::fs",
            "std::env",
            "kube::Client",
            "kube::Api",
            "async fn",
            ".await",
            "Instant::now",
        ],
        reason: "what is decided about nodes is decided without effects",
    },
    Rule {
        scope: &["operator/src"],
        forbidden: &["cache_server::"],
        reason: "operator and server meet in crds only",
    },
    Rule {
        scope: &["crds/src"],
        forbidden: &["operator::", "cache_server::", "tokio"],
        reason: "contracts depend on nothing of ours and do no I/O",
    },
];

/// Says each line that breaks the rule.
pub(super) fn check() -> Result<()> {
    let mut findings = Vec::new();
    for file in rust_files::all()?.iter().filter(|file| !file.is_test()) {
        for rule in RULES
            .iter()
            .filter(|rule| rule.scope.iter().any(|scope| in_scope(&file.path, scope)))
        {
            for (number, line) in file
                .code()
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
            {
                for forbidden in rule
                    .forbidden
                    .iter()
                    .filter(|forbidden| uses(line, forbidden))
                {
                    findings.push(format!(
                        "{}:{number}: {forbidden} is not for this file: {}",
                        file.path, rule.reason
                    ));
                }
            }
        }
    }
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

/// `a/b` is the scope of `a/b.rs` and of all below `a/b/`.
fn in_scope(path: &str, scope: &str) -> bool {
    path.strip_prefix(scope)
        .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// Whether the line has the word, and not as the end of a longer one (`http_body` is not `body`).
fn uses(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part_of_word(before) && (word.ends_with(':') || !part_of_word(after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_matched_whole() {
        assert!(uses("use crate::cache::Fill;", "crate::cache"));
        assert!(!uses("use crate::cached;", "crate::cache"));
        assert!(!uses("use hyper_util::rt;", "hyper::"));
        assert!(uses("use hyper::Request;", "hyper::"));
    }

    #[test]
    fn scope_is_the_file_and_its_folder() {
        assert!(in_scope("operator/src/render.rs", "operator/src/render"));
        assert!(in_scope(
            "operator/src/render/service.rs",
            "operator/src/render"
        ));
        assert!(!in_scope(
            "operator/src/render_all.rs",
            "operator/src/render"
        ));
    }

    #[test]
    fn the_workspace_keeps_the_rule() {
        check().unwrap();
    }
}
