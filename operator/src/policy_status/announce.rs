//! Tells of a policy that can't be used.

use crds::cache_policy::{CachePolicy, CachePolicyStatus};
use crds::conditions::ACCEPTED;
use kube::api::ObjectMeta;
use kube::runtime::events::{Event, EventType};

use crate::events::Recorder;

/// An event with what `status` says, unless `previous` says the same.
pub(super) async fn announce(
    recorder: &Recorder,
    metadata: &ObjectMeta,
    previous: &CachePolicyStatus,
    status: &CachePolicyStatus,
) {
    let accepted = |status: &CachePolicyStatus| {
        let mut conditions = status.conditions.iter();
        let accepted = conditions.find(|one| one.type_ == ACCEPTED)?;
        Some((accepted.reason.clone(), accepted.message.clone()))
    };
    let Some((reason, message)) = accepted(status) else {
        return;
    };
    if accepted(previous).is_some_and(|before| before == (reason.clone(), message.clone())) {
        return;
    }
    let event = Event {
        type_: EventType::Warning,
        reason,
        note: Some(message),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    recorder.tell::<CachePolicy>(metadata, event).await;
}
