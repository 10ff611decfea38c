//! What many caches cost when nothing changes: counted here, timed by `cargo xtask bench --operator`.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::Cluster;
use e2e::cluster::{Crowd, Operator};
use e2e::wait;

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
    let mut round = 0;
    // Until the last events of what has just been made have been looked at.
    wait::until("a round without a write", LIMIT, || {
        round += 1;
        let before = operator.writes()?;
        look_at_all(cluster, &operator, &crowd, round)?;
        let writes = operator.writes()? - before;
        ensure!(writes == 0.0, "{writes} writes");
        Ok(())
    })?;
    let (reads, writes) = (operator.reads()?, operator.writes()?);
    look_at_all(cluster, &operator, &crowd, round + 1)?;
    let (reads, writes) = (operator.reads()? - reads, operator.writes()? - writes);
    println!("  {COUNT} caches looked at: {reads} reads, {writes} writes");
    ensure!(writes == 0.0, "{writes} writes while nothing changed");
    ensure!(reads <= FEW, "{reads} reads while nothing changed");
    operator.terminate()?;

    let operator = cluster.start_operator()?;
    wait_until_all_are_looked_at(&operator, 0.0)?;
    let (reads, writes) = (operator.reads()?, operator.writes()?);
    println!("  after a restart: {reads} reads, {writes} writes");
    ensure!(writes == 0.0, "{writes} writes after a restart");
    ensure!(reads < f64::from(COUNT), "{reads} reads after a restart");
    operator.terminate()?;
    crowd.delete(cluster)
}

fn look_at_all(cluster: &Cluster, operator: &Operator, crowd: &Crowd, round: usize) -> Result<()> {
    let before = operator.reconciles()?;
    crowd.wake(cluster, round)?;
    wait_until_all_are_looked_at(operator, before)
}

fn wait_until_all_are_looked_at(operator: &Operator, before: f64) -> Result<()> {
    wait::until("all caches to be looked at", LIMIT, || {
        let looked = operator.reconciles()? - before;
        ensure!(looked >= f64::from(COUNT), "{looked} of {COUNT}");
        Ok(())
    })
}
