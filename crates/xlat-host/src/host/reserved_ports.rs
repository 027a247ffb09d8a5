//! Ranges of ports as the kernel writes them (`net.ipv4.ip_local_port_range` and
//! `ip_local_reserved_ports`).

use std::ops::RangeInclusive;

/// True if the kernel's ephemeral port range (`ip_local_port_range`, two numbers) overlaps `ours`.
pub fn overlaps(handed_out: &str, ours: &RangeInclusive<u16>) -> bool {
    let mut numbers = handed_out.split_whitespace().flat_map(str::parse::<u16>);
    let (Some(low), Some(high)) = (numbers.next(), numbers.next()) else {
        return false;
    };
    low <= *ours.end() && high >= *ours.start()
}

/// Adds `ours` to the list of reserved ports `others`, in the kernel's format
/// (`ip_local_reserved_ports`): sorted, with adjacent ranges merged.
pub fn with(others: &str, ours: &RangeInclusive<u16>) -> String {
    let mut all: Vec<(u16, u16)> = others.split(',').filter_map(one).collect();
    all.push((*ours.start(), *ours.end()));
    all.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (low, high) in all {
        match merged.last_mut() {
            Some((_, end)) if low <= end.saturating_add(1) => *end = high.max(*end),
            _ => merged.push((low, high)),
        }
    }
    let texts = merged.iter().map(|(low, high)| match low == high {
        true => low.to_string(),
        false => format!("{low}-{high}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

/// How many ports of `handed_out` (`ip_local_port_range`) are left to programs that do not choose one,
/// if `reserved` (`ip_local_reserved_ports`) are kept from them.
pub fn left(handed_out: &str, reserved: &str) -> usize {
    let mut numbers = handed_out.split_whitespace().flat_map(str::parse::<u16>);
    let (Some(low), Some(high)) = (numbers.next(), numbers.next()) else {
        return 0;
    };
    let reserved: Vec<(u16, u16)> = reserved.split(',').filter_map(one).collect();
    let is_reserved = |port: &u16| {
        reserved
            .iter()
            .any(|(low, high)| (low..=high).contains(&port))
    };
    (low..=high).filter(|port| !is_reserved(port)).count()
}

fn one(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.trim().split_once('-').unwrap_or((text, text));
    Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_hands_out_has_to_be_reserved() {
        assert!(!overlaps("32768\t60999", &(61000..=65535)));
        assert!(overlaps("32768\t61000", &(61000..=65535)));
        assert!(overlaps("1024 65535", &(61000..=65535)));
        assert!(!overlaps("", &(61000..=65535)));
    }

    #[test]
    fn what_is_left_is_what_the_kernel_hands_out_and_nobody_keeps() {
        assert_eq!(left("32768\t60999", ""), 28_232);
        assert_eq!(left("32768 60999", "8080,40000-60999"), 7232);
        assert_eq!(left("32768 60999", "1024-65535"), 0);
    }

    #[test]
    fn reserved_ports_are_listed_as_the_kernel_lists_them() {
        let ours = 61000..=65535;
        assert_eq!(with("", &ours), "61000-65535");
        assert_eq!(with("8080", &ours), "8080,61000-65535");
        assert_eq!(with("8080,60990-60999", &ours), "8080,60990-65535");
        assert_eq!(with("61000-65535", &ours), "61000-65535");
        assert_eq!(with("5,7-9", &(6..=6)), "5-9");
    }
}
