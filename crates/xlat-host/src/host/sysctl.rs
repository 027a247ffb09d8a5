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

/// The interface that the parameter `net.FAMILY.conf.DEV.NAME` belongs to; `None` for a parameter of
/// the whole host.
pub(super) fn device(key: &str) -> Option<String> {
    let words: Vec<&str> = key.split('.').collect();
    let ["net", _, "conf" | "neigh", dev, _] = words[..] else {
        return None;
    };
    (!matches!(dev, "all" | "default")).then(|| dev.replace('/', "."))
}

/// The same parameter of the interface `name`.
pub(super) fn on_device(key: &str, name: &str) -> String {
    let mut words: Vec<String> = key.split('.').map(str::to_owned).collect();
    if device(key).is_some() {
        words[3] = name.replace('.', "/");
    }
    words.join(".")
}

/// The file of a parameter. Dots separate components; a slash stands for a dot inside a name, as in
/// sysctl(8).
pub(super) fn path(key: &str) -> PathBuf {
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

    #[test]
    fn a_parameter_of_an_interface_is_told_from_one_of_the_host() {
        let key = "net.ipv6.conf.eth0/5.accept_ra";
        assert_eq!(device(key).as_deref(), Some("eth0.5"));
        assert_eq!(on_device(key, "wan.7"), "net.ipv6.conf.wan/7.accept_ra");
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            assert_eq!(device(key), None);
            assert_eq!(on_device(key, "wan"), key);
        }
    }
}
