//! Policy edits on a running cache of three replicas.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::World;
use e2e::larder::{Cache, Member};
use reqwest::blocking::Client;

use super::quickstart;

const REPLICAS: usize = 3;
const EDITS: usize = 30;
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn refused_image_falls_back_and_an_allowed_one_comes_back(
    world: &mut World,
) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    let before = cache.members(&world.node)?;
    edit(world, &cache, "Refuse")?;
    let member = &before[0];
    ensure!(
        manifest_status(member)? == 404,
        "a refused image is still served"
    );
    // The node finds "not found" at the cache and goes on to the upstream itself.
    world.node.remove_all_workload_images()?;
    world.upstream.clear_requests()?;
    quickstart::run_pod(world, "refused", "docker.io/library/hello:1.0")?;
    let past: Vec<_> = world
        .upstream
        .requests()?
        .into_iter()
        .filter(|request| request.path.contains("/blobs/"))
        .collect();
    ensure!(
        !past.is_empty() && past.iter().all(|request| !request.is_of_a_cache()),
        "the node did not fall back: {past:?}"
    );
    quickstart::forget(world, "refused")?;
    edit(world, &cache, "Cache")?;
    ensure!(
        manifest_status(member)? == 200,
        "an allowed image is not served"
    );
    ensure!(
        cache.members(&world.node)? == before,
        "a pod was replaced or restarted"
    );
    Ok(())
}

pub(crate) fn denied_image_is_forbidden_with_the_rules_name(world: &mut World) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    edit(world, &cache, "Deny")?;
    let member = cache.members(&world.node)?.remove(0);
    let answer = get_manifest(&member, "1.0")?;
    ensure!(
        answer.status() == 403,
        "a denied image is answered {}",
        answer.status()
    );
    let body = answer.text().context("failed to read the answer")?;
    ensure!(
        body.contains("DENIED") && body.contains("ours/official"),
        "the answer does not say why: {body}"
    );
    edit(world, &cache, "Cache").map(drop)
}

pub(crate) fn thirty_edits_are_confirmed_by_three_replicas_without_a_restart(
    world: &mut World,
) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    set_replicas(world, &cache, REPLICAS)?;
    let before = cache.members(&world.node)?;
    ensure!(
        before.len() == REPLICAS,
        "there are {} replicas",
        before.len()
    );
    let mut times = Vec::new();
    for index in 0..EDITS {
        let action = if index % 2 == 0 { "Refuse" } else { "Cache" };
        times.push(edit(world, &cache, action)?);
        // Confirmed means in force: each replica answers so, at once.
        let expected = if action == "Refuse" { 404 } else { 200 };
        for member in &before {
            let status = manifest_status(member)?;
            ensure!(
                status == expected,
                "edit {index}: {} answers {status} after the confirmation",
                member.name
            );
        }
    }
    ensure!(
        cache.members(&world.node)? == before,
        "a pod was replaced or restarted"
    );
    times.sort();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64();
    println!(
        "  {EDITS} edits, {REPLICAS} replicas, from kubectl to confirmed: p50 {:.2} s, p99 {:.2} s, slowest {:.2} s",
        at(50),
        at(99),
        at(100)
    );
    set_replicas(world, &cache, 1)
}

/// Changes the first rule's action, and returns how long it took to be confirmed.
fn edit(world: &mut World, cache: &Cache, action: &str) -> Result<Duration> {
    let mut changes = vec![format!(
        r#"{{"op":"replace","path":"/spec/rules/0/action","value":"{action}"}}"#
    )];
    // Only the action Cache has a freshness.
    if !quickstart::policy_field(&world.node, ".spec.rules[0].freshness")?.is_empty() {
        changes.push(r#"{"op":"remove","path":"/spec/rules/0/freshness"}"#.to_owned());
    }
    quickstart::patch_policy(world, cache, &format!("[{}]", changes.join(",")))
}

fn set_replicas(world: &mut World, cache: &Cache, replicas: usize) -> Result<()> {
    let patch = format!(r#"{{"spec":{{"replicas":{replicas}}}}}"#);
    cache.kubectl(
        &world.node,
        &[
            "patch",
            "registrycache",
            &cache.name,
            "--type",
            "merge",
            "--patch",
            &patch,
        ],
    )?;
    world
        .node
        .wait_for("the number of replicas", LIMIT * 3, |node| {
            let members = cache.members(node)?;
            ensure!(
                members.len() == replicas
                    && members.iter().all(|member| !member.address.is_empty()),
                "the pods are {members:?}"
            );
            let state = cache.policy(node)?;
            ensure!(
                state.is_confirmed() && usize::try_from(state.applied) == Ok(replicas),
                "the policy is {state:?}"
            );
            Ok(())
        })?;
    cache.wait_until_ready(&mut world.node)
}

fn manifest_status(member: &Member) -> Result<u16> {
    Ok(get_manifest(member, "1.0")?.status().as_u16())
}

/// What a replica answers about a tag of the shared image.
pub(super) fn get_manifest(member: &Member, tag: &str) -> Result<reqwest::blocking::Response> {
    let url = format!(
        "http://{}:5000/v2/library/hello/manifests/{tag}?ns=docker.io",
        member.address
    );
    let client = Client::builder()
        .no_proxy()
        .build()
        .context("failed to build a client")?;
    client
        .get(&url)
        .send()
        .with_context(|| format!("failed to ask {url}"))
}
