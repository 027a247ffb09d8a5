//! The loop: one thread per queue reads, translates and writes.
//!
//! A worker reads packets until its queue is empty or a batch is full, acts on each verdict, and
//! then asks the engine for pending packets and takes the messages of the control plane. With
//! nothing to do it sleeps in `poll` on the queue and on its mailbox, without a timeout: an idle
//! translator never wakes up. Per packet there is one read and at most one write (packets of one
//! flow that directly follow each other are written together) and no other system call, no
//! allocation and no log line; the clock is read once per batch.
//!
//! A packet that may be joined with later ones is held back at most until a large packet is about
//! to be translated, or until the batch ends: for the time of 63 short packets.
//!
//! Order within a flow is kept because the kernel gives the packets of a flow in one direction to
//! one queue, and a worker writes to the queue it reads from, which also teaches the kernel to put
//! the replies there. The kernel remembers 4096 flows for at least 3 s (`MAX_TAP_FLOWS`,
//! `TUN_FLOW_EXPIRE`); for others it uses a hash of the flow, which does not change either. So the
//! two directions of a flow may be on two workers, and a flow that the kernel learns or forgets
//! while packets are queued may move: those that are still in the old queue can then be overtaken,
//! once.
//!
//! The whole loop is in this file, so that the order of reading, translating, acting and sleeping
//! can be read in one place.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use confinement::{Kind, spawn};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::thread::CpuSet;
use rustix::time::ClockId;

use xlat_core::mapper::{PacketHolder, Prefetch};
use xlat_core::offload::GsoKind;
use xlat_core::{DropReason, Frame, Instant, Mapper, PREFETCH_BATCH, Translator, Verdict};

use super::Tun;
use super::gro::{Coalescer, PacketSpan};
use super::handle::{Failure, FailureWatch, Handle, OnFailure, Totals, WorkerHandle};
use super::mailbox::{Mailbox, Message};
use super::negotiate::Offloads;
use super::pace::{self, PAUSE, Pace};
use super::queue::{Queue, Received, Slot};
use crate::counters::{Counters, WriteError};

/// Packets between two checks of the mailbox and readings of the clock.
const BATCH: usize = 64;

/// Longest packet in bytes that is read ahead of others; a longer one ends the read-ahead.
const LARGE: usize = 4096;

/// The packet processing of a worker. The engine of the daemons is [`Translator`].
pub trait Engine: Send + 'static {
    /// Translates the packet in `frame` in place and returns what to do with it.
    fn translate(&mut self, frame: &mut Frame<'_>, now: Instant) -> Verdict;

    /// True if [`prefetch`](Self::prefetch) is worth its cost now: up to [`PREFETCH_BATCH`] packets
    /// are then read before the first of them is translated.
    fn wants_prefetch(&self) -> bool;

    /// Prefetches state for packets that will be translated next.
    fn prefetch<'a>(&mut self, packets: impl Iterator<Item = &'a [u8]>);

    /// Puts the engine's next pending packet in place of the one in `frame`, and returns what to do
    /// with it. Called after each batch and each message until there is none.
    fn poll_packet(&mut self, frame: &mut Frame<'_>, now: Instant) -> Option<Verdict>;
}

impl<M: Mapper + PacketHolder + Prefetch + Send + 'static> Engine for Translator<M> {
    #[inline]
    fn translate(&mut self, frame: &mut Frame<'_>, now: Instant) -> Verdict {
        Translator::translate(self, frame, now)
    }

    #[inline]
    fn wants_prefetch(&self) -> bool {
        Translator::wants_prefetch(self)
    }

    fn prefetch<'a>(&mut self, packets: impl Iterator<Item = &'a [u8]>) {
        Translator::prefetch(self, packets);
    }

    #[inline]
    fn poll_packet(&mut self, frame: &mut Frame<'_>, now: Instant) -> Option<Verdict> {
        Translator::poll_packet(self, frame, now)
    }
}

/// The monotonic clock that the workers hand to their engines.
pub fn now() -> Instant {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_nanos(seconds * 1_000_000_000 + nanos)
}

/// Starts one worker for each queue of `tun`.
///
/// `make` is called once per queue, before this returns, for the worker's own engine. `on_failure`
/// is called on the worker's thread when a worker ends without a stop message.
///
/// # Errors
/// If a thread or descriptor cannot be created. The interface has then disappeared.
pub fn start<E: Engine>(
    tun: Tun,
    make: impl FnMut(usize) -> E,
    on_failure: impl Fn(Failure) + Send + Sync + 'static,
) -> io::Result<Handle<E>> {
    resume(tun, None, make, on_failure)
}

/// The same as [`start`], in place of workers that have lost their TUN: goes on with their counters.
///
/// # Errors
/// Those of [`start`].
pub fn resume<E: Engine>(
    tun: Tun,
    before: Option<&Totals>,
    make: impl FnMut(usize) -> E,
    on_failure: impl Fn(Failure) + Send + Sync + 'static,
) -> io::Result<Handle<E>> {
    let offloads = tun.offloads();
    let placement = ThreadPlacement {
        processors: if tun.pin { processors() } else { Vec::new() },
        nice: tun.nice,
    };
    let counters = |number| before.and_then(|totals| totals.of_worker(number));
    let queues = tun.into_queues().into_iter().enumerate();
    let queues = queues.map(|(number, queue)| (queue, counters(number).unwrap_or_default()));
    start_on(queues.collect(), offloads, &placement, make, on_failure)
}

/// Processors and priority of the workers' threads.
#[derive(Debug, Default)]
struct ThreadPlacement {
    /// The processors to pin the workers to, in turn; empty if they are not pinned.
    processors: Vec<usize>,
    nice: Option<i8>,
}

impl ThreadPlacement {
    fn processor(&self, worker: usize) -> Option<usize> {
        let count = self.processors.len().max(1);
        self.processors.get(worker % count).copied()
    }
}

fn start_on<E: Engine>(
    queues: Vec<(Queue, Arc<Counters>)>,
    offloads: Offloads,
    placement: &ThreadPlacement,
    mut make: impl FnMut(usize) -> E,
    on_failure: impl Fn(Failure) + Send + Sync + 'static,
) -> io::Result<Handle<E>> {
    let on_failure: Arc<OnFailure> = Arc::new(on_failure);
    let mut handle = Handle {
        workers: Vec::new(),
    };
    for (number, (queue, counters)) in queues.into_iter().enumerate() {
        let mailbox = Arc::new(Mailbox::new()?);
        let mut worker = Worker {
            engine: make(number),
            pace: Pace::default(),
            coalescer: Coalescer::new(offloads),
            output: Output {
                queue,
                counters: Arc::clone(&counters),
                refused: None,
            },
            mailbox: Arc::clone(&mailbox),
        };
        let watch = || FailureWatch {
            number,
            on_failure: Arc::clone(&on_failure),
        };
        let (processor, nice) = (placement.processor(number), placement.nice);
        let prepare = move || {
            pin(processor);
            set_nice(nice);
            pace::set_slack();
        };
        let (running, killed) = (watch(), watch());
        let work = move || running.run(|| worker.run());
        let name = format!("tun-worker-{number}");
        let thread = spawn(Kind::Worker, &name, prepare, work, move || {
            killed.report(None)
        })?;
        handle.workers.push(WorkerHandle {
            mailbox,
            counters,
            thread: Some(thread),
        });
    }
    Ok(handle)
}

/// The processors that this process may run on.
fn processors() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}

/// Pins this thread to one processor, if there is one for it.
fn pin(processor: Option<usize>) {
    let Some(processor) = processor else { return };
    let mut set = CpuSet::new();
    set.set(processor);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!("cannot pin a worker to CPU {processor}: {error}");
    }
}

/// Sets the nice value of this thread, if it has one of its own.
fn set_nice(nice: Option<i8>) {
    let Some(nice) = nice else { return };
    // Without a process Linux applies this to the calling thread only.
    if let Err(error) = rustix::process::setpriority_process(None, nice.into()) {
        tracing::warn!("a worker's nice value is not {nice}: {error}; it takes CAP_SYS_NICE");
    }
}

struct Worker<E> {
    engine: E,
    pace: Pace,
    coalescer: Coalescer,
    output: Output,
    mailbox: Arc<Mailbox<E>>,
}

/// The queue, with the counters of the packets written to it.
struct Output {
    queue: Queue,
    counters: Arc<Counters>,
    /// The kind of the last joined packet that the kernel rejected as invalid.
    refused: Option<GsoKind>,
}

enum Batch {
    /// There may be more to read.
    Full,
    /// The queue is empty.
    Drained,
}

impl<E: Engine> Worker<E> {
    /// Runs until a stop message, or until the interface has disappeared.
    fn run(&mut self) -> io::Result<()> {
        let mut slots: [Slot; PREFETCH_BATCH] = std::array::from_fn(|_| Slot::new());
        loop {
            for message in self.mailbox.take() {
                match message {
                    Message::Change(change) => change(&mut self.engine),
                    Message::Stop => return Ok(()),
                }
            }
            let now = now();
            let batch = self.batch(&mut slots, now)?;
            self.flush()?;
            self.output
                .counters
                .joined
                .add(self.coalescer.take_joined());
            if let Some(kind) = self.output.refused.take()
                && self.coalescer.stop(kind)
            {
                tracing::warn!(
                    "the kernel refuses packets that were joined ({kind:?}): none will be joined \
                    from now on"
                );
            }
            if let Batch::Drained = batch {
                let pause = self.pace.is_dense(now).then_some(PAUSE);
                self.sleep(pause)?;
            }
        }
    }

    fn batch(&mut self, slots: &mut [Slot; PREFETCH_BATCH], now: Instant) -> io::Result<Batch> {
        let ahead = if self.engine.wants_prefetch() {
            PREFETCH_BATCH
        } else {
            1
        };
        let (mut count, mut batch) = (0, Batch::Full);
        while count < BATCH
            && let Batch::Full = batch
        {
            let mut spans: [Option<PacketSpan>; PREFETCH_BATCH] = [None; PREFETCH_BATCH];
            batch = self.read(&mut slots[..ahead], &mut spans)?;
            count += ahead;
            if ahead > 1 {
                let packets = spans.iter().zip(&*slots);
                let packets = packets.filter_map(|(span, slot)| Some((*span)?.packet(slot)));
                self.engine.prefetch(packets);
            }
            for (slot, span) in slots.iter_mut().zip(spans) {
                let Some(span) = span else { continue };
                if span.len() > LARGE {
                    self.flush()?;
                }
                let Some(mut frame) = span.frame(slot) else {
                    continue;
                };
                let verdict = self.engine.translate(&mut frame, now);
                let span = self.act(verdict, frame)?;
                self.forward(slot, span)?;
            }
        }
        self.pending_packets(&mut slots[0], now)?;
        Ok(batch)
    }

    /// Reads as many packets as there are slots, but none after a large one: that fills the cache
    /// by itself.
    #[inline]
    fn read(
        &mut self,
        slots: &mut [Slot],
        spans: &mut [Option<PacketSpan>; PREFETCH_BATCH],
    ) -> io::Result<Batch> {
        for (slot, span) in slots.iter_mut().zip(spans) {
            match self.output.queue.recv(slot)? {
                Received::Packet(frame) => {
                    self.output.counters.received(frame.packet());
                    *span = Some(PacketSpan::of(&frame));
                    self.pace.count(&frame);
                    if frame.len() > LARGE {
                        break;
                    }
                }
                Received::Impossible(why) => {
                    tracing::trace!("packet with an impossible virtio-net header: {why}");
                    self.output.counters.drops.of(DropReason::BadOffload).add(1);
                }
                Received::Empty => return Ok(Batch::Drained),
            }
        }
        Ok(Batch::Full)
    }

    /// Sends the engine's pending packets: those it held back or made.
    fn pending_packets(&mut self, slot: &mut Slot, now: Instant) -> io::Result<()> {
        loop {
            let Some(mut frame) = slot.empty() else {
                return Ok(());
            };
            let Some(verdict) = self.engine.poll_packet(&mut frame, now) else {
                return Ok(());
            };
            let span = self.act(verdict, frame)?;
            self.forward(slot, span)?;
        }
    }

    /// Acts on the verdict about one packet. A packet to forward is left in the slot, at the
    /// returned span.
    fn act(&mut self, verdict: Verdict, mut frame: Frame<'_>) -> io::Result<Option<PacketSpan>> {
        match verdict {
            Verdict::Forward => return Ok(Some(PacketSpan::of(&frame))),
            Verdict::Split(mut split) => {
                self.flush()?;
                while let Some(mut piece) = split.next(&mut frame) {
                    self.output.counters.pieces.add(1);
                    self.output.send(&mut piece, 1)?;
                }
            }
            Verdict::Reply(reason) => {
                self.output.counters.replies.of(reason).add(1);
                self.output.send(&mut frame, 1)?;
            }
            Verdict::Drop(reason) => self.output.counters.drops.of(reason).add(1),
            Verdict::Held => self.output.counters.held.add(1),
        }
        Ok(None)
    }

    #[inline]
    fn forward(&mut self, slot: &mut Slot, span: Option<PacketSpan>) -> io::Result<()> {
        let Some(span) = span else { return Ok(()) };
        self.coalescer.push(slot, span, &mut |frame, count| {
            self.output.send(frame, count)
        })
    }

    /// Writes the packets that were held back for more of their flow.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        self.coalescer
            .flush(&mut |frame, count| self.output.send(frame, count))
    }

    /// Waits for a packet or a message; with a pause, for that time or a message.
    fn sleep(&self, pause: Option<Timespec>) -> io::Result<()> {
        let wanted = match pause {
            None => PollFlags::IN,
            // Only its error conditions.
            Some(_) => PollFlags::empty(),
        };
        let mut descriptors = [
            PollFd::from_borrowed_fd(self.output.queue.as_fd(), wanted),
            PollFd::from_borrowed_fd(self.mailbox.wakeup(), PollFlags::IN),
        ];
        match rustix::event::poll(&mut descriptors, pause.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.output.counters.wakeups.add(1);
        let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        if descriptors[0].revents().intersects(gone) {
            return Err(Errno::BADFD.into());
        }
        if descriptors[1].revents().contains(PollFlags::IN) {
            self.mailbox.clear_wakeup();
        }
        Ok(())
    }
}

impl Output {
    /// Writes one packet, in which `count` received packets were joined. An error that concerns
    /// only this packet is counted, for each of them.
    #[inline]
    fn send(&mut self, frame: &mut Frame<'_>, count: u16) -> io::Result<()> {
        let Err(error) = self.queue.send(frame) else {
            self.counters.sent(frame.packet());
            return Ok(());
        };
        let Some(kind) = WriteError::classify(&error) else {
            return Err(error);
        };
        self.counters.write_errors.of(kind).add(count.into());
        if kind == WriteError::Invalid && count > 1 {
            self.refused = frame.offload.gso.map(|gso| gso.kind);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
