//! SIGKILL at every write: another operator goes on where the killed one was.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::cluster::{EndState, Moment};

use super::golden::{self, Golden, edit, forget, must_still_run, only, wait_until_golden};
use super::ready;

/// A namespace whose operator is to be killed at a write.
struct Victim {
    namespace: String,
    write: usize,
    moment: Moment,
    pods: BTreeMap<String, String>,
}

pub(crate) fn killed_at_every_write_of_a_new_cache(cluster: &mut Cluster) -> Result<()> {
    let golden = Golden::make(cluster, "golden-of-new")?;
    for moment in [Moment::Before, Moment::After] {
        let mut victims = victims("new", golden.writes_of_new, moment);
        for victim in &victims {
            cluster.create_namespace(&victim.namespace)?;
            cluster.apply(&ready::manifest(&victim.namespace))?;
        }
        kill_at_their_writes(cluster, &mut victims, &golden.new)?;
        recover(cluster, &victims, &golden.new)?;
    }
    Ok(())
}

pub(crate) fn killed_at_every_write_of_an_edit(cluster: &mut Cluster) -> Result<()> {
    let golden = Golden::make(cluster, "golden-of-edit")?;
    for moment in [Moment::Before, Moment::After] {
        let mut victims = victims("edit", golden.writes_of_edited, moment);
        for victim in &victims {
            cluster.create_namespace(&victim.namespace)?;
            cluster.apply(&ready::manifest(&victim.namespace))?;
        }
        let operator = cluster.start_operator()?;
        for victim in &victims {
            wait_until_golden(cluster, &victim.namespace, &golden.new)?;
        }
        operator.terminate()?;
        for victim in &victims {
            cluster.apply(&edit(&victim.namespace))?;
        }
        kill_at_their_writes(cluster, &mut victims, &golden.edited)?;
        recover(cluster, &victims, &golden.edited)?;
    }
    Ok(())
}

/// One for each write of an undisturbed run, and one more for a run that takes longer.
fn victims(kind: &str, writes: usize, moment: Moment) -> Vec<Victim> {
    (1..=writes + 1)
        .map(|write| Victim {
            namespace: format!("killed-{kind}-{moment:?}-{write}").to_lowercase(),
            write,
            moment,
            pods: BTreeMap::new(),
        })
        .collect()
}

/// Each victim has an operator of its own, which is killed at the victim's write, if it gets there.
fn kill_at_their_writes(
    cluster: &mut Cluster,
    victims: &mut [Victim],
    golden: &EndState,
) -> Result<()> {
    let mut killed = 0;
    let mut running = Vec::new();
    for victim in &mut *victims {
        let gate = cluster.start_gate()?;
        gate.shut_at(victim.write, victim.moment);
        let mut options = only(&victim.namespace);
        options.server = Some(gate.url());
        running.push((gate, cluster.start_operator_with(&options)?));
    }
    for (victim, (gate, operator)) in victims.iter_mut().zip(running) {
        let namespace = &victim.namespace;
        let shut = cluster.wait_for(
            &format!("a write in {namespace}"),
            golden::LIMIT,
            |cluster| {
                if gate.is_shut() {
                    return Ok(true);
                }
                cluster.end_state(namespace)?.must_be(golden)?;
                Ok(false)
            },
        )?;
        killed += usize::from(shut);
        operator.kill()?;
        victim.pods = golden::pods(cluster, namespace)?;
    }
    println!("  killed {killed} times of {}", victims.len());
    // How often the status is written on the way differs.
    ensure!(
        killed * 2 >= victims.len(),
        "most operators had ended before they were to be killed"
    );
    Ok(())
}

fn recover(cluster: &mut Cluster, victims: &[Victim], golden: &EndState) -> Result<()> {
    let operator = cluster.start_operator()?;
    for victim in victims {
        let (write, moment) = (victim.write, victim.moment);
        wait_until_golden(cluster, &victim.namespace, golden)
            .and_then(|()| must_still_run(cluster, &victim.namespace, &victim.pods))
            .with_context(|| format!("killed at write {write}, {moment:?} it was done"))?;
    }
    operator.terminate()?;
    victims
        .iter()
        .try_for_each(|victim| forget(cluster, &victim.namespace))
}
