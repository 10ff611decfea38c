//! What many caches cost when nothing changes: counted here, timed by `cargo xtask bench --operator`.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::Cluster;
use e2e::cluster::{Crowd, Looks};
use e2e::larder::Metrics;

const COUNT: u32 = 100;

const LIMIT: Duration = Duration::from_mins(3);

/// From the start of an operator until it has looked at all of them: half of what a reconcile that hangs would take to be given up.
const SOON: Duration = Duration::from_secs(30);

/// Reads that waking all caches may cost: each policy is looked at again, and which kinds exist every half minute.
const FEW: f64 = 20.0;

pub(crate) fn many_caches_at_rest_cost_no_write_and_hardly_a_read(
    cluster: &mut Cluster,
) -> Result<()> {
    cluster.wait_until_no_cache_is_left()?;
    let crowd = Crowd::create(cluster, "crowd", COUNT)?;
    let operator = cluster.start_operator()?;
    crowd.wait_until_applied(cluster, LIMIT)?;
    crowd.wait_until_ready(cluster, LIMIT)?;
    crowd.settle(cluster, &operator, LIMIT)?;
    let (reads, before) = (operator.reads()?, operator.metrics()?);
    crowd.look_at_all(cluster, &operator, usize::MAX, LIMIT)?;
    let (reads, written) = (operator.reads()? - reads, operator.written_since(&before)?);
    println!("  {COUNT} caches looked at: {reads} reads, written: {written:?}");
    ensure!(
        written.is_empty(),
        "written while nothing changed: {}",
        written.join(", ")
    );
    ensure!(reads <= FEW, "{reads} reads while nothing changed");
    operator.terminate()?;

    let operator = cluster.start_operator()?;
    crowd.wait_until_looked_at(&operator, Looks::default(), SOON)?;
    let (reads, written) = (
        operator.reads()?,
        operator.written_since(&Metrics::default())?,
    );
    println!("  after a restart: {reads} reads, written: {written:?}");
    ensure!(
        written.is_empty(),
        "written after a restart: {}",
        written.join(", ")
    );
    ensure!(reads < f64::from(COUNT), "{reads} reads after a restart");
    operator.terminate()?;
    crowd.delete(cluster)
}
