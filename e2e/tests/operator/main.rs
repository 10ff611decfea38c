//! The operator on a control plane without a node: what takes many objects, or a control plane that is ill-treated.

mod away;
mod confined;
mod conflict;
mod deleted;
mod elected;
mod examples;
mod golden;
mod killed;
mod kubectl;
mod lifecycle;
mod malformed;
mod many;
mod optional;
mod ready;
mod refused;
mod rollout;
mod wired;

use std::process::ExitCode;

fn main() -> ExitCode {
    e2e::runner::main(e2e::cases![
        ready::cache_becomes_ready_and_an_edit_of_its_policy_is_confirmed,
        refused::pods_that_refuse_a_policy_are_named_in_time,
        many::many_caches_at_rest_cost_no_write_and_hardly_a_read,
        killed::killed_at_every_write_of_a_new_cache,
        killed::killed_at_every_write_of_an_edit,
        elected::operator_that_dies_is_followed_by_the_one_that_waits,
        elected::operator_that_loses_its_lease_ends_and_another_goes_on,
        elected::operator_that_can_not_renew_its_lease_ends,
        lifecycle::volumes_grow_and_no_pod_restarts,
        lifecycle::killed_at_every_write_of_a_growth,
        lifecycle::class_that_does_not_let_volumes_grow_is_named,
        lifecycle::suspended_cache_is_left_alone_and_a_request_is_answered,
        lifecycle::what_is_no_longer_declared_is_removed,
        optional::objects_for_others_come_when_their_definitions_do,
        optional::a_certificate_comes_before_the_pods_that_show_it,
        away::api_server_that_restarts_at_any_write_is_only_waited_for,
        deleted::children_deleted_at_random_come_back,
        conflict::writer_that_disagrees_is_outlasted,
        rollout::a_restart_is_told_until_it_is_over,
        confined::rights_in_two_namespaces_are_enough_for_their_caches,
        kubectl::what_kubectl_installs_is_enough_for_a_cache,
        wired::nodes_are_told_of_every_deletion,
        examples::every_accepted_example_settles_and_is_left_alone,
        malformed::malformed_objects_stop_neither_the_operator_nor_other_caches,
    ])
}
