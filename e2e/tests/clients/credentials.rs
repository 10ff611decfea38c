//! Two clusters, each with credentials of its own in a mirror that the operator renders, and one cache that knows both: those of
//! one are rotated as the documentation says, and then taken back.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use e2e::cache_server::CacheServer;
use e2e::mirror::Mirror;
use e2e::{Registries, wait};
use reqwest::blocking::Client;

use crate::containerd::{Containerd, Line};
use crate::proof;

const HELLO: &str = "docker.io/library/hello:1.0";
const LIMIT: Duration = Duration::from_mins(1);
/// The server has to know its changed users by then.
const SOON: Duration = Duration::from_secs(10);

/// A user's name and password, and the hash as `htpasswd -B` writes it, with a cost that a test can wait for.
type User = (&'static str, &'static str, &'static str);

const EAST: User = (
    "east",
    "let-me-in",
    "$2b$04$abcdefghijklmnopqrstuudxA/1BY5FxPYA69jUrJOJFmTyoe9T1a",
);
const EAST_2: User = (
    "east-2",
    "let-me-in-again",
    "$2b$04$abcdefghijklmnopqrstuu43lF0fOXm4hvyUdedLgmqNhuk3wAFLu",
);
/// The password of the old east: a name opens nothing for another one.
const WEST: User = ("west", EAST.1, EAST.2);

pub(crate) fn credentials_of_one_cluster_are_rotated_without_a_failed_pull(
    registries: &mut Registries,
) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    let mut door = Door::open(registries, &[EAST, WEST])?;
    let [east, west] = clusters(registries, EAST, "Forbid")?;
    east.pull(HELLO, &hello)?;
    west.pull(HELLO, &hello)?;
    proof::came_through(registries, &door.cache, &proof::blobs(&hello))?;

    let next = render(registries, "east", EAST_2, "Forbid")?;
    let (pulls, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let pulling = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                east.pull_anew(HELLO, &hello)?;
                pulls.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let rotated = (|| {
            // The second of them began after what was done before.
            let two_more = || {
                let before = pulls.load(Ordering::Relaxed);
                wait::until_true("two more pulls", LIMIT, || {
                    pulls.load(Ordering::Relaxed) >= before + 2 || pulling.is_finished()
                })
            };
            door.let_in(&[EAST, EAST_2, WEST])?;
            two_more()?;
            next.write_hosts(&east.hosts())?;
            two_more()?;
            door.let_in(&[EAST_2, WEST])?;
            two_more()
        })();
        over.store(true, Ordering::Relaxed);
        let pulled = pulling.join().map_err(|_| anyhow!("a pull panicked"))?;
        pulled.and(rotated)
    })?;
    west.pull_anew(HELLO, &hello)?;
    registries.upstream.only_caches_asked()?;
    door.cache.check_running()
}

pub(crate) fn a_cluster_whose_credentials_are_taken_back_is_refused_alone(
    registries: &mut Registries,
) -> Result<()> {
    let hello = registries.images.hello_1.clone();
    let mut door = Door::open(registries, &[EAST, WEST])?;
    let [east, west] = clusters(registries, EAST, "Forbid")?;
    east.pull(HELLO, &hello)?;
    west.pull(HELLO, &hello)?;
    door.let_in(&[WEST])?;

    let refused = east.pull_anew(HELLO, &hello);
    ensure!(refused.is_err(), "east pulled after it was revoked");
    registries.upstream.only_caches_asked()?;
    west.pull_anew(HELLO, &hello)?;
    registries.upstream.only_caches_asked()?;

    // A cluster that may goes on to the upstream, with each blob.
    let allowed = render(registries, "east", EAST, "Allow")?;
    allowed.write_hosts(&east.hosts())?;
    registries.upstream.clear_requests()?;
    east.pull(HELLO, &hello)?;
    for (digest, _) in proof::blobs(&hello) {
        let gets = registries.upstream.blob_gets(&digest)?;
        ensure!(gets >= 1, "{digest} did not come from the upstream");
    }
    door.cache.check_running()
}

/// A cache that lets in who is in its file of users.
struct Door {
    cache: CacheServer,
    users: PathBuf,
    inside: Vec<User>,
}

impl Door {
    fn open(registries: &mut Registries, users: &[User]) -> Result<Self> {
        let path = registries.directory()?.join("htpasswd");
        write_users(&path, users)?;
        registries.upstream.clear_requests()?;
        let upstream = registries.upstream.url();
        let cache = registries.cache_with(&format!(
            "upstreams: [{{host: docker.io, endpoints: [\"{upstream}\"]}}]
access: {{basic: {{htpasswdFile: {}}}}}
",
            path.display()
        ))?;
        Ok(Self {
            cache,
            users: path,
            inside: users.to_owned(),
        })
    }

    /// Writes other users, and returns when the server has taken them up.
    fn let_in(&mut self, users: &[User]) -> Result<()> {
        write_users(&self.users, users)?;
        let client = Client::builder()
            .no_proxy()
            .build()
            .context("failed to build a client")?;
        let url = format!("http://{}/v2/", CacheServer::address());
        let concerned: BTreeSet<&User> = users.iter().chain(&self.inside).collect();
        for user in concerned {
            let expected = if users.contains(user) { 200 } else { 401 };
            wait::until("the server to know its users", SOON, || {
                let request = client.get(&url).basic_auth(user.0, Some(user.1));
                let answer = request.send().context("the server gives no answer")?;
                ensure!(
                    answer.status() == expected,
                    "{} is answered {}",
                    user.0,
                    answer.status()
                );
                Ok(())
            })?;
        }
        users.clone_into(&mut self.inside);
        Ok(())
    }
}

fn write_users(path: &Path, users: &[User]) -> Result<()> {
    let lines: Vec<String> = users
        .iter()
        .map(|(name, _, hash)| format!("{name}:{hash}\n"))
        .collect();
    fs::write(path, lines.concat()).context("failed to write the users")
}

/// A node of east and one of west, each with what its mirror says.
fn clusters(registries: &mut Registries, east: User, fallback: &str) -> Result<[Containerd; 2]> {
    let mut node = |cluster: &str, line: Line| {
        let mirror = render(registries, cluster, east, fallback)?;
        let containerd = Containerd::start_empty(registries, line)?;
        mirror.write_hosts(&containerd.hosts())?;
        anyhow::Ok(containerd)
    };
    Ok([node("east", Line::Two)?, node("west", Line::OneSix)?])
}

/// What the operator renders for that cluster of a cache with two.
fn render(
    registries: &mut Registries,
    cluster: &str,
    (name, password, _): User,
    fallback: &str,
) -> Result<Mirror> {
    let endpoint = format!("http://{}", CacheServer::address());
    let upstream = registries.upstream.url();
    let text = format!(
        "apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {{name: cache}}
spec:
  upstreams: [{{host: docker.io, endpoints: [\"{upstream}\"]}}]
  storage: {{volume: {{size: 1Gi}}}}
  access: {{basic: {{secretRef: {{name: people}}}}}}
  mirrors:
  - {{name: east, endpoint: \"{endpoint}\", credentialsSecretRef: {{name: east}}, fallback: {fallback}}}
  - {{name: west, endpoint: \"{endpoint}\", credentialsSecretRef: {{name: west}}, fallback: {fallback}}}
---
{{apiVersion: v1, kind: Secret, metadata: {{name: people}}, stringData: {{auth: \"{name}:x\"}}}}
---
{{apiVersion: v1, kind: Secret, metadata: {{name: east}}, stringData: {{username: {name}, password: {password}}}}}
---
{{apiVersion: v1, kind: Secret, metadata: {{name: west}}, stringData: {{username: {}, password: {}}}}}
",
        WEST.0, WEST.1
    );
    let directory = registries.directory()?;
    let object = format!("cache-mirror-{cluster}");
    let mirror = Mirror::render_text(&registries.operator, &directory, &text, &object)?;
    ensure!(mirror.secret, "{object} is not a Secret");
    Ok(mirror)
}
