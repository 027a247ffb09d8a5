//! The program and its maps.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Map as Loaded, MapError};
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfError, EbpfLoader};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::{CapabilitySet, capabilities};
use zerocopy::{FromBytes, IntoBytes};

use crate::captures;
use crate::counters::{COUNTED, Counters};
use crate::flows::FlowTable;
use crate::layout::{Config, Row, Row4Key, Row6Key, State, TrafficCells};
use crate::mapping::{MappingError, StaticMapping};
use crate::memory::{FEWEST, affordable};
use crate::rules::Rules;
use crate::sys::{self, Map};
use crate::table::{self, Table};
use crate::unavailable::Unavailable;

/// What is decided when the program is loaded.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most entries of flows in each direction; with less than two none are looked for. Memory is taken
    /// for all of them at once; where there is too little, for fewer ([`FlowTable::capacity`]).
    pub flows: u32,
    /// Random numbers that IPv4 identifications are keyed with.
    pub seed: [u64; 2],
    /// The program gives out the identifications of this lane: see
    /// [`Identifications`](xlat_core::identification::Identifications).
    pub lane: u16,
    /// Number of lanes, the program's included.
    pub lanes: u16,
}

impl Options {
    /// Keyed with `seed`; the program numbers in the lane behind those of `workers`.
    pub fn new(seed: [u64; 2], workers: u16) -> Self {
        Self {
            flows: 1 << 16,
            seed,
            lane: workers,
            lanes: workers.saturating_add(1),
        }
    }
}

/// How the program is attached.
#[derive(Debug)]
enum Link {
    /// A link of this process (Linux 6.6), which others can cut.
    Tcx(OwnedFd),
    /// A filter below a `clsact` queueing discipline, which is removed when it is dropped.
    Filter(#[expect(dead_code, reason = "dropped")] SchedClassifierLink),
}

/// The program in the kernel. It belongs to this process: it is gone with it, however it ends.
#[derive(Debug)]
pub struct FastPath {
    ebpf: Ebpf,
    link: Option<Link>,
    /// Number of the interface that it was attached to.
    index: u32,
    flows: FlowTable,
    rows: Rows,
    configs: Map,
    states: Map,
    counters: Map,
    config: Config,
    state: State,
}

/// The rows of the mapping in force.
#[derive(Debug)]
struct Rows {
    from_v6: Map,
    from_v4: Map,
    keys: Vec<(Row6Key, Row4Key)>,
}

/// The object that `bpf/build` makes of `bpf/fast_path.bpf.c`.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/fast_path.o"));

const PROGRAM: &str = "fast_path";

/// x86 does loads in the order of the program.
const LOADS_PASS_LOADS: bool = !cfg!(any(target_arch = "x86", target_arch = "x86_64"));

const HASH_CONSTANT: u64 = 0x5851_f42d_4c95_7f2d;

/// The first Linux whose maps can be written by a process that has dropped `CAP_BPF`.
const OLDEST: (u32, u32) = (5, 19);

impl FastPath {
    /// Loads program and maps. Needs `CAP_BPF`, `CAP_PERFMON` and `CAP_NET_ADMIN`; nothing that
    /// follows needs the first two.
    ///
    /// # Errors
    /// Why the kernel does not take it, and what would help.
    pub fn load(options: &Options) -> Result<Self, Unavailable> {
        Self::load_object(OBJECT, options, 0)
    }

    /// The same for another object, if one is given, whose packets have `link_header` bytes in front of
    /// the IP header.
    pub(crate) fn load_for_test(
        object: Option<&[u8]>,
        options: &Options,
        link_header: u32,
    ) -> Result<Self, Unavailable> {
        Self::load_object(object.unwrap_or(OBJECT), options, link_header)
    }

    fn load_object(
        object: &[u8],
        options: &Options,
        link_header: u32,
    ) -> Result<Self, Unavailable> {
        check_kernel()?;
        let mut options = options.clone();
        options.flows = affordable(options.flows);
        loop {
            match Self::load_with(object, &options, link_header) {
                // A smaller table is better than none.
                Err(Unavailable::Memory) if options.flows >= 2 * FEWEST => options.flows /= 2,
                outcome => return outcome,
            }
        }
    }

    fn load_with(object: &[u8], options: &Options, link_header: u32) -> Result<Self, Unavailable> {
        let buckets = table::buckets(options.flows);
        // Trials run what other processors need; daemons on x86 run the other branch.
        let loads_pass_loads = LOADS_PASS_LOADS || link_header > 0;
        // Keyed apart from the identifications, which strangers see.
        let hash_key = options
            .seed
            .map(|seed| seed.rotate_left(23) ^ HASH_CONSTANT);
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("LINK_HEADER", &link_header, true)
            .override_global("BUCKETS", &buckets, true)
            .override_global("HASH_KEY", &hash_key, true)
            .override_global("LOADS_PASS_LOADS", &u32::from(loads_pass_loads), true)
            .map_max_entries("flows6", buckets)
            .map_max_entries("flows4", buckets)
            .load(object)
            .map_err(|error| refused(&error))?;
        classifier(&mut ebpf)?
            .load()
            .map_err(|error| refused(&error.into()))?;
        let mut config = Config::new(options.seed, options.lane, options.lanes);
        config.set_flag(Config::FLOWS, options.flows > 1);
        let mut one = |name: &str, key, value| map(&mut ebpf, name, key, value);
        let mut flow_table = |name: &str| {
            let map = one(name, 4, table::BUCKET_BYTES)?;
            let memory = map.memory(buckets as usize * table::BUCKET_BYTES);
            let memory = memory.map_err(|error| match error.raw_os_error() {
                Some(libc::ENOMEM | libc::EAGAIN) => Unavailable::Memory,
                _ => Unavailable::Tables(error),
            })?;
            Ok(Table::new(memory, options.flows, hash_key))
        };
        let (from_v6, from_v4) = (flow_table("flows6")?, flow_table("flows4")?);
        let flows = FlowTable::new(from_v6, from_v4, one("epochs", 4, 4)?, options.flows);
        let rows = Rows {
            from_v6: one("rows6", size_of::<Row6Key>(), size_of::<Row>())?,
            from_v4: one("rows4", size_of::<Row4Key>(), size_of::<Row>())?,
            keys: Vec::new(),
        };
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| Unavailable::Tables(error))?;
        let fast_path = Self {
            configs: one("configs", 4, size_of::<Config>())?,
            states: one("states", 4, size_of::<State>())?,
            counters: one("counters", 4, size_of::<TrafficCells>() * cpus)?,
            ebpf,
            link: None,
            index: 0,
            flows,
            rows,
            config,
            state: State::default(),
        };
        Ok(fast_path)
    }

    /// Attaches the program to the egress of the TUN `interface`, in place of an earlier attachment.
    /// It passes up what no rule, mapping or flow is known for.
    ///
    /// # Errors
    /// Why the kernel does not attach it.
    pub fn attach(&mut self, interface: &str) -> Result<(), Unavailable> {
        self.link = None;
        let failed = |error: ProgramError| Unavailable::Attach {
            interface: interface.to_owned(),
            reason: one_line(&error),
        };
        let index = interface_index(interface).map_err(|error| Unavailable::Attach {
            interface: interface.to_owned(),
            reason: error.to_string(),
        })?;
        let program = classifier(&mut self.ebpf)?;
        let fd = program.fd().map_err(failed)?;
        let link = match sys::attach_tcx(fd.as_fd(), index) {
            Ok(link) => Link::Tcx(link),
            Err(error) if is_unknown(&error) => {
                // Linux before 6.6. The TUN, and the discipline with it, ends with this process.
                let _ = tc::qdisc_add_clsact(interface);
                let options = TcAttachOptions::Netlink(NlOptions::default());
                let id = program
                    .attach_with_options(interface, TcAttachType::Egress, options)
                    .map_err(failed)?;
                let link = program.take_link(id).map_err(failed)?;
                Link::Filter(link)
            }
            Err(error) => {
                return Err(Unavailable::Attach {
                    interface: interface.to_owned(),
                    reason: error.to_string(),
                });
            }
        };
        (self.link, self.index) = (Some(link), index);
        Ok(())
    }

    /// True while the program is attached. An administrator may have detached it, or the interface is
    /// gone. (Before Linux 6.6 neither can be told.)
    pub fn is_attached(&self) -> bool {
        match &self.link {
            None => false,
            Some(Link::Tcx(link)) => sys::tcx_interface(link.as_fd()).is_ok_and(|index| index != 0),
            Some(Link::Filter(_)) => true,
        }
    }

    /// True while the interface that it was attached to has this name.
    pub fn has_interface(&self, name: &str) -> bool {
        interface_index(name).is_ok_and(|index| index == self.index)
    }

    /// True while a packet socket hears everything on the interface, as a capture does.
    pub fn is_captured(&self) -> bool {
        self.link.is_some() && captures::is_captured(self.index)
    }

    /// Takes the program off the interface; entries, mapping and counters stay.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// The rules for every packet from now on.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_rules(&mut self, rules: &Rules) -> Result<(), Unavailable> {
        let mut config = self.config;
        rules.write(&mut config);
        self.publish(config)
    }

    /// Translates by `mapping` from now on; `None` for flows alone. The next packet sees all of the
    /// new mapping and nothing of the old.
    ///
    /// # Errors
    /// Why the mapping stays with the translator, or why a map cannot be written: the program then
    /// passes up what a mapping was for.
    pub fn set_mapping(&mut self, mapping: Option<&StaticMapping>) -> Result<(), MappingError> {
        let mut config = self.config;
        config.forget_mapping();
        let mut written = Vec::new();
        let outcome = match mapping.map(StaticMapping::compile).transpose() {
            Ok(None) => Ok(()),
            Ok(Some(compiled)) => {
                compiled.write(&mut config);
                self.rows
                    .insert(&compiled.rows, config.generation, &mut written)
                    .inspect_err(|_| config.forget_mapping())
                    .map_err(MappingError::Tables)
            }
            Err(error) => Err(error),
        };
        let published = self
            .publish(config)
            .map_err(|error| MappingError::Tables(io::Error::other(error)));
        let old = std::mem::replace(&mut self.rows.keys, written);
        self.rows.delete(&old);
        outcome.and(published)
    }

    /// Rules and mapping at once, so that no packet sees one without the other.
    ///
    /// # Errors
    /// As [`set_mapping`](Self::set_mapping).
    pub fn configure(
        &mut self,
        rules: &Rules,
        mapping: Option<&StaticMapping>,
    ) -> Result<(), MappingError> {
        rules.write(&mut self.config);
        self.set_mapping(mapping)
    }

    /// Passes everything up, until it is told otherwise.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn pause(&mut self, paused: bool) -> Result<(), Unavailable> {
        let state = State {
            paused: paused.into(),
            ..self.state
        };
        self.states
            .update(0u32.as_bytes(), state.as_bytes())
            .map_err(Unavailable::Tables)?;
        self.state = state;
        Ok(())
    }

    /// Writes the configuration that is not in force and then puts it in force, in one word.
    fn publish(&mut self, config: Config) -> Result<(), Unavailable> {
        let slot = 1 - self.state.slot;
        let state = State { slot, ..self.state };
        self.configs
            .update(slot.as_bytes(), config.as_bytes())
            .and_then(|()| self.states.update(0u32.as_bytes(), state.as_bytes()))
            .map_err(Unavailable::Tables)?;
        (self.config, self.state) = (config, state);
        Ok(())
    }

    /// The table of flows, for the workers.
    pub fn flows(&self) -> FlowTable {
        self.flows.clone()
    }

    /// The counters since the program was loaded.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn counters(&self) -> Result<Counters, Unavailable> {
        let mut cells = [TrafficCells::default(); COUNTED];
        let mut value = vec![0; self.counters.value_size()];
        for (number, cell) in cells.iter_mut().enumerate() {
            let found = self.counters.lookup((number as u32).as_bytes(), &mut value);
            found.map_err(Unavailable::Tables)?;
            for one in value.chunks_exact(size_of::<TrafficCells>()) {
                let Ok(one) = TrafficCells::read_from_bytes(one) else {
                    continue;
                };
                cell.packets += one.packets;
                cell.bytes += one.bytes;
            }
        }
        Ok(Counters::new(&cells))
    }

    /// The program, to be run without an interface.
    pub(crate) fn classifier(&mut self) -> Result<&mut SchedClassifier, Unavailable> {
        classifier(&mut self.ebpf)
    }
}

impl Rows {
    fn insert(
        &self,
        rows: &[Row],
        generation: u32,
        written: &mut Vec<(Row6Key, Row4Key)>,
    ) -> io::Result<()> {
        for row in rows {
            let keys = row.keys(generation);
            written.push(keys);
            self.from_v6.update(keys.0.as_bytes(), row.as_bytes())?;
            self.from_v4.update(keys.1.as_bytes(), row.as_bytes())?;
        }
        Ok(())
    }

    /// What stays for lack of success is never found: its generation is past.
    fn delete(&self, keys: &[(Row6Key, Row4Key)]) {
        for (from_v6, from_v4) in keys {
            let _ = self.from_v6.delete(from_v6.as_bytes());
            let _ = self.from_v4.delete(from_v4.as_bytes());
        }
    }
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, Unavailable> {
    let program = ebpf.program_mut(PROGRAM);
    let missing = || Unavailable::Refused(format!("the object has no program {PROGRAM}"));
    program
        .ok_or_else(missing)?
        .try_into()
        .map_err(|_| missing())
}

fn map(ebpf: &mut Ebpf, name: &str, key: usize, value: usize) -> Result<Map, Unavailable> {
    let (Loaded::Array(data) | Loaded::HashMap(data) | Loaded::PerCpuArray(data)) = ebpf
        .take_map(name)
        .ok_or_else(|| Unavailable::Refused(format!("the object has no map {name}")))?
    else {
        return Err(Unavailable::Refused(format!(
            "the map {name} is of another kind"
        )));
    };
    let fd = data.fd().as_fd().try_clone_to_owned();
    fd.and_then(|fd| Map::new(fd, key, value))
        .map_err(Unavailable::Tables)
}

fn check_kernel() -> Result<(), Unavailable> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < OLDEST => {
            Err(Unavailable::OldKernel(release.trim().to_owned()))
        }
        _ => Ok(()),
    }
}

/// A kernel that does not know this kind of attachment.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

fn interface_index(name: &str) -> io::Result<u32> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(name_to_index(socket, name)?)
}

/// The kernel's error at the root of another.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut error = Some(error);
    while let Some(one) = error {
        if let Some(io) = one.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        error = one.source();
    }
    None
}

fn refused(error: &EbpfError) -> Unavailable {
    match errno(error).or_else(|| map_errno(error)) {
        Some(libc::EPERM | libc::EACCES) if !is_verifier(error) || !is_privileged() => {
            Unavailable::Permission
        }
        Some(libc::ENOSYS) => Unavailable::NoSystemCall,
        Some(libc::ENOMEM) => Unavailable::Memory,
        _ => Unavailable::Refused(one_line(error)),
    }
}

fn map_errno(error: &EbpfError) -> Option<i32> {
    match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => io_error.raw_os_error(),
        _ => None,
    }
}

/// True with all capabilities that loading takes. Without `CAP_PERFMON` the verifier does not believe
/// that a program may handle pointers to its tables.
fn is_privileged() -> bool {
    let needed = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::NET_ADMIN;
    capabilities(None).is_ok_and(|has| has.effective.contains(needed))
}

/// The verifier refuses with `EACCES` as well, and has a log then.
fn is_verifier(error: &EbpfError) -> bool {
    matches!(error, EbpfError::ProgramError(ProgramError::LoadError { verifier_log, .. })
        if !verifier_log.to_string().trim().is_empty())
}

/// What went wrong, without the verifier's log: its last line but the statistics at most.
fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    let last = lines.rfind(|line| !line.starts_with("processed "));
    let cause = error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    match last {
        Some(last) => format!("{first} {last}"),
        None => first + &cause,
    }
}
