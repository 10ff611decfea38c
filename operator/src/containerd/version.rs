//! The version of a containerd, as far as mirrors depend on it. Pure.

use std::fmt;

/// Major, minor and patch version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Finds the version in `containerd://2.1.4-k3s1`, in `v1.6.20~ds1`, or in what `containerd --version` prints.
    pub fn find(text: &str) -> Option<Self> {
        text.split([' ', '/']).find_map(|word| {
            let mut numbers = word.trim().trim_start_matches('v').splitn(3, '.');
            let mut next = || -> Option<u32> {
                let part = numbers.next()?;
                let digits = part.bytes().take_while(u8::is_ascii_digit).count();
                part.get(..digits)?.parse().ok()
            };
            Some(Self(next()?, next()?, next()?))
        })
    }

    /// Whether a pull takes a `config_path` of several directories for the name of one, and so finds no mirror
    /// (containerd#12415 and #12636: pulls by the transfer service, which are the default since 2.1; mended in 2.3.2).
    pub fn stumbles_over_several_roots(self) -> bool {
        (Self(2, 1, 0)..Self(2, 3, 2)).contains(&self)
    }

    /// Whether `dial_timeout` of a `hosts.toml` is known. Older ones wait 30 seconds for a cache that is gone.
    pub fn knows_dial_timeout(self) -> bool {
        self >= Self(2, 1, 0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_say_a_version_is_read() {
        for (text, version) in [
            ("containerd://2.1.4-k3s1", Some(Version(2, 1, 4))),
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1",
                Some(Version(1, 6, 20)),
            ),
            (
                "containerd github.com/containerd/containerd/v2 v2.2.0 1c4457e",
                Some(Version(2, 2, 0)),
            ),
            ("cri-o://1.34.0", Some(Version(1, 34, 0))),
            ("containerd", None),
            ("", None),
        ] {
            assert_eq!(Version::find(text), version, "{text}");
        }
    }

    #[test]
    fn only_some_versions_stumble() {
        assert!(!Version(2, 0, 5).stumbles_over_several_roots());
        assert!(Version(2, 1, 0).stumbles_over_several_roots());
        assert!(Version(2, 3, 1).stumbles_over_several_roots());
        assert!(!Version(2, 3, 2).stumbles_over_several_roots());
    }
}
