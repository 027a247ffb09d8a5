//! The fast path of a daemon: loaded while it has all of its capabilities, attached to its TUN, watched,
//! and shown in its status.
//!
//! What is not possible is said in one line and kept for the status; the workers then translate all
//! packets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fast_path::{FastPath, FlowTable, Mode, Options, PASSED_UP, Rules, StaticMapping, Unavailable};
use serde::Serialize;
use tracing::{info, warn};
use xlat_core::Policy;
use xlat_tun::counters::{Metric, Snapshot, Traffic};

use super::metrics::Page;
use super::state_dir::random;

/// How the workers and the program share the IPv4 identifications: each has a lane of its own.
#[derive(Clone, Copy, Debug)]
pub struct Numbering {
    /// Keys the numbers; random.
    pub seed: [u64; 2],
    /// Lanes in all: one for each worker, and one for the program where it is loaded.
    pub lanes: u16,
}

/// A daemon's program in the kernel, or why there is none.
#[derive(Debug)]
pub struct KernelPath {
    shared: Arc<Mutex<Shared>>,
    mode: Mode,
    numbering: Numbering,
}

#[derive(Debug)]
struct Shared {
    program: Option<FastPath>,
    /// The interface that it was attached to.
    interface: Option<String>,
    /// Why nothing is carried in the kernel.
    why_not: Option<WhyNot>,
    /// A program captures on the TUN.
    is_paused: bool,
    repairs: Attachments,
}

/// Why nothing is carried in the kernel.
#[derive(Clone, Debug)]
struct WhyNot {
    /// For programs.
    name: &'static str,
    /// For people.
    text: String,
}

impl WhyNot {
    fn new(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            text: text.into(),
        }
    }

    fn not_attached() -> Self {
        Self::new("not-attached", "not attached")
    }
}

impl From<Unavailable> for WhyNot {
    fn from(error: Unavailable) -> Self {
        Self::new(error.name(), error.to_string())
    }
}

impl KernelPath {
    /// Loads the program for so many workers, with room for `flows` flows; with less than two there are
    /// none. Must be called before capabilities are dropped.
    ///
    /// # Errors
    /// If the mode requires a program and there is none, or the kernel has no random numbers.
    pub fn load(mode: Mode, workers: usize, flows: u32) -> Result<Self, Unavailable> {
        let workers = u16::try_from(workers).unwrap_or(u16::MAX - 1);
        let seed = random().map_err(Unavailable::Tables)?;
        let options = Options {
            flows: flows.max(1),
            seed,
            lane: workers,
            lanes: workers + 1,
        };
        let loaded = match mode {
            Mode::Off => None,
            Mode::Auto | Mode::Required => Some(FastPath::load(&options)),
        };
        let (program, why_not) = match loaded {
            None => (None, Some(WhyNot::new("off", "--fast-path off"))),
            Some(Ok(program)) => {
                let room = program.flows().capacity();
                if room < options.flows {
                    warn!(
                        "the fast path has memory for {room} sessions and not for {}: the workers \
                         translate those that have no place",
                        options.flows
                    );
                }
                (Some(program), Some(WhyNot::not_attached()))
            }
            Some(Err(error)) if mode == Mode::Required => return Err(error),
            Some(Err(error)) => {
                info!("no fast path in the kernel: {error}; the workers translate all packets");
                (None, Some(error.into()))
            }
        };
        let lanes = workers + u16::from(program.is_some());
        Ok(Self {
            shared: Arc::new(Mutex::new(Shared {
                program,
                interface: None,
                why_not,
                is_paused: false,
                repairs: Attachments::default(),
            })),
            mode,
            numbering: Numbering { seed, lanes },
        })
    }

    /// Whether the kernel takes the program. Nothing stays loaded.
    ///
    /// # Errors
    /// Why it does not.
    pub fn try_out() -> Result<(), Unavailable> {
        let options = Options {
            flows: 1,
            ..Options::new([0; 2], 1)
        };
        FastPath::load(&options).map(drop)
    }

    /// Tries whether the kernel takes the program, and says so, for a run that changes nothing.
    ///
    /// # Errors
    /// If the mode requires a program and there is none.
    pub fn rehearse(mode: Mode) -> Result<Self, Unavailable> {
        let tried = Self::load(mode, 1, 0)?;
        if lock(&tried.shared).program.is_some() {
            info!("the fast path in the kernel is possible here");
        }
        Self::load(Mode::Off, 1, 0)
    }

    /// How identifications are shared with the workers.
    pub fn numbering(&self) -> Numbering {
        self.numbering
    }

    /// Attaches the program to the TUN; true if it carries packets from now on.
    ///
    /// # Errors
    /// If the mode requires it and the kernel refuses.
    pub fn attach(&self, interface: &str) -> Result<bool, Unavailable> {
        let mut shared = lock(&self.shared);
        let Some(program) = &mut shared.program else {
            return Ok(false);
        };
        match program.attach(interface) {
            Ok(()) => {
                shared.interface = Some(interface.to_owned());
                shared.repairs = Attachments::default();
                shared.resume();
                Ok(true)
            }
            Err(error) if self.mode == Mode::Required => Err(error),
            Err(error) => {
                warn!("no fast path in the kernel: {error}; the workers translate all packets");
                shared.interface = None;
                shared.why_not = Some(error.into());
                Ok(false)
            }
        }
    }

    /// Goes by another policy and another constant mapping from now on. Without one, packets are left
    /// to flows and workers.
    pub fn set_rules(&self, policy: &Policy, mapping: Option<&StaticMapping>) {
        let mut shared = lock(&self.shared);
        let Some(program) = &mut shared.program else {
            return;
        };
        if let Err(error) = program.configure(&Rules::from(policy), mapping) {
            info!("the fast path does not carry the static maps: {error}");
        }
    }

    /// The table of flows, where the program is attached.
    pub fn flows(&self) -> Option<FlowTable> {
        let shared = lock(&self.shared);
        shared.interface.as_ref()?;
        if shared.repairs.next.is_some() {
            return None;
        }
        shared.program.as_ref().map(FastPath::flows)
    }

    /// Looks whether the program is still attached. One that another program or an administrator has
    /// detached is attached again; if it does not stay, not at once. True if flows can be carried now
    /// and could not before, or the reverse.
    pub fn look(&self, now: Instant) -> bool {
        let mut shared = lock(&self.shared);
        let Some(interface) = shared.interface.clone() else {
            return false;
        };
        let could = shared.repairs.next.is_none();
        shared.repair(&interface, now);
        shared.make_way_for_captures();
        could != shared.repairs.next.is_none()
    }

    /// Takes the program off the TUN, which is about to go.
    pub fn detach(&self) {
        let mut shared = lock(&self.shared);
        if let Some(program) = &mut shared.program {
            program.detach();
        }
        if shared.interface.take().is_some() {
            shared.why_not = Some(WhyNot::not_attached());
        }
    }

    /// The source of the status.
    pub fn status_source(&self) -> KernelPathSource {
        KernelPathSource(Arc::clone(&self.shared))
    }
}

impl Shared {
    /// It carries packets from now on.
    fn resume(&mut self) {
        self.why_not = None;
        self.is_paused = false;
        self.make_way_for_captures();
    }

    /// Attaches a program again that others have detached.
    fn repair(&mut self, interface: &str, now: Instant) {
        let Some(program) = &mut self.program else {
            return;
        };
        // Whoever makes another TUN attaches it there.
        if program.is_attached() || !program.has_interface(interface) {
            return;
        }
        let was_known = self.repairs.next.is_some();
        let detached = format!("the fast path was detached from {interface} by another program");
        match self.repairs.found_detached(now) {
            Repair::Wait if was_known => {}
            Repair::Wait => {
                let pause = self.repairs.pause.as_secs();
                warn!(
                    "{detached} again; the workers translate all packets, next attempt in \
                     {pause} s (--fast-path off: none)"
                );
                self.why_not = Some(WhyNot::new("detached", "detached by another program"));
            }
            Repair::Attach => match program.attach(interface) {
                Ok(()) if was_known => {
                    info!("the fast path is attached to {interface} again");
                    self.resume();
                }
                Ok(()) => {
                    warn!("{detached}, and is attached again");
                    self.resume();
                }
                Err(error) => {
                    self.repairs.failed(now);
                    let pause = self.repairs.pause.as_secs();
                    warn!(
                        "{detached}: {error}; the workers translate all packets, next attempt in \
                         {pause} s"
                    );
                    self.why_not = Some(error.into());
                }
            },
        }
    }

    /// Lets the workers translate all packets while a program captures on the TUN, which would see one
    /// side of them otherwise.
    fn make_way_for_captures(&mut self) {
        let (Some(program), Some(interface)) = (&mut self.program, &self.interface) else {
            return;
        };
        let is_captured = program.is_captured();
        if is_captured == self.is_paused {
            return;
        }
        if let Err(error) = program.pause(is_captured) {
            warn!("the fast path cannot be paused: {error}");
            return;
        }
        self.is_paused = is_captured;
        let text = format!("a program captures packets on {interface}");
        self.why_not = is_captured.then(|| WhyNot::new("captured", text));
        match is_captured {
            true => info!(
                "a program captures packets on {interface}: the workers translate all packets \
                 until it ends, so that it sees them"
            ),
            false => info!("no program captures packets on {interface} any more: fast path on"),
        }
    }
}

/// When a program that others detach is attached again: at once, and with longer and longer pauses if it
/// does not stay.
#[derive(Clone, Copy, Debug, Default)]
struct Attachments {
    /// When it was last attached again.
    last: Option<Instant>,
    /// The time of the present pause, or of the one before.
    pause: Duration,
    /// When it will be, while it is not attached.
    next: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    Attach,
    Wait,
}

impl Attachments {
    fn found_detached(&mut self, now: Instant) -> Repair {
        let stayed = self.last.is_none_or(|last| now >= last + STAYS);
        match self.next {
            Some(next) if now < next => return Repair::Wait,
            None if !stayed => {
                self.failed(now);
                return Repair::Wait;
            }
            None => self.pause = Duration::ZERO,
            Some(_) => {}
        }
        self.next = None;
        self.last = Some(now);
        Repair::Attach
    }

    fn failed(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.next = Some(now + self.pause);
    }
}

/// A program that is there for so long is there to stay.
const STAYS: Duration = Duration::from_secs(60);
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(640);

/// Reads the program's counters for the control socket and the metrics page.
#[derive(Clone, Debug)]
pub struct KernelPathSource(Arc<Mutex<Shared>>);

impl KernelPathSource {
    /// The status now.
    pub fn status(&self) -> KernelPathStatus {
        let shared = lock(&self.0);
        let counters = shared.program.as_ref().map(FastPath::counters);
        let counters = counters.and_then(Result::ok).unwrap_or_default();
        let traffic = |traffic: fast_path::Traffic| Traffic {
            packets: traffic.packets,
            bytes: traffic.bytes,
        };
        let passed_up = PASSED_UP.into_iter().map(|reason| PassedUp {
            reason: reason.to_string(),
            packets: counters.passed_up(reason).packets,
        });
        let flows = shared.program.as_ref().map(FastPath::flows);
        KernelPathStatus {
            state: shared.why_not.as_ref().map_or("on", |why| why.name),
            why_not: shared.why_not.as_ref().map(|why| why.text.clone()),
            room: flows.as_ref().map_or(0, FlowTable::capacity),
            refused: flows.as_ref().map_or(0, FlowTable::refused),
            v6_to_v4: traffic(counters.v6_to_v4),
            v4_to_v6: traffic(counters.v4_to_v6),
            passed_up: passed_up.collect(),
        }
    }
}

/// What the fast path carried.
#[derive(Clone, Debug, Serialize)]
pub struct KernelPathStatus {
    /// `on`, or the name of the reason why it carries nothing now.
    state: &'static str,
    /// That reason for people; absent while it carries packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
    /// Most sessions that it carries.
    room: u32,
    /// Sessions, or directions of them, for which there was no room.
    refused: u64,
    v6_to_v4: Traffic,
    v4_to_v6: Traffic,
    passed_up: Vec<PassedUp>,
}

/// Packets that went up to the workers for one reason.
#[derive(Clone, Debug, Serialize)]
struct PassedUp {
    reason: String,
    packets: u64,
}

impl KernelPathStatus {
    /// Adds what was carried in the kernel to the workers' counters: a packet that was read from the TUN
    /// and one that was written.
    pub fn add_to(&self, packets: &mut Snapshot) {
        let shorter = |traffic: Traffic| Traffic {
            bytes: traffic
                .bytes
                .saturating_sub(HEADER_DIFFERENCE * traffic.packets),
            ..traffic
        };
        let longer = |traffic: Traffic| Traffic {
            bytes: traffic.bytes + HEADER_DIFFERENCE * traffic.packets,
            ..traffic
        };
        packets.ipv6_in += self.v6_to_v4;
        packets.ipv4_out += shorter(self.v6_to_v4);
        packets.ipv4_in += self.v4_to_v6;
        packets.ipv6_out += longer(self.v4_to_v6);
    }

    /// Adds the metrics for Prometheus.
    pub fn write_page(&self, page: &mut Page) {
        let directions = |of: fn(&Traffic) -> u64| {
            [("v6-to-v4", &self.v6_to_v4), ("v4-to-v6", &self.v4_to_v6)]
                .map(|(name, traffic)| (format!("direction=\"{name}\""), of(traffic)))
        };
        let passed_up = self.passed_up.iter();
        let passed_up = passed_up.map(|up| (format!("reason=\"{}\"", up.reason), up.packets));
        page.family(
            Metric::gauge(
                "xlat_fast_path",
                "Whether packets are translated in the kernel.",
            ),
            [(String::new(), u64::from(self.why_not.is_none()))],
        )
        .family(
            Metric::counter(
                "xlat_fast_path_packets_total",
                "Packets translated in the kernel.",
            ),
            directions(|traffic| traffic.packets),
        )
        .family(
            Metric::counter("xlat_fast_path_bytes_total", "Their bytes, as they came."),
            directions(|traffic| traffic.bytes),
        )
        .family(
            Metric::counter(
                "xlat_fast_path_passed_up_total",
                "Packets that the kernel left to the workers.",
            ),
            passed_up.collect::<Vec<_>>(),
        )
        .family(
            Metric::counter(
                "xlat_fast_path_refused_total",
                "Sessions for which the kernel had no room, each direction by itself.",
            ),
            [(String::new(), self.refused)],
        );
    }

    /// Writes its lines of the status.
    ///
    /// # Errors
    /// Never: writing into a string does not fail.
    pub fn write_to(&self, f: &mut impl std::fmt::Write) -> std::fmt::Result {
        let [out, back] = [self.v6_to_v4, self.v4_to_v6];
        let (packets, bytes) = (out.packets + back.packets, out.bytes + back.bytes);
        let up: u64 = self.passed_up.iter().map(|up| up.packets).sum();
        let state = match &self.why_not {
            None => "on",
            Some(why_not) => &format!("off ({why_not})"),
        };
        if self.why_not.is_some() && packets == 0 {
            return writeln!(f, "fast path {state}");
        }
        writeln!(
            f,
            "fast path {state}: {packets} packets, {bytes} bytes; {up} packets to the workers"
        )
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An IPv6 header is so many bytes longer than an IPv4 header without options.
const HEADER_DIFFERENCE: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_carried_is_in_the_workers_figures() {
        let traffic = |packets, bytes| Traffic { packets, bytes };
        let status = KernelPathStatus {
            state: "on",
            why_not: None,
            room: 4,
            refused: 0,
            v6_to_v4: traffic(3, 300),
            v4_to_v6: traffic(2, 100),
            passed_up: Vec::new(),
        };
        let mut packets = Snapshot::default();
        status.add_to(&mut packets);
        assert_eq!(
            (packets.ipv6_in, packets.ipv4_out),
            (traffic(3, 300), traffic(3, 240))
        );
        assert_eq!(
            (packets.ipv4_in, packets.ipv6_out),
            (traffic(2, 100), traffic(2, 140))
        );
        let mut text = String::new();
        status.write_to(&mut text).expect("in memory");
        assert_eq!(
            text,
            "fast path on: 5 packets, 400 bytes; 0 packets to the workers\n"
        );
    }

    #[test]
    fn kf_17_what_is_detached_is_attached_at_once_and_with_pauses_if_it_does_not_stay() {
        let begin = Instant::now();
        let mut attachments = Attachments::default();
        let mut found = |secs| attachments.found_detached(begin + Duration::from_secs(secs));
        assert_eq!(found(5), Repair::Attach);
        // It stayed for a minute.
        assert_eq!(found(70), Repair::Attach);
        // It does not: pauses of 10, 20 and 40 s.
        for (from, attached) in [(74, 84), (88, 108), (110, 150)] {
            assert_eq!(
                (found(from), found(attached - 1)),
                (Repair::Wait, Repair::Wait)
            );
            assert_eq!(found(attached), Repair::Attach);
        }
        assert_eq!(found(211), Repair::Attach);
        assert_eq!((found(212), found(222)), (Repair::Wait, Repair::Attach));
    }

    #[test]
    fn kf_10_without_a_program_the_reason_is_shown() {
        let path = KernelPath::load(Mode::Off, 2, 0).expect("off is always possible");
        assert!(matches!(path.attach("nat64"), Ok(false)));
        assert!(path.flows().is_none() && !path.look(Instant::now()));
        assert_eq!(path.numbering().lanes, 2);
        let mut text = String::new();
        path.status_source()
            .status()
            .write_to(&mut text)
            .expect("in memory");
        assert_eq!(text, "fast path off (--fast-path off)\n");
    }
}
