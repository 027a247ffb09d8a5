//! The workers' engines: a translator each, over one mapper.

use std::sync::Arc;

use anyhow::{Context, Result};
use nat64_host::Wakeup;
use tokio::sync::mpsc;
use xlat_core::identification::Identifications;
use xlat_core::mapper::{PacketHolder, Prefetch};
use xlat_core::mappers::Guarded;
use xlat_core::{Frame, Instant, Mapper, Policy, Translator, Verdict};
use xlat_host::daemon::state_dir::random;
use xlat_tun::{Engine, Failure, Handle, Tun};

use crate::cli::Run;
use crate::reload::{Follow, Orders};

/// A translator that rings an alarm after each batch, if its mapper has state that ends.
pub(crate) struct Ringing<M> {
    translator: Translator<M>,
    alarm: Option<Arc<Wakeup>>,
}

impl<M: Mapper + PacketHolder + Prefetch> Ringing<M> {
    /// The translator, to be changed between packets.
    pub(crate) fn translator_mut(&mut self) -> &mut Translator<M> {
        &mut self.translator
    }
}

impl<M: Follow> Ringing<Guarded<M>> {
    /// Goes by other orders from now on.
    pub(crate) fn follow(&mut self, orders: &Orders) {
        self.translator.mapper_mut().inner_mut().follow(orders);
        if self.translator.set_policy(orders.policy.clone()).is_err() {
            unreachable!("it was checked before it was sent");
        }
    }
}

impl<M: Mapper + PacketHolder + Prefetch + Send + 'static> Engine for Ringing<M> {
    #[inline]
    fn translate(&mut self, frame: &mut Frame<'_>, now: Instant) -> Verdict {
        self.translator.translate(frame, now)
    }

    #[inline]
    fn wants_prefetch(&self) -> bool {
        self.translator.wants_prefetch()
    }

    fn prefetch<'a>(&mut self, packets: impl Iterator<Item = &'a [u8]>) {
        self.translator.prefetch(packets);
    }

    #[inline]
    fn poll_packet(&mut self, frame: &mut Frame<'_>, now: Instant) -> Option<Verdict> {
        let next = self.translator.poll_packet(frame, now);
        if next.is_none()
            && let Some(alarm) = &self.alarm
        {
            alarm.wake();
        }
        next
    }
}

/// Opens the TUN and starts to translate; no packet comes before the routes are there.
pub(crate) fn start<M: Mapper + PacketHolder + Prefetch + Clone + Send + 'static>(
    run: &Run,
    policy: &Policy,
    mapper: &M,
    alarm: Option<&Arc<Wakeup>>,
) -> Result<(Handle<Ringing<M>>, mpsc::UnboundedReceiver<Failure>)> {
    let seed = random().context("no random numbers from the kernel")?;
    let tun = Tun::open(&run.flags.tun(&run.place.tun))?;
    let lanes = tun.queues() as u16;
    let engines = (0..lanes).map(|lane| {
        let ids = Identifications::new(seed, lane, lanes);
        let translator = Translator::new(mapper.clone(), policy.clone(), ids);
        translator.map(|translator| Ringing {
            translator,
            alarm: alarm.cloned(),
        })
    });
    let mut engines = engines.collect::<Result<Vec<_>, _>>()?.into_iter();
    let (sender, failures) = mpsc::unbounded_channel();
    let make = move |_| {
        engines
            .next()
            .unwrap_or_else(|| unreachable!("one engine per queue"))
    };
    let workers = xlat_tun::start(tun, make, move |failure| drop(sender.send(failure)))
        .context("the worker threads did not start")?;
    Ok((workers, failures))
}
