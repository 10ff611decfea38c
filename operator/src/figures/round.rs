//! One round after the other: asks every pod that answers, and wakes the caches of which there is news.

use std::sync::Arc;
use std::time::Duration;

use crds::figures::Figures;
use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use crate::confirm::Question;
use crate::context::Context;
use crate::resolve::ADMIN_PORT;
use crate::watches::Scope;

use super::sum::sum;

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(20);
/// Caches whose pods are asked at the same time.
const CONCURRENCY: usize = 32;
/// Where a cache server answers.
const QUESTION: Question = Question {
    port: ADMIN_PORT,
    path: "/v1/figures",
};

/// Asks until dropped.
pub async fn run(context: Arc<Context>, scopes: &[Scope]) {
    loop {
        tokio::time::sleep(ROUND).await;
        stream::iter(context.figures.pods())
            .for_each_concurrent(CONCURRENCY, |(cache, pods)| {
                let context = &context;
                async move {
                    let namespace = cache.namespace.clone().unwrap_or_default();
                    let answers = pods.iter().map(|pod| {
                        let (name, address) = (&pod.name, &pod.address);
                        context
                            .access
                            .ask::<Figures>(&namespace, name, address, QUESTION)
                    });
                    // Who gives no answer is no news here: an older server has none, and one that is silent is told as `PolicyApplied`.
                    let answers = futures::future::join_all(answers).await;
                    let answers: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
                    let Some(summary) = sum(&answers) else {
                        return;
                    };
                    if context.figures.take(&cache, summary, Instant::now()) {
                        Scope::wake_one(scopes, cache);
                    }
                }
            })
            .await;
    }
}
