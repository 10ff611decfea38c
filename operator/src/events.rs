//! Events about caches and policies. kube's own recorder takes all with one reason for the same event and keeps the first one's text;
//! ours name parts, policies and pods, so another text is another event.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event as Written, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::json;

use crate::leaving::Leaving;
use crate::report::{chain, truncate};

const CONTROLLER: &str = "larder-operator";
/// One that comes again within this time is counted on the one before.
const TOGETHER: SignedDuration = SignedDuration::from_mins(6);

/// The API server refuses longer notes.
const MAXIMUM_NOTE: usize = 1024;

/// What makes two events the same: UID of the object, reason and text.
type Key = (Option<String>, String, Option<String>);

/// Writes events.
pub struct Recorder {
    client: Client,
    /// Who writes them: the pod.
    instance: String,
    leaving: Arc<Leaving>,
    recent: Mutex<HashMap<Key, Written>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder that has written nothing yet.
    pub fn new(client: Client, leaving: Arc<Leaving>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let instance = match host.trim() {
            "" => CONTROLLER,
            host => host,
        };
        Self {
            client,
            instance: instance.to_owned(),
            leaving,
            recent: Mutex::default(),
        }
    }

    /// Writes an event about an object. A failure is only logged: the object's status says the same.
    pub async fn tell<K: Resource<DynamicType = ()>>(&self, metadata: &ObjectMeta, event: Event) {
        let event = Event {
            note: event.note.map(|text| truncate(&text, MAXIMUM_NOTE)),
            ..event
        };
        if let Err(error) = self.publish(&event, &reference::<K>(metadata)).await {
            let namespace = metadata.namespace.as_deref().unwrap_or_default();
            if self.leaving.is_why(namespace, &error, Instant::now()) {
                return;
            }
            let (kind, name) = (K::kind(&()), metadata.name.as_deref().unwrap_or_default());
            tracing::warn!(%namespace, %name, error = %chain(&error), "failed to write an event about {kind} {namespace}/{name}");
        }
    }

    /// Writes an event, or counts it on the same one before.
    async fn publish(&self, event: &Event, regarding: &ObjectReference) -> Result<(), kube::Error> {
        let namespace = regarding.namespace.as_deref().unwrap_or("default");
        let api: Api<Written> = Api::namespaced(self.client.clone(), namespace);
        let now = Timestamp::now();
        let key = (
            regarding.uid.clone(),
            event.reason.clone(),
            event.note.clone(),
        );
        let before = {
            let mut recent = self.recent();
            recent.retain(|_, one| last_seen(one).is_some_and(|last| last + TOGETHER > now));
            recent.get(&key).cloned()
        };
        let counted = match &before {
            Some(before) => count(&api, before, now).await?,
            None => None,
        };
        let written = if let Some(written) = counted {
            written
        } else {
            let new = self.new_event(event, regarding, now);
            api.create(&PostParams::default(), &new).await?
        };
        self.recent().insert(key, written);
        Ok(())
    }

    fn new_event(&self, event: &Event, regarding: &ObjectReference, now: Timestamp) -> Written {
        let of = regarding.name.as_deref().unwrap_or(CONTROLLER);
        let type_ = match event.type_ {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        Written {
            metadata: ObjectMeta {
                name: Some(format!("{of}.{:x}", now.as_nanosecond())),
                namespace: regarding.namespace.clone(),
                ..ObjectMeta::default()
            },
            type_: Some(type_.to_owned()),
            reason: Some(event.reason.clone()),
            action: Some(event.action.clone()),
            note: event.note.clone(),
            regarding: Some(regarding.clone()),
            related: event.secondary.clone(),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Written::default()
        }
    }

    /// No code panics while it holds the lock, so that what is behind it is whole.
    fn recent(&self) -> MutexGuard<'_, HashMap<Key, Written>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reference<K: Resource<DynamicType = ()>>(metadata: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// `None`: somebody has deleted it.
async fn count(
    api: &Api<Written>,
    before: &Written,
    now: Timestamp,
) -> Result<Option<Written>, kube::Error> {
    let series = EventSeries {
        count: before.series.as_ref().map_or(2, |series| series.count + 1),
        last_observed_time: MicroTime(now),
    };
    let change = Patch::Merge(json!({"series": series}));
    let name = before.name_any();
    match api.patch(&name, &PatchParams::default(), &change).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

fn last_seen(event: &Written) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let last = series.map(|series| &series.last_observed_time);
    last.or(event.event_time.as_ref()).map(|time| time.0)
}
