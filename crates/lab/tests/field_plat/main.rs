//! `plat` where real networks and hosts have it: situations from public reports.

mod clients;
mod dns;
mod dns_clients;
mod dns_habits;
mod dns_peers;
mod egress;
mod host;
mod packets;
mod resolv_conf;
mod routers;
mod sessions;
mod shares;
mod starts;
mod syns;

use lab::bind::{DIG, NAMED};
use lab::ip::IP;
use lab::nft::NFT;
use lab::unbound::UNBOUND;

fn main() {
    lab::suite::run_groups(
        &[
            host::TESTS,
            egress::TESTS,
            dns::TESTS,
            dns_clients::TESTS,
            dns_habits::TESTS,
            dns_peers::TESTS,
            resolv_conf::TESTS,
            routers::TESTS,
            sessions::TESTS,
            shares::TESTS,
            starts::TESTS,
            syns::TESTS,
            clients::TESTS,
            packets::TESTS,
        ],
        &[
            (
                "fp_01_what_others_undo_on_the_host_is_restored_and_told",
                IP,
            ),
            (
                "fp_22_many_destinations_leave_room_in_the_neighbour_table",
                IP,
            ),
            (
                "fp_23_a_firewall_that_is_loaded_later_is_named_until_it_accepts",
                NFT,
            ),
            (
                "fp_22_a_flood_of_solicitations_leaves_room_in_the_neighbour_table",
                NFT,
            ),
            ("fp_24_an_uplink_that_comes_later_believes_routers", IP),
            (
                "fp_10_neighbours_are_answered_at_once_and_told_at_the_start",
                IP,
            ),
            ("fp_03_masquerading_follows_the_default_route", IP),
            (
                "oa_08_the_pool_is_the_address_of_the_default_routes_interface",
                IP,
            ),
            ("fp_03_several_egress_interfaces_and_no_other", IP),
            ("fp_03_a_named_egress_that_is_renamed_is_followed", IP),
            (
                "fp_03_what_the_kernel_cannot_masquerade_does_not_leave",
                NFT,
            ),
            ("fp_11_the_private_pool_is_not_reached_from_outside", NFT),
            routers::PROGRAMS[0],
            routers::PROGRAMS[1],
            (dns::WITH_BIND, NAMED),
            (dns::WITH_BIND, DIG),
            (dns_peers::WITH_UNBOUND[0], UNBOUND),
            (dns_peers::WITH_UNBOUND[1], UNBOUND),
            (dns_peers::WITH_UNBOUND[2], UNBOUND),
            (dns_peers::WITH_UNBOUND[3], UNBOUND),
            (dns_peers::WITH_UNBOUND[4], UNBOUND),
            (dns_peers::WITH_BIND[0], NAMED),
            (syns::WITH_IP[0], IP),
            (syns::WITH_IP[1], IP),
            (dns_peers::WITH_BIND[1], NAMED),
        ],
    )
}
