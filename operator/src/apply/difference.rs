//! Whether a live object has everything that was rendered. Pure.
//!
//! The API server adds defaults, so the live object may hold more. What it rewrites (quantities, empty maps) counts as equal.

use serde_json::Value;

use crate::quantity;

/// Path of the first rendered field that the live object lacks or has with another value.
pub fn first_difference(rendered: &Value, live: &Value) -> Option<String> {
    let mut path = Vec::new();
    differs(rendered, Some(live), &mut path, false).then(|| path.join("."))
}

/// `quantities`: below a field whose strings are quantities. On `true`, `path` leads to the difference.
fn differs(
    rendered: &Value,
    live: Option<&Value>,
    path: &mut Vec<String>,
    quantities: bool,
) -> bool {
    match (rendered, live) {
        // The API server drops what is empty.
        (rendered, None | Some(Value::Null)) => !is_empty(rendered),
        (Value::Object(rendered), Some(Value::Object(live))) => {
            rendered.iter().any(|(key, value)| {
                let below = quantities || matches!(key.as_str(), "requests" | "limits");
                enter(path, key.clone(), |path| {
                    differs(value, live.get(key), path, below)
                })
            })
        }
        (Value::Array(rendered), Some(Value::Array(live))) => {
            // Elsewhere others may add elements, such as a webhook its volume; a port that we did not open stays closed.
            let closed = path.last().is_some_and(|key| key == "ports");
            if closed && rendered.len() != live.len() {
                return true;
            }
            if let (Some(names), Some(live_names)) = (names(rendered), names(live)) {
                rendered.iter().zip(names).any(|(value, name)| {
                    let found = live_names.iter().position(|other| *other == name);
                    enter(path, format!("[{name}]"), |path| {
                        differs(value, found.map(|at| &live[at]), path, quantities)
                    })
                })
            } else {
                rendered.len() != live.len()
                    || rendered
                        .iter()
                        .zip(live)
                        .enumerate()
                        .any(|(at, (value, other))| {
                            enter(path, format!("[{at}]"), |path| {
                                differs(value, Some(other), path, quantities)
                            })
                        })
            }
        }
        (Value::String(rendered), Some(Value::String(live))) => {
            rendered != live && !(quantities && quantity::equal(rendered, live))
        }
        (rendered, Some(live)) => rendered != live,
    }
}

/// Leaves the step in the path only if there is a difference below it.
fn enter(
    path: &mut Vec<String>,
    step: String,
    visit: impl FnOnce(&mut Vec<String>) -> bool,
) -> bool {
    path.push(step);
    let found = visit(path);
    if !found {
        path.pop();
    }
    found
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The elements' names, if each has one of its own.
fn names(list: &[Value]) -> Option<Vec<&str>> {
    let names: Vec<&str> = list
        .iter()
        .map(|value| value.get("name")?.as_str())
        .collect::<Option<_>>()?;
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    (sorted.len() == names.len()).then_some(names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_of_the_api_server_are_no_difference() {
        let rendered = json!({"volumes": [{"name": "data", "port": 1}], "empty": {}, "no": [], "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}}});
        let live = json!({"volumes": [{"name": "other"}, {"name": "data", "port": 1, "protocol": "TCP"}], "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}, "more": 1});
        assert_eq!(first_difference(&rendered, &live), None);
    }

    #[test]
    fn difference_is_named() {
        let rendered = json!({"spec": {"ports": [{"name": "data", "port": 1}]}});
        let live = json!({"spec": {"ports": [{"name": "data", "port": 2}]}});
        assert_eq!(
            first_difference(&rendered, &live).as_deref(),
            Some("spec.ports.[data].port")
        );
        assert_eq!(
            first_difference(&rendered, &json!({})).as_deref(),
            Some("spec")
        );
    }

    #[test]
    fn port_that_somebody_opened_is_a_difference() {
        let rendered = json!({"spec": {"ports": [{"name": "data", "port": 1}]}});
        let live =
            json!({"spec": {"ports": [{"name": "data", "port": 1}, {"name": "more", "port": 2}]}});
        assert_eq!(
            first_difference(&rendered, &live).as_deref(),
            Some("spec.ports")
        );
    }

    #[test]
    fn lists_without_names_are_compared_in_full() {
        assert!(first_difference(&json!(["a"]), &json!(["a", "b"])).is_some());
        assert!(first_difference(&json!([{"key": "a"}]), &json!([{"key": "b"}])).is_some());
    }

    #[test]
    fn strings_elsewhere_are_no_quantities() {
        assert!(first_difference(&json!({"value": "1000m"}), &json!({"value": "1"})).is_some());
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-d]{1,2}", inner, 0..4).prop_map(Value::from_iter),
            ]
        })
    }

    fn with_more(value: &Value) -> Value {
        match value {
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), with_more(value)))
                .chain([("zz-default".to_owned(), json!(1))])
                .collect(),
            Value::Array(list) => list.iter().map(with_more).collect(),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn nothing_differs_from_itself_or_from_more_of_itself(value in tree()) {
            prop_assert_eq!(first_difference(&value, &value), None);
            prop_assert_eq!(first_difference(&value, &with_more(&value)), None);
        }

        #[test]
        fn a_changed_leaf_is_found(value in tree()) {
            let rendered = json!({"a": value, "b": "rendered"});
            let mut live = rendered.clone();
            live["b"] = json!("edited");
            let difference = first_difference(&rendered, &live);
            prop_assert_eq!(difference.as_deref(), Some("b"));
        }
    }
}
