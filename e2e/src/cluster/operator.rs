//! The operator as a process, with the token of its service account.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;

use super::{Cluster, api, kubeconfig};
use crate::component::Component;
use crate::larder::{Metrics, NAMESPACE, OPERATOR_NAME};
use crate::wait;

const START_LIMIT: Duration = Duration::from_mins(1);

/// The first operator's port for health and metrics; each has its own.
const FIRST_PORT: u16 = 18_100;

const WRITES: &str = "larder_operator_api_writes_total";
const READS: &str = "larder_operator_api_reads_total";
/// The label of what is written and read for its turn only.
const LEASES: &str = "kind=\"leases\"";

/// How often an operator has looked at what it looks after.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Looks {
    pub caches: f64,
    pub policies: f64,
}

/// How an operator is started.
#[derive(Debug, Clone, Default)]
pub struct OperatorOptions {
    /// Where its API server is. Default: the real one.
    pub server: Option<String>,
    /// In addition to those that every operator here gets.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Whether it works only while it holds the Lease. Without one, an operator that was killed is replaced at once.
    pub elected: bool,
    /// Namespace and name of the service account that it has. Default: the one with rights in all namespaces.
    pub account: Option<(String, String)>,
}

/// A running operator. Dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    component: Component,
    health: String,
}

impl Cluster {
    /// Starts an operator. Returns when it knows the caches of the cluster.
    pub fn start_operator(&mut self) -> Result<Operator> {
        let mut operator = self.start_operator_with(&OperatorOptions::default())?;
        operator.wait_until_ready()?;
        Ok(operator)
    }

    /// Starts an operator, and does not wait for anything.
    pub fn start_operator_with(&mut self, options: &OperatorOptions) -> Result<Operator> {
        self.started_operators += 1;
        let number = self.started_operators;
        let health = format!("127.0.0.1:{}", FIRST_PORT + number % 1_000);
        let (namespace, account) = match &options.account {
            Some((namespace, name)) => (namespace.as_str(), name.as_str()),
            None => (NAMESPACE, OPERATOR_NAME),
        };
        let token = self.kubectl(&[
            "create",
            "token",
            account,
            "--namespace",
            namespace,
            "--duration=24h",
        ])?;
        let server = options.server.as_deref().unwrap_or(api::URL);
        let authority = self.directory.join("pki/ca.crt");
        let configuration = self.directory.join(format!("operator-{number}.kubeconfig"));
        fs::write(&configuration, kubeconfig(server, &authority, token.trim()))
            .with_context(|| format!("failed to write {}", configuration.display()))?;
        let mut command = Command::new(&self.operator);
        command
            .args(["run", "--cache-server-image", "larder/cache-server:test"])
            .args(["--health-listen", &health])
            // As in a cluster; the service account may not use the pods' proxy.
            .args(["--pod-access", "direct"])
            .args(["--leader-election", &options.elected.to_string()])
            .args(["--pod-namespace", namespace])
            .args(&options.arguments)
            .env("KUBECONFIG", &configuration)
            .envs(options.environment.iter().cloned());
        let log = self.directory.join(format!("log/operator-{number}.log"));
        Ok(Operator {
            component: Component::start("operator", &mut command, &log)?,
            health,
        })
    }
}

impl Operator {
    /// Ends it with SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.component.stop()
    }

    /// Ends it with SIGTERM, and waits until it is gone.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.component.terminate()
    }

    /// Fails when it has ended, with its last lines.
    pub fn check_running(&mut self) -> Result<()> {
        self.component.check_running()
    }

    /// Lines of its log that tell of something wrong.
    pub fn warnings(&self) -> Result<Vec<String>> {
        let path = self.component.log();
        let log = fs::read_to_string(path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let wrong = log
            .lines()
            .filter(|line| line.contains("WARN") || line.contains("ERROR"));
        Ok(wrong.map(str::to_owned).collect())
    }

    /// Returns when `/readyz` says so.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let url = format!("http://{}/readyz", self.health);
        let client = reqwest::blocking::Client::builder()
            .no_proxy()
            .build()
            .context("failed to build a client")?;
        let outcome = wait::until("the operator to be ready", START_LIMIT, || {
            if let Err(error) = self.check_running() {
                return Ok(Err(error));
            }
            let answer = client.get(&url).send().context("it does not listen")?;
            ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
            Ok(Ok(()))
        });
        outcome?
    }

    /// What it counts.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::from_server(&format!("http://{}/metrics", self.health))
    }

    /// Writes to the API server since it started, but for those of its Lease.
    pub fn writes(&self) -> Result<f64> {
        self.calls(WRITES)
    }

    /// Reads that the API server has answered since it started, but for those of its Lease.
    pub fn reads(&self) -> Result<f64> {
        self.calls(READS)
    }

    fn calls(&self, metric: &str) -> Result<f64> {
        let metrics = self.metrics()?;
        Ok(metrics.sum(metric, &[]) - metrics.sum(metric, &[LEASES]))
    }

    /// What was written since it counted `before`, but for its Lease: `kind="configmaps",verb="patch" 2`.
    pub fn written_since(&self, before: &Metrics) -> Result<Vec<String>> {
        let grown = self.metrics()?.grown_since(before, WRITES);
        let all = grown.into_iter();
        Ok(all.filter(|one| !one.contains(LEASES)).collect())
    }

    /// Reconciles that ended, well or not.
    pub fn looks(&self) -> Result<Looks> {
        let metrics = self.metrics()?;
        let of = |controller: &str| {
            let label = format!("controller=\"{controller}\"");
            metrics.sum("larder_operator_reconciles_total", &[&label])
        };
        Ok(Looks {
            caches: of("registrycache"),
            policies: of("cachepolicy"),
        })
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        self.component.log()
    }

    /// The most memory that it ever had, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// The memory that it has, in bytes.
    pub fn resident_memory(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The processor time that it has used.
    pub fn processor_time(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.component.id());
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        // After the name in parentheses, user and system time are the 12th and 13th field, in ticks of 10 ms.
        let ticks: u64 = text
            .rsplit(')')
            .next()
            .into_iter()
            .flat_map(|rest| rest.split_whitespace().skip(11).take(2))
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.component.id());
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        let kibibytes: u64 = text
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse().ok())
            .with_context(|| format!("{path} has no {field}"))?;
        Ok(kibibytes * 1024)
    }
}
