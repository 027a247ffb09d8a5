//! Processors for which there are no lists of system calls.

use crate::{Kind, Mode};

const REASON: &str = "no filters are made for this processor";

pub(crate) fn confine(_: Kind, _: Mode) -> Result<(), String> {
    Err(REASON.into())
}

pub(crate) fn confine_control(_: Mode) -> Result<(), String> {
    Err(REASON.into())
}
