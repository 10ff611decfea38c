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
    default_action: Action,
    /// Of the upstreams that say something of their own.
    upstreams: Vec<(RegistryHost, Tags)>,
    default_tags: Tags,
}

#[derive(Debug)]
struct CompiledRule {
    name: String,
    upstreams: Vec<RegistryHost>,
    repositories: Vec<GlobMatcher>,
    tags: Vec<GlobMatcher>,
    action: Action,
    /// `None`: the upstream or the policy says it.
    freshness: Option<Tags>,
    retention: Retention,
}

/// How long tags are answered from the cache.
#[derive(Debug)]
struct Tags {
    freshness: Freshness,
    immutable: Vec<GlobMatcher>,
}

impl Tags {
    fn new(freshness: &Freshness) -> Self {
        let immutable = freshness.immutable_tags.iter();
        Self {
            freshness: freshness.clone(),
            immutable: immutable.map(crate::values::TagGlob::matcher).collect(),
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
            action: rule.action,
            freshness: rule.freshness.as_ref().map(Tags::new),
            retention: rule.retention.clone().unwrap_or_default(),
        });
        let upstreams = policy.upstreams.iter().filter_map(|upstream| {
            let tags = Tags::new(upstream.freshness.as_ref()?);
            Some((upstream.host.clone(), tags))
        });
        Self {
            rules: rules.collect(),
            default_action: policy.default_action,
            upstreams: upstreams.collect(),
            default_tags: Tags::new(&policy.freshness),
        }
    }

    /// The first rule that matches.
    ///
    /// Globs over tags decide requests by tag. A request by digest can't be told from its tag: for it, a rule with tag
    /// globs that serves (Cache, Forward) matches by upstream and repository, so that an allowed tag's content can be
    /// pulled, and one that does not serve (Refuse, Deny) is passed over, so that a forbidden tag does not forbid its siblings.
    pub fn decide<'a>(&'a self, subject: Subject<'_>) -> Decision<'a> {
        let rule = self.rules.iter().find(|rule| rule.matches(subject));
        let tags = rule
            .and_then(|rule| rule.freshness.as_ref())
            .or_else(|| self.of_upstream(subject.upstream))
            .unwrap_or(&self.default_tags);
        Decision {
            action: rule.map_or(self.default_action, |rule| rule.action),
            rule: rule.map(|rule| rule.name.as_str()),
            freshness: &tags.freshness,
            immutable: subject.tag.is_some_and(|tag| any(&tags.immutable, tag)),
        }
    }

    fn of_upstream(&self, host: &RegistryHost) -> Option<&Tags> {
        let mut all = self.upstreams.iter();
        all.find(|(upstream, _)| upstream == host)
            .map(|(_, tags)| tags)
    }

    /// Whether any rule says what is kept.
    pub fn retain(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.retention != Retention::default())
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
                retention: &rule.retention,
            })
    }
}

impl CompiledRule {
    fn matches(&self, subject: Subject<'_>) -> bool {
        let tag_matches = match subject.tag {
            _ if self.tags.is_empty() => true,
            Some(tag) => any(&self.tags, tag),
            None => self.action.serves(),
        };
        tag_matches
            && (self.upstreams.is_empty() || self.upstreams.contains(subject.upstream))
            && (self.repositories.is_empty() || any(&self.repositories, subject.repository))
    }
}

fn any(globs: &[GlobMatcher], text: &str) -> bool {
    globs.iter().any(|glob| glob.is_match(text))
}
