//! Kernel parameters by their dotted names, through /proc/sys.

use std::io;
use std::path::PathBuf;

/// The current value, without surrounding white space.
pub(super) fn read(key: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(path(key))?.trim().to_owned())
}

/// Sets a value.
pub(super) fn write(key: &str, value: &str) -> io::Result<()> {
    std::fs::write(path(key), value)
}

/// True if the kernel has the parameter.
pub(super) fn exists(key: &str) -> bool {
    path(key).exists()
}

/// Dots separate components; a slash stands for a dot inside a name, as in sysctl(8).
fn path(key: &str) -> PathBuf {
    let swapped = key.chars().map(|c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    PathBuf::from("/proc/sys").join(swapped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_in_a_key_is_a_dot_in_a_name() {
        let expected = PathBuf::from("/proc/sys/net/ipv6/conf/eth0.5/forwarding");
        assert_eq!(path("net.ipv6.conf.eth0/5.forwarding"), expected);
    }
}
