//! The number of files that this process may have open. Systems start programs with a low one that old programs need,
//! and a higher one that they may ask for; a service with thousands of connections asks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::{CONNECTIONS_MAX, FILES_OTHERWISE, TURNED_AWAY_MAX};

/// Files that the service may need: its own connections, those of proxies, those that are turned away, and the rest.
#[must_use]
pub fn needed() -> u64 {
    let connections = 2 * CONNECTIONS_MAX + TURNED_AWAY_MAX;
    u64::try_from(connections).map_or(u64::MAX, |connections| connections + FILES_OTHERWISE)
}

/// Raises the limit as far as the system lets this process, and says so in the log where that is not enough. It is no
/// reason not to start: a small shop never comes near.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = needed();
    if current.is_none_or(|current| current >= needed) {
        return;
    }
    let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(raised),
            maximum,
        },
    ) {
        tracing::warn!(%error, ?current, needed, "the number of open files was not raised");
    } else if raised < needed {
        tracing::warn!(
            raised,
            needed,
            "fewer files may be open than there may be connections: raise LimitNOFILE"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_raised_as_far_as_it_goes() {
        raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let most = maximum.map_or(needed(), |maximum| maximum.min(needed()));
        assert!(current.is_none_or(|current| current >= most));
    }
}
