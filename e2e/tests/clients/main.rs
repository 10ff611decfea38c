//! Clients of registries and a cache server, without a node: all run on one upstream, in this order.

mod artifacts;
mod bucket;
mod conformance;
mod containerd;
mod containers_image;
mod credentials;
mod docker;
mod mirrors;
mod proof;
mod replicas;
mod signatures;

use std::process::ExitCode;

fn main() -> ExitCode {
    e2e::runner::main(e2e::cases![
        conformance::every_check_passes_through_the_cache,
        conformance::every_check_of_the_coming_version_passes_too,
        conformance::nothing_fails_that_distribution_alone_does_not_fail,
        containers_image::podman_pulls_through_a_mirror,
        containers_image::podman_falls_back_to_the_upstream_while_the_cache_is_stopped,
        containers_image::skopeo_copies_an_index_bit_for_bit,
        docker::docker_pulls_through_its_registry_mirror,
        artifacts::helm_pulls_a_chart,
        artifacts::regctl_copies_all_platforms_of_an_image,
        artifacts::regctl_finds_referrers_of_an_upstream_without_their_api,
        artifacts::regctl_finds_referrers_of_an_upstream_with_their_api,
        artifacts::oras_copies_an_image_with_its_referrers,
        signatures::cosign_verifies_a_release_and_its_bill_through_the_cache,
        signatures::cosign_verifies_the_sums_of_a_release,
        containerd::containerd_1_6_pulls_by_hosts_toml,
        containerd::containerd_2_fetches_ranges_of_a_layer_in_parallel,
        containerd::two_containerds_share_one_cold_layer,
        replicas::a_server_that_dies_amid_a_cold_layer_fails_no_pull,
        replicas::a_server_that_dies_amid_ranges_of_a_layer_fails_no_pull,
        replicas::a_dead_server_that_still_gets_connections_fails_a_pull_once_at_most,
        mirrors::containerd_goes_to_the_upstream_where_the_mirror_allows_it,
        mirrors::containerd_never_goes_to_the_upstream_where_the_mirror_forbids_it,
        mirrors::containerd_shows_the_credentials_of_its_mirror,
        mirrors::containerd_knows_the_cache_by_the_authority_of_its_mirror,
        mirrors::containerd_resolves_tags_at_the_upstream_of_a_digest_mirror,
        mirrors::podman_follows_a_rendered_mirror,
        mirrors::podman_shows_the_credentials_of_its_mirror,
        mirrors::skopeo_follows_a_rendered_mirror,
        mirrors::skopeo_never_goes_to_the_upstream_where_the_mirror_forbids_it,
        credentials::credentials_of_one_cluster_are_rotated_without_a_failed_pull,
        credentials::a_cluster_whose_credentials_are_taken_back_is_refused_alone,
        mirrors::docker_follows_a_rendered_mirror,
        mirrors::k3s_reads_the_rendered_file,
        mirrors::talos_reads_the_rendered_patch,
        mirrors::cluster_api_reads_the_rendered_files,
        bucket::what_one_server_fetched_another_has_without_the_upstream,
    ])
}
