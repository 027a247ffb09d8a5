//! How many flows this process may have memory for.
//!
//! The kernel ends a process that takes more than the limit of its control group for a table, instead of
//! refusing it. So what there is comes from the limits themselves.

use std::fs;
use std::path::Path;

use crate::table::{BUCKET_BYTES, buckets};

/// Fewer flows than this are not worth less.
pub(crate) const FEWEST: u32 = 512;

/// As many flows as take a sixteenth of the memory that this process may have, if that is less.
pub(crate) fn affordable(flows: u32) -> u32 {
    let read = |path: &Path| fs::read_to_string(path).ok();
    within(flows, limit(&read))
}

fn within(flows: u32, limit: Option<u64>) -> u32 {
    let Some(limit) = limit else { return flows };
    const MANY: u32 = 7 * 1024;
    let of_flow = 2 * u64::from(buckets(MANY)) * BUCKET_BYTES as u64 / u64::from(MANY);
    let most = limit / 16 / of_flow;
    flows.min(u32::try_from(most).unwrap_or(u32::MAX).max(FEWEST))
}

/// Bytes of the machine, or of the tightest of the control groups that this process is in.
fn limit(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let meminfo = read(Path::new("/proc/meminfo")).unwrap_or_default();
    let machine = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let machine = machine.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let machine = machine.map(|kib| kib * 1024);
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let groups = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let path = Path::new(path.trim_start_matches('/'));
        // A limit holds for all groups below.
        let files = path.ancestors();
        let limits = files.filter_map(|group| {
            let text = read(&Path::new(root).join(group).join(file))?;
            text.trim().parse::<u64>().ok()
        });
        limits.min()
    });
    groups.chain(machine).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    type File = (&'static str, &'static str);
    const MACHINE: File = ("/proc/meminfo", "MemTotal:  1048576 kB\nMemFree: 1 kB\n");
    const UNIT: File = ("/proc/self/cgroup", "0::/system.slice/plat.service\n");
    const UNLIMITED: File = (
        "/sys/fs/cgroup/system.slice/plat.service/memory.max",
        "max\n",
    );
    const SLICE: File = ("/sys/fs/cgroup/system.slice/memory.max", "67108864\n");

    #[test]
    fn kp_19_a_small_machine_has_fewer_flows() {
        // 262 bytes each, for both directions.
        assert_eq!(within(1 << 16, Some(64 * MIB)), (4 << 20) / 262);
        assert_eq!(within(1 << 16, Some(1024 * MIB)), 1 << 16);
        assert_eq!(within(1 << 16, Some(1024)), FEWEST);
        assert_eq!(within(1 << 16, None), 1 << 16);
        assert_eq!(within(1, Some(64 * MIB)), 1);
    }

    #[test]
    fn kp_19_the_tightest_limit_of_memory_counts() {
        let files = |files: &[File]| {
            limit(&|path| {
                let found = files.iter().find(|(name, _)| Path::new(name) == path);
                found.map(|(_, text)| (*text).to_owned())
            })
        };

        assert_eq!(files(&[]), None);
        // No group of the second version has a limit at its root.
        assert_eq!(
            files(&[MACHINE, ("/proc/self/cgroup", "0::/\n")]),
            Some(1024 * MIB)
        );
        assert_eq!(files(&[MACHINE, UNIT, UNLIMITED]), Some(1024 * MIB));
        assert_eq!(files(&[MACHINE, UNIT, UNLIMITED, SLICE]), Some(64 * MIB));
        // In a container of its own namespace, and the first version.
        assert_eq!(
            files(&[
                MACHINE,
                ("/proc/self/cgroup", "0::/\n"),
                ("/sys/fs/cgroup/memory.max", "33554432\n")
            ]),
            Some(32 * MIB)
        );
        assert_eq!(
            files(&[
                MACHINE,
                ("/proc/self/cgroup", "5:cpu:/x\n4:memory:/a/b\n0::/\n"),
                (
                    "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                    "9223372036854771712"
                ),
                (
                    "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                    "16777216\n"
                ),
            ]),
            Some(16 * MIB)
        );
    }
}
