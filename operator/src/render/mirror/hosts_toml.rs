//! containerd's `hosts.toml`, one file for each upstream (containerd, docs/hosts.md).
//!
//! There is never one for `_default`: the cache knows its own upstreams only, and would be asked in vain for all others.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crds::registry_cache::Fallback;

use super::{AUTHORITY_FILE, Files};
use crate::resolve::{Containerd, Mirror, MirroredUpstream};

pub(super) const NAME: &str = "hosts.toml";

/// What stands behind the directory in the keys of an object: `docker.io.hosts.toml`.
pub(super) const SUFFIX: &str = ".hosts.toml";

pub(super) fn files(note: &str, mirror: &Mirror, containerd: Containerd) -> Files {
    let file = |upstream: &MirroredUpstream| {
        (
            format!("{}{SUFFIX}", upstream.host.hosts_directory()),
            text(note, mirror, upstream, containerd),
        )
    };
    mirror.upstreams.iter().map(file).collect()
}

fn text(
    note: &str,
    mirror: &Mirror,
    upstream: &MirroredUpstream,
    containerd: Containerd,
) -> String {
    let url = mirror.endpoint.url();
    let mut text = note.to_owned();
    match mirror.fallback {
        Fallback::Allow => {
            let _ = writeln!(text, "server = \"{}\"", upstream.url());
            if upstream.repository_prefix.is_some() {
                text.push_str("override_path = true\n");
            }
        }
        Fallback::Forbid => {
            // The server is who is asked last, and is the upstream where none is said.
            let _ = writeln!(text, "server = \"{url}\"");
            settings(&mut text, "", mirror, false);
            header(&mut text, "header", mirror);
        }
    }
    // With `Forbid` the cache stands here again: up to 1.7, a file without any host is taken for malformed, which means the upstream.
    let _ = writeln!(text, "\n[host.\"{url}\"]");
    let in_time = containerd.dial_timeout && mirror.fallback == Fallback::Allow;
    settings(&mut text, "  ", mirror, in_time);
    header(&mut text, &format!("host.\"{url}\".header"), mirror);
    text
}

fn settings(text: &mut String, indent: &str, mirror: &Mirror, dial_timeout: bool) {
    let capabilities = if mirror.digest_only {
        "\"pull\""
    } else {
        "\"pull\", \"resolve\""
    };
    let _ = writeln!(text, "{indent}capabilities = [{capabilities}]");
    if dial_timeout {
        // Without it a cache that is gone costs 30 s for each request.
        let _ = writeln!(text, "{indent}dial_timeout = \"2s\"");
    }
    if mirror.certificate_authority.is_some() {
        // Beside the file itself.
        let _ = writeln!(text, "{indent}ca = \"{AUTHORITY_FILE}\"");
    }
}

fn header(text: &mut String, table: &str, mirror: &Mirror) {
    if let Some(credentials) = &mirror.credentials {
        let pair = STANDARD.encode(credentials.pair());
        let _ = writeln!(text, "\n[{table}]\n  Authorization = \"Basic {pair}\"");
    }
}
