//! How many files the process may open, which bounds how many clients it can have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For the store's directories, upstreams' connections and the runtime.
const OWN: u64 = 128;

/// Takes all that the system allows: the limit that programs start with is for those that use `select`.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "failed to raise the limit of open files");
    }
}

/// How many of the wanted connections there can be: each has a socket and perhaps a file.
pub fn connections(wanted: u32) -> u32 {
    let possible = getrlimit(Resource::Nofile)
        .current
        .map_or(wanted, |files| possible(files, wanted));
    if possible < wanted {
        tracing::warn!(
            possible,
            wanted,
            "fewer connections than connections.maximum are possible: raise the limit of open files"
        );
    }
    possible
}

fn possible(files: u64, wanted: u32) -> u32 {
    let room = files.saturating_sub(OWN).max(files / 4) / 2;
    u32::try_from(room.max(1)).map_or(wanted, |room| room.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_two_descriptors_and_the_rest_of_the_server_some() {
        assert_eq!(possible(1 << 20, 8192), 8192);
        assert_eq!(possible(1024, 8192), 448);
        assert_eq!(possible(100, 8192), 12);
        assert_eq!(possible(2, 8192), 1);
    }
}
