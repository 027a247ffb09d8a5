//! The interfaces that the egress names, by the names that they have now.
//!
//! An interface keeps its number when it is renamed, by udev at a late boot stage or by an
//! administrator: it is followed by that. Once another interface has the name that was given, that
//! one is meant.

use xlat_host::host::{Link, Renamed};

use super::mode::Egress;

/// What the names of an egress are now.
#[derive(Clone, Debug, Default)]
pub struct EgressNames {
    known: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    given: String,
    index: u32,
    present: String,
}

impl EgressNames {
    /// Looks at the interfaces of the host. Returns those that have other names than before.
    pub fn follow(&mut self, egress: &Egress, links: &[Link]) -> Vec<Renamed> {
        let mut renamed = Vec::new();
        self.known
            .retain(|known| egress.interfaces().contains(&known.given));
        for given in egress.interfaces() {
            let place = self.known.iter().position(|known| known.given == *given);
            let index = place.map(|place| self.known[place].index);
            let named = links.iter().find(|link| link.is_called(given));
            let numbered = || links.iter().find(|link| Some(link.index) == index);
            let Some(link) = named.or_else(numbered) else {
                continue;
            };
            let now = Known {
                given: given.clone(),
                index: link.index,
                present: link.name.clone(),
            };
            let Some(place) = place else {
                self.known.push(now);
                continue;
            };
            let before = std::mem::replace(&mut self.known[place], now).present;
            if before != link.name {
                renamed.push(Renamed {
                    old: before,
                    new: link.name.clone(),
                });
            }
        }
        renamed
    }

    /// The egress with the present names.
    pub fn present(&self, egress: &Egress) -> Egress {
        let present = |given: &String| {
            let known = self.known.iter().find(|known| known.given == *given);
            known.map_or_else(|| given.clone(), |known| known.present.clone())
        };
        match egress {
            Egress::Route(prefix) => Egress::Route(*prefix),
            Egress::ProxyArp(name) => Egress::ProxyArp(present(name)),
            Egress::Masquerade(names) => Egress::Masquerade(names.iter().map(present).collect()),
            Egress::Own(own) => {
                let mut own = own.clone();
                own.interfaces = own.interfaces.iter().map(present).collect();
                Egress::Own(own)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mtu: 1500,
            up: true,
            running: true,
            loopback: false,
            mac: None,
            carrier_changes: 0,
            tunnel: false,
            link_local: true,
            group: 0,
            other_names: Vec::new(),
        }
    }

    #[test]
    fn fp_03_an_interface_is_followed_by_its_number_until_another_has_its_name() {
        let given: Egress = "masquerade:wan0,wan1".parse().unwrap();
        let mut names = EgressNames::default();
        let now = |names: &EgressNames| names.present(&given).to_string();
        assert_eq!(now(&names), "masquerade:wan0,wan1");
        assert!(names.follow(&given, &[link(2, "wan0")]).is_empty());
        assert!(names.follow(&given, &[link(2, "wan0")]).is_empty());
        let renamed = names.follow(&given, &[link(2, "uplink")]);
        assert_eq!((&*renamed[0].old, &*renamed[0].new), ("wan0", "uplink"));
        assert_eq!(now(&names), "masquerade:uplink,wan1");
        // It is gone, and comes back as another one.
        assert!(names.follow(&given, &[]).is_empty());
        assert_eq!(now(&names), "masquerade:uplink,wan1");
        let links = [link(2, "uplink"), link(7, "wan0"), link(8, "wan1")];
        assert_eq!(names.follow(&given, &links).len(), 1);
        assert_eq!(now(&names), "masquerade:wan0,wan1");
    }
}
