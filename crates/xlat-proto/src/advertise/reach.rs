//! Where a router leads, damped: a loss counts once it has lasted.
//!
//! Losing IPv4 takes the NAT64 from hosts, not their router: native IPv6 goes on. And a route that is
//! replaced by another one is missing for a moment, which hosts need not learn of.

use std::time::Duration;

use xlat_core::Instant;

/// The families whose Internet a router reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// IPv4, to which the NAT64 translates.
    pub ipv4: bool,
    /// IPv6, by a default route of this host.
    pub ipv6: bool,
}

impl Reach {
    /// True if hosts may use this router as a default router.
    pub fn is_router(self) -> bool {
        self.ipv4 || self.ipv6
    }
}

/// The reach that hosts are told.
#[derive(Debug)]
pub struct DampedReach {
    announced: Reach,
    /// Since when a family that is announced is not reached: IPv4, IPv6.
    lost: [Option<Instant>; 2],
}

impl DampedReach {
    /// How long a loss must last until hosts are told.
    pub const HOLD: Duration = Duration::from_secs(5);

    /// Starts with what is reached; nothing is promised that is missing then.
    pub fn new(reached: Reach) -> Self {
        Self {
            announced: reached,
            lost: [None; 2],
        }
    }

    /// The reach to announce.
    pub fn announced(&self) -> Reach {
        self.announced
    }

    /// Takes what is reached at `now`. Returns the new reach if hosts have to be told: of a gain at
    /// once, of a loss after [`Self::HOLD`].
    pub fn update(&mut self, reached: Reach, now: Instant) -> Option<Reach> {
        let before = self.announced;
        let [ipv4, ipv6] = &mut self.lost;
        self.announced = Reach {
            ipv4: damped(before.ipv4, reached.ipv4, ipv4, now),
            ipv6: damped(before.ipv6, reached.ipv6, ipv6, now),
        };
        (self.announced != before).then_some(self.announced)
    }

    /// When [`Self::update`] is due again even if nothing changes.
    pub fn next_timeout(&self) -> Option<Instant> {
        let lost = self.lost.iter().flatten().min();
        lost.map(|since| *since + Self::HOLD)
    }
}

fn damped(announced: bool, reached: bool, lost: &mut Option<Instant>, now: Instant) -> bool {
    if reached || !announced {
        *lost = None;
        return reached;
    }
    let since = *lost.get_or_insert(now);
    let holds = now < since + DampedReach::HOLD;
    if !holds {
        *lost = None;
    }
    holds
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Reach = Reach {
        ipv4: true,
        ipv6: true,
    };
    const ONLY_IPV6: Reach = Reach {
        ipv4: false,
        ipv6: true,
    };

    fn at(millis: u64) -> Instant {
        Instant::from_millis(1_000_000 + millis)
    }

    #[test]
    fn fp_02_a_flap_is_not_announced_and_a_loss_is_after_five_seconds() {
        let mut damped = DampedReach::new(BOTH);
        assert_eq!(damped.update(ONLY_IPV6, at(0)), None);
        assert_eq!(damped.next_timeout(), Some(at(5000)));
        assert_eq!(damped.update(BOTH, at(300)), None);
        assert_eq!(damped.next_timeout(), None);
        // The time of an earlier flap does not count.
        assert_eq!(damped.update(ONLY_IPV6, at(4000)), None);
        assert_eq!(damped.update(ONLY_IPV6, at(8999)), None);
        assert_eq!(damped.update(ONLY_IPV6, at(9000)), Some(ONLY_IPV6));
        assert_eq!(damped.next_timeout(), None);
        assert_eq!(damped.update(ONLY_IPV6, at(20_000)), None);
        // What comes back is announced at once.
        assert_eq!(damped.update(BOTH, at(20_001)), Some(BOTH));
    }

    #[test]
    fn fp_02_the_families_are_lost_by_themselves() {
        let mut damped = DampedReach::new(BOTH);
        damped.update(ONLY_IPV6, at(0));
        damped.update(Reach::default(), at(2000));
        assert_eq!(damped.update(Reach::default(), at(5000)), Some(ONLY_IPV6));
        assert!(damped.announced().is_router());
        assert_eq!(damped.next_timeout(), Some(at(7000)));
        let neither = damped.update(Reach::default(), at(7000));
        assert_eq!(neither, Some(Reach::default()));
        assert!(!damped.announced().is_router());
    }

    #[test]
    fn ra_22_what_is_missing_at_the_start_is_not_promised() {
        let mut damped = DampedReach::new(Reach::default());
        assert_eq!(damped.announced(), Reach::default());
        assert_eq!(damped.update(Reach::default(), at(0)), None);
        assert_eq!(damped.next_timeout(), None);
    }
}
