//! What every daemon of the suite needs around its work: signals, log lines, readiness, files that
//! survive a restart, and the flags that both binaries share.

pub mod control;
pub mod exit;
pub mod file;
pub mod flags;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod privileges;
pub mod recovered;
pub mod reservation;
pub mod signals;
pub mod state_dir;
