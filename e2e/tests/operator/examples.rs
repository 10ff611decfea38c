//! The accepted examples as caches that live: the API server takes what is made of them, and its defaults are no reason to write again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Operator, objects};
use e2e::{Cluster, condition, larder};
use serde_json::{Value, json};

use super::golden::forget;
use super::optional;

const NAMESPACE: &str = "examples";

/// The operator looks every half minute which kinds exist.
const LIMIT: Duration = Duration::from_mins(2);

/// Requests in a row that must lead to nothing but the answer in the status.
const QUIET: usize = 3;

const REQUESTS: usize = 20;

/// Examples that don't get ready as they are written, and what helps them.
const HELPED: [(&str, Help); 2] = [
    // It asks cert-manager for its certificate, and nobody is at work here.
    ("door", issue),
    // It says `suspend: true`.
    ("operations", resume),
];

type Help = fn(&mut Cluster, &str) -> Result<()>;

/// What the operator keeps or looks at of its own.
const KINDS: &str = "statefulsets,services,configmaps,secrets,serviceaccounts,poddisruptionbudgets,networkpolicies,ingresses,\
certificates,httproutes,servicemonitors,prometheusrules,pods,persistentvolumeclaims";

pub(crate) fn every_accepted_example_settles_and_is_left_alone(
    cluster: &mut Cluster,
) -> Result<()> {
    cluster.wait_until_no_cache_is_left()?;
    cluster.install_optional_definitions()?;
    cluster.create_namespace(NAMESPACE)?;
    for path in larder::examples("accepted")? {
        let path = path.to_str().context("the path is not UTF-8")?;
        let apply = ["apply", "--server-side", "--namespace", NAMESPACE];
        cluster.kubectl(&[&apply[..], &["--filename", path]].concat())?;
    }
    make_what_they_name(cluster)?;
    let operator = cluster.start_operator()?;
    let caches = names(cluster)?;
    for (name, help) in HELPED {
        ensure!(caches.contains(name), "there is no example {name}");
        help(cluster, name)?;
    }
    for name in &caches {
        cluster.wait_until_cache_is_ready(NAMESPACE, name)?;
        let cache = cluster.get(&path(name))?;
        for type_ in ["MirrorsReady", "MonitoringReady", "PolicyApplied"] {
            let condition = condition(&cache, type_);
            ensure!(
                condition.is_null() || condition["status"] == "True",
                "{name}: the condition is {condition}"
            );
        }
    }
    come_to_rest(cluster, &operator, &caches)?;
    operator.terminate()?;
    forget(cluster, NAMESPACE)?;
    cluster.remove_optional_definitions()
}

fn path(name: &str) -> String {
    format!("{}/{name}", objects("registrycaches", NAMESPACE))
}

fn names(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let caches = cluster.list(&objects("registrycaches", NAMESPACE))?;
    let names = caches
        .iter()
        .filter_map(|one| one["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Secrets with every key that one may be asked for, the policies that no example is, and the service accounts.
fn make_what_they_name(cluster: &Cluster) -> Result<()> {
    let mut secrets = BTreeSet::new();
    let mut made = Vec::new();
    for cache in cluster.list(&objects("registrycaches", NAMESPACE))? {
        let spec = &cache["spec"];
        collect_secrets(spec, &mut secrets);
        if let Some(name) = spec["serviceAccount"]["name"].as_str() {
            let metadata = json!({"name": name, "namespace": NAMESPACE});
            made.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}));
        }
        for reference in spec["policyRefs"].as_array().into_iter().flatten() {
            let name = reference["name"].as_str().unwrap_or_default();
            let policy = format!("{}/{name}", objects("cachepolicies", NAMESPACE));
            if cluster.get(&policy).is_err() {
                made.push(json!({
                    "apiVersion": "larder.dev/v1alpha1", "kind": "CachePolicy",
                    "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"rules": [{"action": "Cache"}]},
                }));
            }
        }
    }
    made.extend(secrets.iter().map(|name| secret(name)));
    made.iter()
        .try_for_each(|object| cluster.apply(&object.to_string()))
}

fn collect_secrets(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (field, value) in map {
                if field.ends_with("ecretRef") {
                    names.extend(value["name"].as_str().map(str::to_owned));
                }
                collect_secrets(value, names);
            }
        }
        Value::Array(list) => list.iter().for_each(|one| collect_secrets(one, names)),
        _ => {}
    }
}

fn secret(name: &str) -> Value {
    let pem = "-----BEGIN CERTIFICATE-----\nb2xk\n-----END CERTIFICATE-----\n";
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": {
            "tls.crt": pem, "tls.key": "key", "ca.crt": pem, "bundle.pem": pem, "username": "robot", "password": "pass",
            "auth": "robot:hash", "token": "token", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key",
        },
    })
}

fn issue(cluster: &mut Cluster, name: &str) -> Result<()> {
    let wanted = optional::wanted_certificate(cluster, NAMESPACE, name)?;
    optional::issue(cluster, &wanted)
}

fn resume(cluster: &mut Cluster, name: &str) -> Result<()> {
    cluster.wait_for("the cache to be suspended", LIMIT, |cluster| {
        let cache = cluster.get(&path(name))?;
        let ready = condition(&cache, "Ready");
        ensure!(ready["reason"] == "Suspended", "the condition is {ready}");
        Ok(())
    })?;
    let resumed = json!({"spec": {"suspend": false}});
    cluster
        .run(cluster.api.merge(&path(name), &resumed))
        .map(drop)
}

/// Asks for a look at all caches, until that has changed nothing but the answers several times in a row.
fn come_to_rest(
    cluster: &mut Cluster,
    operator: &Operator,
    caches: &BTreeSet<String>,
) -> Result<()> {
    let answers = format!(
        "kind=\"registrycaches/status\",verb=\"patch\" {}",
        caches.len()
    );
    let (mut quiet, mut last) = (0, String::new());
    for request in 0..REQUESTS {
        let (before, counted) = (versions(cluster)?, operator.metrics()?);
        let request = format!("request {request}");
        let asked = json!({"metadata": {"annotations": {"larder.dev/requestedAt": request}}});
        for name in caches {
            cluster.run(cluster.api.merge(&path(name), &asked))?;
        }
        for name in caches {
            cluster.wait_for("the request to be answered", LIMIT, |cluster| {
                let status = cluster.get(&path(name))?["status"].clone();
                ensure!(
                    status["lastHandledReconcileAt"] == request,
                    "the status of {name} is {status}"
                );
                Ok(())
            })?;
        }
        let written = operator.written_since(&counted)?;
        let after = versions(cluster)?;
        let touched: Vec<&String> = after.symmetric_difference(&before).collect();
        let is_quiet = written == [answers.clone()] && touched.is_empty();
        quiet = if is_quiet { quiet + 1 } else { 0 };
        if quiet == QUIET {
            return Ok(());
        }
        last = format!("written: {written:?}, touched: {touched:?}");
    }
    anyhow::bail!("the operator does not come to rest; {last}")
}

/// `KIND/NAME VERSION` of everything in the namespace that is the operator's, or made of it.
fn versions(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let template = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
    let get = ["get", KINDS, "--namespace", NAMESPACE];
    let ours = ["--selector", "app.kubernetes.io/managed-by=larder"];
    let list = cluster.kubectl(&[&get[..], &ours, &["--output", template]].concat())?;
    let versions: BTreeSet<String> = list.lines().map(str::to_owned).collect();
    ensure!(!versions.is_empty(), "nothing is the operator's");
    Ok(versions)
}
