//! What the user asked for.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Whether to translate inside the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// If the kernel and the privileges allow.
    #[default]
    Auto,
    /// Never.
    Off,
    /// A start fails where it is not possible.
    Required,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Required => "required",
        })
    }
}

/// Neither `auto` nor `off` nor `required`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it is `auto`, `off` or `required`")]
pub struct ModeError;

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            "required" => Ok(Self::Required),
            _ => Err(ModeError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_read() {
        for mode in [Mode::Auto, Mode::Off, Mode::Required] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("on".parse::<Mode>(), Err(ModeError));
    }
}
