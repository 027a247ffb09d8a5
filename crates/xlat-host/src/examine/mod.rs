//! What `clat doctor` and `plat doctor` look at on any host: measured here, judged with the checks of
//! [`doctor`]. Nothing is changed.

mod asked;
mod files;
mod kernel;
mod print;
mod way;

pub use asked::{Asked, ask_status, fast_path, looked_at};
pub use files::{clock, clock_doubt, state_files};
pub use kernel::{conntrack, forward_chains, privileges, sysctls, tun};
pub use print::print;
pub use way::{Echo, Target, Way, ping, sizes, tcp};
