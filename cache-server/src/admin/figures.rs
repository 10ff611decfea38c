//! What the operator makes a status of: small, and the same for servers of any size.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Json};
use crds::figures::{Figures, UpstreamFigures};

use super::Admin;
use super::answered::Answered;

/// `GET /v1/figures`
pub(super) async fn json(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let so_far = Answered::so_far(&admin.metrics);
    let answered = admin.last_hour.answered(so_far);
    let rules = admin.cache.rules();
    let mut upstreams: Vec<_> = rules
        .iter()
        .flat_map(|rules| rules.upstreams())
        .map(|upstream| UpstreamFigures {
            host: upstream.host().to_string(),
            away: upstream.away(),
        })
        .collect();
    upstreams.sort_by(|one, other| one.host.cmp(&other.host));
    Json(Figures {
        requests: answered.requests,
        hits: answered.hits,
        used: admin.store.used(),
        maximum: u64::try_from(admin.metrics.store_max.get()).unwrap_or(0),
        upstreams,
    })
}
