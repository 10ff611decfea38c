//! The chart, with the real helm.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::larder::Cache;
use e2e::{Node, World, larder, wait};

use super::quickstart;

/// A dead operator's lease runs out after 15 seconds, and then the other one asks within two.
const TAKEOVER_LIMIT: Duration = Duration::from_mins(1);

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

pub(crate) fn kubectl_takes_the_same_without_helm(world: &mut World) -> Result<()> {
    larder::install(world)?;
    let folder = larder::workspace().join("deploy");
    let folder = folder.to_str().context("the path is not UTF-8")?;
    // On the server only: the operator is there already.
    let arguments = ["apply", "--dry-run=server", "--kustomize", folder];
    let taken = world.node.kubectl(&arguments)?;
    ensure!(taken.contains("deployment.apps/larder-operator"), "{taken}");
    Ok(())
}

pub(crate) fn second_operator_takes_over_from_one_that_dies(world: &mut World) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    let before = holder(&world.node)?;
    let (pod, _) = before
        .rsplit_once('_')
        .with_context(|| format!("nobody holds the lease: {before:?}"))?;
    world.node.kubectl(&[
        "--namespace",
        larder::NAMESPACE,
        "delete",
        "pod",
        pod,
        "--force",
        "--grace-period=0",
    ])?;
    wait::until("another operator to take the lease", TAKEOVER_LIMIT, || {
        let now = holder(&world.node)?;
        ensure!(!now.is_empty() && now != before, "{now:?} holds it");
        Ok(())
    })?;
    let patch = r#"[{"op":"add","path":"/spec/rules/-","value":{"name":"takeover","match":{"repositories":["takeover/*"]},"action":"Deny"}}]"#;
    quickstart::patch_policy(world, &cache, patch)?;
    wait::until(
        "the policy to say that it is applied",
        TAKEOVER_LIMIT,
        || {
            let field = |place| quickstart::policy_field(&world.node, place);
            let wanted = field(".metadata.generation")?;
            let bound = field(".status.bindings[0].generation")?;
            let applied = field(".status.applied")?;
            let all = applied
                .split_once('/')
                .is_some_and(|(confirmed, all)| confirmed == all);
            ensure!(
                bound == wanted && all,
                "{applied} of generation {bound}, not {wanted}"
            );
            Ok(())
        },
    )?;
    larder::wait_until_operator_is_ready(&mut world.node)
}

/// Who holds the operators' lease.
fn holder(node: &Node) -> Result<String> {
    node.kubectl(&[
        "--namespace",
        larder::NAMESPACE,
        "get",
        "lease",
        larder::OPERATOR_NAME,
        "--output",
        "jsonpath={.spec.holderIdentity}",
    ])
}

pub(crate) fn upgrade_rollback_and_uninstall_leave_caches_alone(world: &mut World) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    let running = running(&cache, &world.node)?;
    // A definition as an older release may have left it.
    world.node.kubectl(&[
        "patch",
        "customresourcedefinition",
        "cachepolicies.larder.dev",
        "--type=json",
        r#"--patch=[{"op":"remove","path":"/spec/versions/0/additionalPrinterColumns"}]"#,
    ])?;
    let revision = world.node.helm(&in_namespace(&[
        "history",
        larder::RELEASE,
        "--output",
        "json",
    ]))?;
    ensure!(
        revision.contains("\"revision\":1,"),
        "the history is {revision}"
    );
    let chart = larder::workspace().join("helm");
    let chart = chart.to_str().context("the path is not UTF-8")?;
    let upgrade = [
        "upgrade",
        larder::RELEASE,
        chart,
        "--reuse-values",
        "--wait",
    ];
    let change = ["--set", "podAnnotations.round=two"];
    world
        .node
        .helm(&in_namespace(&[&upgrade[..], &change[..]].concat()))?;
    ensure!(rounds(&world.node)? == "two", "the operator was not rolled");
    let columns = world.node.kubectl(&[
        "get",
        "customresourcedefinition",
        "cachepolicies.larder.dev",
        "--output",
        "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}",
    ])?;
    ensure!(
        columns.contains("Applied"),
        "the definition was not upgraded: {columns}"
    );
    world
        .node
        .helm(&in_namespace(&["rollback", larder::RELEASE, "1", "--wait"]))?;
    ensure!(
        rounds(&world.node)?.is_empty(),
        "the operator was not rolled back"
    );
    world
        .node
        .helm(&in_namespace(&["uninstall", larder::RELEASE, "--wait"]))?;
    cache.kubectl(&world.node, &["get", "registrycache", "images"])?;
    // With nothing changed, the same release finds its definitions, and the operator its caches.
    larder::install(world)?;
    cache.wait_until_ready(&mut world.node)?;
    let now = self::running(&cache, &world.node)?;
    ensure!(now == running, "{running} became {now}");
    Ok(())
}

fn in_namespace<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--namespace", larder::NAMESPACE][..]].concat()
}

/// The annotation `round` of the operator's template.
fn rounds(node: &Node) -> Result<String> {
    node.kubectl(&in_namespace(&[
        "get",
        "deployment",
        larder::OPERATOR_NAME,
        "--output",
        "jsonpath={.spec.template.metadata.annotations.round}",
    ]))
}

/// What runs of the cache, and how often it was started.
fn running(cache: &Cache, node: &Node) -> Result<String> {
    let path = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount};{end}";
    cache.kubectl(node, &["get", "statefulsets,pods", "--output", path])
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
        ("create", "serviceaccounts/token"),
        ("create", "pods"),
        ("delete", "persistentvolumeclaims"),
        ("create", "clusterroles"),
        ("create", "leases.coordination.k8s.io"),
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
