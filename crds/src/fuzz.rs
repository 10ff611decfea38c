//! Fuzz targets: any text is a valid value or an error, and what is valid prints and reads back as the same.
//! They run for a moment with `cargo test`; CONTRIBUTING.md says how they run for long.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use bolero::{check, produce};

use crate::policy::{Action, Policy, Rule};
use crate::static_config::StaticConfig;
use crate::values::{
    ByteSize, Duration, Endpoint, RegistryHost, RepositoryGlob, RepositoryPrefix, TagGlob,
};

const ITERATIONS: usize = 3000;
const LENGTH: usize = 12;

/// A text of words and of single characters, any of ASCII among them: bytes alone would hardly ever be valid.
fn phrase(bytes: &[u8], words: &[&str]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            0..=199 => text.push_str(words[usize::from(*byte) % words.len()]),
            other => text.push(char::from(other.wrapping_mul(37) & 0x7f)),
        }
    }
    text
}

fn reads_back<T>(text: &str)
where
    T: FromStr + Display + PartialEq + Debug,
    T::Err: Debug,
{
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert_eq!(
            printed.parse::<T>().unwrap(),
            value,
            "{text:?} prints {printed:?}"
        );
        assert!(!printed.contains(['\n', '\0']));
    }
}

#[test]
fn values_read_back_and_fit_into_a_path_and_a_line() {
    const WORDS: [&str; 24] = [
        "a",
        "z9",
        "docker",
        ".",
        "io",
        ":",
        "5000",
        "65536",
        "0",
        "-",
        "/",
        "..",
        "http",
        "https",
        "://",
        "_",
        "index.docker.io",
        "10.0.0.5",
        "1",
        "h",
        "Gi",
        "d",
        "*",
        "ä",
    ];
    check!()
        .with_iterations(ITERATIONS)
        .with_generator(produce::<Vec<u8>>().with().len(0..=LENGTH))
        .for_each(|bytes| {
            let text = phrase(bytes, &WORDS);
            reads_back::<RegistryHost>(&text);
            reads_back::<Endpoint>(&text);
            reads_back::<RepositoryPrefix>(&text);
            reads_back::<RepositoryGlob>(&text);
            reads_back::<TagGlob>(&text);
            reads_back::<ByteSize>(&text);
            reads_back::<Duration>(&text);
            if let Ok(host) = text.parse::<RegistryHost>() {
                for name in [host.as_str(), &host.hosts_directory()] {
                    assert!(
                        !name.contains(['/', '\\', '\0']) && !name.split('.').any(str::is_empty)
                    );
                }
            }
            if let Ok(prefix) = text.parse::<RepositoryPrefix>() {
                assert!(
                    prefix
                        .as_str()
                        .split('/')
                        .all(|part| !part.starts_with('.'))
                );
            }
        });
}

fn policy_reads_back(policy: &Policy) {
    let written = policy.to_yaml();
    let again = Policy::parse(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(&again, policy, "{written}");
    assert_eq!(again.hash(), policy.hash());
    #[cfg(feature = "schema")]
    schema_takes(&written);
}

/// An editor must not mark what the server takes.
#[cfg(feature = "schema")]
fn schema_takes(written: &str) {
    use std::sync::LazyLock;

    use crate::file_schema::tests::Validator;

    static VALIDATOR: LazyLock<Validator> = LazyLock::new(Validator::of::<Policy>);
    assert_eq!(VALIDATOR.refusal(written), None, "{written}");
}

#[test]
fn a_policy_in_any_words_is_refused_or_reads_back() {
    const LINES: [&str; 22] = [
        "format: 1",
        "upstreams:",
        "- host: docker.io",
        "- {host: 'quay.io', endpoints: [https://mirror.example:5000]}",
        "  repositoryPrefix: proxy/quay",
        "  caFile: \"/a\\tb\"",
        "  limits: {concurrency: 8}",
        "  credentials: [{dockerConfigFile: '~'}]",
        "allowAnonymousPrivate: true",
        "defaultUpstream: docker.io",
        "rules:",
        "- {name: x, action: Deny}",
        "- name: \"yes\"",
        "  action: Cache",
        "  repositories: ['*', a/**]",
        "  freshness: {refreshAfter: 1h30m}",
        "  retention: {keepNewest: 1}",
        "defaultAction: Forward",
        "capacity: {maxSize: 1024Mi, highWatermark: 90}",
        "# nothing",
        "...",
        "&a *a",
    ];
    check!()
        .with_iterations(ITERATIONS)
        .with_generator(produce::<Vec<u8>>().with().len(0..=24_usize))
        .for_each(|bytes| {
            // The lines stand in their order unless the input says otherwise, so that much of it is valid.
            let mut lines = vec!["upstreams: [{host: docker.io}, {host: quay.io}]"];
            if let Some((first, rest)) = bytes.split_first() {
                if first % 4 == 0 {
                    lines.clear();
                }
                lines.extend(
                    rest.iter()
                        .map(|byte| LINES[usize::from(*byte) % LINES.len()]),
                );
            }
            let text = lines.join("\n");
            if let Ok(policy) = Policy::parse(&text) {
                policy_reads_back(&policy);
                let commented = format!("# in front\n{text}\n# behind\n");
                assert_eq!(Policy::parse(&commented).unwrap().hash(), policy.hash());
            }
            let _ = Policy::parse(&String::from_utf8_lossy(bytes));
            let _ = StaticConfig::parse(&String::from_utf8_lossy(bytes));
        });
}

/// What YAML reads as something else than a text, or as a mark.
const AWKWARD: [&str; 30] = [
    "a",
    "yes",
    "null",
    "~",
    "1",
    "1e3",
    "0x1f",
    ".inf",
    "true",
    "2026-01-01",
    " ",
    "\t",
    "\n",
    "\r",
    ":",
    ": ",
    " #",
    "'",
    "\"",
    "\\",
    "- ",
    "|",
    ">",
    "&",
    "*",
    "!",
    "%",
    "---",
    "\u{85}",
    "\u{2028}",
];

#[test]
fn names_and_paths_of_any_kind_survive_being_written() {
    check!()
        .with_iterations(ITERATIONS)
        .with_generator(produce::<Vec<u8>>().with().len(0..=LENGTH))
        .for_each(|bytes| {
            let text = phrase(bytes, &AWKWARD);
            let mut policy = Policy::public_registries();
            policy.upstreams[0].ca_file = Some(text.clone().into());
            policy.rules.push(Rule {
                name: text.clone(),
                upstreams: Vec::new(),
                repositories: text.parse().into_iter().collect(),
                tags: text.parse().into_iter().collect(),
                action: Action::Deny,
                freshness: None,
                retention: None,
            });
            if policy.check().is_ok() {
                policy_reads_back(&policy);
            }
            let config = StaticConfig {
                store: text.clone().into(),
                admin_token_file: Some(text.into()),
                ..StaticConfig::default()
            };
            if config.check().is_ok() {
                let written = config.to_yaml();
                let again = StaticConfig::parse(&written)
                    .unwrap_or_else(|error| panic!("{error}\n{written}"));
                assert_eq!(again, config, "{written}");
                assert_eq!(again.hash(), config.hash());
            }
        });
}
