//! `clat` where real networks and hosts have it: situations from public reports.

mod addresses;
mod guard;
mod hosts;
mod neighbours;
mod tools;
mod uplinks;

fn main() {
    lab::suite::run_groups(
        &[
            uplinks::TESTS,
            addresses::TESTS,
            neighbours::TESTS,
            guard::TESTS,
            hosts::TESTS,
        ],
        neighbours::PROGRAMS,
    )
}
