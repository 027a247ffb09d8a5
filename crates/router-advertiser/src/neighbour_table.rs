//! The size of the kernel's neighbour table, which the hosts of the LANs fill.

use tracing::warn;
use xlat_host::host::Host;

/// The kernel's default, 1024, is for hosts. A scan or a flood of solicitations from forged addresses
/// fills it at once, and hosts whose entry has aged are not reached meanwhile.
const LEAST: u32 = 8192;

/// Names the limits of the neighbour tables that are too low for a router. They hold for the whole
/// machine, so they are its administrator's to set; in a container they are not to be seen.
pub(super) fn warn_of_limits(host: &Host) {
    let low = low_neighbour_limits(host);
    if !low.is_empty() {
        warn!(
            "the kernel's neighbour table is small for a router: a scan or a flood in a LAN can keep \
             it from hosts that were silent for seconds; raise {} (and gc_thresh2 to half of it)",
            low.join(" and ")
        );
    }
}

/// The limits of the neighbour tables that are too low for a router, each with the value to set.
pub fn low_neighbour_limits(host: &Host) -> Vec<String> {
    let low = ["ipv6", "ipv4"].iter().filter_map(|family| {
        let key = format!("net.{family}.neigh.default.gc_thresh3");
        line(&key, host.sysctl(&key)?.parse().ok()?)
    });
    low.collect()
}

fn line(key: &str, limit: u32) -> Option<String> {
    (limit < LEAST).then(|| format!("sysctl {key}={LEAST}, now {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp_22_the_kernels_default_limit_is_named_and_a_routers_is_not() {
        let key = "net.ipv6.neigh.default.gc_thresh3";
        let expected = "sysctl net.ipv6.neigh.default.gc_thresh3=8192, now 1024";
        assert_eq!(line(key, 1024).as_deref(), Some(expected));
        assert_eq!(line(key, 8192), None);
    }
}
