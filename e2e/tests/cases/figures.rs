//! What `kubectl get` tells of how much a cache helps, and of upstreams that are away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::World;
use e2e::larder::{Cache, Member};

use super::policy::get_manifest;
use super::quickstart;

/// Two rounds of questions have to agree, and an upstream that failed again and again is asked rarely.
const LIMIT: Duration = Duration::from_mins(3);

pub(crate) fn hit_ratio_and_an_upstream_that_is_away_are_told(world: &mut World) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    let member = cache.members(&world.node)?.remove(0);
    for _ in 0..20 {
        let status = ask(&member, "1.0")?;
        ensure!(status == 200, "the cache answers {status}");
    }
    world.node.wait_for("the first figures", LIMIT, |node| {
        let row = cache.kubectl(node, &["get", "registrycache", &cache.name])?;
        let figures = figures(&row)?;
        let whole = figures[1]
            .strip_suffix("/18Gi")
            .or(figures[1].strip_suffix("/19Gi"));
        ensure!(figures[0].ends_with('%') && whole.is_some(), "{row}");
        println!("{row}");
        Ok(())
    })?;
    told(world, &cache, "True", |_| Ok(()))?;

    world.upstream.stop()?;
    let asked = told(world, &cache, "False", |number| {
        // Something else each time: what is not there is remembered.
        let status = ask(&member, &format!("away-{number}"))?;
        ensure!(
            status == 503,
            "without its upstream, the cache answers {status}"
        );
        Ok(())
    });
    world.upstream.start_again()?;
    let message = asked?;
    ensure!(
        message.contains("docker.io") && message.contains(&world.upstream.url()),
        "the message does not say which upstream: {message}"
    );
    let events = [
        "get",
        "events",
        "--field-selector",
        "reason=UpstreamsReachableUpstreamAway",
    ];
    let events = cache.kubectl(&world.node, &events)?;
    ensure!(events.contains("docker.io"), "no event tells: {events}");
    told(world, &cache, "True", |number| {
        ask(&member, &format!("back-{number}")).map(drop)
    })
    .map(drop)
}

/// Goes on with `attempt` until the condition has the status, and returns its message.
fn told(
    world: &mut World,
    cache: &Cache,
    status: &str,
    mut attempt: impl FnMut(usize) -> Result<()>,
) -> Result<String> {
    let mut number = 0;
    let what = format!("UpstreamsReachable={status}");
    world.node.wait_for(&what, LIMIT, |node| {
        number += 1;
        attempt(number)?;
        let object = cache.json(node, "registrycache", &cache.name)?;
        let condition = e2e::condition(&object, "UpstreamsReachable");
        ensure!(condition["status"] == status, "it is {condition}");
        Ok(condition["message"].to_string())
    })
}

/// The columns of how much the cache helps and of what it stores.
fn figures(table: &str) -> Result<Vec<String>> {
    let (head, row) = table.trim().split_once('\n').context("no table")?;
    ["HIT RATIO", "STORED"]
        .into_iter()
        .map(|column| {
            let at = head
                .find(column)
                .with_context(|| format!("no {column}: {table}"))?;
            let cell = row
                .get(at..)
                .and_then(|rest| rest.split_whitespace().next());
            cell.map(str::to_owned)
                .with_context(|| format!("no {column}: {table}"))
        })
        .collect()
}

fn ask(member: &Member, tag: &str) -> Result<u16> {
    Ok(get_manifest(member, tag)?.status().as_u16())
}
