//! The chart, with the real helm.

use anyhow::{Context, Result, ensure};
use e2e::{World, larder};

pub(crate) fn chart_is_without_findings(world: &mut World) -> Result<()> {
    let chart = larder::workspace().join("helm");
    let chart = chart.to_str().context("the path is not UTF-8")?;
    world.node.helm(&["lint", "--strict", chart]).map(drop)
}

pub(crate) fn wrong_value_is_refused_before_anything_is_installed(world: &mut World) -> Result<()> {
    let chart = larder::workspace().join("helm");
    let chart = chart.to_str().context("the path is not UTF-8")?;
    let refused = world.node.helm(&[
        "template",
        "larder",
        chart,
        "--set",
        "image.pullPolicy=Sometimes",
    ]);
    let error = format!(
        "{:#}",
        refused.err().context("a wrong pull policy was taken")?
    );
    ensure!(
        error.contains("pullPolicy"),
        "the error does not name the value: {error}"
    );
    Ok(())
}

pub(crate) fn chart_installs_a_ready_operator_in_a_restricted_namespace(
    world: &mut World,
) -> Result<()> {
    larder::install(world)?;
    let definitions =
        world
            .node
            .kubectl(&["get", "customresourcedefinitions", "--output", "name"])?;
    for name in ["registrycaches.larder.dev", "cachepolicies.larder.dev"] {
        ensure!(
            definitions.contains(name),
            "{name} is not installed: {definitions}"
        );
    }
    Ok(())
}

pub(crate) fn operator_has_the_rights_it_needs_and_no_others(world: &mut World) -> Result<()> {
    larder::install(world)?;
    let account = format!(
        "system:serviceaccount:{}:{}",
        larder::NAMESPACE,
        larder::OPERATOR_NAME
    );
    let can = |verb: &str, kind: &str| {
        let (kind, part) = kind.split_once('/').unwrap_or((kind, ""));
        let part = format!("--subresource={part}");
        let question = ["auth", "can-i", verb, kind, &part, "--as", &account];
        let place = ["--namespace", "default", "--quiet"];
        world
            .node
            .kubectl(&[&question[..], &place[..]].concat())
            .is_ok()
    };
    for (verb, kind) in [
        ("update", "secrets"),
        ("create", "serviceaccounts"),
        ("create", "pods"),
        ("delete", "persistentvolumeclaims"),
        ("create", "clusterroles"),
    ] {
        ensure!(!can(verb, kind), "the operator may {verb} {kind}");
    }
    for (verb, kind) in [
        ("patch", "statefulsets.apps"),
        ("patch", "pods"),
        ("create", "secrets"),
        ("patch", "registrycaches.larder.dev/status"),
    ] {
        ensure!(can(verb, kind), "the operator may not {verb} {kind}");
    }
    Ok(())
}
