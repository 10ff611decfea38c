//! Makes image archives of released programs: one index for each, with an image for each kind of machine.
//!
//! `images FOLDER COMMIT ARCHITECTURE...`, called by `cargo xtask release`: FOLDER has `PROGRAM-ARCHITECTURE`, and gets `PROGRAM.oci.tar`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use e2e::images::{Artifact, Index, Platform, larder_image, write_archive};

const PROGRAMS: [&str; 2] = ["larder-operator", "larder-cache-server"];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("name the folder")?);
    let commit = arguments.next().context("name the commit")?;
    let platforms = arguments
        .map(|architecture| match architecture.as_str() {
            "amd64" => Ok(Platform::AMD64),
            "arm64" => Ok(Platform::ARM64),
            other => bail!("there is no image for {other}"),
        })
        .collect::<Result<Vec<Platform>>>()?;
    ensure!(!platforms.is_empty(), "name the kinds of machines");
    for program in PROGRAMS {
        let images = platforms
            .iter()
            .map(|platform| {
                let binary = folder.join(format!("{program}-{}", platform.architecture));
                larder_image(program, &binary, *platform, Some(&commit))
            })
            .collect::<Result<Vec<_>>>()?;
        let index = Index::new(images)?;
        println!("{program}: {}", index.manifest.digest);
        let name = format!("{program}:{}", env!("CARGO_PKG_VERSION"));
        let archive = folder.join(format!("{program}.oci.tar"));
        write_archive(&Artifact::from(index), &name, &archive)?;
    }
    Ok(())
}
