//! JSON schemas of the files that a cache server reads, for editors and reviews. They refuse nothing that the server takes, but
//! for a number or a truth value in the place of a text, which YAML can be lenient about. What no single field shows (names that
//! must exist, numbers that must fit) only the server says.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use crate::policy::Policy;
use crate::standalone::Standalone;
use crate::static_config::StaticConfig;

/// File name and content of each, with a line feed at the end.
pub fn files() -> [(&'static str, String); 3] {
    [
        ("static.schema.json", text(&schema::<StaticConfig>())),
        ("policy.schema.json", text(&schema::<Policy>())),
        ("standalone.schema.json", text(&schema::<Standalone>())),
    ]
}

/// Draft 7, which editors know best.
fn schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<T>()
}

fn text(schema: &Schema) -> String {
    let text = serde_json::to_string_pretty(schema).expect("a schema has a JSON form");
    format!("{text}\n")
}

#[cfg(test)]
pub(crate) mod tests {
    use boon::{Compiler, SchemaIndex, Schemas};
    use serde_json::Value;

    use super::*;

    /// What decides about files of one type.
    pub(crate) struct Validator {
        schemas: Schemas,
        index: SchemaIndex,
    }

    impl Validator {
        pub(crate) fn of<T: JsonSchema>() -> Self {
            // A name that no loader would find anything under.
            const NAME: &str = "memory:///schema.json";
            let mut compiler = Compiler::new();
            compiler
                .add_resource(NAME, schema::<T>().to_value())
                .unwrap();
            let mut schemas = Schemas::new();
            let index = compiler.compile(NAME, &mut schemas).unwrap();
            Self { schemas, index }
        }

        /// Why the text is refused, if it is.
        pub(crate) fn refusal(&self, text: &str) -> Option<String> {
            let value: Value = serde_saphyr::from_str(text).unwrap();
            let outcome = self.schemas.validate(&value, self.index);
            outcome.err().map(|error| error.to_string())
        }
    }

    #[test]
    fn the_example_is_valid_also_with_all_that_it_only_mentions() {
        let example = include_str!("../../cache-server/examples/standalone.yaml");
        let validator = Validator::of::<Standalone>();
        assert_eq!(validator.refusal(example), None);
        // A comment that is a setting has `#` where its key would be, and one space.
        let mentioned: String = example
            .lines()
            .map(|line| {
                let rest = line.trim_start();
                let indent = &line[..line.len() - rest.len()];
                match rest.strip_prefix("# ") {
                    Some(setting) if !indent.is_empty() && is_setting(setting) => {
                        format!("{indent}{setting}\n")
                    }
                    _ => format!("{line}\n"),
                }
            })
            .collect();
        assert!(mentioned.contains("\n    - host: registry.example.com\n"));
        assert!(mentioned.contains("\n  tracing: {"));
        assert_eq!(validator.refusal(&mentioned), None, "{mentioned}");
        serde_saphyr::from_str::<Standalone>(&mentioned).unwrap();
    }

    /// Whether the text of a comment is YAML of the example and no sentence.
    fn is_setting(text: &str) -> bool {
        let text = text.trim_start().trim_start_matches("- ");
        let key = text.split(':').next().unwrap_or_default();
        text.contains(':') && key.chars().all(|c| c.is_ascii_alphanumeric())
    }

    #[test]
    fn what_a_person_mistypes_is_refused() {
        let (files, policies) = (Validator::of::<StaticConfig>(), Validator::of::<Policy>());
        for text in [
            "stroe: /data",
            "format: one",
            "dataListen: 5000",
            "drainTimeout: 30",
            "drainTimeout: 30 s",
            "logFormat: json",
            "tracing: {endpoint: collector:4318}",
            "tracing: {endpoint: 'http://collector:4318', sampleRatio: 10}",
            "tls: {certificateFile: /tls.crt}",
            "connections: {minimumRate: 4KB}",
        ] {
            assert!(files.refusal(text).is_some(), "{text} is taken");
            assert!(
                StaticConfig::parse(text).is_err(),
                "the server takes {text}"
            );
        }
        for text in [
            "{}",
            "upstreams: [docker.io]",
            "upstreams: [{host: 'https://docker.io'}]",
            "upstreams: [{host: docker.io, endpoints: ['docker.io']}]",
            "{upstreams: [], rules: [{name: a}]}",
            "{upstreams: [], rules: [{name: a, action: cache}]}",
            "{upstreams: [], freshness: {refreshAfter: 5min}}",
            "{upstreams: [], capacity: {maxSize: 50GB}}",
        ] {
            assert!(policies.refusal(text).is_some(), "{text} is taken");
            assert!(Policy::parse(text).is_err(), "the server takes {text}");
        }
    }

    #[test]
    fn every_field_says_what_it_is() {
        fn look(path: &str, schema: &Value, silent: &mut Vec<String>) {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                if property.get("description").is_none() {
                    silent.push(format!("{path}.{name}"));
                }
            }
            for (name, definition) in schema["definitions"].as_object().into_iter().flatten() {
                look(name, definition, silent);
            }
        }
        let mut silent = Vec::new();
        look("", schema::<Standalone>().as_value(), &mut silent);
        assert!(silent.is_empty(), "without a description: {silent:?}");
    }
}
