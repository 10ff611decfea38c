//! Mirror configurations exactly as the operator renders them, with those who read them: containerd of both lines, podman,
//! skopeo and Docker pull by them, and the code of K3s, Talos and Cluster API reads them.

mod formats;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use e2e::Registries;
use e2e::authority::Authority;
use e2e::cache_server::CacheServer;
use e2e::images::Artifact;
use e2e::mirror::{Declared, Mirror};
use e2e::node::ADDRESS;

use crate::containerd::{Containerd, Line};
use crate::containers_image::Podman;
use crate::docker::Docker;
use crate::{containers_image, proof};

pub(crate) use formats::{
    cluster_api_reads_the_rendered_files, k3s_reads_the_rendered_file,
    talos_reads_the_rendered_patch,
};

const HELLO: &str = "docker.io/library/hello:1.0";
const LINES: [Line; 2] = [Line::OneSix, Line::Two];

/// User `east` with [`PASSWORD`], as `htpasswd -B` writes it, with a cost that a test can wait for.
const HTPASSWD: &str = "east:$2b$04$abcdefghijklmnopqrstuudxA/1BY5FxPYA69jUrJOJFmTyoe9T1a\n";
const PASSWORD: &str = "let-me-in";

/// Fields of a mirror that shows what the Secret holds, and may go nowhere else.
const GUARDED: &str = "credentialsSecretRef: {name: given}, fallback: Forbid";

pub(crate) fn containerd_goes_to_the_upstream_where_the_mirror_allows_it(
    registries: &mut Registries,
) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    let blobs = proof::blobs(&hello);
    for line in LINES {
        // No version is said, so each must take what is written for all of them.
        let mirror = render(registries, "", &[])?;
        let cache = registries.empty_cache()?;
        pull(registries, line, &mirror, &hello)?;
        proof::came_through(registries, &cache, &blobs)?;
        drop(cache);

        registries.upstream.clear_requests()?;
        pull(registries, line, &mirror, &hello)?;
        for (digest, _) in &blobs {
            let gets = registries.upstream.blob_gets(digest)?;
            // containerd 2 asks for parts.
            ensure!(gets >= 1, "{line:?}: {digest} did not come from there");
        }
    }
    Ok(())
}

pub(crate) fn containerd_never_goes_to_the_upstream_where_the_mirror_forbids_it(
    registries: &mut Registries,
) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    for line in LINES {
        let mirror = render(registries, "fallback: Forbid", &[])?;
        let cache = registries.empty_cache()?;
        pull(registries, line, &mirror, &hello)?;
        proof::came_through(registries, &cache, &proof::blobs(&hello))?;
        drop(cache);

        registries.upstream.clear_requests()?;
        let pulled = pull(registries, line, &mirror, &hello);
        ensure!(pulled.is_err(), "{line:?} pulled without the cache");
        nobody_asked_the_upstream(registries)?;
    }
    Ok(())
}

pub(crate) fn containerd_shows_the_credentials_of_its_mirror(
    registries: &mut Registries,
) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    for line in LINES {
        let cache = guarded_cache(registries)?;
        let wrong = [("username", "east"), ("password", "old")];
        let mirror = render(registries, GUARDED, &wrong)?;
        let pulled = pull(registries, line, &mirror, &hello);
        ensure!(pulled.is_err(), "{line:?} pulled with a wrong password");
        nobody_asked_the_upstream(registries)?;

        let right = [("username", "east"), ("password", PASSWORD)];
        let mirror = render(registries, GUARDED, &right)?;
        pull(registries, line, &mirror, &hello)?;
        proof::came_through(registries, &cache, &proof::blobs(&hello))?;
    }
    Ok(())
}

pub(crate) fn containerd_knows_the_cache_by_the_authority_of_its_mirror(
    registries: &mut Registries,
) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    let authority = Authority::new()?;
    let directory = registries.directory()?;
    let files = authority.issue(&directory, ADDRESS)?;
    for line in LINES {
        let policy = policy(registries);
        let cache = registries.cache_with_tls(&files, &policy)?;
        let endpoint = format!("https://{}", CacheServer::address());
        let fields = "caSecretRef: {name: given}, fallback: Forbid";
        let render = |registries: &mut Registries, authority: &Authority| {
            let pem = authority.pem();
            render_at(registries, &endpoint, fields, &[("ca.crt", pem.as_str())])
        };
        let stranger = Authority::new()?;
        let mirror = render(registries, &stranger)?;
        let pulled = pull(registries, line, &mirror, &hello);
        ensure!(pulled.is_err(), "{line:?} trusts another authority");

        let mirror = render(registries, &authority)?;
        pull(registries, line, &mirror, &hello)?;
        proof::came_through(registries, &cache, &proof::blobs(&hello))?;
    }
    Ok(())
}

pub(crate) fn containerd_resolves_tags_at_the_upstream_of_a_digest_mirror(
    registries: &mut Registries,
) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    for line in LINES {
        let mirror = render(registries, "capabilities: [Pull]", &[])?;
        let cache = registries.empty_cache()?;
        pull(registries, line, &mirror, &hello)?;
        by_digest_only(registries, &cache, &hello)?;
    }
    Ok(())
}

pub(crate) fn podman_follows_a_rendered_mirror(registries: &mut Registries) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    let blobs = proof::blobs(&hello);
    let crio = |fields: &str| format!("runtime: {{type: Crio}}{fields}");

    let mirror = render(registries, &crio(""), &[])?;
    let cache = registries.empty_cache()?;
    podman(registries, &mirror)?.pull_hello(&hello)?;
    proof::came_through(registries, &cache, &blobs)?;
    drop(cache);
    registries.upstream.clear_requests()?;
    podman(registries, &mirror)?.pull_hello(&hello)?;
    ensure!(registries.upstream.blob_gets(&blobs[0].0)? == 1);

    let mirror = render(registries, &crio(", fallback: Forbid"), &[])?;
    let cache = registries.empty_cache()?;
    podman(registries, &mirror)?.pull_hello(&hello)?;
    proof::came_through(registries, &cache, &blobs)?;
    drop(cache);
    registries.upstream.clear_requests()?;
    let pulled = podman(registries, &mirror)?.pull_hello(&hello);
    ensure!(pulled.is_err(), "podman pulled without the cache");
    nobody_asked_the_upstream(registries)?;

    let mirror = render(registries, &crio(", capabilities: [Pull]"), &[])?;
    let cache = registries.empty_cache()?;
    let podman = podman(registries, &mirror)?;
    let digest = &hello.manifest().digest;
    podman.pull_by_digest(&format!("docker.io/library/hello@{digest}"))?;
    proof::came_through(registries, &cache, &blobs)
}

pub(crate) fn podman_shows_the_credentials_of_its_mirror(
    registries: &mut Registries,
) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    let fields = format!("runtime: {{type: Crio}}, {GUARDED}");
    let cache = guarded_cache(registries)?;
    let wrong = [("username", "east"), ("password", "old")];
    let mirror = render(registries, &fields, &wrong)?;
    let pulled = podman(registries, &mirror)?.pull_hello(&hello);
    ensure!(pulled.is_err(), "podman pulled with a wrong password");
    nobody_asked_the_upstream(registries)?;

    let right = [("username", "east"), ("password", PASSWORD)];
    let mirror = render(registries, &fields, &right)?;
    podman(registries, &mirror)?.pull_hello(&hello)?;
    proof::came_through(registries, &cache, &proof::blobs(&hello))
}

pub(crate) fn skopeo_follows_a_rendered_mirror(registries: &mut Registries) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    let blobs = proof::blobs(&hello);

    let mirror = render(registries, "runtime: {type: Crio}", &[])?;
    let cache = registries.empty_cache()?;
    skopeo(registries, &mirror, HELLO)?;
    proof::came_through(registries, &cache, &blobs)?;
    drop(cache);
    registries.upstream.clear_requests()?;
    skopeo(registries, &mirror, HELLO)?;
    ensure!(registries.upstream.blob_gets(&blobs[0].0)? == 1);

    let digest_only = "runtime: {type: Crio}, capabilities: [Pull]";
    let mirror = render(registries, digest_only, &[])?;
    let cache = registries.empty_cache()?;
    let by_digest = format!("docker.io/library/hello@{}", hello.manifest().digest);
    skopeo(registries, &mirror, &by_digest)?;
    proof::came_through(registries, &cache, &blobs)
}

/// With credentials too.
pub(crate) fn skopeo_never_goes_to_the_upstream_where_the_mirror_forbids_it(
    registries: &mut Registries,
) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    let fields = format!("runtime: {{type: Crio}}, {GUARDED}");
    let cache = guarded_cache(registries)?;
    let wrong = [("username", "east"), ("password", "old")];
    let mirror = render(registries, &fields, &wrong)?;
    let copied = skopeo(registries, &mirror, HELLO);
    ensure!(copied.is_err(), "skopeo copied with a wrong password");
    nobody_asked_the_upstream(registries)?;

    let right = [("username", "east"), ("password", PASSWORD)];
    let mirror = render(registries, &fields, &right)?;
    skopeo(registries, &mirror, HELLO)?;
    proof::came_through(registries, &cache, &proof::blobs(&hello))?;
    drop(cache);

    registries.upstream.clear_requests()?;
    for name in [HELLO, "docker.io/library/multi:1"] {
        let copied = skopeo(registries, &mirror, name);
        ensure!(copied.is_err(), "skopeo copied {name} without the cache");
    }
    nobody_asked_the_upstream(registries)
}

pub(crate) fn docker_follows_a_rendered_mirror(registries: &mut Registries) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    let fields = "runtime: {type: Docker}, upstreams: [docker.io]";
    let mirror = render(registries, fields, &[])?;
    let cache = registries.empty_cache()?;
    let docker = Docker::start(registries, mirror.file("daemon.json")?)?;
    // In this network there is no Docker Hub to fall back to.
    docker.pull_hello(&hello)?;
    proof::came_through(registries, &cache, &proof::blobs(&hello))
}

/// The mirror for clients of the cache in clear text.
fn render(registries: &mut Registries, fields: &str, secret: &[(&str, &str)]) -> Result<Mirror> {
    let endpoint = format!("http://{}", CacheServer::address());
    render_at(registries, &endpoint, fields, secret)
}

/// The mirror for clients of the cache at that endpoint.
pub(crate) fn render_at(
    registries: &mut Registries,
    endpoint: &str,
    fields: &str,
    secret: &[(&str, &str)],
) -> Result<Mirror> {
    let upstream = registries.upstream.url();
    let upstreams =
        format!("[{{host: docker.io, endpoints: [\"{upstream}\"]}}, {{host: quay.io}}]");
    let declared = Declared {
        upstreams: &upstreams,
        endpoint,
        fields,
        secret,
    };
    let directory = registries.directory()?;
    Mirror::render(&registries.operator, &directory, declared)
}

fn policy(registries: &Registries) -> String {
    let url = registries.upstream.url();
    format!("upstreams: [{{host: docker.io, endpoints: [\"{url}\"]}}]\n")
}

/// A cache with an empty store that serves only who shows a password.
fn guarded_cache(registries: &mut Registries) -> Result<CacheServer> {
    let path: PathBuf = registries.directory()?.join("htpasswd");
    fs::write(&path, HTPASSWD).context("failed to write the users")?;
    registries.upstream.clear_requests()?;
    let access = format!("access: {{basic: {{htpasswdFile: {}}}}}\n", path.display());
    let policy = policy(registries);
    registries.cache_with(&format!("{policy}{access}"))
}

/// Pulls into an empty store.
fn pull(registries: &mut Registries, line: Line, mirror: &Mirror, hello: &Artifact) -> Result<()> {
    let containerd = Containerd::start_empty(registries, line)?;
    mirror.write_hosts(&containerd.hosts())?;
    containerd.pull(HELLO, hello)
}

fn podman(registries: &mut Registries, mirror: &Mirror) -> Result<Podman> {
    let credentials = mirror.files.get("auth.json").map(String::as_str);
    Podman::with(registries, mirror.file("registries.conf")?, credentials)
}

fn skopeo(registries: &mut Registries, mirror: &Mirror, name: &str) -> Result<()> {
    let credentials = mirror.files.get("auth.json").map(String::as_str);
    let configuration = mirror.file("registries.conf")?;
    containers_image::copy_by(registries, name, configuration, credentials)
}

fn nobody_asked_the_upstream(registries: &Registries) -> Result<()> {
    let requests = registries.upstream.requests()?;
    ensure!(requests.is_empty(), "the upstream was asked: {requests:?}");
    Ok(())
}

/// The tag was asked at the upstream by the client itself, and the content came from the cache.
fn by_digest_only(registries: &Registries, cache: &CacheServer, artifact: &Artifact) -> Result<()> {
    for (digest, _) in proof::blobs(artifact) {
        let served = proof::served(cache, &digest)?;
        ensure!(!served.is_empty(), "{digest} did not come from the cache");
    }
    let asked = registries.upstream.requests_past_the_cache()?;
    ensure!(
        asked.iter().any(|one| one.path.ends_with("/manifests/1.0")),
        "nobody asked the upstream for the tag: {asked:?}"
    );
    ensure!(
        !asked.iter().any(|one| one.path.contains("/blobs/")),
        "blobs came past the cache: {asked:?}"
    );
    Ok(())
}
