//! Cache servers that share a bucket of a real server of the S3 API.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::cache_server::CacheServer;
use e2e::versitygw::Versitygw;
use e2e::{Registries, wait};

use crate::containers_image;
use crate::proof;

const LIMIT: Duration = Duration::from_mins(1);

/// The second one has an empty disk and no upstream. One layer is large enough to go up in parts.
pub(crate) fn what_one_server_fetched_another_has_without_the_upstream(
    registries: &mut Registries,
) -> Result<()> {
    let directory = registries.directory()?;
    let bucket = Versitygw::start(&registries.tools, &directory)?;
    registries.upstream.clear_requests()?;
    let url = registries.upstream.url();
    let policy = |url: &str| format!("upstreams:\n- {{host: docker.io, endpoints: [\"{url}\"]}}\n");
    let first = registries.cache_that(&bucket.settings(), &policy(&url))?;
    let images = ["multi:1", "large:1"];
    for image in images {
        containers_image::copy(registries, &CacheServer::address(), image)?;
    }
    let mut blobs = proof::blobs(&registries.images.multi);
    blobs.extend(registries.large.blobs().map(proof::expected));
    proof::came_through(registries, &first, &blobs)?;
    wait::until("the blobs to be in the bucket", LIMIT, || {
        for (digest, size) in &blobs {
            let hex = digest.trim_start_matches("sha256:");
            let path = bucket.object(&format!("blobs/sha256/{}/{hex}", &hex[..2]));
            let there = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            ensure!(there == *size, "{} has {there} bytes", path.display());
        }
        for state in ["larder_bucket_behind", "larder_bucket_queue"] {
            let value = first.metrics()?.sum(state, &[]);
            ensure!(value < 1.0, "{state} is {value}");
        }
        Ok(())
    })?;
    drop(first);

    registries.upstream.clear_requests()?;
    let nowhere = "http://127.0.0.1:1";
    let second = registries.cache_that(&bucket.settings(), &policy(nowhere))?;
    for image in images {
        containers_image::copy(registries, &CacheServer::address(), image)?;
    }
    for (digest, _) in &blobs {
        let served = proof::served(&second, digest)?;
        ensure!(
            served.iter().any(|one| one.outcome == "bucket"),
            "{digest} did not come from the bucket: {served:?}"
        );
    }
    // Right signatures, and no request that a real server does not know.
    let metrics = second.metrics()?;
    let failed = metrics.sum("larder_bucket_requests_total", &["result=\"failed\""]);
    ensure!(failed < 1.0, "{failed} requests to the bucket failed");
    Ok(())
}
