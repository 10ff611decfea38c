//! The tests that need a real node. All run on one, in this order.

mod cases;

use std::process::ExitCode;

fn main() -> ExitCode {
    e2e::runner::main(e2e::cases![
        cases::plain::pod_runs_from_the_upstream,
        cases::plain::second_tag_fetches_only_what_differs,
        cases::plain::emptied_store_fetches_everything_again,
        cases::plain::platform_of_the_node_is_pulled_from_an_index,
        cases::plain::volume_is_bound_and_writable_by_its_group,
        cases::plain::stopped_upstream_fails_a_pull_until_it_is_back,
    ])
}
