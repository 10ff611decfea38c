//! What the API server takes and refuses, with the examples that stand beside the contracts.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use e2e::{World, larder};

pub(crate) fn accepted_examples_are_taken(world: &mut World) -> Result<()> {
    larder::install(world)?;
    for path in larder::examples("accepted")? {
        apply(world, &path).with_context(|| format!("{} was refused", path.display()))?;
    }
    Ok(())
}

pub(crate) fn rejected_examples_are_refused_with_their_sentence(world: &mut World) -> Result<()> {
    larder::install(world)?;
    for path in larder::examples("rejected")? {
        let text = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        must_be_refused(apply(world, &path), &text, &path)?;
    }
    Ok(())
}

pub(crate) fn changes_that_can_not_be_made_are_refused_with_their_sentence(
    world: &mut World,
) -> Result<()> {
    larder::install(world)?;
    for path in larder::examples("changed")? {
        let text = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let (before, after) = text
            .split_once("---\n")
            .with_context(|| format!("{} has no second object", path.display()))?;
        // Nothing comes to life: the objects are suspended.
        world.node.apply(before)?;
        let refused = world.node.try_out(after);
        world
            .node
            .kubectl(&["delete", "registrycache", "changed", "--namespace=default"])?;
        must_be_refused(refused, &text, &path)?;
    }
    Ok(())
}

/// For the reason that is the example's first line.
fn must_be_refused(outcome: Result<String>, text: &str, path: &Path) -> Result<()> {
    let first = text.lines().next();
    let sentence = first
        .and_then(|line| line.strip_prefix("# refused: "))
        .with_context(|| format!("{} does not say why it is refused", path.display()))?;
    let error = match outcome {
        Ok(_) => bail!("{} was taken", path.display()),
        Err(error) => format!("{error:#}"),
    };
    ensure!(
        error.contains(sentence),
        "{}: expected {sentence:?} in: {error}",
        path.display()
    );
    Ok(())
}

fn apply(world: &World, path: &Path) -> Result<String> {
    let path = path.to_str().context("the path is not UTF-8")?;
    // On the server only: nothing is to come to life here.
    world.node.kubectl(&[
        "apply",
        "--dry-run=server",
        "--namespace",
        "default",
        "--filename",
        path,
    ])
}
