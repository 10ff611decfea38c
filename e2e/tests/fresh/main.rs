//! What begins with a cluster that has nothing of Larder, and ends with one: the pages that say how to install it.

mod demo;
mod fleet;
mod flux;
mod guide;

use std::process::ExitCode;

fn main() -> ExitCode {
    e2e::runner::main(e2e::cases![
        demo::quick_start_is_shown_on_a_cluster_that_exists,
        flux::ready_waits_for_the_pods_of_the_cache,
        demo::cluster_with_larder_in_it_is_left_alone,
        flux::reconciles_without_a_change_write_nothing,
        flux::flux_and_the_operator_share_no_field,
        flux::edited_policy_is_in_force_without_a_restart,
        flux::edit_by_hand_is_taken_back,
        flux::refused_revision_is_named_and_changes_nothing,
        flux::what_the_artifact_drops_is_removed,
        flux::removed_kustomizations_leave_nothing,
    ])
}
