//! Both ends of the server under test: a scripted registry and a running server.

mod client;
mod disk;
mod fake_bucket;
mod fake_cloud;
mod fake_upstream;
pub mod frames;
mod program;
mod protection;
mod proxy;
mod raw;
pub mod raw_upstream;
mod test_server;
mod tls;

use std::time::Duration;

use cache_server::oci::{Algorithm, Digest};

pub use client::{Download, Reply};
pub use disk::Disk;
pub use fake_bucket::{BucketFault, FakeBucket};
pub use fake_cloud::{FakeCloud, Seen, check_signature};
pub use fake_upstream::{FakeUpstream, Fault, Gate, Image};
pub use program::{Program, peak_memory};
pub use proxy::FakeProxy;
pub use raw::Raw;
pub use test_server::{Builder, TestServer, blob_path};
pub use tls::{Authority, Pair};

/// The host under which most tests know their upstream.
pub const HOST: &str = "r.test";

pub fn digest(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

/// Content that no two places of are alike.
pub fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// Edits the policy, and waits until it is in force.
pub async fn edit(server: &TestServer, edit: impl FnOnce(String) -> String) {
    let file = server.config().join("policy.yaml");
    let text = edit(std::fs::read_to_string(&file).unwrap());
    std::fs::write(file, &text).unwrap();
    let hash = crds::policy::Policy::parse(&text).unwrap().hash();
    eventually("the edit is in force", || async {
        server.configz().await["policyHash"] == hash.as_str()
    })
    .await;
}

/// Waits for what comes without a signal, such as a file that is noticed. Fails after ten seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    for _ in 0..2000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come to this: {what}");
}
