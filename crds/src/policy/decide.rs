//! Which rule decides a request. Pure. It stands beside the contract because the operator's warnings need the same answer.

use globset::GlobMatcher;

use super::{Action, Freshness, Policy, Retention};
use crate::values::RegistryHost;

/// What a request asks for, as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub upstream: &'a RegistryHost,
    pub repository: &'a str,
    /// `None` for a manifest by digest, a blob, or a list of tags or referrers.
    pub tag: Option<&'a str>,
}

/// The answer to a [`Subject`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    pub action: Action,
    /// Name of the rule that matched; `None`: the default action.
    pub rule: Option<&'a str>,
    pub freshness: &'a Freshness,
    /// Whether the tag never moves.
    pub immutable: bool,
}

/// What is kept of stored content, by the rule that matches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Name of the rule.
    pub rule: &'a str,
    pub retention: &'a Retention,
}

/// A policy's rules in matching form.
#[derive(Debug)]
pub struct Decisions {
    rules: Vec<CompiledRule>,
    default: Outcome,
}

#[derive(Debug)]
struct CompiledRule {
    name: String,
    upstreams: Vec<RegistryHost>,
    repositories: Vec<GlobMatcher>,
    tags: Vec<GlobMatcher>,
    outcome: Outcome,
}

#[derive(Debug)]
struct Outcome {
    action: Action,
    freshness: Freshness,
    immutable_tags: Vec<GlobMatcher>,
    retention: Retention,
}

impl Outcome {
    fn new(action: Action, freshness: &Freshness, retention: Option<&Retention>) -> Self {
        let immutable_tags = freshness
            .immutable_tags
            .iter()
            .map(crate::values::TagGlob::matcher)
            .collect();
        Self {
            action,
            freshness: freshness.clone(),
            immutable_tags,
            retention: retention.cloned().unwrap_or_default(),
        }
    }
}

impl Decisions {
    /// Compiles the rules of a checked policy.
    pub fn new(policy: &Policy) -> Self {
        let rules = policy.rules.iter().map(|rule| CompiledRule {
            name: rule.name.clone(),
            upstreams: rule.upstreams.clone(),
            repositories: rule
                .repositories
                .iter()
                .map(crate::values::RepositoryGlob::matcher)
                .collect(),
            tags: rule
                .tags
                .iter()
                .map(crate::values::TagGlob::matcher)
                .collect(),
            outcome: Outcome::new(
                rule.action,
                rule.freshness.as_ref().unwrap_or(&policy.freshness),
                rule.retention.as_ref(),
            ),
        });
        Self {
            rules: rules.collect(),
            default: Outcome::new(policy.default_action, &policy.freshness, None),
        }
    }

    /// The first rule that matches.
    ///
    /// Globs over tags decide requests by tag. A request by digest can't be told from its tag: for it, a rule with tag
    /// globs that serves (Cache, Forward) matches by upstream and repository, so that an allowed tag's content can be
    /// pulled, and one that does not serve (Refuse, Deny) is passed over, so that a forbidden tag does not forbid its siblings.
    pub fn decide<'a>(&'a self, subject: Subject<'_>) -> Decision<'a> {
        let rule = self.rules.iter().find(|rule| rule.matches(subject));
        let outcome = rule.map_or(&self.default, |rule| &rule.outcome);
        Decision {
            action: outcome.action,
            rule: rule.map(|rule| rule.name.as_str()),
            freshness: &outcome.freshness,
            immutable: subject
                .tag
                .is_some_and(|tag| any(&outcome.immutable_tags, tag)),
        }
    }

    /// Whether any rule says what is kept.
    pub fn retain(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.outcome.retention != Retention::default())
    }

    /// What is kept of stored content. Unlike a request by digest, content is known to have a tag or none, so a rule with
    /// tag globs speaks of content with such a tag only. `None`: no rule speaks of it.
    pub fn kept(&self, subject: Subject<'_>) -> Option<Kept<'_>> {
        self.rules
            .iter()
            .find(|rule| match subject.tag {
                None if !rule.tags.is_empty() => false,
                _ => rule.matches(subject),
            })
            .map(|rule| Kept {
                rule: &rule.name,
                retention: &rule.outcome.retention,
            })
    }
}

impl CompiledRule {
    fn matches(&self, subject: Subject<'_>) -> bool {
        let tag_matches = match subject.tag {
            _ if self.tags.is_empty() => true,
            Some(tag) => any(&self.tags, tag),
            None => self.outcome.action.serves(),
        };
        tag_matches
            && (self.upstreams.is_empty() || self.upstreams.contains(subject.upstream))
            && (self.repositories.is_empty() || any(&self.repositories, subject.repository))
    }
}

fn any(globs: &[GlobMatcher], text: &str) -> bool {
    globs.iter().any(|glob| glob.is_match(text))
}
