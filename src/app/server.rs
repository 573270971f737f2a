//! The check of the NATS server's version.

use anyhow::bail;

/// The oldest server that this service was tested with. Atomic batches and reads of several keys
/// came with 2.11 and 2.12, and their bugs were fixed later.
const SERVER_VERSION_MIN: (u64, u64) = (2, 15);

/// Fails on a server that is too old.
pub(super) fn check_server_version(version: &str) -> anyhow::Result<()> {
    let mut parts = version
        .split(['.', '-'])
        .map(|part| part.parse::<u64>().unwrap_or_default());
    let major = parts.next().unwrap_or_default();
    let minor = parts.next().unwrap_or_default();

    if (major, minor) < SERVER_VERSION_MIN {
        let (major, minor) = SERVER_VERSION_MIN;
        bail!(
            "nats-server {version} is too old: every server of the cluster needs {major}.{minor} \
             or newer"
        );
    }

    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_refused() {
        for new in ["2.15.1", "3.0.0-RC.1"] {
            assert!(check_server_version(new).is_ok(), "{new}");
        }
        for old in ["2.9.25", "2.14.0", "1.99.0", ""] {
            let error = check_server_version(old).expect_err("too old").to_string();
            assert!(error.contains("2.15"), "{error}");
        }
    }
}
