//! Decides what the daemon does next: look at the host, bring it into a state, or wait.
//!
//! Every message of the network and of the kernel is only a reason to look again, and some come
//! thousands of times a second. However many come, and whatever follows from them, the host is
//! looked at and changed at a limited rate, so that no sequence of events makes a loop.

use std::net::Ipv6Addr;
use std::time::Duration;

use xlat_core::Instant;

use super::backoff::Backoff;
use super::lifecycle::Lifecycle;
use super::pace::Pace;
use super::state::State;
use super::view::{Prefix, View};

/// Pause after the host could not be looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Time after which addresses that other hosts had are tried again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look at the host, then call [`Reconciler::on_view`] or [`Reconciler::on_look_failed`].
    Look,
    /// Bring the host into this state, or repair it there, then call [`Reconciler::on_reached`],
    /// [`Reconciler::on_failed`] or [`Reconciler::on_duplicate`].
    Apply(State),
    /// Wait for an event, until this time at the latest.
    Wait(Option<Instant>),
}

/// The lifecycle of a CLAT with the times of its actions.
#[derive(Clone, Debug)]
pub struct Reconciler {
    lifecycle: Lifecycle,
    backoff: Backoff,
    pace: Pace,
    view: View,
    prefix: Prefix,
    /// When to look at the host.
    look_at: Option<Instant>,
    /// The host was looked at since the last state was applied, so that repairs may be due.
    has_looked: bool,
    /// The state that the host is in; `None` after a failure.
    reached: Option<State>,
    forgive_at: Option<Instant>,
}

impl Reconciler {
    /// The first action is to look at the host.
    pub fn new(lifecycle: Lifecycle) -> Self {
        Self {
            lifecycle,
            backoff: Backoff::new(),
            pace: Pace::new(),
            view: View::default(),
            prefix: Prefix::Unknown,
            look_at: Some(Instant::ZERO),
            has_looked: false,
            reached: None,
            forgive_at: None,
        }
    }

    /// What to do next.
    pub fn next(&mut self, now: Instant) -> Action {
        if self.forgive_at.is_some_and(|at| at <= now) {
            self.forgive_at = None;
            self.lifecycle.forgive();
            self.look_at = Some(now);
        }
        if self.look_at.is_some_and(|at| at <= now) {
            return match self.pace.take(now) {
                Ok(()) => {
                    self.look_at = None;
                    Action::Look
                }
                Err(at) => Action::Wait(Some(at)),
            };
        }
        let state = self.lifecycle.decide(&self.view, self.prefix);
        let is_due = self.has_looked || self.reached.as_ref() != Some(&state);
        if is_due && !self.backoff.holds_back(&state, now) {
            return match self.pace.take(now) {
                Ok(()) => {
                    self.has_looked = false;
                    Action::Apply(state)
                }
                Err(at) => Action::Wait(Some(at)),
            };
        }
        let again = self.backoff.next_timeout().filter(|_| is_due);
        let times = [self.look_at, self.forgive_at, again];
        Action::Wait(times.into_iter().flatten().min())
    }

    /// Records that the host or the network may have changed.
    pub fn changed(&mut self, now: Instant) {
        self.look_at = Some(now);
    }

    /// Records what is known of the NAT64 prefix. Another one has another route.
    pub fn on_prefix(&mut self, prefix: Prefix, now: Instant) {
        if self.prefix != prefix {
            self.prefix = prefix;
            self.changed(now);
        }
    }

    /// Records what was seen of the host.
    pub fn on_view(&mut self, view: View) {
        self.view = view;
        self.has_looked = true;
    }

    /// Records that the host could not be looked at.
    pub fn on_look_failed(&mut self, now: Instant) {
        self.look_at = Some(now + LOOK_AGAIN);
    }

    /// Records that the host is in this state.
    pub fn on_reached(&mut self, state: State, now: Instant) {
        self.backoff.worked();
        let is_stuck = matches!(state, State::NoFreeAddress(_));
        let forgive_at = self.forgive_at.unwrap_or(now + FORGIVEN_AFTER);
        self.forgive_at = is_stuck.then_some(forgive_at);
        self.reached = Some(state);
    }

    /// Records that the host could not be brought into this state. Returns the pause before the
    /// next try.
    pub fn on_failed(&mut self, state: &State, now: Instant) -> Duration {
        self.reached = None;
        let pause = self.backoff.failed(state, now);
        self.look_at = Some(now + pause);
        pause
    }

    /// Records that another host has this address. The next state avoids it.
    pub fn on_duplicate(&mut self, address: Ipv6Addr, now: Instant) {
        self.reached = None;
        self.lifecycle.conflict(address);
        self.changed(now);
    }

    /// Tries at once what has failed, and the addresses that other hosts had.
    pub fn restart(&mut self, now: Instant) {
        self.backoff.worked();
        self.lifecycle.forgive();
        self.changed(now);
    }

    /// What was last seen of the host.
    pub fn view(&self) -> &View {
        &self.view
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::address::Candidate;
    use super::super::lifecycle::Config;
    use super::super::pace::{BURST, PAUSE};
    use super::super::view::{Lead, Uplink};
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_secs(1000) + Duration::from_millis(millis)
    }

    fn lifecycle() -> Lifecycle {
        Lifecycle::new(Config {
            always: false,
            address: None,
            secret: [1, 2],
            neutral_to: None,
        })
    }

    fn view(choice: u64) -> View {
        let links = [None, Some((2, "eth0")), Some((3, "tun0"))];
        let uplink = links[(choice % 3) as usize].map(|(index, name)| Uplink {
            index,
            name: name.into(),
            mtu: [1280, 1500][(choice / 3 % 2) as usize],
            addresses: vec![Candidate {
                address: [
                    "2001:db8:1::5".parse().unwrap(),
                    "2001:db8:2::5".parse().unwrap(),
                    "fe80::5".parse().unwrap(),
                ][(choice / 6 % 3) as usize],
                len: [64, 128][(choice / 18 % 2) as usize],
                deprecated: (choice / 36).is_multiple_of(4),
                temporary: false,
                tentative: (choice / 144).is_multiple_of(4),
            }],
            lead: [
                Lead::Ordinary,
                Lead::Nowhere,
                Lead::Own("fe80::1".parse().ok()),
                Lead::Own("fe80::2".parse().ok()),
            ][(choice / 600 % 4) as usize],
            elsewhere: None,
        });
        View {
            uplink,
            native_ipv4: (choice / 2400).is_multiple_of(5),
            ..View::default()
        }
    }

    fn prefix(choice: u64) -> Prefix {
        let known = |text: &str| Prefix::Known(text.parse().unwrap());
        match choice % 4 {
            0 => Prefix::Unknown,
            1 => Prefix::Asking,
            2 => known("64:ff9b::/96"),
            _ => known("2001:db8:64::/96"),
        }
    }

    /// Numbers without a pattern (splitmix64).
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    /// Does what the reconciler says until it waits. Each outcome is as bad as can be.
    fn settle(reconciler: &mut Reconciler, numbers: &mut Numbers, now: Instant) -> (u32, Instant) {
        let mut count = 0;
        loop {
            match reconciler.next(now) {
                Action::Look => match numbers.next() % 8 {
                    0 => reconciler.on_look_failed(now),
                    _ => reconciler.on_view(view(numbers.next())),
                },
                Action::Apply(state) => match numbers.next() % 4 {
                    0 => reconciler.on_duplicate("2001:db8:1::5".parse().unwrap(), now),
                    1 => drop(reconciler.on_failed(&state, now)),
                    2 => {
                        // What was changed comes back as a message of the kernel.
                        reconciler.on_reached(state, now);
                        reconciler.changed(now);
                    }
                    _ => reconciler.on_reached(state, now),
                },
                Action::Wait(until) => {
                    assert!(
                        until.is_none_or(|until| until > now),
                        "{until:?} at {now:?}"
                    );
                    return (count, until.unwrap_or(now + Duration::from_secs(3600)));
                }
            }
            count += 1;
            assert!(count <= BURST, "a loop without a pause");
        }
    }

    /// No more than this number of actions in any second, whatever the events.
    const PER_SECOND: u32 = BURST + 1 + (1000 / PAUSE.as_millis()) as u32;

    #[test]
    fn fc_01_whatever_happens_there_are_few_actions_a_second() {
        for seed in 0..40 {
            let mut numbers = Numbers(seed);
            let mut reconciler = Reconciler::new(lifecycle());
            let mut now = at(0);
            let mut last_second: VecDeque<(Instant, u32)> = VecDeque::new();
            for _ in 0..2000 {
                match numbers.next() % 6 {
                    0 => reconciler.on_prefix(prefix(numbers.next()), now),
                    1 => reconciler.restart(now),
                    2..5 => reconciler.changed(now),
                    _ => {}
                }
                let (count, until) = settle(&mut reconciler, &mut numbers, now);
                last_second.push_back((now, count));
                last_second.retain(|(at, _)| *at + Duration::from_secs(1) > now);
                let sum: u32 = last_second.iter().map(|(_, count)| count).sum();
                assert!(sum <= PER_SECOND, "{sum} actions a second, seed {seed}");
                let event = now + Duration::from_micros(numbers.next() % 20_000);
                now = event.min(until.max(now));
            }
        }
    }

    #[test]
    fn fc_01_left_alone_it_waits_for_events_only() {
        let mut reconciler = Reconciler::new(lifecycle());
        reconciler.on_prefix(Prefix::Known("64:ff9b::/96".parse().unwrap()), at(0));
        assert_eq!(reconciler.next(at(0)), Action::Look);
        reconciler.on_view(view(1 + 3 + 36 + 144 + 2400));
        let Action::Apply(State::Running(clat)) = reconciler.next(at(0)) else {
            panic!("{:?}", reconciler.view());
        };
        reconciler.on_reached(State::Running(clat.clone()), at(0));
        assert_eq!(reconciler.next(at(0)), Action::Wait(None));
        // Messages that change nothing lead to a look and a repair, and no more.
        reconciler.changed(at(5));
        assert_eq!(reconciler.next(at(5)), Action::Look);
        reconciler.on_view(reconciler.view().clone());
        let again = Action::Apply(State::Running(clat.clone()));
        assert_eq!(reconciler.next(at(5)), again);
        reconciler.on_reached(State::Running(clat.clone()), at(5));
        assert_eq!(reconciler.next(at(5)), Action::Wait(None));
        // What the network tells again changes nothing.
        reconciler.on_prefix(Prefix::Known("64:ff9b::/96".parse().unwrap()), at(6));
        assert_eq!(reconciler.next(at(6)), Action::Wait(None));
    }

    #[test]
    fn what_fails_is_tried_again_after_a_look_and_a_pause() {
        let mut reconciler = Reconciler::new(lifecycle());
        assert_eq!(reconciler.next(at(0)), Action::Look);
        reconciler.on_view(View::default());
        let Action::Apply(state) = reconciler.next(at(0)) else {
            panic!("nothing to do");
        };
        let pause = reconciler.on_failed(&state, at(0));
        assert_eq!(pause, Duration::from_secs(1));
        assert_eq!(reconciler.next(at(0)), Action::Wait(Some(at(1000))));
        assert_eq!(reconciler.next(at(1000)), Action::Look);
        reconciler.on_view(View::default());
        assert_eq!(reconciler.next(at(1000)), Action::Apply(state));
    }
}
