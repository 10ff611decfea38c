//! What many caches cost when nothing changes: counted here, timed by `cargo xtask bench --operator`.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::Cluster;
use e2e::cluster::Crowd;

const COUNT: u32 = 100;

const LIMIT: Duration = Duration::from_mins(3);

/// Reads that waking all caches may cost: each policy is looked at again, and which kinds exist every half minute.
const FEW: f64 = 20.0;

pub(crate) fn many_caches_at_rest_cost_no_write_and_hardly_a_read(
    cluster: &mut Cluster,
) -> Result<()> {
    let crowd = Crowd::create(cluster, COUNT)?;
    let operator = cluster.start_operator()?;
    crowd.wait_until_applied(cluster, LIMIT)?;
    crowd.wait_until_ready(cluster, LIMIT)?;
    crowd.settle(cluster, &operator, LIMIT)?;
    let (reads, writes) = (operator.reads()?, operator.writes()?);
    crowd.look_at_all(cluster, &operator, usize::MAX, LIMIT)?;
    let (reads, writes) = (operator.reads()? - reads, operator.writes()? - writes);
    println!("  {COUNT} caches looked at: {reads} reads, {writes} writes");
    ensure!(writes == 0.0, "{writes} writes while nothing changed");
    ensure!(reads <= FEW, "{reads} reads while nothing changed");
    operator.terminate()?;

    let operator = cluster.start_operator()?;
    crowd.wait_until_looked_at(&operator, 0.0, LIMIT)?;
    let (reads, writes) = (operator.reads()?, operator.writes()?);
    println!("  after a restart: {reads} reads, {writes} writes");
    ensure!(writes == 0.0, "{writes} writes after a restart");
    ensure!(reads < f64::from(COUNT), "{reads} reads after a restart");
    operator.terminate()?;
    crowd.delete(cluster)
}
