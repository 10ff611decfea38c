//! The objects that the files hold.

use std::collections::BTreeMap;

use crds::cache_policy::CachePolicy;
use crds::registry_cache::RegistryCache;
use k8s_openapi::ByteString;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;
use crate::confidential::Confidential;

const API_VERSION: &str = "larder.dev/v1alpha1";

/// Namespace and name.
type Key = (String, String);

/// What was read. Objects of other kinds are left alone: files often hold more than caches.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    pub(super) files: Vec<String>,
    pub(super) caches: BTreeMap<Key, RegistryCache>,
    pub(super) policies: BTreeMap<Key, CachePolicy>,
    /// What they hold, by key.
    pub(super) secrets: BTreeMap<Key, BTreeMap<String, Confidential>>,
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
                let values = values(file, &object, &value)?;
                self.secrets.insert(key, values).is_some()
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

/// What a Secret holds. `stringData` comes over `data`, as the API server has it.
fn values(
    file: &str,
    object: &str,
    secret: &Value,
) -> Result<BTreeMap<String, Confidential>, Error> {
    let entries = |field: &str| secret[field].as_object().cloned().unwrap_or_default();
    let mut values = BTreeMap::new();
    for (key, value) in entries("data") {
        let path = format!("data.{key}");
        // The decoder's own words would repeat the value.
        let bytes: ByteString = serde_json::from_value(value).map_err(|_| Error::Field {
            file: file.to_owned(),
            object: object.to_owned(),
            path,
            reason: "it is not base64; stringData takes plain text".to_owned(),
        })?;
        values.insert(key, Confidential::new(bytes.0));
    }
    for (key, value) in entries("stringData") {
        let text = value.as_str().unwrap_or_default();
        values.insert(key, Confidential::new(text.as_bytes().to_vec()));
    }
    Ok(values)
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
