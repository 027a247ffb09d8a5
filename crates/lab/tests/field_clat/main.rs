//! `clat` where real networks and hosts have it: situations from public reports.

mod addresses;
mod floods;
mod guard;
mod hosts;
mod links;
mod neighbours;
mod packets;
mod resolvers;
mod routes;
mod tun;
mod uplinks;

use lab::ip::IP;
use lab::nft::NFT;

fn main() {
    let programs = [
        PROGRAMS,
        guard::PROGRAMS,
        hosts::PROGRAMS,
        tun::PROGRAMS,
        routes::PROGRAMS,
    ];
    let programs = programs.concat();
    lab::suite::run_groups(
        &[
            uplinks::TESTS,
            floods::TESTS,
            addresses::TESTS,
            neighbours::TESTS,
            links::TESTS,
            guard::TESTS,
            hosts::TESTS,
            tun::TESTS,
            routes::TESTS,
            resolvers::TESTS,
            packets::TESTS,
        ],
        programs.leak(),
    )
}

/// Tests that need a program of the system.
const PROGRAMS: &[(&str, &str)] = &[
    (
        "fc_04_a_new_link_layer_address_is_announced_and_answered_with",
        IP,
    ),
    ("fc_04_a_new_link_layer_address_is_no_other_network", IP),
    ("fc_05_unicast_probes_of_a_router_are_answered", IP),
    ("fc_40_a_bridge_is_the_uplink_and_gets_another_port", IP),
    ("fc_41_a_macvlan_is_the_uplink", IP),
    ("fc_42_a_switch_that_snoops_mld_passes_solicitations", IP),
    (
        "fc_43_a_host_that_wants_the_address_later_does_not_get_it",
        IP,
    ),
    ("fc_44_routers_are_answered_where_no_prefix_is_on_link", IP),
    ("fc_46_a_firewalls_reverse_path_filter_passes_the_clat", NFT),
];
