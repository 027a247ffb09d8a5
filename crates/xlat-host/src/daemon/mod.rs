//! What both daemons need besides their work: signals, log lines, readiness, state files, control
//! socket, metrics, and common flags.

pub mod check;
mod clients;
pub mod control;
pub mod exit;
pub mod explain;
pub mod fast_path;
pub mod file;
pub mod flags;
pub mod health;
pub mod help;
pub mod import;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod privileges;
pub mod recovered;
pub mod reservation;
pub mod saved_file;
pub mod signals;
pub mod state_dir;
pub mod terminal;
pub mod values;
pub mod waiting;
pub mod wall_clock;
