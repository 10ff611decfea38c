//! `static.yaml`: what the servers must know before they start. Pure.

use std::path::{Path, PathBuf};

use crds::registry_cache::{ConnectionsSpec, RegistryCacheSpec, TracingSpec};
use crds::static_config::{Connections, LogFormat, StaticConfig, Tracing};
use crds::values::{InvalidValue, Ratio};

use super::object_storage::Bucket;
use super::secrets::MountedSecret;
use super::{ADMIN_PORT, CONFIG_DIRECTORY, DATA_PORT, Problem, STORE_DIRECTORY, spec_problem};

/// File of the configuration's directory with the authorities that clients know.
pub const KNOWN_AUTHORITIES_FILE: &str = "known-ca.crt";

/// The Secrets whose files are named there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mounted<'a> {
    pub(super) serving: Option<&'a MountedSecret>,
    pub(super) client_authorities: Option<&'a MountedSecret>,
    pub(super) admin_token: Option<&'a MountedSecret>,
}

/// Checked by the function that the server calls, or every reason why it can't be used.
pub(super) fn static_config(
    spec: &RegistryCacheSpec,
    mounted: Mounted<'_>,
    bucket: &Bucket,
) -> Result<StaticConfig, Vec<Problem>> {
    let mut problems = Vec::new();
    let connections = connections(&spec.connections, &mut problems);
    let tracing = spec.tracing.as_ref();
    let tracing = tracing.and_then(|tracing| self::tracing(tracing, &mut problems));
    let file = |secret: &MountedSecret, name: &str| secret.directory().join(name);
    let tls = mounted.serving.map(|serving| crds::static_config::Tls {
        certificate_file: file(serving, "tls.crt"),
        key_file: file(serving, "tls.key"),
        client_certificate_authority_file: mounted
            .client_authorities
            .map(|secret| file(secret, "ca.crt")),
        known_authority_file: Some(Path::new(CONFIG_DIRECTORY).join(KNOWN_AUTHORITIES_FILE)),
        listen: None,
    });
    let mut config = StaticConfig {
        store: PathBuf::from(STORE_DIRECTORY),
        object_storage: bucket.config.clone(),
        log_format: LogFormat::Json,
        admin_token_file: mounted.admin_token.map(|secret| file(secret, "token")),
        tracing,
        tls,
        connections,
        ..StaticConfig::default()
    };
    config.data_listen.set_port(DATA_PORT);
    config.admin_listen.set_port(ADMIN_PORT);
    if problems.is_empty()
        && let Err(error) = StaticConfig::parse(&config.to_yaml())
    {
        problems.push(Problem::RefusedSettings {
            reason: error.to_string(),
        });
    }
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(problems)
    }
}

fn connections(spec: &ConnectionsSpec, problems: &mut Vec<Problem>) -> Connections {
    let mut failed = |field: &str, error: InvalidValue| {
        problems.push(spec_problem(&format!("connections.{field}"), &error));
    };
    let standard = Connections::default();
    let mut time = |field: &str, text: &str| {
        text.parse().unwrap_or_else(|error| {
            failed(field, error);
            standard.header_timeout
        })
    };
    Connections {
        // A number that does not fit becomes one that the server's own check refuses.
        maximum: spec.maximum.try_into().unwrap_or(0),
        header_timeout: time("headerTimeout", &spec.header_timeout),
        stall_timeout: time("stallTimeout", &spec.stall_timeout),
        rate_window: time("rateWindow", &spec.rate_window),
        minimum_rate: spec.minimum_rate.parse().unwrap_or_else(|error| {
            failed("minimumRate", error);
            standard.minimum_rate
        }),
    }
}

fn tracing(spec: &TracingSpec, problems: &mut Vec<Problem>) -> Option<Tracing> {
    let endpoint = spec.endpoint.parse();
    let number = spec.sample_ratio.parse::<f64>().unwrap_or(f64::NAN);
    match (endpoint, Ratio::try_from(number)) {
        (Ok(endpoint), Ok(sample_ratio)) => {
            return Some(Tracing {
                endpoint,
                sample_ratio,
            });
        }
        (endpoint, ratio) => {
            if let Err(error) = endpoint {
                problems.push(spec_problem("tracing.endpoint", &error));
            }
            if ratio.is_err() {
                let reason = "write a number from 0 to 1, like \"0.05\"";
                problems.push(spec_problem("tracing.sampleRatio", &reason));
            }
        }
    }
    None
}
