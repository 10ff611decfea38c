//! What a policy says to nodes that need not listen, or that have nowhere else to go. Pure.

use crds::policy::{Action, Policy};
use crds::registry_cache::Fallback;
use crds::values::RegistryHost;

use super::Mirror;

/// Where policy and mirrors don't go together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enforcement {
    /// Denied, but nodes may go to the upstream.
    pub(crate) not_enforceable: Vec<Conflict>,
    /// Refused so that nodes go to the upstream, but they may not.
    pub(crate) not_pullable: Vec<Conflict>,
}

/// One decision of the policy, and the mirrors for which it does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// `rule ours/latest` or `defaultAction`.
    pub(crate) decision: String,
    pub(crate) mirrors: Vec<String>,
}

/// `policy` is the text that is in force, which was checked.
pub(super) fn enforcement(policy: &str, mirrors: &[Mirror]) -> Enforcement {
    let Ok(policy) = Policy::parse(policy) else {
        return Enforcement::default();
    };
    let rules = policy.rules.iter().map(|rule| {
        let decision = format!("rule {}", rule.name);
        (decision, rule.action, rule.upstreams.as_slice())
    });
    let default = ("defaultAction".to_owned(), policy.default_action, &[][..]);
    let mut enforcement = Enforcement::default();
    for (decision, action, hosts) in rules.chain([default]) {
        let (fallback, conflicts) = match action {
            Action::Deny => (Fallback::Allow, &mut enforcement.not_enforceable),
            Action::Refuse => (Fallback::Forbid, &mut enforcement.not_pullable),
            Action::Cache | Action::Forward => continue,
        };
        let mirrors: Vec<String> = mirrors
            .iter()
            .filter(|mirror| mirror.fallback == fallback && concerns(hosts, mirror))
            .map(|mirror| mirror.name.clone())
            .collect();
        if !mirrors.is_empty() {
            conflicts.push(Conflict { decision, mirrors });
        }
    }
    enforcement
}

/// No hosts: all.
fn concerns(hosts: &[RegistryHost], mirror: &Mirror) -> bool {
    hosts.is_empty() || mirror.upstreams.iter().any(|one| hosts.contains(&one.host))
}
