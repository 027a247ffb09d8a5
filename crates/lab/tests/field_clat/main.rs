//! `clat` where real networks and hosts have it: situations from public reports.

mod hosts;
mod neighbours;
mod uplinks;

fn main() {
    lab::suite::run_groups(&[uplinks::TESTS, neighbours::TESTS, hosts::TESTS], &[])
}
