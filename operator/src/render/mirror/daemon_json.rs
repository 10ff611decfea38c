//! What Docker's `daemon.json` needs (Docker documentation, dockerd, `registry-mirrors`). It knows mirrors of Docker Hub only.

use serde_json::json;

use crate::resolve::Mirror;

pub(super) const NAME: &str = "daemon.json";

pub(super) fn file(mirror: &Mirror) -> String {
    let text = json!({"registry-mirrors": [mirror.endpoint.url()]});
    format!("{text:#}\n")
}
