//! Kernel parameters by their dotted names, through /proc/sys.

use std::io;
use std::path::PathBuf;

use rustix::fs::StatVfsMountFlags;

/// The current value, without surrounding white space.
pub(super) fn read(key: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(checked_path(key)?)?
        .trim()
        .to_owned())
}

/// Sets a value.
pub(super) fn write(key: &str, value: &str) -> io::Result<()> {
    std::fs::write(checked_path(key)?, value)
}

/// True if the kernel has the parameter.
pub(super) fn exists(key: &str) -> bool {
    checked_path(key).is_ok_and(|path| path.exists())
}

/// True if `key` names a parameter of the network, and nothing outside of `/proc/sys/net`: a key
/// can come from a file.
pub(super) fn is_of_network(key: &str) -> bool {
    let is_name = |word: &str| {
        let name = word.replace('/', ".");
        let is_strange = |c: char| c.is_whitespace() || c.is_control();
        !matches!(&*name, "" | "." | "..") && !name.contains(is_strange)
    };
    key.starts_with("net.") && key.split('.').all(is_name)
}

fn checked_path(key: &str) -> io::Result<PathBuf> {
    if is_of_network(key) {
        return Ok(path(key));
    }
    let reason = "not a kernel parameter of the network";
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// True if `/proc/sys` is mounted read-only.
pub(super) fn is_read_only() -> bool {
    let flags = rustix::fs::statvfs("/proc/sys").map(|all| all.f_flag);
    flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::RDONLY))
}

/// The `--sysctl` of a container runtime that makes `key` this value from outside. An interface that
/// does not exist yet takes the default.
pub(super) fn from_outside(key: &str, value: &str) -> String {
    format!("--sysctl {}={value}", on_device(key, "default"))
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
    fn se_28_no_key_leads_out_of_the_network_parameters() {
        let names = ["net.ipv4.ip_forward", "net.ipv6.conf.eth0/5.accept_ra"];
        for key in [
            &names[..],
            &["net.ipv6.conf.a-b_c~.x", "net.ipv4.neigh.wan.proxy_delay"],
        ]
        .concat()
        {
            assert!(is_of_network(key), "{key}");
        }
        for key in [
            "//.//.tmp.x",
            "net.//.kernel.core_pattern",
            "net.//.//.//.etc.passwd",
            "net./.ipv4.ip_forward",
            "net..ipv4.ip_forward",
            "net.ipv4.ip_forward\n",
            "net.",
            "net",
            "netx.ipv4",
            "kernel.core_pattern",
            ".net.ipv4",
            "",
        ] {
            assert!(!is_of_network(key), "{key}");
            let refused = [read(key).map(drop), write(key, "1")];
            for error in refused.map(Result::unwrap_err) {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{key}");
            }
            assert!(!exists(key), "{key}");
        }
    }

    #[test]
    fn a_parameter_of_an_interface_is_told_from_one_of_the_host() {
        let key = "net.ipv6.conf.eth0/5.accept_ra";
        assert_eq!(device(key).as_deref(), Some("eth0.5"));
        assert_eq!(on_device(key, "wan.7"), "net.ipv6.conf.wan/7.accept_ra");
        let from_outside = from_outside("net.ipv6.conf.clat.disable_ipv6", "0");
        assert_eq!(
            from_outside,
            "--sysctl net.ipv6.conf.default.disable_ipv6=0"
        );
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            assert_eq!(device(key), None);
            assert_eq!(on_device(key, "wan"), key);
        }
    }
}
