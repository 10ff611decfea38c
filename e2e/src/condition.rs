//! Conditions, as Kubernetes' objects carry them.

use serde_json::Value;

/// The condition `kind` of an object's JSON, null if it has none.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}
