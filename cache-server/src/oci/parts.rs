//! What must be fetched to have all of a manifest. Unknown fields are left alone.

use serde::Deserialize;

use super::Digest;

/// Config and layers, or the manifests of an index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parts {
    pub contents: Vec<Part>,
    pub children: Vec<Child>,
}

/// Config or layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub digest: Digest,
    /// In bytes, as the manifest says it.
    pub size: u64,
}

/// A manifest of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    pub digest: Digest,
    /// `linux/arm/v7`; empty if the index does not say it.
    pub platform: String,
}

impl Child {
    /// Whether it is for one of the platforms: `linux/arm` is any variant of it. None named: all are meant.
    pub fn is_for(&self, platforms: &[String]) -> bool {
        platforms.is_empty()
            || platforms.iter().any(|wanted| {
                self.platform
                    .strip_prefix(wanted.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    }
}

#[derive(Deserialize)]
struct Document {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    blobs: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: Digest,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    urls: Vec<String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    fn name(self) -> String {
        let variant = self.variant.map(|variant| format!("/{variant}"));
        let variant = variant.unwrap_or_default();
        format!("{}/{}{variant}", self.os, self.architecture)
    }
}

impl Parts {
    /// Reads the JSON of a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let document: Document = serde_json::from_slice(bytes)?;
        let contents = document
            .config
            .into_iter()
            .chain(document.layers)
            .chain(document.blobs)
            // Layers that may not be distributed lie elsewhere; clients fetch them from there.
            .filter(|descriptor| descriptor.urls.is_empty())
            .map(|descriptor| Part {
                digest: descriptor.digest,
                size: descriptor.size,
            })
            .collect();
        let children = document
            .manifests
            .into_iter()
            .map(|descriptor| Child {
                digest: descriptor.digest,
                platform: descriptor.platform.map(Platform::name).unwrap_or_default(),
            })
            .collect();
        Ok(Self { contents, children })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_chosen_by_platform_and_variant() {
        let digest = |number: u8| format!("sha256:{}", format!("{number:02x}").repeat(32));
        let text = format!(
            r#"{{"manifests": [
                {{"digest": "{}", "platform": {{"os": "linux", "architecture": "amd64"}}}},
                {{"digest": "{}", "platform": {{"os": "linux", "architecture": "arm", "variant": "v7"}}}},
                {{"digest": "{}", "platform": {{"os": "linux", "architecture": "arm64", "variant": "v8"}}}},
                {{"digest": "{}"}}]}}"#,
            digest(1),
            digest(2),
            digest(3),
            digest(4),
        );
        let parts = Parts::parse(text.as_bytes()).unwrap();
        let chosen = |platforms: &[&str]| {
            let platforms: Vec<_> = platforms.iter().map(|&one| one.to_owned()).collect();
            let are = parts.children.iter().map(|child| child.is_for(&platforms));
            are.collect::<Vec<_>>()
        };
        assert_eq!(chosen(&[]), [true; 4]);
        assert_eq!(chosen(&["linux/amd64"]), [true, false, false, false]);
        assert_eq!(chosen(&["linux/arm"]), [false, true, false, false]);
        assert_eq!(chosen(&["linux/arm/v6"]), [false; 4]);
        assert_eq!(chosen(&["linux/arm64", "linux"]), [true, true, true, false]);
    }

    #[test]
    fn layers_that_lie_elsewhere_are_not_fetched() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let text = format!(
            r#"{{"config": {{"digest": "{digest}", "size": 7}}, "layers": [{{"digest": "{digest}", "size": 9, "urls": ["https://elsewhere.example"]}}]}}"#
        );
        let parts = Parts::parse(text.as_bytes()).unwrap();
        assert_eq!(parts.contents.len(), 1);
        assert_eq!(parts.contents[0].size, 7);
        assert!(Parts::parse(b"[]").is_err());
    }
}
