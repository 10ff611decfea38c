//! The API server goes away at a write and comes back; the operator stays.

use anyhow::{Context, Result};
use e2e::Cluster;
use e2e::cluster::{Moment, OperatorOptions};

use super::golden::{Golden, edit, forget, must_still_run, pods, random, rest, wait_until_golden};
use super::ready;

/// Times that the API server is ended in each of the two halves.
const RESTARTS: usize = 2;

pub(crate) fn api_server_that_restarts_at_any_write_is_only_waited_for(
    cluster: &mut Cluster,
) -> Result<()> {
    let golden = Golden::make(cluster, "golden-of-restarts")?;
    let mut random = random();
    let gate = cluster.start_gate()?;
    let mut operator = cluster.start_operator_with(&OperatorOptions {
        server: Some(gate.url()),
        ..OperatorOptions::default()
    })?;
    operator.wait_until_ready()?;
    for round in 0..RESTARTS {
        let namespace = format!("team-restart-{round}");
        cluster.create_namespace(&namespace)?;
        for (manifest, writes, state) in [
            (
                ready::manifest(&namespace),
                golden.writes_of_new,
                &golden.new,
            ),
            (edit(&namespace), golden.writes_of_edited, &golden.edited),
        ] {
            gate.forget();
            let write = random.usize(1..=writes / 2);
            let moment = random.choice([Moment::Before, Moment::After]);
            gate.shut_at(write, moment.unwrap_or(Moment::After));
            let before = pods(cluster, &namespace)?;
            cluster.apply(&manifest)?;
            gate.wait_until_shut()?;
            cluster.restart_api_server()?;
            gate.open();
            wait_until_golden(cluster, &namespace, state)
                .and_then(|()| must_still_run(cluster, &namespace, &before))
                .with_context(|| format!("API server gone at write {write}, {moment:?}"))?;
        }
        rest(cluster, &operator, &namespace)?;
        forget(cluster, &namespace)?;
    }
    operator.check_running()?;
    operator.terminate().map(drop)
}
