//! The objects that the files hold.

use std::collections::{BTreeMap, BTreeSet};

use crds::cache_policy::CachePolicy;
use crds::registry_cache::RegistryCache;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;

const API_VERSION: &str = "larder.dev/v1alpha1";

/// Namespace and name.
type Key = (String, String);

/// What was read. Objects of other kinds are left alone: files often hold more than caches.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    pub(super) files: Vec<String>,
    pub(super) caches: BTreeMap<Key, RegistryCache>,
    pub(super) policies: BTreeMap<Key, CachePolicy>,
    /// Their keys.
    pub(super) secrets: BTreeMap<Key, BTreeSet<String>>,
}

impl Documents {
    /// Takes up a file's text. Objects without a namespace are in `namespace`.
    pub fn read(&mut self, file: &str, text: &str, namespace: &str) -> Result<(), Error> {
        self.files.push(file.to_owned());
        let values: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|error| Error::Yaml {
                file: file.to_owned(),
                reason: error.to_string(),
            })?;
        for value in values {
            self.take(file, value, namespace)?;
        }
        Ok(())
    }

    fn take(&mut self, file: &str, mut value: Value, namespace: &str) -> Result<(), Error> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let (version, kind) = (text("/apiVersion").unwrap_or(""), text("/kind"));
        let kind = kind.unwrap_or("").to_owned();
        if kind == "List" {
            let items = value["items"].as_array().cloned().unwrap_or_default();
            return items
                .into_iter()
                .try_for_each(|item| self.take(file, item, namespace));
        }
        let name = text("/metadata/name").unwrap_or("").to_owned();
        let object = format!("{kind} {name}");
        let key = (
            text("/metadata/namespace").unwrap_or(namespace).to_owned(),
            name,
        );
        let ours = version == API_VERSION;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), Value::String(key.0.clone()));
        }
        // Checked above, and no fields of the types.
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|field, _| field != "apiVersion" && field != "kind");
        }
        let twice = match kind.as_str() {
            "RegistryCache" if ours => {
                let cache = typed(file, &object, value)?;
                self.caches.insert(key, cache).is_some()
            }
            "CachePolicy" if ours => {
                let policy = typed(file, &object, value)?;
                self.policies.insert(key, policy).is_some()
            }
            "Secret" => {
                let fields = ["data", "stringData"].map(|field| value[field].as_object());
                let keys = fields.into_iter().flatten().flat_map(serde_json::Map::keys);
                self.secrets.insert(key, keys.cloned().collect()).is_some()
            }
            _ => false,
        };
        if twice {
            return Err(Error::Twice {
                file: file.to_owned(),
                object,
            });
        }
        Ok(())
    }
}

/// Reads an object as strictly as the API server does with `kubectl apply`.
fn typed<T: DeserializeOwned>(file: &str, object: &str, value: Value) -> Result<T, Error> {
    let mut unknown = None;
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let mut note = |path: serde_ignored::Path<'_>| {
        unknown.get_or_insert_with(|| path.to_string());
    };
    let result = T::deserialize(serde_ignored::Deserializer::new(deserializer, &mut note));
    let (file, object) = (file.to_owned(), object.to_owned());
    match (result, unknown) {
        (Err(error), _) => Err(Error::Field {
            file,
            object,
            path: track.path().to_string(),
            reason: error.to_string(),
        }),
        (Ok(_), Some(path)) => Err(Error::UnknownField { file, object, path }),
        (Ok(object), None) => Ok(object),
    }
}
