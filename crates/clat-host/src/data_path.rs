//! The workers of a CLAT and their TUN. They can translate as another CLAT without the TUN going
//! away.

use std::sync::Arc;

use fast_path::StaticMapping;
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::warn;
use xlat_core::Translator;
use xlat_core::addr::Eam;
use xlat_core::identification::Identifications;
use xlat_core::mappers::Clat as Mapper;
use xlat_host::daemon::fast_path::{KernelPath, Numbering};
use xlat_proto::clat::Clat;
use xlat_tun::{Failure, Handle, Tun};

use crate::{HostConfig, SetupError};

/// The workers and their TUN, and what the kernel translates there by itself.
#[derive(Debug)]
pub struct DataPath {
    workers: Handle<Translator<Mapper>>,
    kernel: Arc<KernelPath>,
}

impl DataPath {
    /// Opens the TUN and starts to translate as `clat`; no packet arrives before the routes are
    /// installed. A worker that ends by itself sends its failure to `failures`.
    ///
    /// # Errors
    /// If the TUN cannot be opened, the threads do not start, `clat` and the policy contradict
    /// each other, or the kernel refuses a fast path that is required.
    pub fn start(
        config: &HostConfig,
        clat: &Clat,
        kernel: &Arc<KernelPath>,
        failures: mpsc::UnboundedSender<Failure>,
    ) -> Result<Self, SetupError> {
        let tun = Tun::open(&config.tun)?;
        let policy = config.policy(clat);
        policy.validate()?;
        let mapper = mapper(config, clat)?;
        let Numbering { seed, lanes } = kernel.numbering();
        let count = tun.queues() as u16;
        let engines = (0..count).map(|lane| {
            let ids = Identifications::new(seed, lane, lanes).shared_by(count);
            Ok(Translator::new(mapper.clone(), policy.clone(), ids)?)
        });
        let engines: Result<Vec<_>, SetupError> = engines.collect();
        let mut engines = engines?.into_iter();
        let make = move |_| {
            engines
                .next()
                .unwrap_or_else(|| unreachable!("one engine per queue"))
        };
        let workers = xlat_tun::start(tun, make, move |failure| drop(failures.send(failure)))
            .map_err(SetupError::Workers)?;
        kernel.set_rules(&policy, Some(&mapping(config, clat)?));
        kernel.attach(&config.tun.name)?;
        let kernel = Arc::clone(kernel);
        Ok(Self { workers, kernel })
    }

    /// Translates as `clat` from now on.
    ///
    /// # Errors
    /// If `clat` and the policy contradict each other; the workers then go on as before.
    pub fn apply(&self, config: &HostConfig, clat: &Clat) -> Result<(), SetupError> {
        let mapper = mapper(config, clat)?;
        let policy = config.policy(clat);
        policy.validate()?;
        self.kernel
            .set_rules(&policy, Some(&mapping(config, clat)?));
        self.workers.update(move |translator| {
            *translator.mapper_mut() = mapper.clone();
            if let Err(error) = translator.set_policy(policy.clone()) {
                warn!("the policy is unchanged: {error}");
            }
        });
        Ok(())
    }

    /// The workers.
    pub fn workers(&self) -> &Handle<Translator<Mapper>> {
        &self.workers
    }

    /// Ends the workers and closes the TUN. Returns the final counters.
    pub fn stop(self) -> xlat_tun::counters::Snapshot {
        self.kernel.detach();
        self.workers.stop()
    }
}

/// What the kernel knows: the same as the workers' mapper.
fn mapping(config: &HostConfig, clat: &Clat) -> Result<StaticMapping, SetupError> {
    let local = Eam::host(config.side4.host, clat.address)?;
    let rows = std::iter::once(local).chain(config.lan_maps());
    Ok(StaticMapping::clat(rows, clat.prefix))
}

fn mapper(config: &HostConfig, clat: &Clat) -> Result<Mapper, SetupError> {
    let mapper = Mapper::new(config.side4.host, clat.address, clat.prefix)?;
    Ok(mapper.and_lan(config.lan_maps()))
}

/// A worker ended by itself, so the data path is incomplete.
#[derive(Debug, Error)]
#[error("the data path failed: {0}")]
pub struct WorkerFailed(pub Failure);
