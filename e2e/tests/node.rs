//! The tests that need a real node. All run on one, in this order.

mod cases;

use std::process::ExitCode;

use cases::{image, plain};

fn main() -> ExitCode {
    e2e::runner::main(e2e::cases![
        plain::pod_runs_from_the_upstream,
        plain::second_tag_fetches_only_what_differs,
        plain::emptied_store_fetches_everything_again,
        plain::platform_of_the_node_is_pulled_from_an_index,
        plain::volume_is_bound_and_writable_by_its_group,
        plain::stopped_upstream_fails_a_pull_until_it_is_back,
        image::larder_image_runs_a_binary_of_this_machine,
    ])
}
