//! The Lease: one operator works, and one that can't be sure to be that one ends.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::cluster::{Operator, OperatorOptions, objects};
use e2e::wait;
use serde_json::json;

use super::golden::{Golden, edit, forget, must_still_run, only, pods, rest, wait_until_golden};
use super::ready;

/// The holder of a Lease is given up after 15 seconds, and gives itself up after 10.
const LIMIT: Duration = Duration::from_mins(1);

fn elected(namespace: &str) -> OperatorOptions {
    OperatorOptions {
        elected: true,
        ..only(namespace)
    }
}

fn works(operator: &Operator) -> Result<bool> {
    Ok(operator.metrics()?.sum("larder_operator_leader", &[]) > 0.0)
}

/// Starts an operator, and returns when it works.
fn start_working(cluster: &mut Cluster, options: &OperatorOptions) -> Result<Operator> {
    let mut operator = cluster.start_operator_with(options)?;
    operator.wait_until_ready()?;
    wait::until("the operator to work", LIMIT, || {
        ensure!(works(&operator)?, "it waits");
        Ok(())
    })?;
    Ok(operator)
}

/// Returns when the operator has ended by itself, with all that it said.
fn wait_until_it_has_ended(operator: &mut Operator) -> Result<String> {
    wait::until("the operator to end", LIMIT, || {
        ensure!(operator.check_running().is_err(), "it runs");
        Ok(())
    })?;
    fs::read_to_string(operator.log()).context("failed to read what the operator said")
}

/// A cache in the golden state, looked after by nobody.
fn settled(cluster: &mut Cluster, namespace: &str, golden: &Golden) -> Result<()> {
    cluster.create_namespace(namespace)?;
    cluster.apply(&ready::manifest(namespace))?;
    let operator = cluster.start_operator_with(&only(namespace))?;
    wait_until_golden(cluster, namespace, &golden.new)?;
    rest(cluster, &operator, namespace)?;
    operator.terminate().map(drop)
}

pub(crate) fn operator_that_dies_is_followed_by_the_one_that_waits(
    cluster: &mut Cluster,
) -> Result<()> {
    let golden = Golden::make(cluster, "golden-of-elected")?;
    let namespace = "followed";
    settled(cluster, namespace, &golden)?;
    let before = pods(cluster, namespace)?;
    let first = start_working(cluster, &elected(namespace))?;
    let mut second = cluster.start_operator_with(&elected(namespace))?;
    second.wait_until_ready()?;
    ensure!(!works(&second)?, "both work");
    first.kill()?;
    cluster.apply(&edit(namespace))?;
    wait_until_golden(cluster, namespace, &golden.edited)?;
    ensure!(works(&second)?, "nobody works, and the edit is carried out");
    must_still_run(cluster, namespace, &before)?;
    second.terminate()?;
    forget(cluster, namespace)
}

pub(crate) fn operator_that_loses_its_lease_ends_and_another_goes_on(
    cluster: &mut Cluster,
) -> Result<()> {
    let golden = Golden::make(cluster, "golden-of-robbed")?;
    let namespace = "robbed";
    settled(cluster, namespace, &golden)?;
    let before = pods(cluster, namespace)?;
    let mut operator = start_working(cluster, &elected(namespace))?;
    let lease = format!(
        "{}/larder-operator",
        objects("leases", e2e::larder::NAMESPACE)
    );
    let robbed = json!({"spec": {"holderIdentity": "somebody else"}});
    cluster.run(cluster.api.merge(&lease, &robbed))?;
    let said = wait_until_it_has_ended(&mut operator)?;
    ensure!(
        said.contains("somebody else"),
        "it does not say who has its Lease: {said}"
    );
    cluster.apply(&edit(namespace))?;
    // As its Deployment would; the other one never renews the Lease.
    let operator = cluster.start_operator_with(&elected(namespace))?;
    wait_until_golden(cluster, namespace, &golden.edited)?;
    must_still_run(cluster, namespace, &before)?;
    operator.terminate()?;
    forget(cluster, namespace)
}

pub(crate) fn operator_that_can_not_renew_its_lease_ends(cluster: &mut Cluster) -> Result<()> {
    let namespace = "cut-off";
    cluster.create_namespace(namespace)?;
    let gate = cluster.start_gate()?;
    let mut options = elected(namespace);
    options.server = Some(gate.url());
    let mut operator = start_working(cluster, &options)?;
    gate.shut();
    wait_until_it_has_ended(&mut operator)?;
    cluster.delete_namespace(namespace)
}
