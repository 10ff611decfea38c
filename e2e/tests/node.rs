//! The tests that need a real node. All run on one, in this order.

mod cases;

use std::process::ExitCode;

use cases::{
    admit, chart, door, figures, image, mirrors, missing, monitoring, nodes, outside, plain,
    policy, pull, remove, repair,
};

fn main() -> ExitCode {
    e2e::runner::main(e2e::cases![
        plain::pod_runs_from_the_upstream,
        plain::second_tag_fetches_only_what_differs,
        plain::emptied_store_fetches_everything_again,
        plain::platform_of_the_node_is_pulled_from_an_index,
        plain::volume_is_bound_and_writable_by_its_group,
        plain::stopped_upstream_fails_a_pull_until_it_is_back,
        image::larder_image_runs_a_binary_of_this_machine,
        chart::chart_is_without_findings,
        chart::wrong_value_is_refused_before_anything_is_installed,
        chart::chart_installs_a_ready_operator_in_a_restricted_namespace,
        chart::operator_has_the_rights_it_needs_and_no_others,
        chart::kubectl_takes_the_same_without_helm,
        admit::accepted_examples_are_taken,
        admit::rejected_examples_are_refused_with_their_sentence,
        admit::changes_that_can_not_be_made_are_refused_with_their_sentence,
        pull::first_pull_goes_through_the_cache_and_each_byte_upstream_once,
        pull::second_pull_asks_the_upstream_for_no_blob,
        pull::index_of_two_platforms_is_pulled_for_the_nodes_own,
        pull::cached_image_is_pulled_by_tag_while_the_upstream_is_stopped,
        figures::hit_ratio_and_an_upstream_that_is_away_are_told,
        policy::refused_image_falls_back_and_an_allowed_one_comes_back,
        policy::denied_image_is_forbidden_with_the_rules_name,
        policy::thirty_edits_are_confirmed_by_three_replicas_without_a_restart,
        monitoring::monitoring_that_is_installed_later_is_used,
        chart::second_operator_takes_over_from_one_that_dies,
        chart::upgrade_rollback_and_uninstall_leave_caches_alone,
        repair::nothing_is_written_while_nothing_changes,
        repair::deleted_children_come_back,
        repair::edited_children_are_repaired,
        repair::malformed_object_neither_ends_the_operator_nor_stops_the_others,
        door::a_new_authority_takes_over_without_a_failed_pull_or_a_restart,
        missing::missing_policy_and_secret_are_named_and_heal,
        missing::broken_policy_leaves_the_last_good_one_in_force,
        missing::foreign_object_is_not_overwritten,
        mirrors::credentials_of_a_mirror_are_rendered_rotated_and_removed,
        pull::node_falls_back_to_the_upstream_while_the_cache_is_stopped,
        nodes::agent_wires_the_node_and_pulls_go_through_the_cache,
        nodes::credentials_reach_the_node_for_root_alone,
        nodes::a_new_authority_reaches_the_node_before_the_certificate_does,
        nodes::a_deleted_cache_that_forbade_the_fallback_gives_the_node_back,
        nodes::node_goes_past_a_cache_that_is_gone_and_comes_back,
        nodes::agent_that_is_switched_off_leaves_the_node_as_it_was,
        nodes::uninstall_leaves_the_node_as_it_was,
        outside::operator_outside_of_the_cluster_confirms_by_the_pod_proxy,
        remove::retained_volume_outlives_the_cache,
        remove::deleted_cache_leaves_nothing_behind,
    ])
}
