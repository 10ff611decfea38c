//! `larder-operator doctor`: says what is wrong on a node ([`node`]) or in a cluster ([`cluster`]), and how to mend it.
//!
//! It only reads. What is read becomes findings by pure functions.

pub mod cluster;
pub mod finding;
pub mod node;

use std::io::Write as _;

use crate::args::{DoctorArguments, Format};
pub use finding::{Finding, Mark};

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to look at the cluster")]
    Cluster { source: cluster::Error },
    #[error("failed to print")]
    Print { source: std::io::Error },
}

/// Looks, prints, and says whether all is well.
pub async fn run(arguments: DoctorArguments) -> Result<bool, Error> {
    let findings = match &arguments.kubeconfig {
        Some(kubeconfig) => {
            let facts = cluster::look(kubeconfig, arguments.namespace.as_deref())
                .await
                .map_err(|source| Error::Cluster { source })?;
            cluster::findings(&facts)
        }
        None => node::findings(&node::look(&arguments.files, arguments.image.as_deref()).await),
    };
    let text = match arguments.output {
        Format::Text => finding::text(&findings),
        // Findings are plain data.
        Format::Json => serde_json::to_string_pretty(&findings).unwrap_or_default() + "\n",
    };
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|source| Error::Print { source })?;
    Ok(findings.iter().all(|one| one.mark != Mark::Wrong))
}
