//! From one plan to another, without taking back what both of them want.

use super::{Plan, Step};

/// What makes the host that one plan describes the host that another one describes.
///
/// What is new comes first ([`Applied::bring`](crate::host::Applied::bring)), and only then goes
/// what is old ([`Applied::retire`](crate::host::Applied::retire)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub(in crate::host) come: Vec<Coming>,
    pub(in crate::host) go: Plan,
}

/// A step that only the new plan has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) enum Coming {
    /// Nothing has its place.
    New(Step),
    /// It takes the place of another.
    InPlace { old: Step, new: Step },
}

impl Difference {
    /// True if both plans want the same.
    pub fn is_empty(&self) -> bool {
        self.come.is_empty() && self.go.steps().is_empty()
    }
}

impl Plan {
    /// What is to come and to go where this plan was carried out and `new` is wanted.
    pub fn difference(&self, new: &Self) -> Difference {
        let only_in = |these: &Self, those: &Self| {
            let mut steps = these.steps.clone();
            steps.retain(|step| !those.steps.contains(step));
            steps
        };
        let mut go = only_in(self, new);
        let mut come = Vec::new();
        for new in only_in(new, self) {
            let place = go.iter().position(|old| old.has_same_place(&new));
            come.push(match place.map(|place| go.remove(place)) {
                Some(old) => Coming::InPlace { old, new },
                None => Coming::New(new),
            });
        }
        let go = Plan { steps: go };
        Difference { come, go }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::host::Route;
    use crate::nft::Table;

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
            table: Table::masquerade("xlat_clat", &[address..=address], "eth0"),
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
        assert_eq!(difference.come, [to(5), to(4)].map(Coming::New));
        assert_eq!(difference.go, plan([to(1), to(3)]));
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
            assert_eq!(difference.come, [Coming::InPlace { old, new }]);
            assert_eq!(difference.go, Plan::new());
        }
    }

    #[test]
    fn tables_of_two_families_have_two_places() {
        let six = Step::Table {
            table: Table::guard("xlat_clat", "eth0", "clat"),
            optional: None,
        };
        let difference = plan([table(1)]).difference(&plan([six.clone()]));
        assert_eq!(difference.come, [Coming::New(six)]);
        assert_eq!(difference.go, plan([table(1)]));
    }
}
