//! `plat` where real networks and hosts have it: situations from public reports.

mod dns;
mod host;
mod sessions;

fn main() {
    lab::suite::run_groups(&[host::TESTS, dns::TESTS, sessions::TESTS], &[])
}
