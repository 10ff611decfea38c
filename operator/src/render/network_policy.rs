//! The `NetworkPolicy` of the pods.

use std::collections::BTreeSet;

use crds::registry_cache::NetworkPolicySpec as Wanted;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{self, Component};
use crate::resolve::{ADMIN_PORT, DATA_PORT, ResolvedCache};

const DNS: i32 = 53;
/// Label that every namespace has, with its name.
const NAMESPACE: &str = "kubernetes.io/metadata.name";
/// Label of the operator's pods.
const OPERATOR: (&str, &str) = ("app.kubernetes.io/name", "larder-operator");

/// `None`: none is declared.
pub(super) fn network_policy(cache: &ResolvedCache) -> Option<NetworkPolicy> {
    let wanted = cache.network_policy.as_ref()?;
    Some(NetworkPolicy {
        metadata: cache
            .owner
            .child(cache.owner.name.clone(), Component::CacheServer),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector([])).map(|mut selector| {
                selector.match_labels = Some(names::pod_labels(&cache.owner.name));
                selector
            }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ingress(cache, wanted)),
            egress: Some(egress(cache, wanted)),
        }),
    })
}

fn ingress(cache: &ResolvedCache, wanted: &Wanted) -> Vec<NetworkPolicyIngressRule> {
    let mut rules = vec![NetworkPolicyIngressRule {
        // No list at all stands for everybody.
        from: Some(wanted.clients.clone()).filter(|peers| !peers.is_empty()),
        ports: Some(vec![tcp(DATA_PORT.into())]),
    }];
    let mut administrators = wanted.administrators.clone();
    administrators.extend(
        cache
            .operator_namespace
            .as_ref()
            .map(|namespace| NetworkPolicyPeer {
                namespace_selector: Some(selector([(NAMESPACE, namespace.as_str())])),
                pod_selector: Some(selector([OPERATOR])),
                ..NetworkPolicyPeer::default()
            }),
    );
    // An empty list would stand for everybody.
    if !administrators.is_empty() {
        rules.push(NetworkPolicyIngressRule {
            from: Some(administrators),
            ports: Some(vec![tcp(ADMIN_PORT.into())]),
        });
    }
    rules
}

fn egress(cache: &ResolvedCache, wanted: &Wanted) -> Vec<NetworkPolicyEgressRule> {
    let ports: BTreeSet<i32> = cache
        .egress_ports
        .iter()
        .map(|port| i32::from(*port))
        .chain(wanted.egress.ports.iter().copied())
        .collect();
    vec![
        NetworkPolicyEgressRule {
            to: None,
            ports: Some(vec![port("UDP", DNS), tcp(DNS)]),
        },
        NetworkPolicyEgressRule {
            to: Some(wanted.egress.to.clone()).filter(|peers| !peers.is_empty()),
            ports: Some(ports.into_iter().map(tcp).collect()),
        },
    ]
}

fn tcp(number: i32) -> NetworkPolicyPort {
    port("TCP", number)
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        ..NetworkPolicyPort::default()
    }
}

fn selector<const N: usize>(labels: [(&str, &str); N]) -> LabelSelector {
    LabelSelector {
        match_labels: Some(
            labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        ),
        ..LabelSelector::default()
    }
}
