//! The operator on a control plane without a node: what takes many objects, or a control plane that is ill-treated.

mod many;
mod ready;

use std::process::ExitCode;

fn main() -> ExitCode {
    e2e::runner::main(e2e::cases![
        ready::cache_becomes_ready_and_an_edit_of_its_policy_is_confirmed,
        many::many_caches_at_rest_cost_no_write_and_hardly_a_read,
    ])
}
