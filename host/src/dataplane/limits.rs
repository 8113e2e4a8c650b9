//! What this process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors for everything that is neither listener nor connection: runtimes, logs, watches, the admin port.
const RESERVED_DESCRIPTORS: usize = 64;

/// What is assumed when the limit cannot be read: POSIX' customary soft limit.
const ASSUMED_DESCRIPTORS: usize = 1024;

/// The limit of open descriptors, after raising the soft one to the hard one.
pub fn descriptors() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return ASSUMED_DESCRIPTORS;
    };
    let limit = if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// As many connections as were asked for, if there are descriptors for them. A connection that is accepted and finds none for its
/// endpoint is lost; one that waits in a listener's queue is not.
pub(super) fn max_connections(asked: usize, descriptors: usize) -> usize {
    let most = default_max_connections(descriptors);
    if asked > most {
        tracing::warn!("{descriptors} descriptors allow {most} connections, not {asked}; raise the limit (`ulimit -n`, or LimitNOFILE=)");
    }
    asked.min(most)
}

/// As many connections as the descriptors allow: two each, beside the quarter that listeners may use.
pub fn default_max_connections(descriptors: usize) -> usize {
    ((descriptors - descriptors / 4).saturating_sub(RESERVED_DESCRIPTORS) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_listeners_fit_the_descriptors() {
        for limit in [0, 64, 256, 1024, 20_000, 1_048_576] {
            let connections = default_max_connections(limit);
            assert!(connections >= 1);
            assert!(connections * 2 + limit / 4 <= limit.max(2), "{limit}");
        }
    }
}
