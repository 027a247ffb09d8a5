//! The changes from one plan to another. Steps that both plans have are left alone.

use super::{Plan, Step};

/// The changes that turn the state one plan describes into the state another describes.
///
/// Additions are applied first ([`Applied::bring`](crate::host::Applied::bring)), then removals
/// ([`Applied::retire`](crate::host::Applied::retire)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub(in crate::host) additions: Vec<Addition>,
    pub(in crate::host) removals: Plan,
}

/// A step that only the new plan has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) enum Addition {
    /// No step of the old plan has its place.
    New(Step),
    /// It replaces the step of the old plan that has the same place.
    Replacement { old: Step, new: Step },
}

impl Difference {
    /// True if both plans have the same steps.
    pub fn is_empty(&self) -> bool {
        self.additions.is_empty() && self.removals.steps().is_empty()
    }
}

impl Plan {
    /// The changes to make where this plan is applied and `new` is wanted.
    pub fn difference(&self, new: &Self) -> Difference {
        let only_in = |these: &Self, those: &Self| {
            let mut steps = these.steps.clone();
            steps.retain(|step| !those.steps.contains(step));
            steps
        };
        let mut removals = only_in(self, new);
        let mut additions = Vec::new();
        for new in only_in(new, self) {
            let place = removals.iter().position(|old| old.has_same_place(&new));
            additions.push(match place.map(|place| removals.remove(place)) {
                Some(old) => Addition::Replacement { old, new },
                None => Addition::New(new),
            });
        }
        let removals = Plan { steps: removals };
        Difference {
            additions,
            removals,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::host::Route;
    use crate::nft::{Interface, Table};

    fn default_route(mtu: u32) -> Step {
        let route = Route::new(Ipv4Addr::UNSPECIFIED, 0, "clat");
        Step::Route(route.metric(2048).mtu(mtu))
    }

    fn to(last: u8) -> Step {
        Step::Route(Route::new(Ipv4Addr::new(192, 0, 2, last), 32, "clat"))
    }

    fn table(last: u8) -> Step {
        let address = Ipv4Addr::new(192, 0, 2, last);
        Step::Table {
            table: Table::masquerade(
                "xlat_clat",
                &[address..=address],
                &[Interface::Only("eth0".into())],
            ),
            optional: None,
        }
    }

    fn sysctl(value: &str) -> Step {
        Step::Sysctl {
            key: "net.ipv4.ip_forward".into(),
            value: value.into(),
        }
    }

    fn plan<const N: usize>(steps: [Step; N]) -> Plan {
        Plan {
            steps: steps.into(),
        }
    }

    #[test]
    fn plans_that_are_equal_have_no_difference() {
        let one = plan([table(1), to(1), default_route(1400)]);
        assert!(one.difference(&one).is_empty());
        // An address is claimed once, and not again because something else changes.
        let other = plan([table(1), to(1), to(2), default_route(1400)]);
        assert!(!one.difference(&other).is_empty());
    }

    #[test]
    fn only_what_is_new_comes_in_order_and_only_what_is_old_goes() {
        let difference = plan([to(1), to(2), to(3)]).difference(&plan([to(2), to(5), to(4)]));
        assert_eq!(difference.additions, [to(5), to(4)].map(Addition::New));
        assert_eq!(difference.removals, plan([to(1), to(3)]));
    }

    #[test]
    fn what_has_the_place_of_another_comes_in_its_place_and_nothing_goes() {
        let steps = [
            (table(1), table(2)),
            (sysctl("1"), sysctl("2")),
            (default_route(1400), default_route(1300)),
        ];
        for (old, new) in steps {
            let difference = plan([to(1), old.clone()]).difference(&plan([to(1), new.clone()]));
            assert_eq!(difference.additions, [Addition::Replacement { old, new }]);
            assert_eq!(difference.removals, Plan::new());
        }
    }

    #[test]
    fn tables_of_two_families_have_two_places() {
        let six = Step::Table {
            table: Table::guard("xlat_clat", "eth0", "clat"),
            optional: None,
        };
        let difference = plan([table(1)]).difference(&plan([six.clone()]));
        assert_eq!(difference.additions, [Addition::New(six)]);
        assert_eq!(difference.removals, plan([table(1)]));
    }
}
