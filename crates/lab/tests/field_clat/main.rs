//! `clat` where real networks and hosts have it: situations from public reports.

mod addresses;
mod guard;
mod hosts;
mod neighbours;
mod packets;
mod resolvers;
mod routes;
mod tools;
mod tun;
mod uplinks;

fn main() {
    lab::suite::run_groups(
        &[
            uplinks::TESTS,
            addresses::TESTS,
            neighbours::TESTS,
            guard::TESTS,
            hosts::TESTS,
            tun::TESTS,
            routes::TESTS,
            resolvers::TESTS,
            packets::TESTS,
        ],
        neighbours::PROGRAMS,
    )
}
