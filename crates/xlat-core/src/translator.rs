//! The pipeline on one screen: start reading here.

use crate::frame::Frame;
use crate::mapper::Mapper;
use crate::policy::{Policy, PolicyError};
use crate::reason::DropReason;
use crate::time::Instant;
use crate::verdict::Verdict;

/// Translates packets between IPv4 and IPv6.
#[derive(Debug)]
pub struct Translator<M> {
    mapper: M,
    policy: Policy,
}

impl<M: Mapper> Translator<M> {
    /// A translator with this mapper and policy. `seed` is a random number that keys what must
    /// not be guessed from outside (IPv4 identification).
    ///
    /// # Errors
    /// A policy value that makes no sense.
    pub fn new(mapper: M, policy: Policy, seed: u64) -> Result<Self, PolicyError> {
        let _ = seed;
        policy.validate()?;
        Ok(Self { mapper, policy })
    }

    /// Translates the packet in `frame`, in place. `now` drives rate limits and lifetimes.
    pub fn translate(&mut self, frame: &mut Frame<'_>, now: Instant) -> Verdict {
        let _ = (frame, now);
        Verdict::Drop(DropReason::BadVersion)
    }

    /// The mapper.
    pub fn mapper(&self) -> &M {
        &self.mapper
    }

    /// The mapper, to be changed between packets.
    pub fn mapper_mut(&mut self) -> &mut M {
        &mut self.mapper
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}
