//! The range of ports in `--shared-ports`.

use std::ops::RangeInclusive;

/// Parses a range of ports from 1024 on, such as `61000-65535`.
pub(crate) fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (low, high) = text
        .split_once('-')
        .ok_or("not a range of ports like 61000-65535")?;
    let port = |text: &str| {
        let port = text.parse().ok().filter(|port| *port >= 1024);
        port.ok_or_else(|| format!("{text} is not a port from 1024 to 65535"))
    };
    let (low, high) = (port(low)?, port(high)?);
    if low > high {
        return Err(format!("{low} is above {high}"));
    }
    Ok(low..=high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_reads_as_it_is_typed_and_has_no_system_ports() {
        assert_eq!(range("61000-65535"), Ok(61000..=65535));
        for wrong in ["", "61000", "1000-2000", "5000-4000", "5000-70000", "a-b"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
