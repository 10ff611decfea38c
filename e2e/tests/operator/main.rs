//! The operator on a control plane without a node: what takes many objects, or a control plane that is ill-treated.

mod away;
mod conflict;
mod deleted;
mod golden;
mod killed;
mod malformed;
mod many;
mod ready;

use std::process::ExitCode;

fn main() -> ExitCode {
    e2e::runner::main(e2e::cases![
        ready::cache_becomes_ready_and_an_edit_of_its_policy_is_confirmed,
        many::many_caches_at_rest_cost_no_write_and_hardly_a_read,
        killed::killed_at_every_write_of_a_new_cache,
        killed::killed_at_every_write_of_an_edit,
        away::api_server_that_restarts_at_any_write_is_only_waited_for,
        deleted::children_deleted_at_random_come_back,
        conflict::writer_that_disagrees_is_outlasted,
        malformed::malformed_objects_stop_neither_the_operator_nor_other_caches,
    ])
}
