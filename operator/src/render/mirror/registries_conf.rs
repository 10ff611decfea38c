//! A drop-in for CRI-O, podman and skopeo (containers-registries.conf(5)), and their credentials (containers-auth.json(5)).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crds::registry_cache::Fallback;
use serde_json::json;

use super::Files;
use crate::resolve::{Mirror, MirroredUpstream};

const NAME: &str = "registries.conf";
const CREDENTIALS: &str = "auth.json";

pub(super) fn files(note: &str, mirror: &Mirror) -> Files {
    let mut text = note.to_owned();
    for upstream in &mirror.upstreams {
        registry(&mut text, mirror, upstream);
    }
    let mut files = Files::from([(NAME.to_owned(), text)]);
    if let Some(credentials) = &mirror.credentials {
        let auth = STANDARD.encode(credentials.pair());
        let auths = json!({"auths": {mirror.endpoint.authority.as_str(): {"auth": auth}}});
        files.insert(CREDENTIALS.to_owned(), format!("{auths:#}\n"));
    }
    files
}

fn registry(text: &mut String, mirror: &Mirror, upstream: &MirroredUpstream) {
    // These clients name the upstream in the path.
    let cache = format!("{}/{}", mirror.endpoint.authority, upstream.host);
    let location = |text: &mut String, location: &str, secure: bool| {
        let _ = writeln!(text, "location = \"{location}\"");
        if !secure {
            text.push_str("insecure = true\n");
        }
    };
    let _ = writeln!(text, "\n[[registry]]\nprefix = \"{}\"", upstream.host);
    match mirror.fallback {
        Fallback::Allow => {
            if upstream.is_usual() {
                location(text, upstream.host.as_str(), true);
            } else {
                let prefix = upstream.repository_prefix.as_ref();
                let prefix = prefix.map(|prefix| format!("/{}", prefix.as_str()));
                let usual = format!(
                    "{}{}",
                    upstream.endpoint.authority(),
                    prefix.unwrap_or_default()
                );
                location(text, &usual, upstream.endpoint.is_secure());
            }
            if mirror.digest_only {
                text.push_str("mirror-by-digest-only = true\n");
            }
            text.push_str("\n[[registry.mirror]]\n");
            location(text, &cache, mirror.endpoint.secure);
        }
        // A registry is always asked after its mirrors, so here it is the cache itself.
        Fallback::Forbid => location(text, &cache, mirror.endpoint.secure),
    }
}
